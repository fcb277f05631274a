package identity

import (
	"strings"
	"testing"
)

func TestAddressEqual(t *testing.T) {
	alice, bob := Seed(fixed("alice root")).Root(), Seed(fixed("bob root")).Root()
	for _, test := range []struct {
		a, b Address
		want bool
	}{
		{Address{"alice", alice}, Address{"alice", alice}, true},
		{Address{"alice", alice}, Address{"ALICE", alice}, true},
		{Address{"alice", alice}, Address{"alice+tag", alice}, false},
		{Address{"alice", alice}, Address{"alice", bob}, false},
	} {
		if got := test.a.Equal(test.b); got != test.want {
			t.Errorf("%s and %s: %v", test.a, test.b, got)
		}
	}
}

// Every single wrong character and every swap of neighbours is noticed, but for the odds of the checksum.
func TestLabelNoticesTypos(t *testing.T) {
	label := Seed(fixed("alice root")).Root().Label()
	missed, tried := 0, 0
	try := func(s string) {
		if s == label {
			return
		}
		tried++
		if _, err := ParseLabel(s); err == nil {
			missed++
		}
	}
	for i := range label {
		for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
			try(label[:i] + string(c) + label[i+1:])
		}
		if i > 0 {
			try(label[:i-1] + label[i:i+1] + label[i-1:i] + label[i+1:])
		}
	}
	if tried < 1700 || missed > 1 {
		t.Fatalf("%d of %d typing errors went unnoticed", missed, tried)
	}
}

func FuzzParseAddress(f *testing.F) {
	domain := Seed(fixed("alice root")).Root().Label() + "." + Suffix
	f.Add("alice@" + domain)
	f.Add("A.b+c@" + strings.ToUpper(domain))
	f.Add("alice@example.com")
	f.Add("\"a b\"@" + domain)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(s, "\x00\r\n \"<>,;:\\") || len(s) > maxAddress {
			t.Fatalf("accepted %q", s)
		}
		if !strings.EqualFold(a.String(), s) {
			t.Fatalf("%q is written %q", s, a)
		}
		b, err := ParseAddress(a.String())
		if err != nil || b != a {
			t.Fatalf("%q is read back as %q, %v", a, b, err)
		}
	})
}
