package imap_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/imap/imaptest"
)

// pipes is a listener whose connections are pipes.
type pipes struct {
	*listener
	conns chan net.Conn
}

func newPipes() *pipes { return &pipes{nowhere("127.0.0.1:1"), make(chan net.Conn)} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// alarm is a log that remembers errors.
type alarm struct {
	slog.Handler
	last atomic.Pointer[string]
}

func (a *alarm) Enabled(context.Context, slog.Level) bool { return true }
func (a *alarm) WithAttrs([]slog.Attr) slog.Handler       { return a }
func (a *alarm) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		s := r.Message
		r.Attrs(func(at slog.Attr) bool { s += " " + at.String(); return true })
		a.last.Store(&s)
	}
	return nil
}

// states are how far a session has come before the fuzzer speaks.
var states = []string{
	"",
	"l LOGIN " + user + " secret\r\n",
	"l LOGIN " + user + " secret\r\ns SELECT INBOX\r\n",
	"l LOGIN " + user + " secret\r\ns EXAMINE INBOX\r\n",
	"l LOGIN " + user + " secret\r\ns SELECT INBOX\r\nr SEARCH RETURN (SAVE) ALL\r\ni IDLE\r\n",
	"l LOGIN " + user + " secret\r\ne ENABLE UTF8=ACCEPT\r\ns SELECT Trash\r\n",
}

// maxFuzz is how many bytes the fuzzer may say: many commands in a row show
// nothing that few do not, and would take it all its time.
const maxFuzz = 4 << 10

// literally makes the input the line before a literal, and what is in it: a
// command that must not be done.
func literally(input []byte) string {
	line, rest := input, []byte(nil)
	if i := bytes.IndexAny(input, "\r\n"); i >= 0 {
		line, rest = input[:i], input[i:]
	}
	text := smuggled + string(rest)
	return fmt.Sprintf("%s{%d+}\r\n%s\r\n", line, len(text), text)
}

// FuzzSession lets a client say anything, in each state, also as a line that
// ends with a literal. The server must not panic, hang, answer without end, or
// take the literal for a command.
func FuzzSession(f *testing.F) {
	for i := range states {
		for _, s := range []string{
			"a CAPABILITY\r\n", "a LOGIN x y\r\n", "a AUTHENTICATE PLAIN AHgAeQ==\r\n", "a APPEND INBOX (\\Seen) \"18-Nov-2026 09:00:00 +0100\" {4+}\r\nA: b\r\n",
			"a FETCH 1:* (FLAGS UID ENVELOPE BODY BODYSTRUCTURE BODY[1.2.HEADER.FIELDS.NOT (A)]<1.9223372036854775807>)\r\n",
			"a UID SEARCH RETURN (SAVE MIN) OR NOT 1:2 (UID 3,9:* KEYWORD x SENTON 1-Nov-2026) TEXT {1+}\r\nx\r\n", "a UID FETCH $ (BODY[])\r\n",
			"a STORE 1,2:* +FLAGS.SILENT (\\Deleted k)\r\nb UID EXPUNGE 1:*\r\nc EXPUNGE\r\n", "a MOVE 1:2 Trash\r\nb COPY $ \"INBOX\"\r\n",
			"a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (% *a) RETURN (STATUS (SIZE MESSAGES))\r\nb LSUB \"\" *\r\n", "a CREATE \"&-x/y\" (USE (\\Junk))\r\nb RENAME INBOX z\r\nc DELETE z\r\n",
			"DONE\r\na IDLE\r\nDONE\r\nb CLOSE\r\nc UNSELECT\r\n", "a STATUS INBOX (MESSAGES RECENT APPENDLIMIT)\r\n", "\r\n", "a {3+}\r\nabc\r\n", "GET / HTTP/1.1\r\n\r\n",
			"a FETCH 4294967295:* RFC822.SIZE\r\nb FETCH *:4294967295 FAST\r\n",
		} {
			f.Add(uint8(i), []byte(s))
			f.Add(uint8(i+len(states)), []byte(s))
		}
	}
	accounts := new(imaptest.Accounts)
	l := newPipes()
	log := new(alarm)
	server, err := imap.New(imap.Config{Accounts: accounts, Plain: l, Log: slog.New(log), Limits: imap.Limits{LoginDelay: time.Nanosecond}})
	check(f, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		check(f, <-done)
	})

	f.Fuzz(func(t *testing.T, state uint8, input []byte) {
		const most = 16 << 20 // bytes of answers
		if len(input) > maxFuzz {
			return
		}
		said := string(input)
		if int(state)/len(states)%2 == 1 {
			said = literally(input)
		}
		m := imaptest.New()
		m.Limit = 1 << 16
		accounts.Add(user, "secret", m)
		(&bench{t: t, mailbox: m}).fill("INBOX", simple(1), nested, "")
		ours, theirs := net.Pipe()
		l.conns <- theirs
		got := make(chan int64)
		var head strings.Builder
		go func() {
			n, _ := io.Copy(io.Discard, io.LimitReader(io.TeeReader(ours, &limited{&head, 4096}), most))
			got <- n
		}()
		ours.SetDeadline(time.Now().Add(patience))
		for _, s := range []string{states[int(state)%len(states)], said, "\r\nzz LOGOUT\r\n"} {
			if _, err := io.WriteString(ours, s); err != nil {
				break
			}
		}
		ours.Close()
		if n := <-got; n >= most {
			t.Errorf("%d bytes of answers", n)
		}
		await(t, "session ends", func() bool { return server.Sessions() == 0 })
		if s := log.last.Swap(nil); s != nil {
			t.Fatalf("%s\nafter %q", *s, head.String())
		}
		if _, err := m.Folder(ctx, "injected"); err == nil && said != string(input) && !bytes.Contains(input, []byte("injected")) {
			t.Errorf("a literal was taken for a command\nafter %q", head.String())
		}
		if n := m.Watchers(); n != 0 {
			t.Errorf("%d watchers are left", n)
		}
	})
}

// limited keeps the first bytes.
type limited struct {
	*strings.Builder
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.Builder.Write(p[:n])
	l.left -= n
	return len(p), nil
}
