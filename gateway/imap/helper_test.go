package imap_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/imap/imaptest"
	"github.com/peerpost/peerpost/internal/mail"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

const (
	user     = "alice@example.peerpost.alt"
	password = "correct horse"
)

// bench is a server on a loopback port with one account.
type bench struct {
	t        testing.TB
	server   *imap.Server
	accounts *imaptest.Accounts
	mailbox  *imaptest.Mailbox
	addr     string
	stop     func() error // ends Run and returns its error
}

func start(t testing.TB, set ...func(*imap.Config)) *bench {
	t.Helper()
	b := &bench{t: t, accounts: new(imaptest.Accounts), mailbox: imaptest.New()}
	b.accounts.Add(user, password, b.mailbox)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	c := imap.Config{Accounts: b.accounts, Plain: l, Limits: imap.Limits{LoginDelay: time.Millisecond}}
	for _, f := range set {
		f(&c)
	}
	b.addr = l.Addr().String()
	b.server, err = imap.New(c)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Run(ctx) }()
	stopped := false
	b.stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Error("server does not stop")
			return nil
		}
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await polls until f holds.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("waited in vain: " + what)
		}
	}
}

// client is a client of few manners: it sends lines and reads lines.
type client struct {
	t   testing.TB
	c   net.Conn
	r   *bufio.Reader
	tag int
}

func (b *bench) dial() *client {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	check(b.t, err)
	return newClient(b.t, c)
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t: t, c: c, r: bufio.NewReader(c)}
}

// login dials and logs in.
func (b *bench) login() *client {
	b.t.Helper()
	c := b.dial()
	c.greeting()
	c.ok("LOGIN %q %q", user, password)
	return c
}

// selected dials, logs in and selects INBOX.
func (b *bench) selected() *client {
	b.t.Helper()
	c := b.login()
	c.ok("SELECT INBOX")
	return c
}

func (c *client) greeting() {
	c.t.Helper()
	if l := c.line(); !strings.HasPrefix(l, "* OK [CAPABILITY IMAP4rev1 ") {
		c.t.Fatalf("greeting: %q", l)
	}
}

func (c *client) write(s string) {
	c.t.Helper()
	c.c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.c, s); err != nil {
		c.t.Fatal(err)
	}
}

// read returns a line without its end. Literals stand in it as they are.
func (c *client) read() (string, error) {
	var all strings.Builder
	for {
		l, err := c.r.ReadString('\n')
		all.WriteString(l)
		if err != nil {
			return all.String(), err
		}
		l, ok := strings.CutSuffix(l, "}\r\n")
		i := strings.LastIndexByte(l, '{')
		if !ok || i < 0 {
			return strings.TrimSuffix(all.String(), "\r\n"), nil
		}
		n, err := strconv.Atoi(l[i+1:])
		if err != nil {
			return strings.TrimSuffix(all.String(), "\r\n"), nil
		}
		if _, err := io.CopyN(&all, c.r, int64(n)); err != nil {
			return all.String(), err
		}
	}
}

func (c *client) line() string {
	c.t.Helper()
	c.c.SetDeadline(time.Now().Add(patience))
	l, err := c.read()
	if err != nil {
		c.t.Fatalf("%v after %q", err, l)
	}
	return l
}

// expect reads one line and compares it.
func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.line(); got != want {
		c.t.Fatalf("got  %q\nwant %q", got, want)
	}
}

// closed reads what is left, and demands that the server hangs up.
func (c *client) closed() (lines []string) {
	c.t.Helper()
	c.c.SetDeadline(time.Now().Add(patience))
	for {
		l, err := c.read()
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.t.Fatalf("connection stays open after %q", lines)
		}
		if err != nil {
			return lines
		}
		lines = append(lines, l)
	}
}

func (c *client) send(format string, args ...any) (tag string) {
	c.t.Helper()
	c.tag++
	tag = fmt.Sprintf("a%d", c.tag)
	c.write(tag + " " + fmt.Sprintf(format, args...) + "\r\n")
	return tag
}

// finish reads until the tagged line, and returns the untagged ones and the
// status without its tag.
func (c *client) finish(tag string) (lines []string, status string) {
	c.t.Helper()
	for {
		l := c.line()
		if s, ok := strings.CutPrefix(l, tag+" "); ok {
			return lines, s
		}
		lines = append(lines, l)
	}
}

// do sends a command and returns its answer.
func (c *client) do(format string, args ...any) (lines []string, status string) {
	c.t.Helper()
	return c.finish(c.send(format, args...))
}

// ok is do for a command that must succeed.
func (c *client) ok(format string, args ...any) []string {
	c.t.Helper()
	lines, status := c.do(format, args...)
	if !strings.HasPrefix(status, "OK") {
		c.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), status)
	}
	return lines
}

// fails is do for a command that must not succeed; want is how its status begins.
func (c *client) fails(want, format string, args ...any) {
	c.t.Helper()
	lines, status := c.do(format, args...)
	if !strings.HasPrefix(status, want) {
		c.t.Errorf("%s: %q %q, want %s", fmt.Sprintf(format, args...), lines, status, want)
	}
}

// upload appends a message and returns its status.
func (c *client) upload(folder, options, msg string) (lines []string, status string) {
	c.t.Helper()
	tag := c.send("APPEND %q %s{%d}", folder, options, len(msg))
	if l := c.line(); !strings.HasPrefix(l, "+") {
		s, ok := strings.CutPrefix(l, tag+" ")
		if !ok {
			c.t.Fatalf("APPEND: %q", l)
		}
		return nil, s
	}
	c.write(msg + "\r\n")
	return c.finish(tag)
}

// same compares lines.
func same(t testing.TB, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got  %q\nwant %q", got[i], want[i])
		}
	}
}

// crlf writes a message with the line ends that it has on the wire.
func crlf(s string) string { return strings.ReplaceAll(strings.TrimPrefix(s, "\n"), "\n", "\r\n") }

// fill puts messages into a folder of the mailbox and returns the last UID.
func (b *bench) fill(folder string, messages ...string) (uid mail.UID) {
	b.t.Helper()
	ctx := context.Background()
	f, err := b.mailbox.Folder(ctx, folder)
	check(b.t, err)
	for _, m := range messages {
		uid, err = b.mailbox.Append(ctx, f.ID, strings.NewReader(m), int64(len(m)), nil, date)
		check(b.t, err)
	}
	return uid
}

// date is when the messages of the tests were filed.
var date = time.Date(2026, 11, 20, 10, 30, 0, 0, time.UTC)

// simple returns a small message.
func simple(n int) string {
	return fmt.Sprintf("From: Bob <bob@example.org>\r\nTo: alice@example.org\r\nSubject: message %d\r\n"+
		"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <m%d@example.org>\r\n\r\ntext of message %d\r\n", n, n, n)
}

// many returns n small messages.
func many(n int) (list []string) {
	for i := range n {
		list = append(list, simple(i+1))
	}
	return list
}

// containsLine reports whether one of the lines holds a text.
func containsLine(lines []string, part string) bool {
	for _, l := range lines {
		if strings.Contains(l, part) {
			return true
		}
	}
	return false
}

// repeat writes bytes.
func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }

func itoa(n int) string { return strconv.Itoa(n) }
