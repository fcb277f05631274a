package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
)

// The crash test runs a child that works on a mailbox and writes down, in a
// file, what it is about to do and what was acknowledged. The parent stops it
// at random instants, copies the mailbox as it is on the disk just then, and
// opens the copy.
//
//	begin and end of an operation:  "? what" and "! what"
//	what:  append <folder> <uid> <token> | file <token> | accept <token> | flag <uid> <0|1> | gone <uid>
const crashDir = "PEERPOST_CRASH_TEST_DIR"

// tokenText is a message that can be known again. Some are large.
func tokenText(token string) []byte {
	body := token
	if strings.HasSuffix(token, "7") {
		body = strings.Repeat(token+" ", smallMessage/len(token))
	}
	return text(token, body)
}

func idOf(token string) (id [16]byte) {
	copy(id[:], token)
	return id
}

// crashKeys are the same in both processes.
func crashKeys(t *testing.T) (keys *identity.Keyring) {
	t.Run("keys", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, 7)
		var err error
		keys, err = identity.NewKeyring(identity.Seed{1}, 1, time.Unix(1_800_000_000, 0))
		tcheck(t, err)
	})
	return keys
}

func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return // the parent starts it
	}
	keys := crashKeys(t)
	log, err := os.OpenFile(dir+".log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	tcheck(t, err)
	say := func(format string, a ...any) {
		if _, err := fmt.Fprintf(log, format+"\n", a...); err != nil { // one write
			panic(err)
		}
	}
	ctx := context.Background()
	m, err := Open(ctx, Config{Dir: dir, Keys: keys})
	tcheck(t, err)
	run(t, m)
	in := inboxOf(t, m)
	work := func(name string, step func(r *rand.Rand, token string) error) {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for i := 0; ; i++ {
			if err := step(r, fmt.Sprintf("%s%d", name, i)); err != nil {
				panic(err)
			}
		}
	}
	var mu sync.Mutex
	var mine []mail.UID
	appender := func(r *rand.Rand, token string) error {
		b := tokenText(token)
		say("? append %s", token)
		uid, err := m.Append(ctx, in.ID, bytes.NewReader(b), int64(len(b)), nil, time.Time{})
		say("! append %d %s", uid, token)
		mu.Lock()
		mine = append(mine, uid)
		mu.Unlock()
		return err
	}
	go work("a", appender)
	go work("b", appender)
	go work("f", func(r *rand.Rand, token string) error {
		_, _, err := m.File(ctx, Delivery{Role: mail.Archive, Message: tokenText(token), Sender: identity.Root{1}, MessageID: idOf(token)})
		say("! file %s", token)
		return err
	})
	go work("s", func(r *rand.Rand, token string) error {
		o := Outgoing{MessageID: idOf(token), To: identity.Address{Local: token, Root: identity.Root{2}}, Expires: time.Now()}
		err := m.Accept(ctx, mail.Submission{From: "me"}, tokenText(token), []Outgoing{o})
		say("! accept %s", token)
		if err == nil && r.IntN(2) == 0 {
			err = m.UpdateOutgoing(ctx, o.MessageID, func(o *Outgoing) { o.State = Delivered })
			say("! delivered %s", token)
		}
		return err
	})
	go work("c", func(r *rand.Rand, token string) error {
		mu.Lock()
		if len(mine) < 20 {
			mu.Unlock()
			time.Sleep(time.Millisecond)
			return nil
		}
		i := r.IntN(len(mine))
		if r.IntN(2) == 0 {
			i = len(mine) - 1 // nothing above it may be left when the next mailbox begins
		}
		uid := mine[i]
		away := r.IntN(4) == 0
		if away {
			mine = append(mine[:i], mine[i+1:]...)
		}
		mu.Unlock()
		if away {
			say("? gone %d", uid)
			_, _, err := m.SetFlags(ctx, in.ID, []mail.UID{uid}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
			if err == nil {
				_, err = m.Expunge(ctx, in.ID, []mail.UID{uid})
			}
			say("! gone %d", uid)
			return err
		}
		on := r.IntN(2)
		say("? flag %d %d", uid, on)
		_, _, err := m.SetFlags(ctx, in.ID, []mail.UID{uid}, mail.FlagOp(2-on), []mail.Flag{mail.Flagged}, 0)
		say("! flag %d %d", uid, on)
		return err
	})
	work("x", func(r *rand.Rand, token string) error { // chores, oftener than they would run
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		switch r.IntN(4) {
		case 0:
			return m.spool(ctx)
		case 1:
			return m.collect(ctx)
		case 2:
			_, err := m.Search(ctx, in.ID, &mail.Query{Text: []string{token}})
			return err
		default:
			poke(m.chores.checkpoint)
			return nil
		}
	})
}

// journalled is what the log of the child says.
type journalled struct {
	tokens    map[string]mail.UID // appended
	trying    map[string]bool     // appended perhaps
	filed     []string
	accepted  []string
	delivered map[string]bool
	flags     map[mail.UID]int // 0, 1; 2: in doubt
	gone      map[mail.UID]bool
	going     map[mail.UID]bool // gone perhaps
}

func readLog(t *testing.T, path string) *journalled {
	b, err := os.ReadFile(path)
	tcheck(t, err)
	j := &journalled{
		tokens: map[string]mail.UID{}, trying: map[string]bool{}, delivered: map[string]bool{},
		flags: map[mail.UID]int{}, gone: map[mail.UID]bool{}, going: map[mail.UID]bool{},
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		uid, on := mail.UID(0), 0
		if len(f) > 2 {
			_, _ = fmt.Sscan(f[2], &uid)
		}
		switch f[0] + f[1] {
		case "?append":
			j.trying[f[2]] = true
		case "!append":
			j.tokens[f[3]] = uid
		case "!file":
			j.filed = append(j.filed, f[2])
		case "!accept":
			j.accepted = append(j.accepted, f[2])
		case "!delivered":
			j.delivered[f[2]] = true
		case "?flag":
			j.flags[uid] = 2
		case "!flag":
			_, _ = fmt.Sscan(f[3], &on)
			j.flags[uid] = on
		case "?gone":
			j.going[uid] = true
		case "!gone":
			j.gone[uid] = true
		}
	}
	return j
}

func TestCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mailbox")
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	tcheck(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	kill := func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	defer kill()
	r := rand.New(rand.NewPCG(rand.Uint64(), 3))
	var snapshots []string
	for i := range 6 {
		wait := time.After(time.Duration(50+r.IntN(250)) * time.Millisecond)
		select {
		case <-wait:
		case <-ended:
			t.Fatalf("child ended: %s", out.String())
		}
		tcheck(t, cmd.Process.Signal(syscall.SIGSTOP))
		awaitStop(t, cmd.Process.Pid)
		to := fmt.Sprintf("%s.%d", dir, i)
		if _, err := os.Stat(filepath.Join(dir, indexFile)); err == nil {
			tcheck(t, os.CopyFS(to, os.DirFS(dir)))
			b, err := os.ReadFile(dir + ".log")
			if !errors.Is(err, fs.ErrNotExist) {
				tcheck(t, err)
			}
			tcheck(t, os.WriteFile(to+".log", b, 0o600))
			snapshots = append(snapshots, to)
		}
		tcheck(t, cmd.Process.Signal(syscall.SIGCONT))
	}
	kill()
	snapshots = append(snapshots, dir)
	acknowledged := 0
	keys := crashKeys(t)
	for _, s := range snapshots {
		acknowledged += checkCrash(t, s, keys)
	}
	t.Logf("%d snapshots, %d acknowledged operations", len(snapshots), acknowledged)
	if len(snapshots) < 4 || acknowledged < 50 {
		t.Errorf("%d snapshots, %d acknowledged operations: %s", len(snapshots), acknowledged, out.String())
	}
}

// awaitStop waits until all threads of a process are stopped.
func awaitStop(t *testing.T, pid int) {
	for {
		stopped := true
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		tcheck(t, err)
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil {
				continue
			}
			if i := bytes.LastIndexByte(b, ')'); i < 0 || i+2 >= len(b) || b[i+2] != 'T' {
				stopped = false
			}
		}
		if stopped {
			return
		}
	}
}

