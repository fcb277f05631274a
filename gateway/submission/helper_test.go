package submission_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/gateway/submission/submissiontest"
)

const (
	alice    = "alice@aaaa.peerpost.alt"
	bob      = "bob@bbbb.peerpost.alt"
	carol    = "carol@cccc.peerpost.alt"
	password = "correct horse"
)

var auth = "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00"+password))

// fixture is a running server with one account.
type fixture struct {
	*submission.Server
	t        testing.TB
	accounts *submissiontest.Accounts
	box      *submissiontest.Outbox // alice's
	listener net.Listener
	log      *logBuffer
	cancel   context.CancelFunc
	ended    chan error
}

// logBuffer collects what the server logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// prepare makes a server on the listener (nil: a TCP port of loopback) that does not run yet.
func prepare(t testing.TB, l net.Listener, change func(*submission.Config)) *fixture {
	t.Helper()
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	f := &fixture{t: t, accounts: new(submissiontest.Accounts), listener: l, log: new(logBuffer), ended: make(chan error, 1)}
	f.box = f.accounts.Add(alice, password)
	cfg := submission.Config{
		Accounts: f.accounts,
		Plain:    l,
		Log:      slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.Server, err = submission.New(cfg); err != nil {
		t.Fatal(err)
	}
	f.SetFailureTime(time.Nanosecond)
	return f
}

// run starts it; the end of the test checks that nothing is left.
func (f *fixture) run() *fixture {
	memory := f.FreeMemory()
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	go func() { f.ended <- f.Run(ctx) }()
	f.t.Cleanup(func() {
		if f.cancel != nil {
			f.stop()
		}
		if n := f.FreeMemory(); n != memory {
			f.t.Errorf("%d bytes of the budget were not given back", memory-n)
		}
		if conns, loggedIn := f.Open(); conns != 0 || loggedIn != 0 {
			f.t.Errorf("%d connections and %d logins are still counted", conns, loggedIn)
		}
	})
	return f
}

func (f *fixture) stop() {
	f.cancel()
	f.cancel = nil
	if err := <-f.ended; err != nil {
		f.t.Errorf("Run: %v", err)
	}
}

func serve(t testing.TB, change func(*submission.Config)) *fixture {
	t.Helper()
	return prepare(t, nil, change).run()
}

// client is a scripted one.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// patience is for answers that do come, in real time.
const patience = 10 * time.Second

func (f *fixture) dial() *client {
	f.t.Helper()
	c, err := net.Dial("tcp", f.listener.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	return f.talk(c)
}

func (f *fixture) talk(c net.Conn) *client {
	f.t.Helper()
	f.t.Cleanup(func() { c.Close() })
	return &client{f.t, c, bufio.NewReader(c)}
}

// login dials and logs in.
func (f *fixture) login() *client {
	f.t.Helper()
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	c.say(auth, "235 ")
	return c
}

// send writes as it is.
func (c *client) send(s string) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("sending %.60q: %v", s, err)
	}
}

// reply reads one answer, of many lines perhaps.
func (c *client) reply() (string, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		if len(line) < 4 || line[3] != '-' {
			return all.String(), nil
		}
	}
}

func (c *client) expect(prefix string) string {
	c.t.Helper()
	got, err := c.reply()
	if err != nil {
		c.t.Fatalf("got %q and %v, want %q", got, err, prefix)
	}
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %q, want %q", got, prefix)
	}
	return got
}

// say sends a line and wants an answer.
func (c *client) say(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.expect(prefix)
}

// expectEnd wants the connection to be closed without another answer.
func (c *client) expectEnd() {
	c.t.Helper()
	got, err := c.reply()
	var ne net.Error
	if got != "" || err == nil || errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatalf("got %q and %v, want the end of the connection", got, err)
	}
}

// envelope sends MAIL and RCPT.
func (c *client) envelope() {
	c.t.Helper()
	c.say("MAIL FROM:<"+alice+">", "250 ")
	c.say("RCPT TO:<"+bob+">", "250 ")
}

const text = "From: " + alice + "\r\nTo: " + bob + "\r\nSubject: hello\r\n\r\nHow are you?\r\n"

func (f *fixture) bodies() (all []string) {
	for _, m := range f.box.Messages() {
		all = append(all, string(m.Body))
	}
	return all
}

func (f *fixture) wantBodies(want ...string) {
	f.t.Helper()
	got := f.bodies()
	if len(got) != len(want) {
		f.t.Fatalf("%d messages were submitted, want %d: %.200q", len(got), len(want), got)
	}
	for i := range got {
		if got[i] != want[i] {
			f.t.Errorf("message %d is %.200q, want %.200q", i, got[i], want[i])
		}
	}
}
