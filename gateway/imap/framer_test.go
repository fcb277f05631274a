package imap

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// frame lets a framer work, and writes down what it finds. It is fed steps of
// so many bytes, and everything is answered as soon as it is handed over.
func frame(input []byte, step int) (events []string, f *framer) {
	f = new(framer)
	open := false
	for {
		var e event
		switch {
		case !open:
			e = f.next()
		case len(f.pieces) > 0:
			p := make([]byte, len(f.pieces[0]))
			f.hand(p)
			events = append(events, string(p))
			continue
		case f.upload > 0 && len(f.in) > 0:
			f.pass(make([]byte, 4096))
			continue
		case f.upload > 0:
			e = more
		case f.tail:
			e = f.reply()
		default:
			open = false
			continue
		}
		switch e {
		case more:
			if len(input) == 0 {
				return events, f
			}
			n := min(step, len(input))
			f.add(input[:n])
			input = input[n:]
		case complete:
			open = true
		case proceed:
			events = append(events, "+")
		case refused, lost:
			events = append(events, fmt.Sprintf("%s %s", f.tag, f.status))
			if e == lost {
				return append(events, "lost"), f
			}
			open = false
		}
	}
}

func TestFramer(t *testing.T) {
	const (
		bad    = "BAD [CLIENTBUG] "
		unheld = "A line must not hold NUL or a lone CR"
	)
	long := strings.Repeat("x", maxLines)
	for _, c := range []struct {
		input string
		want  []string
	}{
		{"a NOOP\r\nb noop\n", []string{"a NOOP\r\n", "b noop\n"}},
		{"a NOOP\r", nil},
		{"a LOGIN {1+}\r\nx {2+}\nyy\r\nb NOOP\r\n", []string{"a LOGIN {1+}\r\n", "x", " {2+}\n", "yy", "\r\n", "b NOOP\r\n"}},
		{"a LOGIN {01}\r\nx {0}\r\n\r\n", []string{"+", "+", "a LOGIN {01+}\r\n", "x", " {0+}\r\n", "\r\n"}},
		{"a CREATE \"{5+}\"\r\n", []string{"a CREATE \"{5+}\"\r\n"}},
		{"a CREATE {5+} x\r\n", []string{"a CREATE {5+} x\r\n"}},
		{"a CREATE {5-}\r\n", []string{"a CREATE {5-}\r\n"}},
		{"a CREATE {}\r\n", []string{"a CREATE {}\r\n"}},
		{"a CREATE 5}\r\n", []string{"a CREATE 5}\r\n"}},
		{"a CREATE \"\\\"{5+}\r\nb", []string{"a " + bad + "A literal must be announced at the end of a line", "lost"}},
		{"a CREATE {5+} \r\n", []string{"a " + bad + "A literal must be announced at the end of a line", "lost"}},
		{"a CREATE \"x\r\nb NOOP\r\n", []string{"a " + bad + "A quoted string does not end", "b NOOP\r\n"}},
		{"a CREATE \"x {5}\" {2+}\r\nyy\r\n", []string{"a CREATE \"x {5}\" {2+}\r\n", "yy", "\r\n"}},
		{"a CREATE {4097}\r\n", []string{"a NO [TOOBIG] Literals are limited to 4096 bytes here"}},
		{"a CREATE {4097+}\r\nb NOOP\r\n", []string{"a NO [TOOBIG] Literals are limited to 4096 bytes here", "lost"}},
		{"a CREATE {2+}\r\nx\x00\r\n", []string{"a " + bad + "A literal must not hold NUL"}},
		{"a CREATE {2+}\r\nx\x00 {1}\r\n", []string{"a " + bad + "A literal must not hold NUL"}},
		{"\r\n", []string{" " + bad + "The line is empty"}},
		{"a\r\n", []string{"a " + bad + "The line holds no command"}},
		{"a \r\n", []string{"a " + bad + "The line holds no command"}},
		{"a  NOOP\r\n", []string{"a " + bad + "The line holds no command"}},
		{"a(NOOP\r\n", []string{" " + bad + "The command has no tag"}},
		{"* NOOP\r\n", []string{" " + bad + "The command has no tag"}},
		{"+ NOOP\r\n", []string{" " + bad + "The command has no tag"}},
		{strings.Repeat("t", maxTag+1) + " NOOP\r\n", []string{" " + bad + "The command has no tag"}},
		{"a UID\r\n", []string{"a " + bad + "The line holds no command"}},
		{"a UID(x\r\n", []string{"a " + bad + "The line holds no command"}},
		{"DONE\r\n", []string{" " + bad + "The line holds no command"}},
		{"a NOOP\x00\r\n", []string{"a " + bad + unheld, "lost"}},
		{"a NOOP\rb NOOP\r\n", []string{"a " + bad + unheld, "lost"}},
		{"a " + long, []string{"a " + bad + "The line is too long", "lost"}},
		{"a APPEND x {9}\r\n123456789\r\nb NOOP\r\n", []string{"a APPEND x {9}\r\n", "\r\n", "b NOOP\r\n"}},
		{"a APPEND x {9}\r\n123456789 {1+}\r\n", []string{"a APPEND x {9}\r\n", "a " + bad + "APPEND takes one message, and nothing after it", "lost"}},
		{"a APPEND {1}\r\nx {2+}\r\n\x00y\r\n", []string{"+", "a APPEND {1+}\r\n", "x", " {2+}\r\n", "\x00y", "\r\n"}},
	} {
		for _, step := range []int{1, 3, len(c.input)} {
			got, _ := frame([]byte(c.input), step)
			if strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("%.100q in steps of %d:\ngot  %.200q\nwant %.200q", c.input, step, got, c.want)
			}
		}
	}
}

