package imap

import (
	"bytes"
	"testing"
)

func TestOpening(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a LOGIN b c\r\n", "a LOGIN b c\r\n"},
		{"a ID NIL\r\n", "a NOOP ID NIL\r\n"},
		{"a id\r\nb noop\r\nc id\r\n", "a NOOP id\r\nb noop\r\nc NOOP id\r\n"},
		{"a LOGIN {7}\r\nb ID\r\n {7+}\r\nc ID\r\n\r\nd ID\r\n", "a LOGIN {7}\r\nb ID\r\n {7+}\r\nc ID\r\n\r\nd NOOP ID\r\n"},
		{"a AUTHENTICATE PLAIN\r\nb ID\r\nc ID\r\n", "a AUTHENTICATE PLAIN\r\nb ID\r\nc NOOP ID\r\n"},
		{"a AUTHENTICATE PLAIN =\r\nb ID\r\n", "a AUTHENTICATE PLAIN =\r\nb NOOP ID\r\n"},
		{"\r\na\r\n\na ID\n", "\r\na\r\n\na NOOP ID\n"},
		{"a (b\r\na  ID\r\n", "a (b\r\na  ID\r\n"},
		{"a I", ""},
	} {
		if got := new(opening).pass([]byte(c.in)); string(got) != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
	o := new(opening)
	q := o.pass(bytes.Repeat([]byte("a X\r\n"), maxUnknown+5))
	if n := bytes.Count(q, []byte("NOOP")); n != maxUnknown {
		t.Errorf("%d unknown commands were let through", n)
	}
	if o.pass(bytes.Repeat([]byte("x"), 1<<20)); len(o.head) > maxCommandHead || len(o.tail) > maxCommandHead {
		t.Errorf("%d and %d bytes are held", len(o.head), len(o.tail))
	}
}

func FuzzOpening(f *testing.F) {
	f.Add([]byte("a ID NIL\r\nb LOGIN {3}\r\nx y {3+}\r\nabc\r\nc AUTHENTICATE PLAIN\r\n=\r\nd XYZZY\r\n"), 7)
	f.Add([]byte("\r\n \r\na  b\r\n{9999999999}\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		whole, parts := new(opening), new(opening)
		want := whole.pass(b)
		var got []byte
		step = max(1, step)
		for p := b; len(p) > 0; p = p[min(step, len(p)):] {
			got = append(got, parts.pass(p[:min(step, len(p))])...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("in parts %q, as a whole %q", got, want)
		}
		held := 0
		if !whole.named && !whole.response {
			held = len(whole.head)
		}
		if len(want)+held != len(b)+len("NOOP ")*whole.unknown {
			t.Fatalf("%d bytes became %d, %d are held and %d commands unknown", len(b), len(want), held, whole.unknown)
		}
	})
}
