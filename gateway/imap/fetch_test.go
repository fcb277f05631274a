package imap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/imap/imaptest"
	"github.com/peerpost/peerpost/internal/mail"
)

var nested = crlf(`
From: "Bob, the builder" <bob@example.org>
To: friends: a@example.org, B <b@example.net>;, alice@example.org
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Date: Fri, 20 Nov 2026 10:00:00 +0100
Message-ID: <outer@example.org>
In-Reply-To: <x@y> <z@y>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=o

preamble
--o
Content-Type: text/plain; charset=utf-8
Content-Language: de, en
X-Part: one

first part
--o
Content-Type: message/rfc822
Content-Disposition: attachment; filename="fwd.eml"

From: carol@example.org
Subject: inner
Content-Type: multipart/alternative; boundary=i

--i

inner text
--i
Content-Type: text/html
Content-Transfer-Encoding: BASE64

PGI+
--i--
--o
Content-Type: image/png; name=a.png
Content-ID: <img@x>
Content-Description: a picture
Content-Transfer-Encoding: base64

iVBO
--o--
epilogue
`)

func TestFetchParts(t *testing.T) {
	b := start(t)
	b.fill("INBOX", nested)
	c := b.login()
	c.ok("EXAMINE INBOX")
	for _, s := range []struct{ section, want string }{
		{"", nested},
		{"TEXT", nested[strings.Index(nested, "preamble"):]},
		{"HEADER", nested[:strings.Index(nested, "preamble")]},
		{"HEADER.FIELDS (subject X-None message-id)", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <outer@example.org>\r\n\r\n"},
		{"HEADER.FIELDS (X-None)", "\r\n"},
		{"HEADER.FIELDS.NOT (From To Date Message-ID In-Reply-To MIME-Version Content-Type)", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n"},
		{"1", "first part"},
		{"1.MIME", "Content-Type: text/plain; charset=utf-8\r\nContent-Language: de, en\r\nX-Part: one\r\n\r\n"},
		{"2.HEADER", "From: carol@example.org\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"},
		{"2.HEADER.FIELDS (SUBJECT)", "Subject: inner\r\n\r\n"},
		{"2.TEXT", "--i\r\n\r\ninner text\r\n--i\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: BASE64\r\n\r\nPGI+\r\n--i--"},
		{"2.1", "inner text"},
		{"2.2", "PGI+"},
		{"2.2.MIME", "Content-Type: text/html\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"},
		{"3", "iVBO"},
		{"4", ""},
		{"1.1", ""},
		{"1.TEXT", ""},
		{"1.HEADER.FIELDS (A)", ""},
		{"99.99.99.MIME", ""},
	} {
		want := fmt.Sprintf("* 1 FETCH (BODY[%s] {%d}\r\n%s)", quoteFields(s.section), len(s.want), s.want)
		same(t, c.ok("FETCH 1 BODY.PEEK[%s]", s.section), want)
	}
	same(t, c.ok("FETCH 1 (RFC822.HEADER)"), fmt.Sprintf("* 1 FETCH (RFC822.HEADER {%d}\r\n%s)", strings.Index(nested, "preamble"), nested[:strings.Index(nested, "preamble")]))
	same(t, c.ok("FETCH 1 (RFC822.SIZE UID INTERNALDATE)"), fmt.Sprintf(`* 1 FETCH (UID 1 INTERNALDATE "20-Nov-2026 10:30:00 +0000" RFC822.SIZE %d)`, len(nested)))
	same(t, c.ok("FETCH 1 (BODY.PEEK[1] BODY.PEEK[3] FLAGS)"), "* 1 FETCH (FLAGS () BODY[1] {10}\r\nfirst part BODY[3] {4}\r\niVBO)")
}

// quoteFields writes field names as the library does.
func quoteFields(section string) string {
	head, list, ok := strings.Cut(section, " (")
	if !ok {
		return section
	}
	var names []string
	for _, n := range strings.Fields(strings.TrimSuffix(list, ")")) {
		names = append(names, `"`+n+`"`)
	}
	return head + " (" + strings.Join(names, " ") + ")"
}

func TestFetchEnvelope(t *testing.T) {
	b := start(t)
	b.fill("INBOX", nested)
	c := b.selected()
	same(t, c.ok("FETCH 1 ENVELOPE"), `* 1 FETCH (ENVELOPE ("Fri, 20 Nov 2026 10:00:00 +0100" "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" `+
		`(("Bob, the builder" NIL "bob" "example.org")) (("Bob, the builder" NIL "bob" "example.org")) (("Bob, the builder" NIL "bob" "example.org")) `+
		`((NIL NIL "friends" NIL) (NIL NIL "a" "example.org") ("B" NIL "b" "example.net") (NIL NIL NIL NIL) (NIL NIL "alice" "example.org")) `+
		`NIL NIL "<x@y> <z@y>" "<outer@example.org>"))`)
}

func TestFetchStructure(t *testing.T) {
	b := start(t)
	b.fill("INBOX", nested, "no header at all")
	c := b.selected()
	const inner = `"message" "rfc822" NIL NIL NIL "7bit" 189 (NIL "inner" ((NIL NIL "carol" "example.org")) ((NIL NIL "carol" "example.org")) ((NIL NIL "carol" "example.org")) NIL NIL NIL NIL NIL) `
	same(t, c.ok("FETCH 1 BODY"), `* 1 FETCH (BODY (("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 10 0)`+
		`(`+inner+`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 0)("text" "html" NIL NIL NIL "base64" 4 0) "alternative") 12)`+
		`("image" "png" ("name" "a.png") "<img@x>" "a picture" "base64" 4) "mixed"))`)
	same(t, c.ok("FETCH 1 BODYSTRUCTURE"), `* 1 FETCH (BODYSTRUCTURE (("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 10 0 NIL NIL ("de" "en") NIL)`+
		`(`+inner+`(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 0 NIL NIL NIL NIL)("text" "html" NIL NIL NIL "base64" 4 0 NIL NIL NIL NIL) "alternative" ("boundary" "i") NIL NIL NIL) 12 NIL ("attachment" ("filename" "fwd.eml")) NIL NIL)`+
		`("image" "png" ("name" "a.png") "<img@x>" "a picture" "base64" 4 NIL NIL NIL NIL) "mixed" ("boundary" "o") NIL NIL NIL))`)
	if l := c.ok("FETCH 1 (BODY BODYSTRUCTURE)"); len(l) != 1 || !strings.Contains(l[0], "(BODY (") || !strings.Contains(l[0], " BODYSTRUCTURE (") {
		t.Errorf("%q", l)
	}
	same(t, c.ok("FETCH 2 BODY"), `* 2 FETCH (BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 16 0))`)
}

func TestFetchMacros(t *testing.T) {
	b := start(t)
	b.fill("INBOX", simple(1))
	c := b.selected()
	for s, want := range map[string]string{"ALL": "ENVELOPE", "FAST": "RFC822.SIZE", "FULL": "BODY ("} {
		if l := c.ok("FETCH 1 %s", s); len(l) != 1 || !strings.Contains(l[0], want) || !strings.Contains(l[0], "INTERNALDATE") || !strings.Contains(l[0], "FLAGS ()") {
			t.Errorf("%s: %q", s, l)
		}
	}
	same(t, c.ok("UID FETCH 1 FLAGS"), "* 1 FETCH (UID 1 FLAGS ())")
	same(t, c.ok("FETCH 1 UID"), "* 1 FETCH (UID 1)")
}

func TestFetchSetsSeen(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(4)...)
	c, d := b.selected(), b.selected()
	for _, s := range []string{"BODY.PEEK[]", "RFC822.HEADER", "RFC822.PEEK", "BODY", "ENVELOPE"} {
		if l := c.ok("FETCH 1 %s", s); containsLine(l, "Seen") {
			t.Errorf("%s: %q", s, l)
		}
	}
	same(t, c.ok("FETCH 1 BODY[HEADER.FIELDS (TO)]"), "* 1 FETCH (FLAGS (\\Seen) BODY[HEADER.FIELDS (\"TO\")] {25}\r\nTo: alice@example.org\r\n\r\n)")
	same(t, c.ok("FETCH 1 BODY[HEADER.FIELDS (TO)]"), "* 1 FETCH (BODY[HEADER.FIELDS (\"TO\")] {25}\r\nTo: alice@example.org\r\n\r\n)")
	same(t, c.ok("FETCH 2 (FLAGS RFC822.TEXT)"), "* 2 FETCH (FLAGS (\\Seen) RFC822.TEXT {19}\r\ntext of message 2\r\n)")
	if l := c.ok("FETCH 3 RFC822"); len(l) != 1 || !strings.HasPrefix(l[0], "* 3 FETCH (FLAGS (\\Seen) RFC822 {162}\r\n") {
		t.Errorf("%q", l)
	}
	same(t, c.ok("NOOP"))
	same(t, d.ok("NOOP"), "* 1 FETCH (UID 1 FLAGS (\\Seen))", "* 2 FETCH (UID 2 FLAGS (\\Seen))", "* 3 FETCH (UID 3 FLAGS (\\Seen))")

	// When the flag cannot be set, the message is shown all the same.
	b.mailbox.Intercept(func(method string) error {
		if method == "SetFlags" {
			return mail.ErrNoSpace
		}
		return nil
	})
	same(t, c.ok("FETCH 4 BODY[TEXT]"), "* 4 FETCH (BODY[TEXT] {19}\r\ntext of message 4\r\n)")
}

func TestFetchPartial(t *testing.T) {
	b := start(t)
	b.fill("INBOX", "A: b\r\n\r\n0123456789")
	c := b.login()
	c.ok("EXAMINE INBOX")
	for _, s := range []struct{ section, partial, origin, want string }{
		{"TEXT", "0.4", "0", "0123"},
		{"TEXT", "4.4", "4", "4567"},
		{"TEXT", "8.100", "8", "89"},
		{"TEXT", "10.1", "10", ""},
		{"TEXT", "1000.5", "1000", ""},
		{"TEXT", "0.0", "0", ""},
		{"", "1.9223372036854775807", "1", ": b\r\n\r\n0123456789"},
		{"", "4294967295.9223372036854775807", "4294967295", ""},
		{"HEADER.FIELDS (A)", "3.100", "3", "b\r\n\r\n"},
		{"HEADER.FIELDS (A)", "100.100", "100", ""},
		{"7", "1.1", "1", ""},
	} {
		same(t, c.ok("FETCH 1 BODY[%s]<%s>", s.section, s.partial),
			fmt.Sprintf("* 1 FETCH (BODY[%s]<%s> {%d}\r\n%s)", quoteFields(s.section), s.origin, len(s.want), s.want))
	}
	c.fails("BAD", "FETCH 1 BODY[]<4294967296.1>")
	c.fails("BAD", "FETCH 1 BODY[]<9223372036854775807.9223372036854775807>")
	c.fails("BAD", "FETCH 1 BODY[]<9223372036854775808.1>")
	c.fails("BAD", "FETCH 1 BODY[]<-1.1>")
	c.fails("BAD", "FETCH 1 BODY[]<1>")
	c.ok("NOOP")
}

func TestOddMessages(t *testing.T) {
	b := start(t)
	odd := []string{
		"no header", "\r\n", "\n", "x", "\r\n\r\nbody", "Subject: only a header", "Subject: only a header\r\n", "Subject: x\r\n\r\n",
		"Content-Type: multipart/mixed\r\n\r\nnothing", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n",
		"Content-Type: message/rfc822\r\n\r\n", "Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/x; boundary=y\r\n\r\n",
		"Subject: \xff\xfe\x00\r\nFrom: \"\xe4\" <\xe4@\xe4>\r\nMessage-ID: <\xe4\x00>\r\nContent-Type: text/plain; charset=\"\xe4\"; x=\"\r\n y\"\r\n\r\n\x00\x01",
		"Content-Type: " + repeat("multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: ", 200) + "text/plain\r\n\r\nx",
		repeat("Content-Type: message/rfc822\r\n\r\n", 300),
		"From: " + repeat("a@b,", 3000) + "\r\n\r\n",
		repeat("X: y\r\n", 20_000) + "\r\n",
	}
	b.fill("INBOX", odd...)
	c := b.selected()
	c.ok("FETCH 1:* (FLAGS UID ENVELOPE BODY BODYSTRUCTURE INTERNALDATE RFC822.SIZE)")
	for i, m := range odd {
		same(t, c.ok("FETCH %d BODY.PEEK[]", i+1), fmt.Sprintf("* %d FETCH (BODY[] {%d}\r\n%s)", i+1, len(m), m))
		c.ok("FETCH %d (BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[1.1.1.1.1] BODY.PEEK[1.HEADER.FIELDS.NOT (A)])", i+1)
		if l := c.ok("UID SEARCH UID %d OR TEXT zzz ALL", i+1); len(l) != 1 || l[0] != fmt.Sprintf("* SEARCH %d", i+1) {
			t.Errorf("%q", l)
		}
	}
}

func TestFetchIsRefused(t *testing.T) {
	b := start(t)
	b.fill("INBOX", simple(1))
	c := b.selected()
	c.fails("BAD", "FETCH 1 BINARY[1]")
	c.fails("BAD", "FETCH 1 BINARY.SIZE[1]")
	c.fails("BAD", "FETCH 1 MODSEQ")
	c.fails("BAD", "FETCH 1 BODY[WHAT]")
	c.fails("BAD", "FETCH 2 FLAGS")
	c.fails("BAD", "FETCH 0 FLAGS")
	c.fails("BAD", "FETCH 1:x FLAGS")
	c.fails("BAD", "FETCH 4294967296 FLAGS")
	c.fails("NO [LIMIT]", "FETCH 1 (%s)", strings.TrimSpace(repeat("BODY.PEEK[] ", 65)))
	same(t, c.ok("UID FETCH 2:3 FLAGS"))
	same(t, c.ok("UID FETCH 2:* (UID)"), "* 1 FETCH (UID 1)")
}

// A message whose bytes cannot be had does not keep the others from being shown.
func TestMessagesThatCannotBeRead(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c := b.selected()
	var n atomic.Int32
	b.mailbox.Intercept(func(method string) error {
		if method == "Body" && n.Add(1) == 2 {
			return errors.New("disk is broken")
		}
		return nil
	})
	lines, status := c.do("FETCH 1:3 BODY.PEEK[TEXT]")
	if len(lines) != 2 || status != "NO [UNAVAILABLE] 1 of the messages could not be read" {
		t.Errorf("%q %q", lines, status)
	}
	c.ok("NOOP")
	b.mailbox.Intercept(func(method string) error {
		if method == "Body" {
			return mail.ErrNoMessage // expunged at this moment
		}
		return nil
	})
	same(t, c.ok("FETCH 1:3 BODY.PEEK[TEXT]"))
	b.mailbox.Intercept(func(method string) error {
		if method == "Messages" || method == "Entries" {
			return errors.New("disk is broken")
		}
		return nil
	})
	c.fails("NO [UNAVAILABLE]", "FETCH 1:3 ENVELOPE")
	c.fails("NO [UNAVAILABLE]", "FETCH 1:3 FLAGS")
}

// torn is a mailbox whose messages end early.
type torn struct{ *imaptest.Mailbox }

type tornBody struct{ mail.Body }

func (b tornBody) ReadAt(p []byte, off int64) (int, error) {
	const good = 70_000
	if off >= good {
		return 0, errors.New("damaged")
	}
	return b.Body.ReadAt(p[:min(int64(len(p)), good-off)], off)
}

func (m torn) Body(ctx context.Context, folder int64, uid mail.UID) (mail.Body, error) {
	b, err := m.Mailbox.Body(ctx, folder, uid)
	return tornBody{b}, err
}

func TestAMessageThatBreaksOffEndsTheConnection(t *testing.T) {
	b := start(t)
	b.accounts.Add(user, password, torn{b.mailbox})
	b.fill("INBOX", "A: b\r\n\r\n"+repeat("x", 200_000))
	c := b.selected()
	c.send("FETCH 1 BODY.PEEK[]")
	all, _ := io.ReadAll(c.r)
	if n := len(all); n > 80_000 || strings.Contains(string(all), " OK ") || strings.Contains(string(all), " NO ") {
		t.Errorf("got %d bytes, ending in %q", n, all[n-40:])
	}
	b.selected().ok("FETCH 1 (BODY.PEEK[]<0.100> FLAGS)")
}

func TestLargeFetchIsWhole(t *testing.T) {
	b := start(t)
	for i := range 700 { // more than two batches
		b.fill("INBOX", simple(i+1))
	}
	b.fill("INBOX", "To: "+repeat("a@example.org, ", 9000)+"\r\n\r\n", "To: "+repeat("b@example.org, ", 9000)+"\r\n\r\n", "To: "+repeat("c@example.org, ", 9000)+"\r\n\r\n")
	c := b.selected()
	for _, items := range []string{"UID", "(UID ENVELOPE)", "(UID BODYSTRUCTURE)", "(UID BODY[HEADER])"} {
		lines := c.ok("FETCH 1:* %s", items)
		if len(lines) != 703 {
			t.Fatalf("%s: %d lines", items, len(lines))
		}
		for i, l := range lines {
			if !strings.HasPrefix(l, fmt.Sprintf("* %d FETCH (UID %d", i+1, i+1)) {
				t.Fatalf("%s: line %d: %.80q", items, i, l)
			}
		}
	}
	var set []string
	for i := 1; i <= 703; i += 2 {
		set = append(set, itoa(i))
	}
	if lines := c.ok("UID FETCH %s ENVELOPE", strings.Join(set, ",")); len(lines) != 352 {
		t.Errorf("%d lines", len(lines))
	}
}

// A client that reads slowly gets what it asked for, and nobody else waits.
func TestSlowClient(t *testing.T) {
	b := start(t)
	big := "A: b\r\n\r\n" + repeat("0123456789abcde\n", 1<<18) // 4 MiB
	b.fill("INBOX", big, big, big, big)
	slow := b.selected()
	tag := slow.send("FETCH 1:* BODY.PEEK[]")
	if l := slow.line(); len(l) < len(big) {
		t.Fatal("no message")
	}
	c := b.selected()
	for i := range 20 {
		b.fill("INBOX", simple(i))
		c.ok("NOOP")
	}
	lines, status := slow.finish(tag)
	if len(lines) != 4 || lines[3] != "* 24 EXISTS" || !strings.HasPrefix(status, "OK") {
		t.Errorf("%d lines, %s", len(lines), status)
	}
}

func TestPanicsDropOneConnection(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(1000)...)
	for _, method := range []string{"Entries", "Messages", "Changes", "View", "Search", "SetFlags", "Folders", "Folder", "Append", "Copy", "Move", "Expunge", "CreateFolder", "Body"} {
		b.mailbox.Intercept(nil)
		c, idle := b.selected(), b.selected()
		idle.send("IDLE")
		idle.expect("+ idling")
		var late atomic.Bool
		done := make(chan struct{})
		b.mailbox.Intercept(func(m string) error {
			if m == method && !late.Swap(true) {
				defer close(done)
				panic("a bug of the mailbox")
			}
			return nil
		})
		c.write("x1 FETCH 1 FLAGS\r\nx2 FETCH 1:* ENVELOPE\r\nx3 FETCH 1 BODY.PEEK[]\r\nx4 SEARCH ALL\r\nx5 STORE 1 +FLAGS \\Seen\r\n" +
			"x6 LIST \"\" *\r\nx7 STATUS INBOX (MESSAGES)\r\nx8 COPY 1 Trash\r\nx9 MOVE 1 Trash\r\nx10 EXPUNGE\r\nx11 CREATE c\r\n" +
			"x12 APPEND INBOX {4+}\r\nA: b\r\nx13 LOGOUT\r\n")
		c.closed()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("%s was not called", method)
		}
	}
	b.mailbox.Intercept(nil)
	b.selected().ok("FETCH 1 FLAGS")
	check(t, b.stop())
}