// handed is what happened before anything was refused. After that it matters
// whether a client waits for the answer.
func handed(events []string) string {
	i := slices.IndexFunc(events, func(e string) bool {
		return strings.Contains(e, "BAD [CLIENTBUG]") || strings.Contains(e, "NO [TOOBIG]")
	})
	if i >= 0 {
		events = events[:i]
	}
	return strings.Join(events, "|")
}

// FuzzFramer demands that the pieces are within bounds, lines and literals in
// turn, and the same however the bytes come.
func FuzzFramer(f *testing.F) {
	for _, s := range []string{
		"a NOOP\r\n", "a LOGIN {1+}\r\nx {2}\nyy\r\nb NOOP\r\n", "a APPEND {1}\r\nx {9}\r\n123456789\r\n", "a APPEND x {3+}\r\nabc\r\n",
		"a \"\\\"{3+}\r\n", "a x {4097+}\r\n", "\r\na\r\n", "a UID {0+}\r\n\r\n", "a x {3}\x00\r\n",
	} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, input []byte, step int) {
		step = max(1, step&0xff)
		got, fr := frame(input, step)
		want, _ := frame(input, max(1, len(input)))
		if g, w := handed(got), handed(want); g != w {
			t.Fatalf("in steps of %d %q\nat once       %q", step, g, w)
		}
		for _, e := range got {
			if len(e) > maxLines {
				t.Errorf("%d bytes in one piece", len(e))
			}
			if i := strings.IndexByte(e, '\n'); len(e) > maxLiteral && i >= 0 && i < len(e)-1 {
				t.Errorf("a literal of %d bytes", len(e))
			}
		}
		if n := len(fr.in); n > maxLines+step {
			t.Errorf("%d bytes are held", n)
		}
		if fr.size > maxCommand+maxLines {
			t.Errorf("a command of %d bytes", fr.size)
		}
	})
}

// The bytes of a message do not gather in the framer.
func TestAMessagePassesThrough(t *testing.T) {
	const size = 1 << 20
	events, f := frame(append([]byte("a APPEND x {1048576}\r\n"), bytes.Repeat([]byte("\n"), size)...), 1000)
	if len(events) != 1 || f.upload != 0 || !f.tail || cap(f.in) > 8<<10 {
		t.Errorf("%q, %d left, %d held", events, f.upload, cap(f.in))
	}
}
