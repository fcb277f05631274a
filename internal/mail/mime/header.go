package mime

import (
	"bytes"
	"iter"
	"strings"
)

// The header tools take a whole message or only its header, and look no
// further than the empty line or MaxHeader bytes. None of them changes what it is given.

// Field is one field of a header; Value is unfolded and trimmed, with its RFC 2047 words still encoded.
type Field struct {
	Name, Value string
}

// raw is a field as it stands in a header, line ends included. name is nil
// when its first line is not a field at all.
type raw struct {
	all, name, value []byte
}

func (f raw) is(name string) bool {
	return len(f.name) == len(name) && strings.EqualFold(string(f.name), name)
}

// Split divides a message into its header with the empty line, and its body.
// It does so exactly where Parse does.
func Split(msg []byte) (header, body []byte) {
	at := 0
	for at < len(msg) {
		n := lineEnd(msg[at:])
		if at == 0 && n != eol(msg[:n]) && !beginsHeader(msg[:n]) {
			break
		}
		if at+n > MaxHeader {
			at = MaxHeader
			break
		}
		empty := n == eol(msg[at:at+n])
		if at += n; empty {
			break
		}
	}
	return msg[:at:at], msg[at:]
}

// rawFields yields the fields of a header with their continuation lines, and
// the lines that are none.
func rawFields(msg []byte) iter.Seq[raw] {
	return func(yield func(raw) bool) {
		h := msg[:min(len(msg), MaxHeader)]
		if !beginsHeader(h[:lineEnd(h)]) {
			return
		}
		for len(h) > 0 {
			n := lineEnd(h)
			if n == eol(h[:n]) {
				return
			}
			f := raw{}
			if colon := fieldName(h[:n]); colon > 0 {
				f.name = bytes.TrimRight(h[:colon], " \t")
			}
			for n < len(h) && (h[n] == ' ' || h[n] == '\t') {
				n += lineEnd(h[n:])
			}
			f.all = h[:n]
			if f.name != nil {
				f.value = h[bytes.IndexByte(h, ':')+1 : n]
			}
			if !yield(f) {
				return
			}
			h = h[n:]
		}
	}
}

// lineEnd is the length of the first line of b with its end.
func lineEnd(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// maxName is the length in bytes of the longest name of a field, blanks before the colon included.
const maxName = 500

// fieldName returns the place of the colon when a line begins a field, else 0.
func fieldName(line []byte) int {
	line = line[:min(len(line), maxName+1)]
	for i, c := range line {
		switch {
		case c == ':':
			return i
		case c == ' ' || c == '\t':
			// Blanks before the colon are obsolete, not wrong (RFC 5322, 4.5).
			for ; i < len(line) && (line[i] == ' ' || line[i] == '\t'); i++ {
			}
			if i < len(line) && line[i] == ':' && line[0] != ' ' && line[0] != '\t' {
				return i
			}
			return 0
		case c < 33 || c > 126:
			return 0
		}
	}
	return 0
}

// beginsHeader says whether a line can be the first of a header: a field, or
// the line by which a mailbox file divides its messages.
func beginsHeader(line []byte) bool {
	return fieldName(line) > 0 || bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}

// unfold returns the value of a field on one line, without CR, LF and NUL.
func unfold(value []byte) string {
	value = bytes.Trim(value, " \t\r\n")
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 && bytes.IndexByte(value, 0) < 0 {
		return string(value)
	}
	var s strings.Builder
	s.Grow(len(value))
	for len(value) > 0 {
		n := lineEnd(value)
		line := bytes.Trim(value[:n], " \t\r\n")
		value = value[n:]
		if len(line) == 0 {
			continue
		}
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		for _, c := range line {
			if c == 0 || c == '\r' {
				c = ' '
			}
			s.WriteByte(c)
		}
	}
	return s.String()
}

// Fields yields the fields of a header in order, at most MaxFields.
func Fields(msg []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		n := 0
		for f := range rawFields(msg) {
			if f.name == nil {
				continue
			}
			if n++; n > MaxFields || !yield(Field{string(f.name), unfold(f.value)}) {
				return
			}
		}
	}
}

