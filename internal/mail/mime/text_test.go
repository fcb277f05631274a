package mime

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestBodyText(t *testing.T) {
	for _, c := range []struct{ name, msg, want string }{
		{"plain", "Subject: x\n\nHello\nthere", "Hello\nthere\n"},
		{"no charset, not UTF-8", "Subject: x\n\ncaf\xe9", "café\n"},
		{"charset", "Content-Type: text/plain; charset=iso-8859-15\n\n\xa4", "€\n"},
		{"charset unknown", "Content-Type: text/plain; charset=klingon\n\nabc", "abc\n"},
		{"charset wrong", "Content-Type: text/plain; charset=utf-8\n\na\xffb", "a\uFFFDb\n"},
		{"quoted-printable", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=\n=C3=9Fe  \nx=3", "Grüße\nx=3\n"},
		{"base64", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nR3LD\nvMOf!!\nZQ==", "Grüße\n"},
		{"encoding unknown", "Content-Transfer-Encoding: x-uuencode\n\nbegin", "begin\n"},
		{"html", `Content-Type: text/html; charset=utf-8

<html><head><title>T</title><style>p { color: red }</style><script>var x = "<p>no</p>"</script></head>
<body><!-- no --><p>One   <b>t</b>wo&nbsp;&amp;
three<br>four<table><tr><td>a</td><td>b</td></tr></table><a href="http://x">link</a> end</body></html>`,
			"T\nOne two & three\nfour\na\nb\nlink end\n"},
		{"html tells its charset", "Content-Type: text/html\n\n<meta charset=windows-1251><p>\xcf\xf0\xe8", "При\n"},
		{"html without end", "Content-Type: text/html\n\n<p>a<b", "a\n"},
		{"attachments", `Content-Type: multipart/mixed; boundary=b

--b

text
--b
Content-Type: application/pdf
Content-Disposition: attachment; filename="bill.pdf"

%PDF
--b
Content-Type: text/csv
Content-Disposition: attachment; filename*=utf-8''%C3%A4.csv

1;2
--b
Content-Type: message/rfc822

Subject: =?utf-8?q?inn=C3=A9r?=
From: A <a@b>

inner text
--b--`, "text\nbill.pdf\nä.csv\ninnér\nA <a@b>\ninner text\n"},
		{"nothing", "", "\n"},
	} {
		msg := []byte(crlf(c.msg))
		x := ParseBytes(msg)
		verify(t, msg, x)
		got, err := BodyText(bytes.NewReader(msg), x.Structure, 1000)
		got = strings.ReplaceAll(got, "\r\n", "\n")
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n got %q\nwant %q", c.name, err, got, c.want)
		}
	}
}

func TestBodyTextBounds(t *testing.T) {
	for _, body := range []string{strings.Repeat("ü", 5000), "<p>" + strings.Repeat("ü <b>", 5000), strings.Repeat("<", 100_000), "<p " + strings.Repeat("a=b ", 600_000) + ">x"} {
		for _, typ := range []string{"plain", "html"} {
			msg := []byte("Content-Type: text/" + typ + "; charset=utf-8\r\n\r\n" + body)
			for _, max := range []int{0, 1, 2, 3, 1000, 1001} {
				s, err := BodyText(bytes.NewReader(msg), ParseBytes(msg).Structure, max)
				if err != nil || len(s) > max || strings.Contains(s, "\uFFFD") {
					t.Errorf("%s, at most %d: %d bytes, %v", typ, max, len(s), err)
				}
			}
		}
	}
	many := []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 1000))
	if s, _ := BodyText(bytes.NewReader(many), ParseBytes(many).Structure, 1<<20); strings.Count(s, "x") != maxTextParts {
		t.Errorf("text of %d parts", strings.Count(s, "x"))
	}
}

// decode undoes a transfer encoding.
func decode(t testing.TB, encoding string, body []byte) []byte {
	r, ok := Decode(bytes.NewReader(body), &mail.Part{Type: "text", Subtype: "plain", Encoding: encoding, End: int64(len(body))})
	if !ok {
		t.Fatalf("%s is unknown", encoding)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ encoding, in, want string }{
		{"7bit", "a=\r\n", "a=\r\n"},
		{"base64", "", ""},
		{"base64", "YQ==", "a"},
		{"base64", "YQ", "a"},
		{"base64", "YWI", "ab"},
		{"base64", "YQ==YWI=YWJj", "aababc"},
		{"base64", " Y\r\nW\tI=\r\n-- \r\n", "ab"},
		{"base64", "Y", ""},
		{"base64", "====", ""},
		{"quoted-printable", "a=3D=3d=\r\nb \t\r\nc= \r\nd", "a==b\r\ncd"},
		{"quoted-printable", "=", ""},
		{"quoted-printable", "=\n\nx=\r\n", "\nx"},
		{"quoted-printable", "=G1=1=é", "=G1=1=é"},
		{"quoted-printable", "a  ", "a"},
	} {
		if got := string(decode(t, c.encoding, []byte(c.in))); got != c.want {
			t.Errorf("%s of %q is %q, want %q", c.encoding, c.in, got, c.want)
		}
	}
	if _, ok := Decode(nil, &mail.Part{Type: "text", Encoding: "x-uuencode"}); ok {
		t.Error("x-uuencode is known")
	}

	// What others encode comes back, across the borders of what is read at a time.
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 100, window, 3*window + 1} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(rnd.Uint32())
		}
		var lines strings.Builder
		for s := base64.StdEncoding.EncodeToString(want); s != ""; {
			k := min(76, len(s))
			lines.WriteString(s[:k] + "\r\n")
			s = s[k:]
		}
		if got := decode(t, "base64", []byte(lines.String())); !bytes.Equal(got, want) {
			t.Errorf("base64 of %d bytes differs", n)
		}
		var qp bytes.Buffer
		w := quotedprintable.NewWriter(&qp)
		w.Binary = true
		w.Write(want)
		w.Close()
		if got := decode(t, "quoted-printable", qp.Bytes()); !bytes.Equal(got, want) {
			t.Errorf("quoted-printable of %d bytes differs", n)
		}
		long := []byte(strings.Repeat("=e4x", n) + "=\r\n" + strings.Repeat("y", n) + "=\r\nz") // no soft line breaks
		if got := decode(t, "quoted-printable", long); string(got) != strings.Repeat("\xe4x", n)+strings.Repeat("y", n)+"z" {
			t.Errorf("one line of quoted-printable of %d bytes differs", n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("a=3D=\r\nb \r\n"))
	f.Add([]byte("YQ==\r\nYWI="))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := decode(t, "base64", b); len(got) > len(b) {
			t.Fatalf("%d bytes of %d", len(got), len(b))
		}
		if got := decode(t, "quoted-printable", b); len(got) > len(b) {
			t.Fatalf("%d bytes of %d", len(got), len(b))
		}
		enc := base64.StdEncoding.EncodeToString(b)
		if got := decode(t, "base64", []byte(enc)); !bytes.Equal(got, b) {
			t.Fatalf("%q came back as %q", b, got)
		}
	})
}
