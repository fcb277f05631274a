package mime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// crlf makes a message of text that is written with bare line ends.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// shape writes a tree of parts in short: "multipart/mixed(text/plain text/html)".
func shape(p *mail.Part) string {
	s := p.Type + "/" + p.Subtype
	var inside []string
	for _, c := range p.Children {
		inside = append(inside, shape(c))
	}
	if p.Inner != nil {
		inside = append(inside, shape(p.Inner))
	}
	if inside != nil {
		s += "(" + strings.Join(inside, " ") + ")"
	}
	return s[:min(len(s), 1000)]
}

// verify checks what holds for every index of every message.
func verify(t testing.TB, msg []byte, x *Index) {
	t.Helper()
	root := x.Structure
	if root.Header != 0 || root.End != int64(len(msg)) || x.Size != int64(len(msg)) {
		t.Fatalf("message is %d bytes, its part %d to %d", len(msg), root.Header, root.End)
	}
	if n := int64(bytes.Count(msg, []byte("\n"))); x.Lines != n {
		t.Fatalf("%d lines, want %d", x.Lines, n)
	}
	header, body := Split(msg)
	if int64(len(header)) != root.Body || len(header)+len(body) != len(msg) {
		t.Fatalf("Split ends the header at %d, Parse at %d", len(header), root.Body)
	}
	parts, text, addresses := 0, 0, 0
	clean := func(list ...string) {
		for _, s := range list {
			text += len(s)
			if strings.ContainsAny(s, "\r\n\x00") {
				t.Fatalf("%q holds CR, LF or NUL", s)
			}
		}
	}
	envelope := func(e *mail.Envelope) {
		clean(e.RawDate, e.Subject, e.InReplyTo, e.MessageID)
		for _, list := range [][]mail.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
			addresses += len(list)
			open := false
			for _, a := range list {
				clean(a.Name, a.Mailbox, a.Host)
				if a.Host == "" {
					if open == (a.Mailbox != "") {
						t.Fatalf("group within a group or end without begin: %q", list)
					}
					open = !open
				} else if a.Mailbox == "" {
					t.Fatalf("address without mailbox: %q", a)
				}
			}
			if open {
				t.Fatalf("group without end: %q", list)
			}
		}
	}
	var walk func(p *mail.Part, depth int)
	walk = func(p *mail.Part, depth int) {
		parts++
		if depth > MaxDepth {
			t.Fatalf("depth %d", depth)
		}
		if p.Header > p.Body || p.Body > p.End || p.Body-p.Header > MaxHeader {
			t.Fatalf("part at %d, %d, %d", p.Header, p.Body, p.End)
		}
		if n := int64(bytes.Count(msg[p.Body:p.End], []byte("\n"))); p.Lines != n {
			t.Fatalf("%s at %d has %d lines, told %d", shape(p), p.Header, n, p.Lines)
		}
		if p.Type == "" || p.Subtype == "" || p.Encoding == "" || lower(p.Type) != p.Type || lower(p.Subtype) != p.Subtype {
			t.Fatalf("type %q/%q, encoding %q", p.Type, p.Subtype, p.Encoding)
		}
		if p.IsMultipart() != (len(p.Children) > 0) || isMessage(p) != (p.Inner != nil) || (p.Inner != nil) != (p.Envelope != nil) {
			t.Fatalf("%s does not have what belongs to it", shape(p))
		}
		if len(p.Params) > MaxParams+1 || len(p.DispositionParams) > MaxParams || len(p.Language) > maxLanguages {
			t.Fatalf("%d, %d, %d", len(p.Params), len(p.DispositionParams), len(p.Language))
		}
		clean(p.ID, p.Description, p.MD5, p.Disposition, p.Location)
		clean(p.Language...)
		for _, list := range [][]mail.Param{p.Params, p.DispositionParams} {
			seen := make(map[string]bool)
			for _, q := range list {
				clean(q.Name, q.Value)
				if seen[q.Name] {
					t.Fatalf("parameter %q twice", q.Name)
				}
				seen[q.Name] = true
			}
		}
		if p.Envelope != nil {
			envelope(p.Envelope)
		}
		at := p.Body
		for _, c := range p.Children {
			if c.Header < at || c.End > p.End {
				t.Fatalf("child %d to %d in parent %d to %d, the one before ended at %d", c.Header, c.End, p.Body, p.End, at)
			}
			at = c.End
			walk(c, depth+1)
		}
		if p.Inner != nil {
			if p.Inner.Header != p.Body || p.Inner.End != p.End {
				t.Fatalf("inner message %d to %d in part %d to %d", p.Inner.Header, p.Inner.End, p.Body, p.End)
			}
			walk(p.Inner, depth+1)
		}
	}
	walk(root, 1)
	if parts > MaxParts {
		t.Fatalf("%d parts", parts)
	}
	if addresses > 3*MaxAddresses || text > 2*MaxStructure {
		t.Fatalf("%d addresses, %d bytes of text inside", addresses, text)
	}
	envelope(x.Envelope)
	if addresses > 6*MaxAddresses {
		t.Fatalf("%d addresses", addresses)
	}

	// The stored form gives the same index.
	p, err := UnmarshalStructure(MarshalStructure(root))
	if err != nil {
		t.Fatalf("structure: %v", err)
	}
	if !reflect.DeepEqual(p, root) {
		t.Fatalf("structure came back as %s, was %s", shape(p), shape(root))
	}
	e, err := UnmarshalEnvelope(MarshalEnvelope(x.Envelope))
	if err != nil {
		t.Fatalf("envelope: %v", err)
	}
	if !e.Date.Equal(x.Envelope.Date) || FormatDate(e.Date) != FormatDate(x.Envelope.Date) {
		t.Fatalf("date came back as %v, was %v", e.Date, x.Envelope.Date)
	}
	e.Date = x.Envelope.Date
	if !reflect.DeepEqual(e, x.Envelope) {
		t.Fatalf("envelope came back as %+v, was %+v", e, x.Envelope)
	}

	// Through a reader, with a window just wide enough, it is the same too.
	small := parser{in: lines{r: bytes.NewReader(msg), size: int64(len(msg)), buf: make([]byte, 0, maxBoundaryLine+20), whole: true}}
	y, err := small.parse()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x, y) {
		t.Fatalf("from memory %s, through a window %s", shape(x.Structure), shape(y.Structure))
	}
}

