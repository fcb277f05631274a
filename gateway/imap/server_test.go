package imap_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/imap/imaptest"
	"github.com/peerpost/peerpost/gateway/listen"
	"github.com/peerpost/peerpost/internal/mail"
)

// listener is one that never accepts.
type listener struct {
	addr   string
	closed chan struct{}
	once   sync.Once
}

func nowhere(addr string) *listener { return &listener{addr: addr, closed: make(chan struct{})} }

func (l *listener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", l.addr)
	if err != nil {
		panic(err)
	}
	return a
}

func TestNewRefuses(t *testing.T) {
	accounts := new(imaptest.Accounts)
	for name, c := range map[string]imap.Config{
		"no accounts":     {Plain: nowhere("127.0.0.1:1")},
		"no listener":     {Accounts: accounts},
		"plain to all":    {Accounts: accounts, Plain: nowhere("0.0.0.0:143")},
		"plain to all v6": {Accounts: accounts, Plain: nowhere("[::]:143")},
		"plain to a LAN":  {Accounts: accounts, Plain: nowhere("192.168.1.4:143")},
		"no certificate":  {Accounts: accounts, TLS: nowhere("0.0.0.0:993")},
	} {
		if _, err := imap.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, c := range map[string]imap.Config{
		"plain":    {Accounts: accounts, Plain: nowhere("127.0.0.1:1")},
		"plain v6": {Accounts: accounts, Plain: nowhere("[::1]:1")},
		"tls":      {Accounts: accounts, TLS: nowhere("0.0.0.0:993"), TLSConfig: new(tls.Config)},
	} {
		if _, err := imap.New(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseWithoutRun(t *testing.T) {
	l := nowhere("127.0.0.1:1")
	s, err := imap.New(imap.Config{Accounts: new(imaptest.Accounts), Plain: l})
	check(t, err)
	for range 2 {
		check(t, s.Close())
	}
	select {
	case <-l.closed:
	default:
		t.Error("listener is open")
	}
	if err := s.Run(context.Background()); err != nil {
		t.Errorf("run after close: %v", err)
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("ran twice")
	}
}

func TestAFailingListenerEndsRun(t *testing.T) {
	l := nowhere("127.0.0.1:1")
	s, err := imap.New(imap.Config{Accounts: new(imaptest.Accounts), Plain: l})
	check(t, err)
	l.Close()
	if err := s.Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// unlucky is a listener whose Accept fails now and then.
type unlucky struct {
	net.Listener
	n int
}

func (l *unlucky) Accept() (net.Conn, error) {
	if l.n++; l.n <= 2 {
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptMayFail(t *testing.T) {
	b := start(t, func(c *imap.Config) { c.Plain = &unlucky{Listener: c.Plain} })
	b.login()
}

func TestRunTakesLeave(t *testing.T) {
	b := start(t)
	idle := b.selected()
	idle.send("IDLE")
	idle.expect("+ idling")
	quiet := b.login()
	fresh := b.dial()
	fresh.greeting()

	// One is in the middle of a command, and gets its answer.
	working := make(chan struct{})
	release := make(chan struct{})
	b.mailbox.Intercept(func(method string) error {
		if method == "Search" {
			close(working)
			<-release
		}
		return nil
	})
	busy := b.selected()
	tag := busy.send("UID SEARCH ALL")
	<-working

	ended := make(chan error, 1)
	go func() { ended <- b.stop() }()
	for _, c := range []*client{idle, quiet, fresh} {
		if l := c.closed(); len(l) != 1 || l[0] != "* BYE The node is shutting down" {
			t.Errorf("%q", l)
		}
	}
	select {
	case <-ended:
		t.Error("did not wait for a command")
	default:
	}
	close(release)
	if lines, status := busy.finish(tag); len(lines) != 1 || !strings.HasPrefix(status, "OK") {
		t.Errorf("%q %q", lines, status)
	}
	if l := busy.closed(); len(l) != 1 || l[0] != "* BYE The node is shutting down" {
		t.Errorf("%q", l)
	}
	check(t, <-ended)
	if n := b.server.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	if n := b.mailbox.Watchers(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
	if _, err := net.Dial("tcp", b.addr); err == nil {
		t.Error("still listens")
	}
}

func TestRunDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.fill("INBOX", repeat("x", 30<<20))
	stuck := b.selected()
	stuck.send("FETCH 1 BODY[]") // and never read
	hung := b.selected()
	begun := make(chan struct{})
	b.accounts.Intercept(func(string) error { return nil })
	release := make(chan struct{})
	b.mailbox.Intercept(func(method string) error {
		if method == "Search" {
			close(begun)
			<-release
		}
		return nil
	})
	hung.send("SEARCH ALL")
	<-begun
	time.AfterFunc(4*time.Second, func() { close(release) }) // a mailbox must come back in the end
	began := time.Now()
	check(t, b.stop())
	if d := time.Since(began); d > patience {
		t.Errorf("took %v", d)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	b := start(t)
	for range 20 {
		c := b.selected()
		c.send("IDLE")
		c.expect("+ idling")
	}
	check(t, b.stop())
	await(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func TestTLS(t *testing.T) {
	authority, err := listen.OpenAuthority(t.TempDir())
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	b := start(t, func(c *imap.Config) { c.TLS, c.TLSConfig = l, authority.TLS() })
	b.fill("INBOX", many(2000)...)
	dial := func() *client {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"})
		check(t, err)
		return newClient(t, c)
	}
	c := dial()
	c.greeting()
	if lines := c.ok("CAPABILITY"); containsLine(lines, "STARTTLS") || containsLine(lines, "LOGINDISABLED") {
		t.Errorf("%q", lines)
	}
	c.ok("LOGIN %q %q", user, password)
	c.ok("SELECT INBOX")
	if n := len(c.ok("FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[])")); n != 2000 {
		t.Errorf("%d lines", n)
	}
	idle := dial()
	idle.greeting()
	idle.ok("LOGIN %q %q", user, password)
	idle.ok("SELECT INBOX")
	idle.send("IDLE")
	idle.expect("+ idling")
	b.fill("INBOX", simple(1))
	idle.expect("* 2001 EXISTS")

	// Clear text at the TLS door, and TLS at the other.
	plain, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	newClient(t, plain).write("a1 CAPABILITY\r\n")
	if b, err := io.ReadAll(plain); err == nil && strings.Contains(string(b), "IMAP4") {
		t.Errorf("clear text was answered: %q", b)
	}
	wrong, err := net.Dial("tcp", b.addr)
	check(t, err)
	if err := tls.Client(wrong, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("TLS on the clear text port")
	}
	check(t, b.stop())
	if l := idle.closed(); len(l) != 1 || !strings.HasPrefix(l[0], "* BYE") {
		t.Errorf("%q", l)
	}
}

func TestNoStartTLS(t *testing.T) {
	b := start(t)
	c := b.dial()
	c.greeting()
	if lines := c.ok("CAPABILITY"); containsLine(lines, "STARTTLS") {
		t.Errorf("%q", lines)
	}
	c.fails("NO", "STARTTLS")
}

func TestManySessionsOfOneAccount(t *testing.T) {
	if imap.MaxPerAccount < 32 {
		t.Errorf("only %d sessions an account", imap.MaxPerAccount)
	}
	b := start(t)
	b.fill("INBOX", many(10)...)
	var wg sync.WaitGroup
	clients := make([]*client, imap.MaxPerAccount)
	for i := range clients {
		clients[i] = b.dial()
	}
	for _, c := range clients {
		wg.Go(func() {
			c.greeting()
			c.ok("LOGIN %q %q", user, password)
			c.ok("SELECT INBOX")
			c.ok("FETCH 1:* FLAGS")
			c.send("IDLE")
			c.expect("+ idling")
		})
	}
	wg.Wait()
	b.fill("INBOX", simple(11))
	for _, c := range clients {
		c.expect("* 11 EXISTS")
	}

	// One more is too many, and the answer is not about its password.
	c := b.dial()
	c.greeting()
	_, status := c.do("LOGIN %q %q", user, password)
	if !strings.HasPrefix(status, "NO [LIMIT] ") || strings.Contains(strings.ToLower(status), "authentication") {
		t.Errorf("%q", status)
	}
	alias := "Other" + user[strings.LastIndexByte(user, '@'):]
	b.accounts.Add(alias, password, b.mailbox)
	c.fails("NO [LIMIT] Too many connections of this account", "LOGIN %q %q", alias, password)
	clients[0].c.Close()
	await(t, "room for another session", func() bool { return b.server.Sessions() <= imap.MaxPerAccount })
	c.ok("LOGIN %q %q", user, password)
	other := imaptest.New()
	b.accounts.Add("carol@example", "secret", other)
	d := b.dial()
	d.greeting()
	d.ok("LOGIN carol@example secret")
}

func TestLimitOfSessions(t *testing.T) {
	const most = 5
	b := start(t, func(c *imap.Config) { c.Limits.Sessions, c.Limits.Waiting = most, most })
	var clients []*client
	for range most {
		clients = append(clients, b.login())
	}
	c := b.dial()
	if l := c.closed(); len(l) != 1 || l[0] != "* BYE [LIMIT] Too many connections, try again later" {
		t.Errorf("%q", l)
	}
	clients[0].ok("LOGOUT")
	clients[0].closed()
	await(t, "room for another session", func() bool { return b.server.Sessions() < most })
	b.login()
}

// A program that only opens connections does not keep out those who log in.
func TestLimitOfThoseWhoDoNotLogIn(t *testing.T) {
	const most = 3
	b := start(t, func(c *imap.Config) { c.Limits.Waiting = most })
	known := b.login()
	var silent []*client
	for range 2 * most {
		c := b.dial()
		c.greeting()
		silent = append(silent, c)
	}
	// The oldest have gone, and one more goes for each that comes.
	for _, c := range silent[:most] {
		c.closed()
	}
	c := b.login()
	silent[most].closed()
	known.ok("NOOP")
	// Whoever has logged in does not count.
	d := b.dial()
	d.greeting()
	for _, s := range append(silent[most+1:], d) {
		s.ok("LOGIN %q %q", user, password)
	}
	c.ok("NOOP")
	await(t, "those who were put out are gone", func() bool { return b.server.Sessions() == most+2 })
}

// The same holds when the connections in all are used up.
func TestSilentOnesMakeRoomForSessions(t *testing.T) {
	const most = 4
	b := start(t, func(c *imap.Config) { c.Limits.Sessions, c.Limits.Waiting = most, most })
	known := b.login()
	var silent []*client
	for range most - 1 {
		c := b.dial()
		c.greeting()
		silent = append(silent, c)
	}
	for i, c := range silent {
		d := b.login()
		c.closed()
		await(t, "who was put out is gone", func() bool { return b.server.Sessions() == most })
		d.ok("NOOP")
		if i == len(silent)-1 {
			if l := b.dial().closed(); len(l) != 1 || l[0] != "* BYE [LIMIT] Too many connections, try again later" {
				t.Errorf("%q", l)
			}
		}
	}
	known.ok("NOOP")
}

func TestBeyondAllLimits(t *testing.T) {
	b := start(t, func(c *imap.Config) { c.Limits.Sessions, c.Limits.Waiting = 1, 1 })
	b.login()
	// Those who are told why do not read, and more come.
	for range 20 {
		b.dial()
	}
	await(t, "refused ones are gone", func() bool { return b.server.Sessions() == 1 })
	if _, err := b.mailbox.Folder(context.Background(), "INBOX"); err != nil {
		t.Error(err)
	}
	if imap.MaxSessions < 512 || imap.MaxWaiting >= imap.MaxSessions {
		t.Error("limits are not what the design says")
	}
}

func TestHTTPIsNotAnswered(t *testing.T) {
	b := start(t)
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST / HTTP/1.1\r\n\r\na1 LOGIN " + user + " x\r\n", "OPTIONS * HTTP/1.1\r\n"} {
		c := b.dial()
		c.greeting()
		c.write(s)
		if l := c.closed(); len(l) != 0 {
			t.Errorf("%q", l)
		}
	}
}

func TestMailboxErrorsAreToldInWords(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{mail.ErrNoFolder, "NO [NONEXISTENT] "},
		{mail.ErrFolderExists, "NO [ALREADYEXISTS] "},
		{mail.ErrFolderName, "NO [CANNOT] "},
		{mail.ErrRoleFolder, "NO [CANNOT] "},
		{mail.ErrNoMessage, "NO [EXPUNGEISSUED] "},
		{mail.ErrTooLarge, "NO [TOOBIG] "},
		{mail.ErrNoSpace, "NO [OVERQUOTA] "},
		{mail.ErrLocked, "NO [UNAVAILABLE] The account is locked"},
		{&mail.Error{Temporary: true, Public: "Come back\r\n* 7 EXISTS"}, "NO [UNAVAILABLE] Come back??* 7 EXISTS"},
		{&mail.Error{Public: "Never"}, "NO [CANNOT] Never"},
		{&mail.Error{}, "NO [CANNOT] Failed"},
		{context.DeadlineExceeded, "NO [UNAVAILABLE] This took too long"},
		{context.Canceled, "NO [UNAVAILABLE] "},
		{errors.New("disk on fire at /home/alice"), "NO [UNAVAILABLE] The mailbox could not do this now"},
	} {
		b := start(t)
		d := b.login()
		b.mailbox.Intercept(func(method string) error {
			if method == "CreateFolder" {
				return c.err
			}
			return nil
		})
		d.fails(c.want, "CREATE x")
		d.ok("NOOP")
	}
}
