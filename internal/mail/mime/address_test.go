package mime

import (
	netmail "net/mail"
	"reflect"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestParseAddresses(t *testing.T) {
	type a [3]string // name, mailbox, host
	for _, c := range []struct {
		in   string
		want []a
	}{
		{"", nil},
		{" , ,", nil},
		{"a@example.org", []a{{"", "a", "example.org"}}},
		{"<a@example.org>", []a{{"", "a", "example.org"}}},
		{"A B <a@example.org>", []a{{"A B", "a", "example.org"}}},
		{"A  B<a@example.org>", []a{{"A B", "a", "example.org"}}},
		{`"B, A" <a@example.org>`, []a{{"B, A", "a", "example.org"}}},
		{`"A \"x\" \\ B" <a@example.org>`, []a{{`A "x" \ B`, "a", "example.org"}}},
		{`John Q. Public <a@example.org>`, []a{{"John Q. Public", "a", "example.org"}}},
		{`"Joe & J. Harvey" <d@e>, JJV@b`, []a{{"Joe & J. Harvey", "d", "e"}, {"", "JJV", "b"}}},
		{`Grüße <g@example.org>`, []a{{"Grüße", "g", "example.org"}}},
		{`=?utf-8?q?a=2C?= =?utf-8?q?_b?= <a@b>`, []a{{"=?utf-8?q?a=2C?= =?utf-8?q?_b?=", "a", "b"}}},

		// Comments.
		{"a@example.org (A (x) \\) B)", []a{{"A (x) ) B", "a", "example.org"}}},
		{"A (c) <a(x)@(y)example.org>", []a{{"A", "a", "example.org"}}},
		{"(only a comment)", nil},

		// Local parts and hosts.
		{`"a b"@example.org`, []a{{"", "a b", "example.org"}}},
		{`"a"."b"@example.org`, []a{{"", "a.b", "example.org"}}},
		{"a . b @ example . org", []a{{"", "a.b", "example.org"}}},
		{"a@[127.0.0.1]", []a{{"", "a", "[127.0.0.1]"}}},
		{"A <a@[IPv6:::1]>, b@c", []a{{"A", "a", "[IPv6:::1]"}, {"", "b", "c"}}},
		{"<@x,@y:a@example.org>", []a{{"", "a", "example.org"}}},
		{"<a@b@example.org>", []a{{"", "a@b", "example.org"}}},

		// Groups.
		{"undisclosed-recipients:;", []a{{"", "undisclosed-recipients", ""}, {}}},
		{"A Group: B <b@c>, d@e;, f@g", []a{{"", "A Group", ""}, {"B", "b", "c"}, {"", "d", "e"}, {}, {"", "f", "g"}}},
		{"g: a@b; h: c@d;", []a{{"", "g", ""}, {"", "a", "b"}, {}, {"", "h", ""}, {"", "c", "d"}, {}}},
		{"g: h: a@b;", []a{{"", "g", ""}, {"h:", "a", "b"}, {}}},
		{`"": a@b;`, []a{{"", MissingMailbox, ""}, {"", "a", "b"}, {}}},

		// What is wrong.
		{"nobody", []a{{"", "nobody", MissingHost}}},
		{"two words", []a{{"two words", MissingMailbox, MissingHost}}},
		{"Nobody <>", []a{{"Nobody", MissingMailbox, MissingHost}}},
		{"@example.org", []a{{"", MissingMailbox, "example.org"}}},
		{"a@", []a{{"", "a", MissingHost}}},
		{"John Doe a@example.org", []a{{"John Doe", "a", "example.org"}}},
		{"a@example.org; b@example.org", []a{{"", "a", "example.org"}, {"", "b", "example.org"}}},
		{"<a@b> <c@d>", []a{{"", "a", "b"}, {"", "c", "d"}}},
		{"A <a@b, c@d", []a{{"A", "a", "b"}, {"", "c", "d"}}},
		{"a@b> , c@d", []a{{"", "a", "b"}, {"", "c", "d"}}},
		{`"A <a@b>`, []a{{"A", "a", "b"}}},
		{`A (x <a@b>, c@d`, []a{{"A x", "a", "b"}, {"", "c", "d"}}},
		{"a@b@c <d@e>", []a{{"a@b@c", "d", "e"}}},
		{"mailto:a@example.org", []a{{"", "mailto:a", "example.org"}}},
		{"'A B' <a@b>", []a{{"'A B'", "a", "b"}}},
		{strings.Repeat("x", MaxValue+1) + "@example.org", []a{{"", MissingMailbox, MissingHost}}},
	} {
		var got []a
		for _, x := range ParseAddresses(c.in) {
			got = append(got, a{x.Name, x.Mailbox, x.Host})
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.80q\n got %q\nwant %q", c.in, got, c.want)
		}
	}
}

func TestParseAddressesLimit(t *testing.T) {
	for _, in := range []string{strings.Repeat("a@b,", 20_000), strings.Repeat("g:a@b;", 9_000), "g:" + strings.Repeat("a@b,", 20_000) + ";", strings.Repeat("g:;", 9_000)} {
		got := ParseAddresses(in)
		if len(got) > MaxAddresses || len(got) < MaxAddresses-2 {
			t.Errorf("%.10q: %d addresses", in, len(got))
		}
		if !reflect.DeepEqual(closeGroup(got), got) {
			t.Errorf("%.10q: a group is left open", in)
		}
	}
}

func TestFormatAddress(t *testing.T) {
	for want, a := range map[string]mail.Address{
		"a@example.org":                    {Mailbox: "a", Host: "example.org"},
		"A B <a@example.org>":              {Name: "A B", Mailbox: "a", Host: "example.org"},
		`"B, A" <a@example.org>`:           {Name: "B, A", Mailbox: "a", Host: "example.org"},
		`"A. \"B\"" <a.b@x>`:               {Name: `A. "B"`, Mailbox: "a.b", Host: "x"},
		`"a b"@x`:                          {Mailbox: "a b", Host: "x"},
		`".a"@x`:                           {Mailbox: ".a", Host: "x"},
		"=?utf-8?q?a.=2C?= x <a@x>":        {Name: "=?utf-8?q?a.=2C?= x", Mailbox: "a", Host: "x"},
		`"a  Bcc: b@c" <"a  b"@x>`:         {Name: "a\r\nBcc: b@c", Mailbox: "a\r\nb", Host: "x"},
		`"=?utf-8?q?\"?=" <a@x>`:           {Name: `=?utf-8?q?"?=`, Mailbox: "a", Host: "x"},
		"Grüße <grüße@example.org>":        {Name: "Grüße", Mailbox: "grüße", Host: "example.org"},
		`"two  blanks" <a@x>`:              {Name: "two  blanks", Mailbox: "a", Host: "x"},
		`"@"@[127.0.0.1]`:                  {Mailbox: "@", Host: "[127.0.0.1]"},
		"a@MISSING_DOMAIN":                 {Mailbox: "a", Host: MissingHost},
		`"MISSING (x)" <a@MISSING_DOMAIN>`: {Name: "MISSING (x)", Mailbox: "a", Host: MissingHost},
	} {
		if got := FormatAddress(a); got != want {
			t.Errorf("%q: got %s, want %s", a, got, want)
		}
	}
}

func TestAddressText(t *testing.T) {
	list := ParseAddresses(`=?utf-8?q?J=C3=BCrgen?= <j@example.org>, team: a@b, C <c@d>;, none:;, e@f`)
	if got, want := AddressText(list), "Jürgen <j@example.org>, team: a@b, C <c@d>;, none: ;, e@f"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzAddresses wants every list to be whole, and to agree with net/mail where that can read it.
func FuzzAddresses(f *testing.F) {
	for _, s := range []string{`"B, A" <a@example.org>, g: c@d;`, `a . b@c (x)`, `"\"`, `<@a,@b:c@d>`, `a@[1.2.3.4]`, `(((`, `g:;`, `A <a@b`, `x:y;z`, "\xff <\xfe@x>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := ParseAddresses(s)
		if len(list) > len(s)+1 {
			t.Fatalf("%d addresses of %d bytes", len(list), len(s))
		}
		open := false
		for _, a := range list {
			if strings.ContainsAny(a.Name+a.Mailbox+a.Host, "\r\n\x00") {
				t.Fatalf("%q", a)
			}
			if a.Host == "" {
				if open == (a.Mailbox != "") {
					t.Fatalf("groups of %q", list)
				}
				open = !open
			} else if a.Mailbox == "" {
				t.Fatalf("%q", a)
			}
		}
		if open {
			t.Fatalf("open group in %q", list)
		}
		AddressText(list)
		for _, a := range list {
			// What FormatAddress writes is read as the same again.
			if !IsComplete(a) || strings.TrimSpace(a.Name) != a.Name || strings.ContainsAny(a.Host, " \t()<>,;:\\\"@[].") || strings.ContainsAny(a.Mailbox+a.Name, "\t") {
				continue
			}
			for i := range len(a.Host) {
				if a.Host[i] < 33 {
					return
				}
			}
			if again := ParseAddresses(FormatAddress(a)); len(again) != 1 || again[0] != a {
				t.Fatalf("%q is written %q and read %q", a, FormatAddress(a), again)
			}
		}
	})
}

func TestAgreesWithNetMail(t *testing.T) {
	for _, s := range []string{
		"a@example.org", "A B <a@example.org>", `"B, A" <a@example.org>, c@d.example`, `"a b"@example.org`, "A <a.b+c@example.org> (comment)",
		`"A \"x\"" <a@example.org>, =?utf-8?q?J=C3=BC?= <j@example.org>`, "g: a@b.example, C <c@d.example>;", "a@[127.0.0.1]",
	} {
		want, err := netmail.ParseAddressList(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		i := 0
		for _, a := range ParseAddresses(s) {
			if a.Host == "" {
				continue
			}
			if got := a.Mailbox + "@" + a.Host; i >= len(want) || got != want[i].Address || DecodeHeader(a.Name) != want[i].Name {
				t.Errorf("%q: got %q, want %q", s, a, want[i])
			}
			i++
		}
	}
}
