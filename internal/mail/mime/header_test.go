package mime

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const sample = "Received: one\r\nFROM: a@example.org\r\nBcc: secret@example.org,\r\n\tmore@example.org\r\n" +
	"X-Peerpost-Trust: 1\r\nSubject : long\r\n  and folded \r\nx-peerpost-state: 2\r\nno field\r\n folded\r\nbcc: again\r\nReceived: two\r\n\r\nBcc: body\r\n"

func TestFields(t *testing.T) {
	msg := []byte(sample)
	want := []Field{
		{"Received", "one"}, {"FROM", "a@example.org"}, {"Bcc", "secret@example.org, more@example.org"}, {"X-Peerpost-Trust", "1"},
		{"Subject", "long and folded"}, {"x-peerpost-state", "2"}, {"bcc", "again"}, {"Received", "two"},
	}
	if got := slices.Collect(Fields(msg)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if s := Get(msg, "subject"); s != "long and folded" {
		t.Errorf("subject %q", s)
	}
	if s := Get(msg, "To"); s != "" {
		t.Errorf("to %q", s)
	}
	if s := Values(msg, "RECEIVED"); !slices.Equal(s, []string{"one", "two"}) {
		t.Errorf("received %q", s)
	}
}

func TestRemove(t *testing.T) {
	before := []byte(sample)
	got := string(Remove([]byte(sample), "BCC", "x-PEERPOST-*"))
	want := "Received: one\r\nFROM: a@example.org\r\nSubject : long\r\n  and folded \r\nno field\r\n folded\r\nReceived: two\r\n\r\nBcc: body\r\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if string(before) != sample {
		t.Error("the message was changed")
	}
	// What stays must not lose its header with its first field.
	got = string(Remove([]byte("Bcc: x\r\nno field\r\nFrom: a@b\r\n\r\nbody"), "Bcc"))
	if want := "From: a@b\r\n\r\nbody"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(Remove([]byte("Bcc: x"), "Bcc")); got != "" {
		t.Errorf("got %q", got)
	}
	if got := string(Remove([]byte("no header: at all?\r\n\r\n")[3:], "Bcc")); got != "header: at all?\r\n\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestPrepend(t *testing.T) {
	for _, c := range []struct{ msg, want string }{
		{"A: b\r\n\r\nbody", "N: v\r\nA: b\r\n\r\nbody"},
		{"A: b", "N: v\r\nA: b"},
		{"\r\nbody", "N: v\r\n\r\nbody"},
		{"", "N: v\r\n\r\n"},
		{"words only\r\n", "N: v\r\n\r\nwords only\r\n"},
	} {
		if got := string(Prepend([]byte(c.msg), Field{"N", "v"})); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	got := string(Prepend([]byte("\r\n"), Field{"Received", "from here" + strings.Repeat(" word", 20)}, Field{"X", "a\r\nBcc: b\x00"}, Field{"Y", ""}))
	want := "Received: from here word word word word word word word word word word word\r\n" +
		" word word word word word word word word word\r\nX: a Bcc: b\r\nY:\r\n\r\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSelectFields(t *testing.T) {
	header, _ := Split([]byte(sample))
	for _, c := range []struct {
		names []string
		not   bool
		want  string
	}{
		{[]string{"SUBJECT", "Received"}, false, "Received: one\r\nSubject : long\r\n  and folded \r\nReceived: two\r\n\r\n"},
		{[]string{"To"}, false, "\r\n"},
		{nil, false, "\r\n"},
		{[]string{"received", "bcc", "from", "x-peerpost-trust", "x-peerpost-state"}, true, "Subject : long\r\n  and folded \r\nno field\r\n folded\r\n\r\n"},
		{nil, true, string(header)},
	} {
		if got := string(SelectFields(header, c.names, c.not)); got != c.want {
			t.Errorf("%v %v: got  %q\nwant %q", c.names, c.not, got, c.want)
		}
	}
	if got := string(SelectFields([]byte("A: b"), []string{"a"}, false)); got != "A: b\r\n\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestCheckFrom(t *testing.T) {
	for _, c := range []struct {
		header string
		err    error
		n      int
	}{
		{"From: a@example.org\r\n", nil, 1},
		{"from:\r\n =?utf-8?q?J=C3=BC?= <a@example.org>\r\n", nil, 1},
		{"From: a@example.org, b@example.org\r\nSender: a@example.org\r\n", nil, 3},
		{"From: a@example.org\r\nSender: b@example.org\r\n", nil, 2},
		{"From: a@example.org\r\nSender: b@example.org\r\nSender: a@example.org\r\n", ErrSender, 0},
		{"From: a@example.org\r\nSender:\r\n", ErrSender, 0},
		{"From: a@example.org, b@example.org\r\n", ErrSender, 0},
		{"From: a@example.org, b@example.org\r\nSender: x\r\n", ErrSender, 0},
		{"From: a@example.org, b@example.org\r\nSender: a@b, c@d\r\n", ErrSender, 0},
		{"From: people: a@example.org;\r\n", nil, 1},
		{"From: people:;\r\n", ErrBadFrom, 0},
		{"From: nobody\r\n", ErrBadFrom, 0},
		{"From: \r\n", ErrBadFrom, 0},
		{"From: <>\r\n", ErrBadFrom, 0},
		{"To: a@example.org\r\n", ErrNoFrom, 0},
		{"From: a@example.org\r\nFROM: b@example.org\r\n", ErrManyFrom, 0},
		{"From : a@example.org\r\nFrom: b@example.org\r\n", ErrManyFrom, 0},
		{"From: a@example.org\r\n" + strings.Repeat("X: y\r\n", MaxFields), ErrHeader, 0},
		{"From: a@example.org\r\nX: " + strings.Repeat("y", MaxHeader) + "\r\nFrom: b@example.org\r\n", ErrHeader, 0},
	} {
		from, err := CheckFrom([]byte(c.header + "\r\nFrom: body\r\n"))
		if !errors.Is(err, c.err) || len(from) != c.n {
			t.Errorf("%.60q: %v, %v", c.header, from, err)
		}
	}
}

func TestComplete(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	full := []byte("Date: x\r\nMessage-ID: <a@b>\r\n\r\n")
	if got := Complete(full, now, "host"); &got[0] != &full[0] {
		t.Error("a complete message was changed")
	}
	got := Complete([]byte("From: a@b\r\nDate:\r\n\r\nbody"), now, "host.example")
	if d := Get(got, "Date"); d != "Sun, 01 Mar 2026 12:00:00 +0100" {
		t.Errorf("date %q", d)
	}
	if n := len(Values(got, "Date")); n != 1 {
		t.Errorf("%d dates", n)
	}
	id := Get(got, "Message-ID")
	if !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@host.example>") || len(id) < 30 {
		t.Errorf("id %q", id)
	}
	if !bytes.HasSuffix(got, []byte("From: a@b\r\n\r\nbody")) {
		t.Errorf("got %q", got)
	}
	if other := NewMessageID("host.example"); other == id {
		t.Error("the same id twice")
	}
}

