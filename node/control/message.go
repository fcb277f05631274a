package control

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxMessage bounds the body of a Message, in bytes: the largest message that
// can be sealed, 40 MiB.
const MaxMessage = 40 << 20

// maxSubject bounds the subject of a message that is composed here, in bytes.
const maxSubject = 1024

// maxLine is the longest line of a mail without its end, in bytes (RFC 5322, 2.1.1).
const maxLine = 998

// Text returns the RFC 5322 message that m asks for, with CRLF line ends, as
// sent by an address at a time. The submission adds what is missing, such as
// the Message-ID.
func (m *Message) Text(from string, now time.Time) ([]byte, error) {
	if m.Raw {
		return crlf(m.Body), nil
	}
	if !utf8.Valid(m.Body) {
		return nil, &Error{Code: CodeInvalid, Message: "the text is not UTF-8", Hint: "convert it, or give a whole message with --raw"}
	}
	if len(m.Subject) > maxSubject || !utf8.ValidString(m.Subject) || strings.ContainsFunc(m.Subject, isControl) {
		return nil, &Error{Code: CodeInvalid, Message: fmt.Sprintf("the subject is longer than %d bytes, is not UTF-8 or contains control characters", maxSubject)}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\n", from)
	fmt.Fprintf(&b, "To: <%s>\r\n", strings.Join(m.To, ">,\r\n <"))
	fmt.Fprintf(&b, "Subject: %s\r\n", fold(mime.QEncoding.Encode("utf-8", m.Subject)))
	fmt.Fprintf(&b, "Date: %s\r\n", now.Format(time.RFC1123Z))
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n")
	body := crlf(m.Body)
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
		body = append(body, "\r\n"...)
	}
	if plain(body) {
		b.WriteString("Content-Transfer-Encoding: 7bit\r\n\r\n")
		b.Write(body)
		return b.Bytes(), nil
	}
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	q := quotedprintable.NewWriter(&b)
	q.Write(body) // a bytes.Buffer takes everything
	q.Close()
	return b.Bytes(), nil
}

// fold breaks a header at its spaces so that lines stay below 78 bytes where
// they can (RFC 5322, 2.2.3). The field name is counted in.
func fold(s string) string {
	var b strings.Builder
	used := len("Subject: ")
	for i, word := range strings.Split(s, " ") {
		switch {
		case i == 0:
		case used+1+len(word) > 77 && word != "":
			b.WriteString("\r\n ")
			used = 1
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += len(word)
	}
	return b.String()
}

// crlf gives every line the end that mail wants; bare CRs become line ends too.
func crlf(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/32)
	for i, c := range b {
		switch {
		case c == '\n' && (i == 0 || b[i-1] != '\r'):
			out = append(out, '\r', '\n')
		case c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			out = append(out, '\r', '\n')
		default:
			out = append(out, c)
		}
	}
	return out
}

// plain reports whether a text may travel as 7bit (RFC 2045, 2.7).
func plain(b []byte) bool {
	for line := range bytes.Lines(b) {
		if len(line) > maxLine+2 {
			return false
		}
	}
	for _, c := range b {
		if c == 0 || c >= 0x80 {
			return false
		}
	}
	return true
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 }