// messages are shaped like mail that is met in the world. Each has the shape it
// should get and texts that sections should give.
var messages = []struct {
	name, text, shape string
	sections          []string // "1.2 HEADER", text, …
}{
	{
		name: "plain",
		text: `From: a@example.org
Subject: hi

Hello.
Bye.
`,
		shape: "text/plain",
		sections: []string{
			"", "From: a@example.org\nSubject: hi\n\nHello.\nBye.\n",
			" HEADER", "From: a@example.org\nSubject: hi\n\n",
			" TEXT", "Hello.\nBye.\n",
			"1", "Hello.\nBye.\n",
			"1 MIME", "From: a@example.org\nSubject: hi\n\n",
			"1 HEADER", "-", "1 TEXT", "-", "2", "-", "0", "-", "1.1", "-", " MIME", "-",
		},
	},
	{
		name: "alternative in mixed, as most programs write it",
		text: `From: a@example.org
MIME-Version: 1.0
Content-Type: multipart/mixed;
	boundary="=_outer"

This is a multi-part message in MIME format.
--=_outer
Content-Type: multipart/alternative; boundary="=_inner"

--=_inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--=_inner
Content-Type: text/html; charset=utf-8

<p>Grüße</p>
--=_inner--

--=_outer
Content-Type: application/pdf; name="a.pdf"
Content-Disposition: attachment; filename="a.pdf"
Content-Transfer-Encoding: base64

JVBERg==

--=_outer--
epilogue
`,
		shape: "multipart/mixed(multipart/alternative(text/plain text/html) application/pdf)",
		sections: []string{
			"1 MIME", "Content-Type: multipart/alternative; boundary=\"=_inner\"\n\n",
			"1.1", "Gr=C3=BC=C3=9Fe",
			"1.2", "<p>Grüße</p>",
			"1.2 MIME", "Content-Type: text/html; charset=utf-8\n\n",
			"2", "JVBERg==\n",
			"1.3", "-", "3", "-", "2.1", "-", "1 HEADER", "-",
		},
	},
	{
		name: "forwarded message with an attachment of its own",
		text: `From: a@example.org
Content-Type: multipart/mixed; boundary=b

--b

see below
--b
Content-Type: message/rfc822

From: c@example.org
Subject: inner
Content-Type: multipart/mixed; boundary=c

--c

inner text
--c
Content-Type: image/png

png
--c--
--b
Content-Type: message/rfc822

Subject: single

only text
--b--
`,
		shape: "multipart/mixed(text/plain message/rfc822(multipart/mixed(text/plain image/png)) message/rfc822(text/plain))",
		sections: []string{
			"1", "see below", "1 MIME", "\n",
			"2 MIME", "Content-Type: message/rfc822\n\n",
			"2 HEADER", "From: c@example.org\nSubject: inner\nContent-Type: multipart/mixed; boundary=c\n\n",
			"2 TEXT", "--c\n\ninner text\n--c\nContent-Type: image/png\n\npng\n--c--",
			"2.1", "inner text", "2.2", "png", "2.2 MIME", "Content-Type: image/png\n\n",
			"3", "Subject: single\n\nonly text",
			"3 HEADER", "Subject: single\n\n", "3 TEXT", "only text",
			"3.1", "only text", "3.1 MIME", "Subject: single\n\n",
			"3.2", "-", "2.3", "-", "3.1.1", "-", "2.1 HEADER", "-",
		},
	},
	{
		name: "message as the whole body",
		text: `Content-Type: message/rfc822

Subject: inner

text
`,
		shape: "message/rfc822(text/plain)",
		sections: []string{
			"1", "Subject: inner\n\ntext\n",
			"1 HEADER", "Subject: inner\n\n",
			"1.1", "text\n",
			" TEXT", "Subject: inner\n\ntext\n",
		},
	},
	{
		name: "digest, parts without a type are messages",
		text: `Content-Type: multipart/digest; boundary=d

--d

Subject: one

first
--d
Content-Type: text/plain

list
--d

no header
--d--
`,
		shape:    "multipart/digest(message/rfc822(text/plain) text/plain message/rfc822(text/plain))",
		sections: []string{"1.1", "first", "2", "list", "3", "no header", "3 HEADER", "", "3 TEXT", "no header"},
	},
	{
		name: "delivery report",
		text: `Content-Type: multipart/report; report-type=delivery-status; boundary="r"

--r
Content-Type: text/plain

sorry
--r
Content-Type: message/delivery-status

Reporting-MTA: dns; x
--r
Content-Type: text/rfc822-headers

Subject: lost

--r--
`,
		shape:    "multipart/report(text/plain message/delivery-status text/rfc822-headers)",
		sections: []string{"2", "Reporting-MTA: dns; x", "3", "Subject: lost\n"},
	},
	{
		name: "signed",
		text: `Content-Type: multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"; boundary=s

--s
Content-Type: text/plain

text
--s
Content-Type: application/pgp-signature

sig
--s--
`,
		shape:    "multipart/signed(text/plain application/pgp-signature)",
		sections: []string{"1 MIME", "Content-Type: text/plain\n\n", "1", "text"},
	},
	{
		name:     "empty multipart",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n",
		shape:    "multipart/mixed(text/plain)",
		sections: []string{"1", "", "1 MIME", ""},
	},
	{
		name:  "multipart with only its closing boundary",
		text:  "Content-Type: multipart/mixed; boundary=b\n\nx\n--b--\n",
		shape: "multipart/mixed(text/plain)",
	},
	{
		name:     "multipart without a boundary",
		text:     "Content-Type: multipart/mixed\n\n--b\n\ntext\n--b--\n",
		shape:    "text/plain",
		sections: []string{"1", "--b\n\ntext\n--b--\n"},
	},
	{
		name:  "boundary too long",
		text:  "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", MaxBoundary+1) + "\n\n--" + strings.Repeat("b", MaxBoundary+1) + "\n\ntext\n",
		shape: "application/octet-stream",
	},
	{
		name:     "closing boundary missing",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n",
		shape:    "multipart/mixed(text/plain text/plain)",
		sections: []string{"1", "one", "2", "two\n"},
	},
	{
		name:     "inner closing boundary missing",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--c\nstill two\n--b--\n",
		shape:    "multipart/mixed(multipart/mixed(text/plain) text/plain)",
		sections: []string{"1.1", "one", "2", "two\n--c\nstill two"},
	},
	{
		name:     "same boundary inside and outside",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n",
		shape:    "multipart/mixed(multipart/mixed(text/plain) text/plain)",
		sections: []string{"2", "one"},
	},
	{
		name:     "one boundary begins another",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b-in\n\n--b-in\n\none\n--b-in--\n--b  \n\ntwo\n--bb\n--b-- \t\n",
		shape:    "multipart/mixed(multipart/mixed(text/plain) text/plain)",
		sections: []string{"1.1", "one", "2", "two\n--bb"},
	},
	{
		name:     "boundary that ends in dashes",
		text:     "Content-Type: multipart/mixed; boundary=\"b--\"\n\n--b--\n\none\n--b----\nepilogue\n",
		shape:    "multipart/mixed(text/plain)",
		sections: []string{"1", "one"},
	},
	{
		name:     "parts cut within their header",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: image/png\n--b\n--b\nContent-Type: message/rfc822\n--b\nContent-Type: multipart/mixed; boundary=c\n--b--\n",
		shape:    "multipart/mixed(image/png text/plain message/rfc822(text/plain) multipart/mixed(text/plain))",
		sections: []string{"1 MIME", "Content-Type: image/png\n", "1", "", "2", "", "3", "", "3 TEXT", "", "4", ""},
	},
	{
		name:     "part without a header or empty line",
		text:     "Content-Type: multipart/mixed; boundary=b\n\n--b\nno field here\n--b--\n",
		shape:    "multipart/mixed(text/plain)",
		sections: []string{"1", "no field here", "1 MIME", ""},
	},
	{
		name:     "no header at all",
		text:     "just words\n\nmore words\n",
		shape:    "text/plain",
		sections: []string{" HEADER", "", " TEXT", "just words\n\nmore words\n", "1", "just words\n\nmore words\n"},
	},
	{
		name:     "header only, without its empty line",
		text:     "Subject: x",
		shape:    "text/plain",
		sections: []string{" HEADER", "Subject: x", " TEXT", ""},
	},
	{
		name:     "empty header",
		text:     "\nbody\n",
		shape:    "text/plain",
		sections: []string{" HEADER", "\n", " TEXT", "body\n"},
	},
	{name: "nothing", text: "", shape: "text/plain", sections: []string{"", "", "1", ""}},
	{
		name:  "line of a mailbox file, lines that are no fields",
		text:  "From a@example.org Mon Jan  2 15:04:05 2006\nSubject: x\nno field\n folded\nContent-Type: text/html\n\nbody\n",
		shape: "text/html",
	},
	{name: "type that is none", text: "Content-Type: html\n\nx", shape: "text/plain"},
	{name: "type that is none, encoded", text: "Content-Type: pdf\nContent-Transfer-Encoding: base64\n\nx", shape: "application/octet-stream"},
	{name: "type with blanks and a comment", text: "Content-Type: Text / HTML (page) ; charset=utf-8\n\nx", shape: "text/html"},
	{name: "two types", text: "Content-Type: text/html\nContent-Type: image/png\n\nx", shape: "text/html"},
	{name: "encoded message", text: "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA==\n", shape: "application/octet-stream"},
	{name: "message/global", text: "Content-Type: message/global\n\nSubject: ü\n\nx", shape: "message/global(text/plain)"},
	{name: "message/partial", text: "Content-Type: message/partial; id=x; number=1\n\nSubject: x\n\nx", shape: "message/partial"},
}