func TestMessageIDs(t *testing.T) {
	for s, want := range map[string][]string{
		"<a@b> <c@d>":     {"a@b", "c@d"},
		"<a@b>\t(x)<c@d>": {"a@b", "c@d"},
		"< a@b > <>":      {"a@b"},
		"a@b":             nil,
		"<a@b":            nil,
		"":                nil,
	} {
		if got := MessageIDs(s); !slices.Equal(got, want) {
			t.Errorf("%q: %q", s, got)
		}
	}
}

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"a\r\nb\r\n":           "a\r\nb\r\n",
		"a\nb\rc\r\n":          "a\r\nb\r\nc\r\n",
		"\r\r\n\n\r":           "\r\n\r\n\r\n\r\n",
		"end\r":                "end\r\n",
		"\n.\n":                "\r\n.\r\n",
		"no line end":          "no line end",
		"\r\n\n":               "\r\n\r\n",
		"one\r\n.\r\rtwo\r\n ": "one\r\n.\r\n\r\ntwo\r\n ",
	} {
		got, err := Normalise([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := Normalise([]byte("a\x00b")); err != ErrNUL {
		t.Errorf("NUL: %v", err)
	}
}

func FuzzHeaderTools(f *testing.F) {
	f.Add([]byte(sample), "Bcc")
	f.Add([]byte("Bcc: x\nno field\nFrom: a\n\nbody"), "bcc")
	f.Add([]byte("From x\n>From y: z\nA : b"), "A")
	for name, m := range hostile() {
		if len(m) < 10_000 {
			f.Add(m, name)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte, name string) {
		header, body := Split(msg)
		if !bytes.Equal(append(slices.Clone(header), body...), msg) {
			t.Fatal("Split lost something")
		}
		all := slices.Collect(Fields(msg))
		if again := slices.Collect(Fields(header)); !reflect.DeepEqual(all, again) {
			t.Fatalf("of the message %q, of the header %q", all, again)
		}
		for _, f := range all {
			if strings.ContainsAny(f.Value, "\r\n\x00") {
				t.Fatalf("%q", f)
			}
		}

		removed := Remove(msg, name)
		if v := Values(removed, name); len(v) != 0 {
			t.Fatalf("%q is still there: %q", name, v)
		}
		var stay []Field
		for _, f := range all {
			if !matches([]byte(f.Name), []string{name}) {
				stay = append(stay, f)
			}
		}
		if got := slices.Collect(Fields(removed)); !reflect.DeepEqual(got, stay) {
			t.Fatalf("after Remove %q, want %q", got, stay)
		}
		if !bytes.HasSuffix(removed, body) {
			t.Fatal("Remove lost of the body")
		}

		both := Rewrite(msg, func(header []byte) []byte { return Prepend(Remove(header, name), Field{"X-New", name}) })
		if want := Prepend(removed, Field{"X-New", name}); len(header) < MaxHeader && !bytes.Equal(both, want) {
			t.Fatalf("Rewrite gives %q, not %q", both, want)
		}
		if same := Rewrite(msg, slices.Clone[[]byte]); len(msg) > 0 && &same[0] != &msg[0] {
			t.Fatal("Rewrite copies what stays")
		}

		more := Prepend(msg, Field{"X-New", name})
		if !bytes.HasSuffix(more, msg) {
			t.Fatal("Prepend lost something")
		}
		if got := slices.Collect(Fields(more)); len(got) != len(all)+1 || !slices.Equal(got[1:], all) {
			t.Fatalf("after Prepend %q, want one more than %q", got, all)
		}

		in, out := SelectFields(msg, []string{name}, false), SelectFields(msg, []string{name}, true)
		if len(in)+len(out) > len(header)+8 {
			t.Fatalf("%d and %d bytes of %d", len(in), len(out), len(header))
		}
		HeaderText(msg, 1000)
		CheckFrom(msg)

		normal, err := Normalise(msg)
		if err != nil {
			return
		}
		if again, _ := Normalise(normal); len(again) > 0 && &again[0] != &normal[0] {
			t.Fatal("not normal after Normalise")
		}
	})
}
