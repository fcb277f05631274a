package imap_test

import (
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
)

func plain(authz, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authz + "\x00" + user + "\x00" + password))
}

func TestCapabilities(t *testing.T) {
	b := start(t)
	c := b.dial()
	c.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- AUTH=PLAIN] IMAP server ready")
	same(t, c.ok("CAPABILITY"), "* CAPABILITY IMAP4rev1 SASL-IR LITERAL- AUTH=PLAIN")
	const after = "CAPABILITY IMAP4rev1 SASL-IR LITERAL- UNSELECT ENABLE IDLE NAMESPACE UIDPLUS ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS " +
		"MOVE STATUS=SIZE CHILDREN SPECIAL-USE CREATE-SPECIAL-USE APPENDLIMIT=41943040"
	_, status := c.do("LOGIN %q %q", user, password)
	if status != "OK ["+after+"] Logged in" {
		t.Error(status)
	}
	same(t, c.ok("CAPABILITY"), "* "+after)
}

func TestLogin(t *testing.T) {
	b := start(t)
	for name, script := range map[string]func(c *client) string{
		"LOGIN":             func(c *client) string { return c.send("LOGIN %q %q", user, password) },
		"LOGIN, any case":   func(c *client) string { return c.send("LOGIN %q %q", strings.ToUpper(user), password) },
		"LOGIN by literals": func(c *client) string { return literals(c, user, password) },
		"SASL-IR":           func(c *client) string { return c.send("AUTHENTICATE PLAIN %s", plain("", user, password)) },
		"with authzid":      func(c *client) string { return c.send("AUTHENTICATE PLAIN %s", plain(user, user, password)) },
		"AUTHENTICATE": func(c *client) string {
			tag := c.send("AUTHENTICATE plain")
			if l := c.line(); !strings.HasPrefix(l, "+") {
				t.Errorf("%q", l)
			}
			c.write(plain("", user, password) + "\r\n")
			return tag
		},
	} {
		c := b.dial()
		c.greeting()
		if _, status := c.finish(script(c)); !strings.HasPrefix(status, "OK [CAPABILITY IMAP4rev1") {
			t.Errorf("%s: %s", name, status)
			continue
		}
		c.ok("SELECT INBOX")
		c.fails("BAD", "LOGIN %q %q", user, password)
	}
}

func literals(c *client, list ...string) string {
	c.tag++
	c.write("lit LOGIN")
	for _, s := range list {
		c.write(" {" + itoa(len(s)) + "}\r\n")
		c.expect("+ Ready for literal data")
		c.write(s)
	}
	c.write("\r\n")
	return "lit"
}

func TestWrongPasswords(t *testing.T) {
	b := start(t)
	for name, try := range map[string]func(c *client){
		"LOGIN": func(c *client) {
			c.fails("NO [AUTHENTICATIONFAILED] Authentication failed", "LOGIN %q wrong", user)
		},
		"user": func(c *client) { c.fails("NO [AUTHENTICATIONFAILED] ", "LOGIN nobody %q", password) },
		"PLAIN": func(c *client) {
			c.fails("NO [AUTHENTICATIONFAILED] ", "AUTHENTICATE PLAIN %s", plain("", user, "wrong"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.dial()
			c.t = t
			c.greeting()
			for range 3 {
				try(c)
			}
			if l := c.closed(); len(l) != 1 || l[0] != "* BYE Too many failed logins" {
				t.Errorf("%q", l)
			}
		})
	}
}

func TestTriesInOnePacket(t *testing.T) {
	b := start(t)
	var tries atomic.Int32
	b.accounts.Intercept(func(string) error { tries.Add(1); return nil })
	c := b.dial()
	c.greeting()
	c.write(repeat("a LOGIN x y\r\n", 200))
	lines := c.closed()
	if n := tries.Load(); n != 3 {
		t.Errorf("%d tries", n)
	}
	if !containsLine(lines, "NO [LIMIT] Too many tries") || lines[len(lines)-1] != "* BYE Too many failed logins" {
		t.Errorf("%q", lines[len(lines)-1])
	}
}

func TestWrongPasswordsAreDelayed(t *testing.T) {
	const delay = 50 * time.Millisecond
	b := start(t, func(c *imap.Config) { c.Limits.LoginDelay = delay })
	c := b.dial()
	c.greeting()
	for i := range 3 {
		began := time.Now()
		c.fails("NO", "LOGIN x y")
		if d := time.Since(began); d < time.Duration(i+1)*delay {
			t.Errorf("try %d was answered after %v", i+1, d)
		}
	}
}

func TestThrottle(t *testing.T) {
	b := start(t)
	throttled := ""
	for range 10 {
		c := b.dial()
		c.greeting()
		_, status := c.do("LOGIN %q wrong", user)
		c.c.Close()
		if !strings.HasPrefix(status, "NO [AUTHENTICATIONFAILED]") {
			throttled = status
			break
		}
	}
	if !strings.HasPrefix(throttled, "NO [LIMIT] Too many wrong passwords, try again in ") || strings.Contains(strings.ToLower(throttled), "authentication") {
		t.Fatalf("%q", throttled)
	}
	// Others at the same place may log in, and so may this user from elsewhere,
	// and then from here.
	b.accounts.Add("carol", "secret", b.mailbox)
	c := b.dial()
	c.greeting()
	c.ok("LOGIN carol secret")
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	n, err := from.Dial("tcp", b.addr)
	check(t, err)
	c = newClient(t, n)
	c.greeting()
	c.ok("LOGIN %q %q", user, password)
	c = b.dial()
	c.greeting()
	c.ok("LOGIN %q %q", user, password)
}

// The part before the @ is the client's to choose: guesses under many of them are guesses at one account.
func TestThrottleUnderManyNames(t *testing.T) {
	b := start(t)
	var tries atomic.Int32
	b.accounts.Intercept(func(string) error { tries.Add(1); return mail.ErrCredentials })
	for i := range 20 {
		c := b.dial()
		c.greeting()
		_, status := c.do("LOGIN x%d@%s guess%d", i, "Key.example", i)
		c.c.Close()
		if i > 10 && !strings.HasPrefix(status, "NO [LIMIT]") {
			t.Fatalf("try %d: %q", i+1, status)
		}
	}
	if n := tries.Load(); n != 6 {
		t.Errorf("%d passwords were tried", n)
	}
}

func TestLoginErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{mail.ErrThrottled, "NO [LIMIT] Too many wrong passwords, try again later"},
		{errors.New("secret details"), "NO [UNAVAILABLE] The account cannot be opened now, try again later"},
		{&mail.Error{Public: "Come tomorrow"}, "NO [UNAVAILABLE] Come tomorrow"},
	} {
		b := start(t)
		b.accounts.Intercept(func(string) error { return c.err })
		d := b.dial()
		d.greeting()
		_, status := d.do("LOGIN a b")
		if status != c.want || strings.Contains(strings.ToLower(status), "authentication") {
			t.Errorf("%v: %q", c.err, status)
		}
	}
}