func TestParse(t *testing.T) {
	for _, m := range messages {
		for _, style := range []string{"CRLF", "LF"} {
			t.Run(m.name+" "+style, func(t *testing.T) {
				end := func(s string) string { return s }
				if style == "CRLF" {
					end = crlf
				}
				msg := []byte(end(m.text))
				x := ParseBytes(msg)
				verify(t, msg, x)
				if s := shape(x.Structure); s != m.shape {
					t.Errorf("shape\n got %s\nwant %s", s, m.shape)
				}
				for i := 0; i < len(m.sections); i += 2 {
					r, ok := section(x.Structure, m.sections[i])
					got := "-"
					if ok {
						got = string(msg[r.Start:r.End])
					}
					if got != end(m.sections[i+1]) {
						t.Errorf("section %q is %q, want %q", m.sections[i], got, m.sections[i+1])
					}
				}
			})
		}
	}
}

// section resolves "1.2 HEADER".
func section(root *mail.Part, s string) (Range, bool) {
	number, word, _ := strings.Cut(s, " ")
	var path []int
	for n := range strings.SplitSeq(number, ".") {
		if n != "" {
			i := 0
			fmt.Sscan(n, &i)
			path = append(path, i)
		}
	}
	return Section(root, path, map[string]Specifier{"": Whole, "HEADER": Header, "TEXT": Content, "MIME": MIME}[word])
}

