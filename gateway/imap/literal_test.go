package imap_test

import (
	"fmt"
	"strings"
	"testing"
)

const parted = "* BYE Commands cannot be told apart any more"

// smuggled is what a literal must not get done.
const smuggled = "z9 CREATE injected\r\n"

// unharmed demands that nothing in a literal was taken for a command.
func (b *bench) unharmed(what string) {
	b.t.Helper()
	c := b.login()
	defer c.c.Close()
	if containsLine(c.ok(`LIST "" *`), "injected") {
		b.t.Fatalf("%q: a literal was taken for a command", what)
	}
}

// Whatever the library thinks of a command, a literal in it is none.
func TestLiteralsAreNeverCommands(t *testing.T) {
	b := start(t)
	b.fill("INBOX", simple(1))
	for _, s := range []string{
		`APPEND INBOX "01-Jan-2020 12:34:56" {n+}`, "APPEND INBOX (bad{flag) {n+}", `APPEND "&bad" {n+}`, `APPEND INBOX NIL {n+}`, "APPEND nowhere {n+}",
		"APPEND {n+}", "APPEND INBOX UTF8 (~{n+}", "APPEND INBOX (\\Foo) {n+}", "APPEND INBOX {3+}\r\nabc {n+}", "APPEND {5+}\r\nINBOX {n+}",
		"SEARCH CHARSET FOO SUBJECT {n+}", "SEARCH FOO {n+}", "SEARCH SUBJECT {n+}", "SELECT a b {n+}", "SELECT {n+}", "STORE 1 FLAGS ({n+}", `LIST (FOO) "" {n+}`, `LIST "" {n+}`,
		"FOO {n+}", "NOOP {n+}", "CREATE {n+}", "CREATE x {n+}", "LOGIN {n+}", "AUTHENTICATE PLAIN {n+}", "ENABLE {n+}", "IDLE {n+}", "FETCH 1 {n+}", "UID {n+}", "{n+}", "STATUS INBOX ({n+}",
	} {
		c := b.selected()
		c.tag++
		tag := fmt.Sprintf("a%d", c.tag)
		c.write(tag + " " + strings.Replace(s, "n+", itoa(len(smuggled))+"+", 1) + "\r\n" + smuggled + "\r\n")
		c.finish(tag)
		c.ok("NOOP") // and its place is known
		c.c.Close()
		b.unharmed(s)
	}
	// Where the place is lost, the connection ends.
	for _, s := range []string{
		`a1 SELECT "x {n+}`, `a1 SELECT "x\" {n+}`, "a1 CREATE {n+} ", "a1 IDLE\r\nDONT {n+}", "a1 APPEND INBOX {99999999999999999999+}",
		"a1 CREATE {n+}\x00", "a1 CREATE\r{n+}", "a1 SEARCH TEXT " + repeat("y", 60_000) + " {n+}", repeat("z", 52_000) + " {n+}",
	} {
		c := b.selected()
		c.c.Write([]byte(strings.Replace(s, "n+", itoa(len(smuggled))+"+", 1) + "\r\n" + smuggled + "\r\n"))
		if lines := c.closed(); len(lines) > 0 && lines[len(lines)-1] != parted {
			t.Errorf("%q: %q", s, lines)
		}
		b.unharmed(s)
	}
}

// A literal above the bound is not sent by who waits for leave, and costs who
// does not the connection.
func TestLiteralsAreBounded(t *testing.T) {
	b := start(t)
	b.mailbox.Limit = 100_000
	c := b.selected()
	for _, s := range []string{"CREATE {5000}", "CREATE {100000000}", "SEARCH SUBJECT {5000}", "APPEND {5000}", "FOO {99999999999999999999}", "APPEND INBOX {100001}"} {
		c.fails("NO [TOOBIG]", "%s", s)
	}
	d := b.dial()
	d.greeting()
	d.fails("NO [TOOBIG]", "LOGIN {99999999999}")
	d.ok("LOGIN %q %q", user, password)

	for _, s := range []string{"CREATE {5000+}", "DELETE {5000+}", `LIST "" {4097+}`, "APPEND INBOX {5000+}", "APPEND INBOX {200000+}", "SELECT a b {5000+}"} {
		c := b.login()
		c.c.Write([]byte("a1 " + s + "\r\n" + repeat(smuggled, 300)))
		if lines := c.closed(); len(lines) > 0 && (len(lines) != 2 || !strings.HasPrefix(lines[0], "a1 ") || lines[1] != parted) {
			t.Errorf("%q: %q", s, lines)
		}
		b.unharmed(s)
	}
	c = b.login()
	c.c.Write([]byte("a1 SEARCH" + repeat(" TEXT {4096+}\r\n"+repeat("x", 4096), 20) + "\r\n"))
	if lines := c.closed(); len(lines) > 0 && !strings.HasPrefix(lines[0], "a1 NO [TOOBIG] The command is too long") {
		t.Errorf("%q", lines)
	}
}