func TestBadLogins(t *testing.T) {
	b := start(t)
	for _, s := range []string{
		"AUTHENTICATE LOGIN", "AUTHENTICATE PLAIN %%%", "AUTHENTICATE PLAIN " + plain("somebody", user, password),
		"AUTHENTICATE PLAIN =", "LOGIN", "LOGIN a", "LOGIN a b c", `LOGIN "` + repeat("x", 5000) + `" y`, "SELECT INBOX", "LIST \"\" *",
	} {
		c := b.dial()
		c.greeting()
		_, status := c.do("%s", s)
		if !strings.HasPrefix(status, "NO") && !strings.HasPrefix(status, "BAD") || strings.Contains(status, "SERVERBUG") {
			t.Errorf("%.40s: %s", s, status)
		}
	}
	c := b.dial()
	c.greeting()
	tag := c.send("AUTHENTICATE PLAIN")
	c.line()
	c.write("*\r\n")
	if _, status := c.finish(tag); !strings.HasPrefix(status, "BAD") {
		t.Error(status)
	}
	c.ok("LOGIN %q %q", user, password)
}

func TestUnknownCommandBeforeLogin(t *testing.T) {
	b := start(t)
	c := b.dial()
	c.greeting()
	c.fails("BAD", "XYZZY")
	c.fails("BAD", `ID ("name" "Mail" "version" NIL)`)
	c.fails("BAD", "uid fetch 1 flags")
	c.fails("BAD", "uid xyzzy")
	// A continuation is no command, nor is a literal.
	tag := c.send("AUTHENTICATE PLAIN")
	c.line()
	c.write("a b c\r\n")
	if _, status := c.finish(tag); !strings.HasPrefix(status, "BAD") {
		t.Error(status)
	}
	c.write("lit LOGIN {13}\r\n")
	c.expect("+ Ready for literal data")
	c.write("a ID NIL\r\nb c {1}\r\n")
	c.expect("+ Ready for literal data")
	c.write("x\r\n")
	if _, status := c.finish("lit"); !strings.HasPrefix(status, "NO [AUTHENTICATIONFAILED]") {
		t.Error(status)
	}
	// What comes together with the login goes on to what is behind it.
	c.write("1 ID NIL\r\n2 LOGIN " + user + " {" + itoa(len(password)) + "+}\r\n" + password + "\r\n3 NOO")
	if _, status := c.finish("1"); !strings.HasPrefix(status, "BAD") {
		t.Error(status)
	}
	if _, status := c.finish("2"); !strings.HasPrefix(status, "OK") {
		t.Error(status)
	}
	c.write("P\r\n")
	if _, status := c.finish("3"); status != "OK NOOP completed" {
		t.Error(status)
	}
	for range 10 {
		c.fails("BAD Unknown command", "XYZZY")
	}

	// Whoever knows nothing but such does not speak IMAP.
	for _, s := range []string{"a XYZZY\r\n", "\r\n"} {
		c = b.dial()
		c.greeting()
		for range 8 {
			c.write(s)
			if l := c.line(); !strings.Contains(l, " BAD ") {
				t.Errorf("%q", l)
			}
		}
		c.write(s)
		if l := c.closed(); len(l) != 2 || l[1] != "* BYE This is not IMAP" {
			t.Errorf("%q", l)
		}
	}
}
