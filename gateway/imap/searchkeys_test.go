package imap

import (
	"strings"
	"testing"
)

func TestSizeKeys(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"SMALLER SEARCH SMALLER 5", "SMALLER SEARCH NOT LARGER 4"},
		{"a search smaller 05 SINCE 1-Jan-2019", "a search NOT LARGER 4 SINCE 1-Jan-2019"},
		{"a SEARCH SMALLER 0", "a SEARCH NOT ALL"},
		{"a SEARCH RETURN (MIN) CHARSET SMALLER SMALLER 1", "a SEARCH RETURN (MIN) CHARSET SMALLER NOT LARGER 0"},
		{"a SEARCH OR(SMALLER 5)(NOT SMALLER 6)", "a SEARCH OR(NOT LARGER 4)(NOT NOT LARGER 5)"},
		{`a SEARCH SUBJECT SMALLER HEADER SMALLER "SMALLER 5" SMALLER 5`, `a SEARCH SUBJECT SMALLER HEADER SMALLER "SMALLER 5" NOT LARGER 4`},
		{`a SEARCH TEXT "\" SMALLER 5" KEYWORD SMALLER 5`, `a SEARCH TEXT "\" SMALLER 5" KEYWORD SMALLER 5`},
		{"a SEARCH SMALLER", "a SEARCH SMALLER"},
		{"a SEARCH SMALLER x SMALLER 5", "a SEARCH SMALLER x NOT LARGER 4"},
		{"a SEARCH BODY {9+}|SMALLER 5| SMALLER 5", "a SEARCH BODY {9+}|SMALLER 5| NOT LARGER 4"},
		{"a SEARCH HEADER {0+}| {9+}|SMALLER 5| SMALLER 5", "a SEARCH HEADER {0+}| {9+}|SMALLER 5| NOT LARGER 4"},
	} {
		var pieces [][]byte
		for _, s := range strings.Split(c.line, "|") {
			if !strings.HasPrefix(s, "SMALLER 5") {
				s += "\r\n"
			}
			pieces = append(pieces, []byte(s))
		}
		sizeKeys("SEARCH", pieces)
		var got []string
		for _, p := range pieces {
			got = append(got, strings.TrimSuffix(string(p), "\r\n"))
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%q becomes %q", c.line, s)
		}
	}
}

// What a command becomes is bounded, too.
func TestManySizeKeys(t *testing.T) {
	events, _ := frame([]byte("a SEARCH"+strings.Repeat(" SMALLER 5", 4500)+"\r\n"), 4096)
	if len(events) != 1 || events[0] != "a NO [TOOBIG] The command is too long" {
		t.Errorf("%d events, at the end %.100q", len(events), events[max(0, len(events)-2):])
	}
	// Leave to send a literal makes a line longer.
	events, _ = frame([]byte("a LOGIN"+strings.Repeat(" {0}\r\n", 400)+strings.Repeat("x", maxLines-7-400*6-100)+"\r\n"), 4096)
	if n := len(events); n < 2 || events[n-2] != "a BAD [CLIENTBUG] The line is too long" {
		t.Errorf("%d events, at the end %.100q", n, events[max(0, n-2):])
	}
}

func TestManyLiterals(t *testing.T) {
	for n, want := range map[int]string{maxPieces: "a NO [TOOBIG] The command has too many literals", maxPieces - 1: "\r\n"} {
		events, f := frame([]byte("a LOGIN"+strings.Repeat(" {0+}\r\n", n)+"\r\n"), 4096)
		if got := events[len(events)-1]; got != want {
			t.Errorf("%d literals: %q", n, got)
		}
		if n == maxPieces && len(f.pieces) > 0 {
			t.Errorf("%d pieces are held", len(f.pieces))
		}
	}
}

func FuzzSizeKeys(f *testing.F) {
	f.Add([]byte("a SEARCH SMALLER 5 HEADER a \"b\" {3+}\r\n"), 2)
	f.Add([]byte("a UID SEARCH NOT (OR SMALLER 0 SMALLER 1)\r\n"), 3)
	f.Fuzz(func(t *testing.T, line []byte, skip int) {
		skip = max(0, skip)
		got, _ := sizeKey(line, skip)
		if !strings.Contains(strings.ToUpper(string(line)), "SMALLER") && string(got) != string(line) {
			t.Errorf("%q becomes %q", line, got)
		}
		if len(got) > 2*len(line) {
			t.Errorf("%d bytes become %d", len(line), len(got))
		}
	})
}