// Literals that are waited for are asked for, and are as good as any.
func TestLiteralsThatAreAskedFor(t *testing.T) {
	b := start(t)
	searchable(b)
	c := b.selected()
	ask := func(want string, parts ...string) {
		t.Helper()
		c.tag++
		tag := fmt.Sprintf("a%d", c.tag)
		c.write(tag + " ")
		for i, p := range parts {
			if i == len(parts)-1 {
				c.write(p + "\r\n")
				break
			}
			c.write(p + "\r\n")
			if l := c.line(); l != "+ Ready for literal data" {
				t.Fatalf("%q: %q", parts, l)
			}
		}
		lines, status := c.finish(tag)
		if got := strings.Join(append(lines, status), "|"); got != want {
			t.Errorf("%q: %q", parts, got)
		}
	}
	ask("* SEARCH 2|OK SEARCH completed", "SEARCH CHARSET {5}", "UTF-8 HEADER {5}", "X-Tag {1}", "z")
	ask("* SEARCH 1|OK SEARCH completed", "SEARCH SUBJECT {4+}\r\nappl FROM {3}", "bob")
	ask("OK CREATE completed", "CREATE {3}", "new")
	ask("* 5 EXISTS|OK [APPENDUID 1001 5] APPEND completed", "APPEND {5}", `INBOX (\Seen) {6}`, "A: b\r\n")
	ask("BAD [CLIENTBUG] A literal must not hold NUL", "CREATE {3}", "a\x00b")
	ask("BAD [CLIENTBUG] Syntax error: expected CRLF, got \"{\"", "SELECT {5}", "INBOX{3+}\r\nabc")
	same(t, c.ok(`LIST "" new`), `* LIST (\HasNoChildren) "/" "new"`)
	// One that is not wanted is not sent.
	c.fails("BAD", `APPEND INBOX "yesterday" {10}`)
	// A client that sends it all the same cannot be understood.
	c.c.Write([]byte(`b1 APPEND INBOX "yesterday" {20}` + "\r\n" + smuggled + "\r\n"))
	if lines := c.closed(); len(lines) > 0 && lines[len(lines)-1] != parted {
		t.Errorf("%q", lines)
	}
	b.unharmed("a literal that was not waited with")
}

// What follows a message in its APPEND is not overlooked.
func TestAppendTakesOneMessage(t *testing.T) {
	b := start(t)
	c := b.login()
	c.fails("BAD", "APPEND INBOX {6+}\r\nA: b\r\n more")
	c.fails("BAD", "APPEND INBOX {6+}\r\nA: b\r\n {6+}\r\nA: b\r\n")
	c.fails("BAD", "APPEND INBOX {6+}\r\nA: b\r\n {6}")
	tag := c.send("APPEND INBOX {6}")
	c.line()
	c.write("A: b\r\n more\r\n")
	lines := c.closed()
	if len(lines) != 2 || !strings.HasPrefix(lines[0], tag+" BAD") || lines[1] != parted {
		t.Errorf("%q", lines)
	}
	same(t, b.login().ok("STATUS INBOX (MESSAGES)"), "* STATUS INBOX (MESSAGES 0)")
}

// What is no command is answered, before login and after.
func TestLinesThatAreNoCommand(t *testing.T) {
	b := start(t)
	for _, open := range []func() *client{b.login, func() *client { c := b.dial(); c.greeting(); return c }} {
		for _, s := range []struct{ line, want string }{
			{"\r\n", "* BAD "}, {"\n", "* BAD "}, {"x\r\n", "x BAD "}, {"x \r\n", "x BAD "}, {"x  NOOP\r\n", "x BAD "}, {"x UID\r\n", "x BAD "}, {"x UID \r\n", "x BAD "},
			{"* NOOP\r\n", "* BAD "}, {"+ NOOP\r\n", "* BAD "}, {"DONE\r\n", "* BAD "}, {" x NOOP\r\n", "* BAD "}, {"(x NOOP\r\n", "* BAD "}, {"\xff\xfe\x80\r\n", "* BAD "},
			{"x CREATE {3+}\r\na\x00b\r\n", "x BAD "}, {"x LOGIN \"a\r\n", "x BAD "},
		} {
			c := open()
			c.write(s.line)
			if l := c.line(); !strings.HasPrefix(l, s.want) {
				t.Errorf("%q: %q", s.line, l)
			}
			c.ok("NOOP")
			c.c.Close()
		}
		for _, s := range []struct{ line, want string }{
			{"x NOOP " + repeat("y", 300_000), "x BAD "}, {repeat("z", 300_000), "* BAD "}, {"x NOOP\x00\r\n", "x BAD "}, {"\x00\x01\x02\r\n" + repeat("\x00", 5000), "* BAD "},
			{"x NOOP\ry NOOP\r\n", "x BAD "}, {"x CREATE {5000+}\r\n" + repeat("y", 300_000), "x NO [TOOBIG] "}, {"x CREATE \"{3+}\r\n", "x BAD "},
		} {
			c := open()
			c.write(s.line)
			if lines := c.closed(); len(lines) != 2 || !strings.HasPrefix(lines[0], s.want) || lines[1] != parted {
				t.Errorf("%.20q: %q", s.line, lines)
			}
		}
	}
}

// IDLE ends with DONE in any case of letters, and with whatever else is no literal.
func TestEndOfIdle(t *testing.T) {
	b := start(t)
	c := b.selected()
	for end, want := range map[string]string{"DONE": "OK", "done": "OK", "NOOP": "BAD", repeat("x", 3000): "BAD"} {
		tag := c.send("IDLE")
		c.expect("+ idling")
		c.write(end + "\r\n")
		if _, status := c.finish(tag); !strings.HasPrefix(status, want) {
			t.Errorf("%.10q: %s", end, status)
		}
	}
	c.send("IDLE")
	c.expect("+ idling")
	c.write(repeat("x", 4090) + " z CREATE injected\r\n")
	c.closed()
	b.unharmed("a line that ends IDLE")
}
