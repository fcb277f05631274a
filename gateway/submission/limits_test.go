package submission_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/gateway/submission/submissiontest"
)

func TestNewRefusesWhatCannotServe(t *testing.T) {
	open := func(addr string) net.Listener {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	accounts := new(submissiontest.Accounts)
	for name, cfg := range map[string]submission.Config{
		"no accounts":            {Plain: open("127.0.0.1:0")},
		"no listener":            {Accounts: accounts},
		"tls without config":     {Accounts: accounts, TLS: open("127.0.0.1:0")},
		"plaintext for everyone": {Accounts: accounts, Plain: open("0.0.0.0:0")},
	} {
		if _, err := submission.New(cfg); err == nil {
			t.Error(name)
		}
	}
}

func TestRecipientLimit(t *testing.T) {
	if submission.MaxRecipients != 100 {
		t.Errorf("limit is %d, docs say 100", submission.MaxRecipients)
	}
	f := serve(t, nil)
	c := f.login()
	c.say("MAIL FROM:<"+alice+">", "250 ")
	var all strings.Builder
	for i := range submission.MaxRecipients + 1 {
		fmt.Fprintf(&all, "RCPT TO:<bob+%d@bbbb.peerpost.alt>\r\n", i)
	}
	c.send(all.String())
	for range submission.MaxRecipients {
		c.expect("250 ")
	}
	c.expect("452 4.5.3")
	c.say("DATA", "354 ")
	c.say(text+".", "250 ")
	if n := len(f.box.Messages()[0].Recipients); n != submission.MaxRecipients {
		t.Errorf("%d recipients", n)
	}
}

// body makes a message of exactly n bytes.
func body(n int) string {
	const line = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\r\n"
	b := "A: b\r\n\r\n" + strings.Repeat(line, n/len(line)+1)
	b = strings.TrimSuffix(b[:n-2], "\r")
	return b + "-"[:n-2-len(b)] + "\r\n"
}

func TestSizeLimit(t *testing.T) {
	const limit = 50_000
	f := prepare(t, nil, nil)
	f.box.Max = limit
	f.run()
	c := f.login()
	from := "MAIL FROM:<" + alice + ">"
	c.say(fmt.Sprintf("%s SIZE=%d", from, limit+1), "552 5.3.4")
	c.say(from+" SIZE=999999999", "552 5.3.4")
	c.say(from+" SIZE=-1", "501 ")

	c.say(fmt.Sprintf("%s SIZE=%d", from, limit), "250 ")
	c.say("RCPT TO:<"+bob+">", "250 ")
	c.say("DATA", "354 ")
	c.say(body(limit)+".", "250 ")

	c.envelope()
	c.say("DATA", "354 ")
	c.say(body(limit)+".", "250 ")
	c.envelope()
	c.say("DATA", "354 ")
	c.say(body(limit+1)+".", "552 5.3.4")

	// More than was declared, and what the line ends make longer.
	c.say(from+" SIZE=10", "250 ")
	c.say("RCPT TO:<"+bob+">", "250 ")
	c.say("DATA", "354 ")
	c.say(body(limit)+".", "250 ")
	c.envelope()
	c.say("DATA", "354 ")
	c.say(strings.Repeat("\n", limit/2-1)+"\r\n.", "250 ")
	c.envelope()
	c.say("DATA", "354 ")
	c.say(strings.Repeat("\n", limit/2)+"\r\n.", "552 5.3.4")

	f.wantBodies(body(limit), body(limit), body(limit), strings.Repeat("\r\n", limit/2))
}

func TestSizeLimitOfTheServer(t *testing.T) {
	const limit = 100_000
	f := serve(t, func(c *submission.Config) { c.MaxMessage = limit })
	c := f.login()
	c.envelope()
	c.say("DATA", "354 ")
	c.say(body(limit)+".", "250 ")
	c.envelope()
	c.say("DATA", "354 ")
	c.say(body(limit+1)+".", "552 5.3.4")
	c.envelope()
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", limit, body(limit)))
	c.expect("250 ")
	c.envelope()
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", limit+1, body(limit+1)))
	c.expect("552 5.3.4")
	f.wantBodies(body(limit), body(limit))
}

// endless sends until the server has had enough, and returns what it said.
func (c *client) endless(piece string) string {
	c.t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, err := io.WriteString(c.Conn, piece); err != nil {
				return
			}
		}
	})
	defer wg.Wait()
	var said strings.Builder
	for {
		got, err := c.reply()
		said.WriteString(got)
		if err != nil {
			c.Close()
			return said.String()
		}
	}
}

