package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node/control"
)

// command runs one command line with a home and returns its exit code and
// what it wrote.
func command(t *testing.T, nodes *fakeNodes, home, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	m := Main{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Nodes: nodes}
	code = m.Run(t.Context(), append([]string{"--home", home}, args...))
	return code, out.String(), errs.String()
}

// up runs a fake node with a new home and returns the home.
func up(t *testing.T, nodes *fakeNodes) (home string) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "home")
	nodes.ready = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		m := Main{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &errs, Nodes: nodes}
		done <- m.Run(ctx, []string{"up", "--home", home})
	}()
	select {
	case <-nodes.ready:
	case code := <-done:
		t.Fatalf("up ended with %d: %s", code, errs.String())
	}
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != ExitOK {
			t.Errorf("up ended with %d: %s", code, errs.String())
		}
	})
	return home
}

// Nothing that somebody else wrote reaches the terminal as more than text.
func TestTerminalText(t *testing.T) {
	nodes := &fakeNodes{node: fakeNode{}}
	home := up(t, nodes)
	for _, args := range [][]string{
		{"outbox"}, {"outbox", "1f"}, {"outbox", "--json"}, {"contacts", "list"}, {"contacts", "list", "--json"}, {"keeper", "list"}, {"keeper", "list", "--json"}, {"status"}, {"setup"},
	} {
		code, out, errs := command(t, nodes, home, "", args...)
		if code != ExitOK {
			t.Errorf("%v: %d %s", args, code, errs)
		}
		for _, r := range out {
			if r != '\n' && line(string(r)) != string(r) && r != '\ufffd' {
				t.Errorf("%v printed %U:\n%q", args, r, out)
				break
			}
		}
	}
	_, out, _ := command(t, nodes, home, "", "outbox", "--json")
	var entries []control.OutboxEntry
	if err := json.Unmarshal([]byte(out), &entries); err != nil || len(entries) != 1 || entries[0].Subject != strings.ToValidUTF8(evil, "\ufffd") {
		t.Errorf("JSON came out as %q, %v", out, err)
	}

	nodes.node.err = errors.New("bad " + evil)
	code, _, errs := command(t, nodes, home, "", "outbox")
	if want := "peerpost: bad \ufffd[2Jx\ufffdy\ufffdz w\ufffd\nhint: the log of the node may say more\n"; code != ExitFailure || errs != want {
		t.Errorf("%d %q", code, errs)
	}
}

