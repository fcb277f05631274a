package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestEveryRequest(t *testing.T) {
	f := newFake()
	close(f.hang)
	c, _, _ := serve(t, t.TempDir(), f)
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	st, err := c.Status(ctx)
	check("status", err)
	if st.PeerID != "peer" || !st.Started.Equal(fakeTime) || len(st.Accounts) != 1 || st.Addrs == nil {
		t.Errorf("status: %+v", st)
	}
	entries, err := c.Outbox(ctx, "", "")
	check("outbox", err)
	if entries == nil || len(entries) != 0 {
		t.Errorf("empty outbox: %#v", entries)
	}
	sent, err := c.Send(ctx, Message{From: "ada", To: []string{"b@x", "ü@x"}, Subject: "a&b=c\n", Raw: true, Body: []byte("hi\x00\xff")})
	check("send", err)
	if sent.ID != "1" || len(sent.Recipients) != 2 {
		t.Errorf("sent: %+v", sent)
	}
	if m := f.sent[0]; m.From != "ada" || m.To[1] != "ü@x" || m.Subject != "a&b=c\n" || !m.Raw || string(m.Body) != "hi\x00\xff" {
		t.Errorf("arrived: %+v", m)
	}
	entries, err = c.Outbox(ctx, fakeAddress, "1")
	check("outbox of an id", err)
	if len(entries) != 1 || entries[0].State != Replicated || entries[0].NextAttempt != nil {
		t.Errorf("outbox: %+v", entries)
	}
	invite, err := c.Invite(ctx, "")
	check("invite", err)
	if invite.Link != "peerpost:x" || invite.Peers == nil {
		t.Errorf("invite: %+v", invite)
	}
	contact, err := c.AddContact(ctx, "", NewContact{Target: "b@x", Name: "Bob"})
	check("add a contact", err)
	contacts, err := c.Contacts(ctx, "")
	check("contacts", err)
	if len(contacts) != 1 || contacts[0] != contact || contact.Name != "Bob" {
		t.Errorf("contacts: %+v", contacts)
	}
	keeper, err := c.AddKeeper(ctx, "ada", "a peer")
	check("add a keeper", err)
	keepers, err := c.Keepers(ctx, "ada")
	check("keepers", err)
	if len(keepers) != 1 || keepers[0].Peer != "a peer" || keepers[0].Addrs == nil || !keepers[0].Connected || keeper.Peer != "a peer" {
		t.Errorf("keepers: %+v", keepers)
	}
	check("remove a keeper", c.RemoveKeeper(ctx, "ada", "a peer"))
	if err := c.RemoveKeeper(ctx, "", "a peer"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove it again: %v", err)
	}
	if keepers, err = c.Keepers(ctx, ""); err != nil || keepers == nil || len(keepers) != 0 {
		t.Errorf("no keepers: %#v, %v", keepers, err)
	}
	created, err := c.AddAccount(ctx, NewAccount{Name: "eve"})
	check("add an account", err)
	if created.Address != "eve@new.peerpost.alt" || created.Words == "" || created.Password == "" {
		t.Errorf("created: %+v", created)
	}
	created, err = c.AddAccount(ctx, NewAccount{Name: "eve", Restore: true, Words: "some words"})
	check("restore an account", err)
	if created.Address != "eve@old.peerpost.alt" {
		t.Errorf("restored: %+v", created)
	}
	// What is restored is said, not guessed from a text that may have got lost.
	if created, err = c.AddAccount(ctx, NewAccount{Name: "eve", Words: "some words"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("words that are for nothing: %+v, %v", created, err)
	}
	added, err := c.AddPassword(ctx, "", "phone", "given")
	check("add a password", err)
	if added.Name != "phone" || added.Password != "given!" {
		t.Errorf("added: %+v", added)
	}
	check("remove a password", c.RemovePassword(ctx, "", "first"))
	passwords, err := c.Passwords(ctx, "")
	check("passwords", err)
	if len(passwords) != 1 || passwords[0].Name != "phone" {
		t.Errorf("passwords: %+v", passwords)
	}
	check("unlock", c.Unlock(ctx, "", fakeSecret))
}

// The names are a contract with every script that reads them.
func TestStatusNames(t *testing.T) {
	c, _, _ := serve(t, t.TempDir(), newFake())
	resp, err := c.open(t.Context(), http.MethodGet, "status", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"peer_id", "addrs", "imap", "smtp", "http", "peers", "accounts", "outbox", "holding"} {
		if _, ok := got[name]; !ok {
			t.Errorf("status has no %q", name)
		}
	}
	if string(got["addrs"]) != "[]" {
		t.Errorf("addrs is %s", got["addrs"])
	}
	for part, names := range map[string][]string{
		"outbox":  {"waiting", "replicated", "delivered", "failed"},
		"holding": {"messages", "bytes", "inboxes"},
	} {
		var inner map[string]int64
		if err := json.Unmarshal(got[part], &inner); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, ok := inner[name]; !ok {
				t.Errorf("%s has no %q", part, name)
			}
		}
	}
	b, err := json.Marshal(OutboxEntry{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id", "to", "state", "replicas", "wanted", "attempts", "next_attempt", "expires", "last_error"} {
		if !bytes.Contains(b, []byte(`"`+name+`":`)) {
			t.Errorf("an outbox entry has no %q", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFake()
	f.locked = true
	c, _, _ := serve(t, t.TempDir(), f)
	ctx := t.Context()

	_, err := c.Contacts(ctx, "")
	if !errors.Is(err, ErrLocked) || errors.Is(err, ErrPassword) {
		t.Errorf("contacts of a locked account: %v", err)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Hint == "" {
		t.Errorf("no remedy: %#v", err)
	}
	if err := c.Unlock(ctx, "", "wrong"); !errors.Is(err, ErrPassword) {
		t.Errorf("unlock with a wrong password: %v", err)
	}
	_, err = c.AddContact(ctx, "", NewContact{Target: "x"})
	if !errors.Is(err, ErrInvalid) || err.Error() != "neither an invite nor an address: no @" {
		t.Errorf("bad contact: %v", err)
	}
	if _, err := c.Outbox(ctx, "nobody", ""); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("outbox of nobody: %v", err)
	}
	if _, err := c.Send(ctx, Message{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("send to nobody: %v", err)
	}
	if _, err := c.Send(ctx, Message{To: []string{"b@x"}, Body: make([]byte, MaxMessage+1)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("send too much: %v", err)
	}
	if len(f.sent) != 0 {
		t.Errorf("%d messages were sent", len(f.sent))
	}
	for _, body := range []string{"", "{", `{"password":"x"}{}`, `{"pass":"x"}`, `{"password":"` + strings.Repeat("x", maxRequest) + `"}`} {
		if err := c.call(ctx, http.MethodPost, "unlock", nil, []byte(body), &empty{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("body %.20q: %v", body, err)
		}
	}
	if err := c.call(ctx, http.MethodGet, "tomorrow", nil, nil, &empty{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown request: %v", err)
	}
	if err := c.call(ctx, http.MethodGet, "status", of(strings.Repeat("x", 2*maxHeader)), nil, &empty{}); err == nil {
		t.Error("an endless header was taken")
	}
}

func TestTranslation(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Code
		text string
	}{
		{fmt.Errorf("deep: %w", mail.ErrLocked), CodeLocked, ErrLocked.Message},
		{mail.ErrCredentials, CodePassword, ErrPassword.Message},
		{mail.ErrThrottled, CodeThrottled, ErrThrottled.Message},
		{mail.ErrTooLarge, CodeInvalid, "message is too large"},
		{fmt.Errorf("deep: %w", &mail.Error{Public: "no such address", Cause: errors.New("private")}), CodeInvalid, "no such address"},
		{&mail.Error{Temporary: true, Public: "later"}, CodeFailure, "later"},
		{errors.New("disk"), CodeFailure, "disk"},
		{fmt.Errorf("adding: %w", ErrExists), CodeExists, "adding: it exists already"},
	} {
		if e := refusal(c.err); e.Code != c.want || e.Message != c.text {
			t.Errorf("%v: %s %q", c.err, e.Code, e.Message)
		}
	}
}

func TestExport(t *testing.T) {
	f := newFake()
	texts := []string{"first", "", strings.Repeat("second line\r\n", 100_000)}
	for i, text := range texts {
		f.messages = append(f.messages, ExportedMessage{
			Folder: "Archive/ä=\n", UID: uint32(i + 1), Flags: []string{`\Seen`, "$Label"}[:i%3], Internal: fakeTime,
			Size: int64(len(text)), Body: strings.NewReader(text),
		})
	}
	c, _, _ := serve(t, t.TempDir(), f)
	read := func() ([]string, error) {
		for i, m := range f.messages {
			m.Body.(*strings.Reader).Reset(texts[i])
		}
		var got []string
		err := c.Export(t.Context(), "", func(m ExportedMessage) error {
			b, err := io.ReadAll(m.Body)
			if m.Folder != "Archive/ä=\n" || int(m.UID) != len(got)+1 || !m.Internal.Equal(fakeTime) || len(m.Flags) != len(got)%3 {
				t.Errorf("message %d: %+v", len(got), m)
			}
			got = append(got, string(b))
			return err
		})
		return got, err
	}
	got, err := read()
	if err != nil || len(got) != 3 || got[0] != texts[0] || got[2] != texts[2] {
		t.Fatalf("%d messages, %v", len(got), err)
	}

	f.exportErr = ErrLocked
	if got, err := read(); !errors.Is(err, ErrLocked) || len(got) != 3 {
		t.Errorf("an export that fails at its end: %d messages, %v", len(got), err)
	}
	f.exportErr = nil
	f.messages[2].Size++ // the body is shorter than announced
	if _, err := read(); err == nil {
		t.Error("a short message went unnoticed")
	}
	stop := errors.New("disk full")
	if err := c.Export(t.Context(), "", func(ExportedMessage) error { return stop }); err != stop {
		t.Errorf("the writer's error came as %v", err)
	}
	if err := c.Export(t.Context(), "nobody", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("export of nobody: %v", err)
	}
}

// An export that ends without its trailer is not whole.
func TestExportBroken(t *testing.T) {
	if err := readExport(strings.NewReader(""), func() string { return "" }, nil); err == nil {
		t.Error("no end, no error")
	}
}

func TestNoNode(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	_, err := Dial(t.Context(), home)
	if !errors.Is(err, ErrNoNode) || !strings.Contains(err.Error(), home) {
		t.Errorf("no home: %v", err)
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("asking made a home")
	}

	c, s, stop := serve(t, home, newFake())
	stop()
	if _, err := os.Stat(s.Path()); err == nil {
		t.Error("the socket is left")
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoNode) {
		t.Errorf("status of a node that ended: %v", err)
	}

	// A killed node leaves its socket.
	l, err := net.Listen("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(t.Context(), home); !errors.Is(err, ErrNoNode) {
		t.Errorf("stale socket: %v", err)
	}
	lock, err := AcquireLock(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dial(t.Context(), home)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeNoNode || !strings.Contains(e.Hint, "starting") {
		t.Errorf("a node that starts: %v", err)
	}
	lock.Close()
	if c, _, _ := serve(t, home, newFake()); c == nil {
		t.Error("a stale socket is in the way")
	}
}

func TestPrivate(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	_, s, _ := serve(t, home, newFake())
	for path, want := range map[string]os.FileMode{home: 0o700, s.Path(): 0o600, filepath.Join(home, lockName): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s is %v", path, info.Mode())
		}
	}
}

func TestLongHome(t *testing.T) {
	home := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	c, s, stop := serve(t, home, newFake())
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.Path())
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}

	// Somebody else may have made the directory.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), home); err == nil {
		t.Error("a directory open to others was trusted")
	}
	stop()
	for _, p := range []string{dir, filepath.Join(home, referenceName)} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s is left", p)
		}
	}
	if _, err := Dial(t.Context(), home); !errors.Is(err, ErrNoNode) {
		t.Errorf("no node: %v", err)
	}
	for _, reference := range []string{"", "x", "/etc/passwd\n", "/tmp/peerpost-x/other\n", "peerpost-x/" + socketName} {
		if err := os.WriteFile(filepath.Join(home, referenceName), []byte(reference), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(t.Context(), home); err == nil {
			t.Errorf("reference %q was followed", reference)
		}
	}
	_, _, again := serve(t, home, newFake())
	again()
}

func TestOneNodePerHome(t *testing.T) {
	home := t.TempDir()
	_, _, stop := serve(t, home, newFake())
	var err error
	synctest.Test(t, func(t *testing.T) { _, err = AcquireLock(t.Context(), home) }) // waits a second
	if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), fmt.Sprintf("another node runs with this home (pid %d)", os.Getpid())) {
		t.Errorf("second lock: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := AcquireLock(ctx, home); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a lock without patience: %v", err)
	}
	stop()
	l, err := AcquireLock(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStop(t *testing.T) {
	f := newFake()
	c, _, stop := serve(t, t.TempDir(), f)
	gone := make(chan struct{})
	go func() {
		<-f.stopped
		stop()
		close(gone)
	}()
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-gone
}

// Requests that hang and clients that say nothing keep nobody from ending,
// and nothing is left over.
func TestEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	f := newFake()
	home := t.TempDir()
	c, s, stop := serve(t, home, f)
	asked := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := c.Invite(ctx, "")
		asked <- err
	}()
	silent, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("a request given up: %v", err)
	}
	silent.Close()
	stop()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	c.Close()
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

func TestMessageText(t *testing.T) {
	m := Message{To: []string{"b@x", "c@x"}, Subject: "Grüße", Body: []byte("Hallo\nWelt")}
	got, err := m.Text(fakeAddress, fakeTime)
	if err != nil {
		t.Fatal(err)
	}
	want := "From: <ada@key.peerpost.alt>\r\nTo: <b@x>,\r\n <c@x>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n" +
		"Date: Sun, 01 Mar 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 7bit\r\n\r\nHallo\r\nWelt\r\n"
	if string(got) != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}

	m.Body = []byte("ü")
	if got, err = m.Text(fakeAddress, fakeTime); err != nil || !bytes.HasSuffix(got, []byte("quoted-printable\r\n\r\n=C3=BC\r\n")) {
		t.Errorf("got %q, %v", got, err)
	}
	m.Body = []byte(strings.Repeat("x", maxLine+1))
	if got, err = m.Text(fakeAddress, fakeTime); err != nil || !bytes.Contains(got, []byte("quoted-printable")) {
		t.Errorf("a long line: %q, %v", got, err)
	}
	m.Subject = strings.Repeat("word ", 100) + "end"
	got, err = m.Text(fakeAddress, fakeTime)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	for line := range bytes.Lines(head) {
		if len(line) > 80 {
			t.Errorf("line %q", line)
		}
	}
	if !bytes.Contains(bytes.ReplaceAll(head, []byte("\r\n"), nil), []byte("Subject: "+m.Subject)) {
		t.Errorf("the subject was changed: %q", head)
	}

	for _, bad := range []Message{{Body: []byte("\xff")}, {Subject: "a\r\nBcc: x"}, {Subject: "\xff"}, {Subject: strings.Repeat("x", maxSubject+1)}} {
		if _, err := bad.Text(fakeAddress, fakeTime); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}

	raw := Message{Raw: true, Body: []byte("A: b\r\n\nx\r\ry\n")}
	if got, err := raw.Text("", fakeTime); err != nil || string(got) != "A: b\r\n\r\nx\r\n\r\ny\r\n" {
		t.Errorf("raw: %q, %v", got, err)
	}
}
