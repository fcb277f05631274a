package main

// Rules for text on the terminal. Results go to stdout, everything else to
// stderr. Errors are one line, then at most one line of hint. Whatever was
// written by somebody else (addresses, names, subjects, errors of other nodes)
// passes through line, which leaves nothing that a terminal would obey.

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// line makes a text safe to show on one line of a terminal: control
// characters, invisible ones that reorder text, and invalid UTF-8 become
// U+FFFD, line ends become spaces.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// ascii escapes in JSON text what a terminal might obey or not show. Inside
// JSON such characters can only stand in strings.
func ascii(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r < utf8.RuneSelf && r != 0x7f || r >= utf8.RuneSelf && unicode.IsPrint(r):
			out = append(out, b[:n]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out
}

// table prints rows in columns. The first row is the heading.
func (m *Main) table(rows [][]string) error {
	w := tabwriter.NewWriter(m.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			if cell == "" {
				cell = "-"
			}
			fmt.Fprint(w, line(cell))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// terminal returns the terminal behind a stream, if there is one.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// progressEvery is how often a running count is shown.
const progressEvery = 200 * time.Millisecond

// progress shows a running count on a terminal, and nothing elsewhere.
type progress struct {
	out   io.Writer // nil when it is no terminal
	shown time.Time
	width int
}

func (m *Main) progress() *progress {
	if f, ok := terminal(m.Stderr); ok {
		return &progress{out: f}
	}
	return &progress{}
}

// set shows a text instead of the one before, not too often.
func (p *progress) set(format string, args ...any) {
	if p.out == nil || time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	s := line(fmt.Sprintf(format, args...))
	fmt.Fprintf(p.out, "\r%-*s", p.width, s)
	p.width = len(s)
}

// end removes the text.
func (p *progress) end() {
	if p.out != nil && p.width > 0 {
		fmt.Fprintf(p.out, "\r%-*s\r", p.width, "")
	}
}

// size says a number of bytes in words.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// when says a time in the local zone, to the minute.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}

// until says how far away a time is.
func until(t time.Time) string {
	d := time.Until(t)
	switch {
	case d <= 0:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("in %d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("in %d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("in %d h", int(d.Hours()))
	}
	return fmt.Sprintf("in %d days", int(d.Hours()/24))
}

// plural says a number with its noun.
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
