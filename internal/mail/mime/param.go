package mime

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/peerpost/peerpost/internal/mail"
)

// splitParams divides "value; name=value; …" (RFC 2045, 5.1). Names come in
// lower case, values unquoted. A value in pieces (RFC 2231, 3) is put together
// under its name, with a "*" when it is encoded: name*=charset'language'text.
func splitParams(s string) (value string, params []mail.Param) {
	value, s = cutParam(s)
	value = dropComment(strings.TrimSpace(value))
	pieces := false
	for tries := 0; s != "" && len(params) < MaxParams && tries < 2*MaxParams; tries++ {
		var one string
		one, s = cutParam(s)
		name, v, ok := strings.Cut(one, "=")
		name = lower(token(strings.TrimSpace(name)))
		if !ok || name == "" || len(name) > maxType {
			continue
		}
		params = append(params, mail.Param{Name: name, Value: cut(paramValue(v), MaxValue)})
		pieces = pieces || strings.IndexByte(name, '*') > 0
	}
	if pieces {
		params = join(params)
	}
	// Of a name that is there twice the first counts.
	for i := 1; i < len(params); i++ {
		if slices.ContainsFunc(params[:i], func(p mail.Param) bool { return p.Name == params[i].Name }) {
			params = slices.Delete(params, i, i+1)
			i--
		}
	}
	return value, params
}

// cutParam cuts s at the first semicolon outside quotes.
func cutParam(s string) (one, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	if quoted { // never closed: the quote means nothing
		one, rest, _ = strings.Cut(s, ";")
		return one, rest
	}
	return s, ""
}

// paramValue reads a quoted string or a token. Blanks in an unquoted value are
// wrong but frequent in names of files, and kept.
func paramValue(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || s[0] != '"' {
		return dropComment(s)
	}
	var b strings.Builder
	for i := 1; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// dropComment cuts off a comment in parentheses that ends s.
func dropComment(s string) string {
	if strings.HasSuffix(s, ")") {
		if i := strings.IndexByte(s, '('); i > 0 && (s[i-1] == ' ' || s[i-1] == '\t') {
			return strings.TrimSpace(s[:i])
		}
	}
	return s
}

// join puts the pieces of RFC 2231 together, at the place of the first.
func join(params []mail.Param) []mail.Param {
	type piece struct {
		n       int
		encoded bool
		value   string
	}
	out := params[:0:0]
	done := make(map[string]bool)
	for _, p := range params {
		base, n, _ := pieceName(p.Name)
		if n < 0 {
			out = append(out, p)
			continue
		}
		if done[base] {
			continue
		}
		done[base] = true
		var pieces []piece
		encoded := false
		for _, q := range params {
			if b, n, e := pieceName(q.Name); n >= 0 && b == base {
				pieces = append(pieces, piece{n, e, q.Value})
				encoded = encoded || e
			}
		}
		slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(a.n, b.n) })
		var value strings.Builder
		for i, x := range pieces {
			if x.n != i {
				break // one is missing
			}
			if i == 0 && encoded && !x.encoded {
				value.WriteString("''") // only a later piece is encoded: no charset is told
			}
			if encoded && !x.encoded {
				escape(&value, x.value)
			} else {
				value.WriteString(x.value)
			}
		}
		if encoded {
			base += "*"
		}
		out = append(out, mail.Param{Name: base, Value: cut(value.String(), MaxValue)})
	}
	return out
}

// pieceName reads "name*3" and "name*3*". n is -1 when the name is not that of a piece.
func pieceName(name string) (base string, n int, encoded bool) {
	base, number, ok := strings.Cut(name, "*")
	if !ok || base == "" {
		return name, -1, false
	}
	number, encoded = strings.CutSuffix(number, "*")
	if number == "" || len(number) > 3 || number[0] == '0' && number != "0" {
		return name, -1, false
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return name, -1, false
	}
	return base, n, encoded
}

// escape writes s as an encoded value has it (RFC 2231, 7: attribute-char stays).
func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; isToken(c) && c != '*' && c != '\'' && c != '%' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
}

// Param returns a parameter as text in UTF-8: RFC 2231 and (not allowed there,
// but common) RFC 2047 undone. It is empty when there is none.
func Param(params []mail.Param, name string) string {
	plain := ""
	for _, p := range params {
		if p.Name == name && plain == "" {
			plain = DecodeHeader(p.Value)
		}
		if len(p.Name) == len(name)+1 && p.Name[len(name)] == '*' && p.Name[:len(name)] == name {
			charset, rest, ok := strings.Cut(p.Value, "'")
			if !ok {
				continue
			}
			_, text, ok := strings.Cut(rest, "'")
			if !ok {
				continue
			}
			return printable(decodeCharset(charset, unescape(text)))
		}
	}
	return plain
}

func unescape(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 16 && lo < 16 {
				out = append(out, hi<<4|lo)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

// unhex is the value of a hex digit, 255 of any other byte.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// FileName returns the name of an attachment, empty when it has none.
func FileName(p *mail.Part) string {
	if name := Param(p.DispositionParams, "filename"); name != "" {
		return name
	}
	return Param(p.Params, "name")
}