// checkCrash opens what a crash left and compares it with the log.
func checkCrash(t *testing.T, dir string, keys *identity.Keyring) int {
	t.Helper()
	j := readLog(t, dir+".log")
	m, err := Open(t.Context(), Config{Dir: dir, Keys: keys, Log: testLog(t)})
	tcheck(t, err)
	defer func() { tcheck(t, m.Close()) }()
	reopen := func() {
		t.Helper()
		tcheck(t, m.Close())
		m, err = Open(t.Context(), Config{Dir: dir, Keys: keys, Log: testLog(t)})
		tcheck(t, err)
	}
	checkTidy(t, m)
	in := inboxOf(t, m)
	subjects := func(name string) map[string][]mail.UID {
		found := map[string][]mail.UID{}
		f := folderOf(t, m, name)
		tcheck(t, m.Messages(t.Context(), f.ID, uidsOf(t, m, f.ID), mail.Want{Envelope: true}, func(x *mail.Message) error {
			found[x.Envelope.Subject] = append(found[x.Envelope.Subject], x.UID)
			if !bytes.Equal(bodyOf(t, m, f.ID, x.UID), tokenText(x.Envelope.Subject)) {
				t.Errorf("%s: message %d of %s is damaged", dir, x.UID, name)
			}
			return nil
		}))
		return found
	}
	inbox, highest := subjects("INBOX"), mail.UID(0)
	for token, uid := range j.tokens {
		highest = max(highest, uid)
		switch got := inbox[token]; {
		case j.gone[uid]:
			if len(got) != 0 {
				t.Errorf("%s: expunged message %d is back", dir, uid)
			}
		case len(got) == 0 && j.going[uid]:
		case len(got) != 1 || got[0] != uid:
			t.Errorf("%s: %s has UIDs %v, want %d", dir, token, got, uid)
		}
	}
	for token, uids := range inbox {
		if !j.trying[token] || len(uids) != 1 {
			t.Errorf("%s: %s has UIDs %v", dir, token, uids)
		}
		highest = max(highest, uids[0])
	}
	for uid, on := range j.flags {
		e, err := m.Entries(t.Context(), in.ID, []mail.UID{uid})
		tcheck(t, err)
		if on < 2 && len(e) == 1 && !j.going[uid] && len(e[0].Flags) != on {
			t.Errorf("%s: message %d has flags %v, want %d", dir, uid, e[0].Flags, on)
		}
	}
	archive := subjects("Archive")
	for _, token := range j.filed {
		if len(archive[token]) != 1 {
			t.Errorf("%s: %s was filed as %v", dir, token, archive[token])
		}
		if _, duplicate, err := m.File(t.Context(), Delivery{Message: tokenText(token), Sender: identity.Root{1}, MessageID: idOf(token)}); err != nil || !duplicate {
			t.Errorf("%s: %s was forgotten: %v", dir, token, err)
		}
	}
	sent := subjects("Sent")
	for _, token := range j.accepted {
		o, err := m.Outgoing(t.Context(), idOf(token))
		if err != nil || len(sent[token]) != 1 || o.To.Local != token {
			t.Errorf("%s: accepted %s: %v, %v", dir, token, sent[token], err)
			continue
		}
		if j.delivered[token] && o.State != Delivered {
			t.Errorf("%s: %s is %s", dir, token, o.State)
		}
		if b, err := m.OutgoingMessage(t.Context(), o.MessageID); err != nil || !bytes.Equal(b, tokenText(token)) {
			t.Errorf("%s: message of %s: %v", dir, token, err)
		}
	}
	for token, uids := range sent {
		if len(uids) != 1 {
			t.Errorf("%s: %s is in Sent as %v", dir, token, uids)
		}
	}
	if uid := put(t, m, in.ID, text("new", "")); uid <= highest {
		t.Errorf("%s: UID %d after %d", dir, uid, highest)
	}
	// The newest messages go once they are in files, and others come after a restart.
	spoolAll(t, m)
	checkTidy(t, m)
	uids := uidsOf(t, m, in.ID)
	uids = uids[max(0, len(uids)-10):]
	_, _, err = m.SetFlags(t.Context(), in.ID, uids, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(t, err)
	_, err = m.Expunge(t.Context(), in.ID, uids)
	tcheck(t, err)
	tcheck(t, m.collect(t.Context()))
	reopen()
	newer := map[string]mail.UID{}
	for i := range 5 {
		newer[fmt.Sprint("newer", i)] = put(t, m, in.ID, tokenText(fmt.Sprint("newer", i)))
	}
	o := outTo(1, "bob")
	o.MessageID = idOf("newest")
	accept(t, m, tokenText("newest"), o)
	tcheck(t, m.settleAccepts(t.Context()))
	spoolAll(t, m)
	reopen()
	checkTidy(t, m)
	for token, uid := range newer {
		if !bytes.Equal(bodyOf(t, m, in.ID, uid), tokenText(token)) {
			t.Errorf("%s: %s is damaged", dir, token)
		}
	}
	if b, err := m.OutgoingMessage(t.Context(), o.MessageID); err != nil || !bytes.Equal(b, tokenText("newest")) {
		t.Errorf("%s: message that was accepted after a restart: %v", dir, err)
	}
	subjects("Sent")
	return len(j.tokens) + len(j.filed) + len(j.accepted) + len(j.flags)
}