// Get returns the value of the first field of a name, empty when there is none.
func Get(msg []byte, name string) string {
	for f := range rawFields(msg) {
		if f.is(name) {
			return unfold(f.value)
		}
	}
	return ""
}

// Values returns the values of all fields of a name, in order, at most MaxFields.
func Values(msg []byte, name string) []string {
	var values []string
	for f := range rawFields(msg) {
		if f.is(name) && len(values) < MaxFields {
			values = append(values, unfold(f.value))
		}
	}
	return values
}

// Remove returns the message without the fields of these names. A name that
// ends in "*" stands for all names that begin so.
func Remove(msg []byte, names ...string) []byte {
	out := make([]byte, 0, len(msg))
	seen := 0
	for f := range rawFields(msg) {
		seen += len(f.all)
		if matches(f.name, names) {
			continue
		}
		if len(out) == 0 && !beginsHeader(f.all) {
			continue // as a first line it would end the header
		}
		out = append(out, f.all...)
	}
	return append(out, msg[seen:]...)
}

// Rewrite returns the message with its header as f makes it of the one it has;
// msg itself when that is the same. Otherwise it costs one copy, whatever f does.
// A header above MaxHeader is only seen in part.
func Rewrite(msg []byte, f func(header []byte) []byte) []byte {
	header, body := Split(msg)
	made := f(header)
	if bytes.Equal(made, header) {
		return msg
	}
	out := make([]byte, 0, len(made)+len(body))
	return append(append(out, made...), body...)
}

func matches(name []byte, names []string) bool {
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(n, "*"); ok {
			if len(name) >= len(prefix) && strings.EqualFold(string(name[:len(prefix)]), prefix) && name != nil {
				return true
			}
		} else if len(name) == len(n) && strings.EqualFold(string(name), n) {
			return true
		}
	}
	return false
}

// SelectFields returns the fields of these names as they stand in the header,
// or all others if not, and an empty line: the answer to BODY[HEADER.FIELDS (…)]
// and BODY[HEADER.FIELDS.NOT (…)].
func SelectFields(msg []byte, names []string, not bool) []byte {
	var out []byte
	for f := range rawFields(msg) {
		in := false
		for _, n := range names {
			if in = f.is(n); in {
				break
			}
		}
		if in != not {
			out = append(out, f.all...)
			if f.all[len(f.all)-1] != '\n' {
				out = append(out, "\r\n"...)
			}
		}
	}
	return append(out, "\r\n"...)
}

// foldAt is the length a line of a header should not exceed (RFC 5322, 2.1.1).
const foldAt = 78

// Prepend returns the message with fields put before its header, in the order
// given, as AppendField writes them.
func Prepend(msg []byte, fields ...Field) []byte {
	out := make([]byte, 0, len(msg)+128*len(fields))
	for _, f := range fields {
		out = AppendField(out, f)
	}
	if header, _ := Split(msg); len(header) == 0 {
		out = append(out, "\r\n"...)
	}
	return append(out, msg...)
}

// AppendField appends a field to a header, folded at blanks where it is long. A
// line end or NUL within the value becomes a blank, runs of blanks become one.
func AppendField(out []byte, f Field) []byte {
	start := len(out)
	out = append(out, f.Name...)
	out = append(out, ':')
	for word := range strings.FieldsFuncSeq(f.Value, func(c rune) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == 0 }) {
		if len(out)-start+1+len(word) > foldAt && len(out)-start > len(f.Name)+1 {
			out = append(out, "\r\n"...)
			start = len(out)
		}
		out = append(out, ' ')
		out = append(out, word...)
	}
	return append(out, "\r\n"...)
}