func TestRefusedBytesAreNotReadWithoutEnd(t *testing.T) {
	f := serve(t, func(c *submission.Config) { c.MaxMessage = 100_000 })
	c := f.login()
	c.envelope()
	c.say("DATA", "354 ")
	if got := c.endless(body(1000)); !strings.HasPrefix(got, "552 5.3.4") || strings.Count(got, "\n") != 1 {
		t.Errorf("endless body: %q", got)
	}
	c = f.login()
	c.send("BDAT 4294967295\r\n")
	if got := c.endless(body(1000)); !strings.HasPrefix(got, "502 ") || strings.Count(got, "\n") != 1 {
		t.Errorf("endless chunk: %q", got)
	}
	c = f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	c.send("BDAT 4294967295\r\n")
	if got := c.endless(body(1000)); !strings.HasSuffix(got, "421 4.7.0 Too many bytes before the login\r\n") {
		t.Errorf("endless chunk before login: %q", got)
	}
	c = f.dial()
	c.expect("220 ")
	if got := c.endless("NOOP"); got != "421 4.7.0 Too many bytes before the login\r\n" {
		t.Errorf("endless command before login: %q", got)
	}
	c = f.login()
	if got := c.endless("NOOP"); !strings.HasSuffix(got, "500 5.4.0 Too long line, closing connection\r\n") {
		t.Errorf("endless command: %q", got)
	}
	f.wantBodies()
}

func TestMemoryIsReserved(t *testing.T) {
	if submission.DefaultMaxMemory != 256<<20 {
		t.Errorf("budget is %d, docs say 256 MiB", submission.DefaultMaxMemory)
	}
	const memory = 1 << 20
	reached, release := make(chan struct{}), make(chan struct{})
	f := prepare(t, nil, func(c *submission.Config) { c.MaxMemory = memory })
	f.box.OnSubmit = func(_ context.Context, m submissiontest.Message) error {
		if strings.Contains(string(m.Body), "first") {
			reached <- struct{}{}
			<-release
		}
		return nil
	}
	f.run()
	// A message that is being submitted keeps its memory.
	first, second := f.login(), f.login()
	first.envelope()
	first.say("DATA", "354 ")
	first.send("first: " + body(400_000) + ".\r\n")
	<-reached
	big := body(700_000)
	second.envelope()
	second.say("DATA", "354 ")
	second.say(big+".", "452 4.3.1")
	// So does the second copy that wrong line ends cost.
	second.envelope()
	second.say("DATA", "354 ")
	second.say(body(200_000)+"\n\r\n.", "250 ")
	second.envelope()
	second.say("DATA", "354 ")
	second.say(body(300_000)+"\n\r\n.", "452 4.3.1")
	release <- struct{}{}
	first.expect("250 ")
	// What was declared is reserved in one step.
	second.say(fmt.Sprintf("MAIL FROM:<%s> SIZE=%d", alice, len(big)), "250 ")
	second.say("RCPT TO:<"+bob+">", "250 ")
	second.say("DATA", "354 ")
	second.say(big+".", "250 ")
}

func TestConnectionsOfAllClients(t *testing.T) {
	if submission.DefaultMaxConns != 256 || submission.DefaultMaxConnsPerAccount != 64 {
		t.Error("limits are not 256 and 64 as the docs say")
	}
	const limit = 5
	f := serve(t, func(c *submission.Config) { c.MaxConns = limit })
	in := f.login()
	var idle []*client
	for range limit - 1 {
		c := f.dial()
		c.expect("220 ")
		idle = append(idle, c)
	}
	// The next ones take the places of the oldest that never logged in.
	for i := range 2 {
		c := f.login()
		idle[i].expectEnd()
		defer c.say("NOOP", "250 ")
	}
	in.say("NOOP", "250 ")
	for range 2 {
		c := f.login()
		defer c.say("NOOP", "250 ")
	}
	c := f.dial()
	c.expect("421 4.3.2")
	c.expectEnd()
	in.say("QUIT", "221 ")
	in.expectEnd()
	f.login()
}

func TestConnectionsOfOneAccount(t *testing.T) {
	const limit = 3
	f := serve(t, func(c *submission.Config) { c.MaxConnsPerAccount = limit })
	f.accounts.Add(bob, password)
	var in []*client
	for range limit {
		in = append(in, f.login())
	}
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	if got := c.say(auth, "454 4.3.2"); strings.Contains(got, "uthentication") {
		t.Errorf("%q reads like a wrong password", got)
	}
	c.say("MAIL FROM:<"+alice+">", "530 ")
	in[0].say("QUIT", "221 ")
	in[0].expectEnd()
	c.say(auth, "235 ")
	c.envelope()
}

func TestManyConnections(t *testing.T) {
	f := serve(t, nil)
	const clients, each = 60, 5
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := f.login()
			for j := range each {
				c.envelope()
				c.say("DATA", "354 ")
				c.say(fmt.Sprintf("A: %d %d\r\n\r\n%s.", i, j, body(5000)), "250 ")
			}
			c.say("QUIT", "221 ")
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, b := range f.bodies() {
		first, _, _ := strings.Cut(b, "\r\n")
		seen[first] = true
	}
	if len(seen) != clients*each || len(f.bodies()) != clients*each {
		t.Errorf("%d messages, %d different, want %d", len(f.bodies()), len(seen), clients*each)
	}
}