func TestSectionRefuses(t *testing.T) {
	x := ParseBytes([]byte("Subject: x\r\n\r\nbody"))
	for _, path := range [][]int{{-1}, {0}, {1, 0}, {1 << 62}, {1, 1}, make([]int, 1000)} {
		if r, ok := Section(x.Structure, path, Whole); ok {
			t.Errorf("path %v is %v", path, r)
		}
	}
	if _, ok := Section(nil, nil, Whole); ok {
		t.Error("section of nothing")
	}
}

func TestPartFields(t *testing.T) {
	msg := crlf(`Content-Type: Application/X-Thing; NAME="a; \"b\".txt"; x=1 (one); name=again; bad; =none;
 title*0*=utf-8'en'%C3%A4; title*1="b c"; title*2*=%20d; note*1=b; note*0=a; note*3=lost
Content-Transfer-Encoding: QUOTED-printable (really)
Content-ID: <id@x>
Content-Description: what
 it is
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Language: en, de-DE ,
Content-Location: http://example.org/a
Content-Disposition: ATTACHMENT; filename=my file (1).pdf; size=5

x`)
	x := ParseBytes([]byte(msg))
	verify(t, []byte(msg), x)
	p := x.Structure
	p.Header, p.Body, p.End = 0, 0, 0
	want := &mail.Part{
		Type: "application", Subtype: "x-thing",
		Params: []mail.Param{
			{Name: "name", Value: `a; "b".txt`}, {Name: "x", Value: "1"},
			{Name: "title*", Value: "utf-8'en'%C3%A4b%20c%20d"}, {Name: "note", Value: "ab"},
		},
		ID: "<id@x>", Description: "what it is", Encoding: "quoted-printable", MD5: "Q2hlY2sgSW50ZWdyaXR5IQ==",
		Disposition: "attachment", DispositionParams: []mail.Param{{Name: "filename", Value: "my file (1).pdf"}, {Name: "size", Value: "5"}},
		Language: []string{"en", "de-DE"}, Location: "http://example.org/a",
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	if s := Param(p.Params, "title"); s != "äb c d" {
		t.Errorf("title is %q", s)
	}
	if s := FileName(p); s != "my file (1).pdf" {
		t.Errorf("file name is %q", s)
	}
}

func TestEnvelope(t *testing.T) {
	msg := crlf(`Received: from x
Date: Tue, 1 Jul 2003 10:52:37 +0200
From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>
Subject: =?utf-8?q?Gr=C3=BC?=
	=?utf-8?q?=C3=9Fe?=
To: a@example.org,
 "B, C" <b@example.org>
To: late@example.org
Cc: friends: d@example.org;
Reply-To:
In-Reply-To: <one@x>  <two@x>
Message-ID: <abc@example.org> (comment)

`)
	x := ParseBytes([]byte(msg))
	verify(t, []byte(msg), x)
	from := []mail.Address{{Name: "=?utf-8?q?J=C3=BCrgen?=", Mailbox: "j", Host: "example.org"}}
	want := &mail.Envelope{
		Date:    x.Envelope.Date,
		RawDate: "Tue, 1 Jul 2003 10:52:37 +0200",
		Subject: "=?utf-8?q?Gr=C3=BC?= =?utf-8?q?=C3=9Fe?=",
		From:    from, Sender: from, ReplyTo: from,
		To: []mail.Address{{Mailbox: "a", Host: "example.org"}, {Name: "B, C", Mailbox: "b", Host: "example.org"}, {Mailbox: "late", Host: "example.org"}},
		Cc: []mail.Address{{Mailbox: "friends"}, {Mailbox: "d", Host: "example.org"}, {}},

		InReplyTo: "<one@x>  <two@x>", MessageID: "abc@example.org",
	}
	if !reflect.DeepEqual(x.Envelope, want) {
		t.Errorf("got  %+v\nwant %+v", x.Envelope, want)
	}
	if !x.Envelope.Date.Equal(time.Date(2003, 7, 1, 8, 52, 37, 0, time.UTC)) {
		t.Errorf("date is %v", x.Envelope.Date)
	}
}

// hostile are messages made to cost much or to break a reader.
func hostile() map[string][]byte {
	rep := strings.Repeat
	nested := func(n int, body string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String() + body
	}
	recipients := rep("a@b,", 250_000)
	return map[string][]byte{
		"200,000 empty parts":      []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + rep("--b\r\n\r\n", 200_000) + "--b--\r\n"),
		"200,000 bare boundaries":  []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + rep("--b\r\n", 200_000)),
		"nested messages":          []byte(rep("Content-Type: message/rfc822\r\n\r\n", 17_000)),
		"nested multiparts":        []byte(nested(3_000, "\r\ntext")),
		"lines of dashes, deep":    []byte(nested(48, "\r\n"+rep("--\r\n", 300_000))),
		"near boundaries, deep":    []byte(nested(48, "\r\n"+rep("--b4 \r\n--b47x--\r\n", 100_000))),
		"header of 8 MiB":          []byte(rep("X: y\r\n", 1_400_000) + "\r\nbody"),
		"one field of 3 MiB":       []byte("Subject: " + rep("x ", 1_500_000) + "\r\n\r\nbody"),
		"name of 3 MiB":            []byte(rep("x", 3_000_000) + ": y\r\n\r\nbody"),
		"20,000 fields":            []byte("Content-Type: text/html\r\n" + rep("X: y\r\n", 20_000) + "\r\nbody"),
		"250,000 recipients":       []byte("To: " + recipients + "\r\n\r\n"),
		"recipients in many parts": []byte("Content-Type: multipart/digest; boundary=b\r\n\r\n" + rep("--b\r\n\r\nTo: "+rep("a@b,", 2_000)+"\r\n\r\n", 500)),
		"groups without end":       []byte("To: " + rep("g:", 100_000) + ";\r\n\r\n"),
		"groups":                   []byte("To: " + rep("g:;", 100_000) + "\r\n\r\n"),
		"quotes without end":       []byte("To: " + rep(`"(<`, 150_000) + "\r\n\r\n"),
		"escaped quotes":           []byte("To: " + rep(`"\`, 250_000) + "\r\n\r\n"),
		"comments":                 []byte("To: " + rep("(", 300_000) + rep(")", 200_000) + "\r\n\r\n"),
		"angles":                   []byte("To: " + rep("<", 500_000) + "\r\n\r\n"),
		"literals":                 []byte("To: " + rep("[", 500_000) + "\r\n\r\n"),
		"routes":                   []byte("To: " + rep("<@", 250_000) + "\r\n\r\n"),
		"words without comma":      []byte("To: " + rep("a . ", 150_000) + "@ b\r\n\r\n"),
		"parameters":               []byte("Content-Type: text/plain" + rep("; a=b", 150_000) + "\r\n\r\n"),
		"parameters, open quote":   []byte("Content-Type: text/plain" + rep(";", 700_000) + "\"\r\n\r\n"),
		"parameters in many parts": []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + rep("--b\r\nContent-Type: a/b"+manyParams()+"\r\n\r\n", 1_500)),
		"pieces":                   []byte("Content-Type: text/plain" + rep("; a*1=b; a*0*=c", 60_000) + "\r\n\r\n"),
		"encoded words":            []byte("Subject: " + rep("=?a?q?", 150_000) + "\r\n\r\n"),
		"encoded words without ?=": []byte("Subject: " + rep("=?", 500_000) + "\r\n\r\n"),
		"folds":                    []byte("Subject: x\r\n" + rep(" \r\n", 300_000) + "\r\n"),
		"NUL, bare CR":             []byte("Subject: a\x00b\rc\r\nContent-Type: text/\x00plain; x=\"\x00\r\"\r\n\r\n\x00\r"),
		"high bytes":               []byte("\xff\xfe: x\r\nSubject: \xff\xfe\r\nFrom: \xe9 <\xe8@\xe7>\r\nContent-Type: text/plain; name=\xfc\r\n\r\n\xff"),
		"long line":                []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + rep("x", 65535) + "\r\n--b--\r\n"),
		"CR at the window":         []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + rep("\r", 4000) + "\r\n--b--\r\n"),
		"header cut in a line end": []byte("Content-Type: multipart/mixed; boundary=b\r\nX: " + rep("x", MaxHeader-43-4) + "\r\n\r\n--b\r\n\r\n"),
		"inner header too long":    []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nX: " + rep("x\r\n ", 400_000) + "\r\n\r\n--b--\r\n"),
		"long boundary lines":      []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b" + rep(" ", 990) + "\r\n\r\n--b" + rep(" ", 999) + "\r\n"),
	}
}

func manyParams() string {
	var b strings.Builder
	for i := range MaxParams {
		fmt.Fprintf(&b, "; p%d=v", i)
	}
	return b.String()
}

func TestHostile(t *testing.T) {
	for name, msg := range hostile() {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			x := ParseBytes(msg)
			if d := time.Since(start); d > time.Second { // some 50 times what it takes
				t.Errorf("Parse took %v for %d bytes", d, len(msg))
			}
			verify(t, msg, x)
			start = time.Now()
			if _, err := BodyText(bytes.NewReader(msg), x.Structure, 1<<20); err != nil {
				t.Error(err)
			}
			HeaderText(msg, 1<<20)
			AddressText(x.Envelope.To)
			Remove(msg, "To", "X-*")
			SelectFields(msg, []string{"to", "subject"}, true)
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("text and tools took %v for %d bytes", d, len(msg))
			}
		})
	}
}

func TestLimits(t *testing.T) {
	m := hostile()
	if p := ParseBytes(m["200,000 empty parts"]).Structure; len(p.Children) != MaxParts-1 || shape(p.Children[MaxParts-2]) != "application/octet-stream" {
		t.Errorf("%d parts", len(p.Children))
	} else if last := p.Children[MaxParts-2]; last.End != p.End || last.Header != last.Body {
		t.Errorf("the last part ends at %d, the message at %d", last.End, p.End)
	}
	for _, name := range []string{"header of 8 MiB", "20,000 fields", "one field of 3 MiB"} {
		x := ParseBytes(m[name])
		if s := shape(x.Structure); s != "application/octet-stream" {
			t.Errorf("%s: %s", name, s)
		}
	}
	if n := len(ParseBytes(m["250,000 recipients"]).Envelope.To); n != MaxAddresses {
		t.Errorf("%d addresses", n)
	}
	depth := 0
	for p := ParseBytes(m["nested messages"]).Structure; p != nil; p = p.Inner {
		if depth++; p.Inner == nil && shape(p) != "application/octet-stream" {
			t.Errorf("innermost is %s", shape(p))
		}
	}
	if depth != MaxDepth {
		t.Errorf("depth %d", depth)
	}
}

// broken is a reader that fails after some bytes.
type broken struct {
	*bytes.Reader
	after int64
	err   error
}

func (b broken) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) <= b.after {
		return b.Reader.ReadAt(p, at)
	}
	return 0, b.err
}

func TestParseReadError(t *testing.T) {
	msg := []byte("Subject: x\r\n\r\n" + strings.Repeat("x\r\n", 100_000))
	sick := errors.New("sick disk")
	for _, after := range []int64{0, 100_000} {
		if _, err := Parse(broken{bytes.NewReader(msg), after, sick}, int64(len(msg))); !errors.Is(err, sick) {
			t.Errorf("error after %d bytes is %v", after, err)
		}
	}
	if _, err := Parse(bytes.NewReader(msg), int64(len(msg)+1)); err != io.ErrUnexpectedEOF {
		t.Errorf("message shorter than told: %v", err)
	}
	x, err := Parse(bytes.NewReader(msg), int64(len(msg)))
	if err != nil || !reflect.DeepEqual(x, ParseBytes(msg)) {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range messages {
		f.Add([]byte(m.text))
		f.Add([]byte(crlf(m.text)))
	}
	f.Add([]byte("Content-Type: multipart/digest; boundary=b\n\n--b\n\n" + strings.Repeat("x", 1100) + "\n--b\nSubject"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		x := ParseBytes(msg)
		verify(t, msg, x)
		s, err := BodyText(bytes.NewReader(msg), x.Structure, 1000)
		if err != nil || len(s) > 1000 {
			t.Fatalf("%d bytes, %v", len(s), err)
		}
	})
}