var _ imap.Mailbox = torn{}

// The date of an ENVELOPE is the text of the field (RFC 3501, 7.4.2), wherever
// it comes to stand in what the library writes at once.
func TestEnvelopeDate(t *testing.T) {
	b := start(t)
	dates := []struct{ field, want string }{
		{"Fri, 20 Nov 2026 10:00:00 +0000", `"Fri, 20 Nov 2026 10:00:00 +0000"`},
		{"20 Nov 2026 10:00 GMT (noon \"here\")", `"20 Nov 2026 10:00 GMT (noon \"here\")"`},
		{"Fri, 20 Nov 2026\r\n\t10:00:00 +0000 (x)", `"Fri, 20 Nov 2026 10:00:00 +0000 (x)"`},
		{"yesterday", `"yesterday"`},
		{"gestern früh", "{13}\r\ngestern früh"},
		{"a \\ b", `"a \\ b"`},
		{"", "NIL"},
	}
	for _, d := range dates {
		// What a stranger writes is not taken for it.
		b.fill("INBOX", "Date: "+d.field+"\r\nSubject: ENVELOPE (\"Thu, 01 Jan 1970 00:00:00 +0000\" ENVELOPE (\r\n\r\n")
	}
	b.fill("INBOX", "Subject: ENVELOPE (\"Thu, 01 Jan 1970 00:00:00 +0000\" ENVELOPE (\r\n\r\n")
	c := b.selected()
	const rest = ` "ENVELOPE (\"Thu, 01 Jan 1970 00:00:00 +0000\" ENVELOPE (" NIL NIL NIL NIL NIL NIL NIL NIL)`
	for i, d := range dates {
		same(t, c.ok("FETCH %d (ENVELOPE)", i+1), fmt.Sprintf("* %d FETCH (ENVELOPE (%s%s)", i+1, d.want, rest))
	}
	same(t, c.ok("FETCH %d (ENVELOPE)", len(dates)+1), fmt.Sprintf("* %d FETCH (ENVELOPE (NIL%s)", len(dates)+1, rest))

	var flags []string
	for i := range 63 {
		flags = append(flags, fmt.Sprintf("%d%s", 100+i, repeat("k", 60)))
	}
	for n := range 64 {
		all := strings.Join(append(flags, repeat("k", n+1)), " ")
		c.ok("STORE 4 FLAGS.SILENT (%s)", all)
		same(t, c.ok("FETCH 4 (FLAGS ENVELOPE)"), "* 4 FETCH (FLAGS ("+all+`) ENVELOPE ("yesterday"`+rest+")")
	}
}