func TestDropInTheMiddle(t *testing.T) {
	f := serve(t, nil)
	for _, script := range []string{
		"DATA\r\nA: b\r\n\r\nhalf",
		"DATA\r\nA: b\r\n\r\nhalf\r\n",
		"DATA\r\nA: b\r\n\r\nhalf\r\n.",
		"DATA\r\nA: b\r\n\r\nhalf\r\n.\r",
		"BDAT 100 LAST\r\nA: b\r\n\r\nhalf",
		"BDAT 5 LAST\r\nA: b",
		"BDAT 4\r\nA: bBDAT 5 LAST\r\n\r\n\r\n",
		"BDAT 4\r\nA: bBDAT 1",
		"BDAT 4\r\nA: b",
		"BDAT 4",
	} {
		c := f.login()
		c.send("MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\n" + script)
		c.Conn.(*net.TCPConn).CloseWrite()
		for {
			if _, err := c.reply(); err != nil {
				break
			}
		}
		c.Close()
	}
	f.stop()
	f.wantBodies()
	if strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("errors were logged:\n%s", f.log)
	}
}

func TestHTTPIsClosedAtOnce(t *testing.T) {
	f := serve(t, nil)
	for _, first := range []string{"GET / HTTP/1.1", "POST /x HTTP/1.1", "OPTIONS * HTTP/1.1", "PRI * HTTP/2.0", "CONNECT a:1 HTTP/1.1", "\x16\x03\x01\x02"} {
		c := f.dial()
		c.expect("220 ")
		c.send(first + "\r\nHost: localhost\r\n\r\nEHLO test\r\n" + auth + "\r\n")
		c.expectEnd()
		c = f.dial() // byte by byte
		c.expect("220 ")
		for i := range len(first) {
			if _, err := c.Write([]byte{first[i]}); err != nil {
				break
			}
		}
		c.expectEnd()
	}
	if f.accounts.Tries() != 0 {
		t.Error("a web page could log in")
	}
	c := f.dial()
	c.expect("220 ")
	c.say("GETS", "500 ")
	c.say("EHLO test", "250")
}

func TestPanicDropsOneConnection(t *testing.T) {
	f := prepare(t, nil, nil)
	f.box.OnSubmit = func(context.Context, submissiontest.Message) error { panic("boom") }
	f.box.OnRecipient = func(_ context.Context, address string, _ int64) error {
		if address == carol {
			panic("boom")
		}
		return nil
	}
	f.run()
	other := f.login()
	c := f.login()
	c.envelope()
	c.say("DATA", "354 ")
	c.say(text+".", "421 ")
	c.expectEnd()
	c = f.login()
	c.envelope()
	c.send("BDAT 3 LAST\r\nA\r\n")
	c.expect("421 ")
	c.expectEnd()
	c = f.login()
	c.say("MAIL FROM:<"+alice+">", "250 ")
	c.say("RCPT TO:<"+carol+">", "421 ")
	c.expectEnd()
	other.envelope()
	f.stop()
	if n := strings.Count(f.log.String(), "level=ERROR"); n != 3 {
		t.Errorf("%d panics were logged, want 3", n)
	}
}

func TestStopLetsMessagesArrive(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	f := prepare(t, nil, nil)
	f.box.OnSubmit = func(ctx context.Context, _ submissiontest.Message) error {
		reached <- struct{}{}
		<-release
		return ctx.Err()
	}
	f.run()
	idle, strange := f.login(), f.dial()
	strange.expect("220 ")
	submitting, sending, chunks := f.login(), f.login(), f.login()
	for _, c := range []*client{submitting, sending, chunks} {
		c.envelope()
	}
	submitting.say("DATA", "354 ")
	sending.say("DATA", "354 ")
	sending.send(text[:20])
	chunks.send("BDAT 3\r\nA: ")
	chunks.expect("250 ")
	submitting.send(text + ".\r\n")
	<-reached
	f.cancel()
	idle.expect("421 4.3.2")
	idle.expectEnd()
	strange.expect("421 4.3.2")
	strange.expectEnd()
	go func() { <-reached; <-reached }()
	sending.send(text[20:] + ".\r\n")
	chunks.send("BDAT 3 LAST\r\nb\r\n")
	close(release)
	for _, c := range []*client{submitting, sending, chunks} {
		c.expect("250 ")
		c.expect("421 4.3.2")
		c.expectEnd()
	}
	f.stop()
	if n := len(f.box.Messages()); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
	if _, err := net.Dial("tcp", f.listener.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestClose(t *testing.T) {
	f := prepare(t, nil, nil)
	f.box.OnSubmit = func(ctx context.Context, _ submissiontest.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}
	f.run()
	idle, busy := f.login(), f.login()
	busy.envelope()
	busy.say("DATA", "354 ")
	busy.send(text + ".\r\n")
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	idle.reply()
	busy.reply()
	f.stop()
	f.wantBodies()
	if err := f.Run(context.Background()); !errors.Is(err, submission.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}

	unused := prepare(t, nil, nil)
	unused.Close()
	if _, err := net.Dial("tcp", unused.listener.Addr().String()); err == nil {
		t.Error("Close before Run left the listener open")
	}
	if err := unused.Run(context.Background()); !errors.Is(err, submission.ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestListenerThatFails(t *testing.T) {
	f := prepare(t, nil, nil)
	f.listener.Close()
	if err := f.Run(context.Background()); err == nil {
		t.Error("no error")
	}
}