func TestASCII(t *testing.T) {
	for _, s := range []string{"plain", "\u202e", "\U000e0001", "ü€😀", "\u007f\u0085", "\u2028"} {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(ascii(b), &back); err != nil || back != s {
			t.Errorf("%q became %s, %q, %v", s, ascii(b), back, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for code, err := range map[int]error{
		ExitFailure:   errors.New("x"),
		ExitUsage:     usage(errors.New("x")),
		ExitNoNode:    fmt.Errorf("x: %w", control.ErrNoNode),
		ExitLocked:    control.ErrLocked,
		ExitNotFound:  control.ErrNotFound,
		ExitExists:    control.ErrExists,
		ExitRunning:   control.ErrRunning,
		ExitInterrupt: context.Canceled,
	} {
		if got, _ := explain(err); got != code {
			t.Errorf("%v: %d, want %d", err, got, code)
		}
		if code < ExitSignal && !strings.Contains(exitCodes, fmt.Sprintf("\n%d  ", code)) {
			t.Errorf("the help does not tell %d", code)
		}
	}
	for _, err := range []error{control.ErrPassword, control.ErrThrottled} {
		if got, hint := explain(err); got != ExitLocked || hint == "" {
			t.Errorf("%v: %d %q", err, got, hint)
		}
	}
	for _, err := range []error{syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.ENOTDIR, syscall.ENOSPC, fs.ErrPermission, &fs.PathError{Err: fs.ErrNotExist}} {
		if got, hint := explain(err); got != ExitFailure || hint == "" {
			t.Errorf("%v: %d %q", err, got, hint)
		}
	}
}

func TestLocked(t *testing.T) {
	nodes := &fakeNodes{node: fakeNode{locked: true}}
	home := up(t, nodes)
	if code, _, errs := command(t, nodes, home, "text", "send", "--to", "bob@key"); code != ExitLocked || !strings.Contains(errs, "--password-file") {
		t.Errorf("send from a locked account: %d %s", code, errs)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, nodes, home, "text", "send", "--to", "bob@key", "--password-file", file); code != ExitLocked || !strings.Contains(errs, "not an app password") {
		t.Errorf("send with a wrong password: %d %s", code, errs)
	}
	if code, _, errs := command(t, nodes, home, fakePassword+"\n", "contacts", "list", "--password-file", "-"); code != ExitOK {
		t.Errorf("a password on standard input: %d %s", code, errs)
	}
	if code, out, errs := command(t, nodes, home, "text", "send", "--to", "bob@key", "--to", "eve@key", "--subject", "s"); code != ExitOK || out != "1f\n" {
		t.Errorf("send: %d %q %s", code, out, errs)
	}
	if len(nodes.node.sent) != 1 || len(nodes.node.sent[0].To) != 2 || string(nodes.node.sent[0].Body) != "text" {
		t.Errorf("sent %+v", nodes.node.sent)
	}
	for _, bad := range []string{"", "\n", "a\x00b\n", strings.Repeat("x", maxSecret)} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, _ := command(t, nodes, home, "", "contacts", "list", "--password-file", file); code != ExitFailure {
			t.Errorf("password file %.10q: %d", bad, code)
		}
	}
	if code, _, _ := command(t, nodes, home, "", "send", "--to", "x", "--password-file", "-", "-"); code != ExitUsage {
		t.Errorf("two things from standard input: %d", code)
	}
}

func TestFirstStart(t *testing.T) {
	nodes := &fakeNodes{}
	ctx, cancel := context.WithCancel(t.Context())
	nodes.ready = make(chan struct{})
	var out bytes.Buffer
	done := make(chan int)
	m := Main{Stdout: &out, Stderr: io.Discard, Nodes: nodes}
	go func() { done <- m.Run(ctx, []string{"--home", t.TempDir(), "up", "--http", "off"}) }()
	<-nodes.ready
	cancel()
	if code := <-done; code != ExitOK {
		t.Errorf("up: %d", code)
	}
	for _, want := range []string{"me@key.peerpost.alt", "made-up", "WRITE THEM DOWN", " 1. abandon ", "24. art", "port 1143", "port 1993"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the first start does not print %q:\n%s", want, out.String())
		}
	}

	for what, nodes := range map[string]*fakeNodes{
		"a later start": {addresses: []string{"me@key.peerpost.alt"}}, "a slower start": {quicker: true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the node ends at once
		var out bytes.Buffer
		m := Main{Stdout: &out, Stderr: io.Discard, Nodes: nodes}
		code := m.Run(ctx, []string{"--home", t.TempDir(), "up"})
		if code != ExitOK || strings.Contains(out.String(), "made-up") || strings.Contains(out.String(), "WORDS") {
			t.Errorf("%s: %d\n%s", what, code, out.String())
		}
	}
}

// Nothing is made for a node that cannot start.
func TestUpWithoutPorts(t *testing.T) {
	nodes := &fakeNodes{taken: fmt.Errorf("--imap: %w", syscall.EADDRINUSE)}
	code, out, errs := command(t, nodes, t.TempDir(), "", "up")
	if code != ExitFailure || out != "" || !strings.Contains(errs, "--imap") || !strings.Contains(errs, "choose another") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
}

// The words are printed even when the node cannot start after all.
func TestFirstStartFails(t *testing.T) {
	home := t.TempDir()
	lock, err := control.AcquireLock(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	code, out, errs := command(t, &fakeNodes{}, home, "", "up")
	if code != ExitRunning || !strings.Contains(out, "24. art") || !strings.Contains(errs, "another node runs with this home") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
}

// What is wrong with an account is said where its owner looks.
func TestStatusNamesProblems(t *testing.T) {
	for _, c := range []struct{ problem, want string }{{"", ""}, {"newer keys " + evil, "PROBLEM with ada@key.peerpost.alt: newer keys"}} {
		m := &Main{Stdout: new(strings.Builder)}
		st, err := (&fakeNode{problem: c.problem}).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.printStatus(st); err != nil {
			t.Fatal(err)
		}
		out := m.Stdout.(*strings.Builder).String()
		if !strings.Contains(out, c.want) || strings.Contains(out, "PROBLEM") != (c.want != "") || strings.Contains(out, "\x1b") {
			t.Errorf("problem %q:\n%s", c.problem, out)
		}
	}
}

func TestRestoreWords(t *testing.T) {
	nodes, home := &fakeNodes{}, t.TempDir()
	for _, words := range []string{"abandon ability able\n", " 1. Abandon  2. ABILITY\t3.  able \r\n", "1) abandon, ability;\n\n able"} {
		code, out, errs := command(t, nodes, home, words, "restore", "--account", "ada", "--words-file", "-", "--json")
		if code != ExitOK || !strings.Contains(out, "ada@key.peerpost.alt") {
			t.Errorf("%q: %d %s", words, code, errs)
		}
	}
	if code, _, errs := command(t, nodes, home, "abandon able\n", "restore", "--account", "ada", "--words-file", "-"); code != ExitFailure || !strings.Contains(errs, "abandon able") {
		t.Errorf("bad words: %d %s", code, errs)
	}
	if code, _, _ := command(t, nodes, home, "x\n", "restore", "--account", "ada"); code != ExitUsage {
		t.Errorf("no words: %d", code)
	}
}

var exported = []struct {
	folder string
	flags  []string
	text   string
}{
	{"INBOX", []string{`\Seen`, `\Answered`, "$Forwarded", `\Seen`}, "A: b\r\n\r\nFrom here\r\n>From there\r\nFrom\r\n"},
	{"INBOX", nil, "no end"},
	{"Work/../../cur/.x:\x1b/", []string{"$Junk"}, ""},
}

func exportedMail() []control.ExportedMessage {
	var all []control.ExportedMessage
	for i, m := range exported {
		all = append(all, control.ExportedMessage{
			Folder: m.folder, UID: uint32(i + 1), Flags: m.flags, Internal: fakeTime, Size: int64(len(m.text)), Body: strings.NewReader(m.text),
		})
	}
	return all
}

func TestExportMaildir(t *testing.T) {
	nodes := &fakeNodes{node: fakeNode{mail: exportedMail()}}
	home := up(t, nodes)
	code, out, errs := command(t, nodes, home, "", "export")
	if code != ExitOK || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	var names []string
	archive := tar.NewReader(strings.NewReader(out))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		names = append(names, h.Name)
		b, err := io.ReadAll(archive)
		if want := exported[len(names)-1].text; err != nil || string(b) != want || !h.ModTime.Equal(fakeTime) {
			t.Errorf("%s: %q at %v, %v", h.Name, b, h.ModTime, err)
		}
	}
	want := []string{"INBOX/cur/1772366400.1.peerpost:2,PRS", "INBOX/cur/1772366400.2.peerpost:2,", "Work/_../_../_cur/_.x__/_/cur/1772366400.3.peerpost:2,"}
	if !slices.Equal(names, want) {
		t.Errorf("names %q", names)
	}
}

func TestExportMbox(t *testing.T) {
	nodes := &fakeNodes{node: fakeNode{mail: exportedMail()}}
	home := up(t, nodes)
	file := filepath.Join(t.TempDir(), "mail.mbox")
	code, _, errs := command(t, nodes, home, "", "export", "--mbox", "--output", file)
	if code != ExitOK {
		t.Fatalf("%d %s", code, errs)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const from = "From peerpost@localhost Sun Mar  1 12:00:00 2026\n"
	want := from + "X-Folder: INBOX\nStatus: RO\nA: b\n\n>From here\n>>From there\nFrom\n\n" +
		from + "X-Folder: INBOX\nno end\n\n" +
		from + "X-Folder: Work/../../cur/.x:\ufffd/\n\n"
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}

	// An export that fails leaves what was there.
	nodes.node.mail, nodes.node.err = nil, control.ErrNotFound
	code, _, _ = command(t, nodes, home, "", "export", "--mbox", "--output", file)
	if again, err := os.ReadFile(file); code != ExitNotFound || err != nil || !bytes.Equal(again, got) {
		t.Errorf("%d, %v", code, err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStop(t *testing.T) {
	home := t.TempDir()
	if code, _, errs := command(t, &fakeNodes{}, home, "", "stop"); code != ExitNoNode || !strings.Contains(errs, "peerpost up") {
		t.Errorf("%d %s", code, errs)
	}
}

// A command that waits for its input can be interrupted.
func TestInterrupted(t *testing.T) {
	for _, args := range [][]string{{"send", "--to", "x"}, {"init", "--account", "ada", "--password-file", "-"}} {
		ctx, cancel := context.WithCancel(t.Context())
		in, w := io.Pipe()
		var errs bytes.Buffer
		m := Main{Stdin: in, Stdout: io.Discard, Stderr: &errs, Nodes: &fakeNodes{}}
		done := make(chan int)
		go func() { done <- m.Run(ctx, append(args, "--home", t.TempDir())) }()
		if _, err := w.Write([]byte("x")); err != nil { // it reads
			t.Fatal(err)
		}
		cancel()
		if code := <-done; code != ExitInterrupt || errs.String() != "peerpost: interrupted\n" {
			t.Errorf("%v: %d %q", args, code, errs.String())
		}
		w.Close()
	}
}

func TestWatch(t *testing.T) {
	nodes := &fakeNodes{}
	home := up(t, nodes)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	m := Main{Stdout: w, Stderr: io.Discard, Nodes: nodes}
	done := make(chan int)
	go func() { done <- m.Run(ctx, []string{"status", "--watch", "--json", "--home", home}) }()
	var st control.Status
	if err := json.NewDecoder(r).Decode(&st); err != nil || st.PeerID != "12D3Koo" {
		t.Errorf("%+v, %v", st, err)
	}
	cancel()
	r.Close()
	if code := <-done; code != ExitOK && code != ExitFailure { // it may have been writing
		t.Errorf("watch: %d", code)
	}
}

// TestClockThatWasNeverSet makes no account by the clock of a machine that has
// not been told the time: the fake clock stands at the year 2000.
func TestClockThatWasNeverSet(t *testing.T) {
	for _, args := range [][]string{
		{"init", "--account", "ada"}, {"account", "add", "ada"}, {"restore", "--account", "ada", "--words-file", "-"}, {"up"},
	} {
		synctest.Test(t, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "home")
			code, _, errs := command(t, &fakeNodes{}, home, "abandon able\n", args...)
			if code != ExitFailure || !strings.Contains(errs, "2000-01-01") || !strings.Contains(errs, "set it") {
				t.Errorf("%v: exit %d, %s", args, code, errs)
			}
			time.Sleep(time.Until(time.Unix(earliest, 0)))
			if err := checkClock(); err != nil {
				t.Errorf("at the earliest time: %v", err)
			}
		})
	}
}
