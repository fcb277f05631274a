package submission

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBodyRead(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name   string
		r      io.Reader
		params bodyParams
		want   string
		err    error
	}{
		{"empty", strings.NewReader(""), bodyParams{max: 10}, "", nil},
		{"whole", strings.NewReader("a\r\n"), bodyParams{max: 3}, "a\r\n", nil},
		{"no end", strings.NewReader("a"), bodyParams{max: 3}, "a\r\n", nil},
		{"no end and no room", strings.NewReader("ab"), bodyParams{max: 3}, "", errTooLarge},
		{"CR at the end", strings.NewReader("a\r"), bodyParams{max: 3}, "a\r\n", nil},
		{"too large", strings.NewReader("abcd"), bodyParams{max: 3}, "", errTooLarge},
		{"larger than declared", strings.NewReader(strings.Repeat("a\r\n", 10_000)), bodyParams{max: 50_000, declared: 9000}, strings.Repeat("a\r\n", 10_000), nil},
		{"NUL", strings.NewReader("a\x00\r\n"), bodyParams{max: 10}, "", errNUL},
		{"CR CR LF dot by DATA", strings.NewReader("a\r\r\n.\r\n"), bodyParams{max: 100, stuffed: true}, "", errAmbiguous},
		{"CR CR LF at the end by DATA", strings.NewReader("a\r\r\n"), bodyParams{max: 100, stuffed: true}, "", errAmbiguous},
		{"CR CR LF dot by BDAT", strings.NewReader("a\r\r\n.\r\n"), bodyParams{max: 100}, "a\r\n\r\n.\r\n", nil},
		{"broken off", io.MultiReader(strings.NewReader("a\r\n"), iotest.ErrReader(boom)), bodyParams{max: 10}, "", boom},
		{"more than the budget", strings.NewReader(strings.Repeat("x", 100_000)), bodyParams{max: 200_000}, "", errNoMemory},
		{"declared, and no more is lent", strings.NewReader(strings.Repeat("x", 49_000) + "\r\n"), bodyParams{max: 200_000, declared: 49_002}, strings.Repeat("x", 49_000) + "\r\n", nil},
	} {
		for _, r := range []struct {
			name string
			wrap func(io.Reader) io.Reader
		}{{"", func(r io.Reader) io.Reader { return r }}, {", byte by byte", iotest.OneByteReader}, {", end with data", iotest.DataErrReader}} {
			if s, ok := c.r.(*strings.Reader); ok {
				s.Seek(0, io.SeekStart)
			} else if r.name != "" {
				continue
			}
			lender := &budget{free: 100_000}
			b := body{budget: lender}
			err := b.read(r.wrap(c.r), c.params)
			if !errors.Is(err, c.err) || err == nil && string(b.buf) != c.want {
				t.Errorf("%s%s: %.50q, %v; want %.50q, %v", c.name, r.name, b.buf, err, c.want, c.err)
			}
			if lender.free != 100_000-b.loan || int64(cap(b.buf)) > b.loan+16 {
				t.Errorf("%s%s: %d bytes on loan, %d free, capacity %d", c.name, r.name, b.loan, lender.free, cap(b.buf))
			}
			b.release()
			if lender.free != 100_000 {
				t.Errorf("%s%s: %d bytes free after release", c.name, r.name, lender.free)
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("a\r\r\n.b\n\r"), true)
	f.Add([]byte("\x00"), false)
	f.Fuzz(func(t *testing.T, in []byte, stuffed bool) {
		lender := &budget{free: 1 << 20}
		b := body{budget: lender}
		err := b.read(bytes.NewReader(in), bodyParams{max: 1 << 16, stuffed: stuffed})
		if err == nil {
			if rest := bytes.ReplaceAll(b.buf, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\x00\r\n") || len(b.buf) > 1<<16 {
				t.Errorf("%q became %q", in, b.buf)
			}
		}
		b.release()
		if lender.free != 1<<20 {
			t.Errorf("%d bytes free", lender.free)
		}
	})
}
