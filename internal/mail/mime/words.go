package mime

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"

	"github.com/peerpost/peerpost/internal/mail"
)

// maxWord is the length in bytes of the longest encoded word. RFC 2047 allows
// 75; some senders put a whole subject into one.
const maxWord = 4 << 10

// DecodeHeader decodes the RFC 2047 words of a field's value to UTF-8. What
// cannot be decoded stays as it is; bytes that are not UTF-8 are taken as
// Windows-1252, control characters become blanks.
func DecodeHeader(s string) string {
	if !strings.Contains(s, "=?") {
		return printable(toUTF8(s))
	}
	var out strings.Builder
	var pending []byte // decoded, not yet converted: a character can be divided between words
	charset := ""
	flush := func() {
		if len(pending) > 0 {
			out.WriteString(decodeCharset(charset, pending))
			pending = pending[:0]
		}
	}
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		w, n := readWord(s[i:])
		if n == 0 {
			flush()
			charset = ""
			out.WriteString(toUTF8(s[:i+2]))
			s = s[i+2:]
			continue
		}
		between := s[:i]
		if strings.Trim(between, " \t") != "" || charset == "" {
			flush()
			out.WriteString(toUTF8(between))
		}
		if !strings.EqualFold(w.charset, charset) {
			flush()
			charset = w.charset
		}
		pending = w.decode(pending)
		s = s[i+n:]
	}
	flush()
	out.WriteString(toUTF8(s))
	return printable(out.String())
}

// encodedWord is an RFC 2047 word taken apart.
type encodedWord struct {
	charset string
	base64  bool
	text    string
}

// readWord reads the encoded word at the beginning of s; n is 0 when there is none.
func readWord(s string) (w encodedWord, n int) {
	s = s[:min(len(s), maxWord)]
	c := strings.IndexByte(s[2:], '?')
	if c < 1 || c > 64 || len(s) < 2+c+3 || s[2+c+2] != '?' {
		return w, 0
	}
	w.charset, _, _ = strings.Cut(s[2:2+c], "*") // RFC 2231, 5: the language
	switch s[2+c+1] {
	case 'b', 'B':
		w.base64 = true
	case 'q', 'Q':
	default:
		return w, 0
	}
	start := 2 + c + 3
	end := strings.Index(s[start:], "?=")
	if end < 0 || w.charset == "" {
		return w, 0
	}
	w.text = s[start : start+end]
	return w, start + end + 2
}

func (w encodedWord) decode(out []byte) []byte {
	if w.base64 {
		clean := strings.Map(func(r rune) rune {
			switch {
			case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '+', r == '/':
				return r
			}
			return -1
		}, w.text)
		if len(clean)%4 == 1 {
			clean = clean[:len(clean)-1]
		}
		out, _ = base64.RawStdEncoding.AppendDecode(out, []byte(clean))
		return out
	}
	for i := 0; i < len(w.text); i++ {
		switch c := w.text[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(w.text) && unhex(w.text[i+1]) < 16 && unhex(w.text[i+2]) < 16:
			out = append(out, unhex(w.text[i+1])<<4|unhex(w.text[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

// charsetOf finds a charset by its name, nil when it is unknown or (nearly) UTF-8.
func charsetOf(name string) encoding.Encoding {
	name = lower(strings.Trim(name, " \t\"'"))
	switch name {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return nil
	}
	e, err := htmlindex.Get(name)
	if err != nil || e == encoding.Replacement {
		if e, err = ianaindex.MIME.Encoding(name); err != nil || e == encoding.Replacement {
			return nil
		}
	}
	return e
}

// decodeCharset converts text to UTF-8. Of an unknown charset it makes what toUTF8 does.
func decodeCharset(name string, b []byte) string {
	if e := charsetOf(name); e != nil {
		if out, err := e.NewDecoder().Bytes(b); err == nil {
			return string(out)
		}
	}
	if name = lower(name); name == "utf-8" || name == "utf8" {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return toUTF8(string(b))
}

// toUTF8 returns s as it is when it is UTF-8; if not, it takes it for Windows-1252.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	out, err := charmap.Windows1252.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return out
}

// printable makes blanks of control characters.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < 32 || s[i] == 127 {
			return strings.Map(func(r rune) rune {
				if r < 32 || r == 127 {
					return ' '
				}
				return r
			}, s)
		}
	}
	return s
}

// AddressText returns addresses as a person reads and searches them, decoded:
// "Name <mailbox@host>, …". Groups show as "Name: …;".
func AddressText(list []mail.Address) string {
	var b strings.Builder
	open := true // nothing stands before the next address that asks for a comma
	for _, a := range list {
		switch {
		case a.Host == "" && a.Mailbox == "":
			b.WriteByte(';')
			open = false
			continue
		case !open:
			b.WriteString(", ")
		}
		if a.Host == "" {
			b.WriteString(DecodeHeader(a.Mailbox))
			b.WriteString(": ")
			open = true
			continue
		}
		open = false
		spec := printable(toUTF8(a.Mailbox + "@" + a.Host))
		if a.Name == "" {
			b.WriteString(spec)
			continue
		}
		b.WriteString(DecodeHeader(a.Name))
		b.WriteString(" <" + spec + ">")
	}
	return b.String()
}

// HeaderText returns the searchable text of a header in UTF-8, a line
// "Name: decoded value" for each field, at most max bytes.
func HeaderText(msg []byte, max int) string {
	var b strings.Builder
	for f := range Fields(msg) {
		if b.Len() >= max {
			break
		}
		b.WriteString(f.Name)
		b.WriteString(": ")
		b.WriteString(DecodeHeader(f.Value))
		b.WriteByte('\n')
	}
	return cut(b.String(), max)
}
