package imap

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/peerpost/peerpost/internal/mail"
)

func seqs(t testing.TB, s string) (set imap.SeqSet) {
	t.Helper()
	for _, r := range strings.Split(s, ",") {
		a, b, ok := strings.Cut(r, ":")
		if !ok {
			b = a
		}
		set.AddRange(number(t, a), number(t, b))
	}
	return set
}

func uidsOf(t testing.TB, s string) (set imap.UIDSet) {
	t.Helper()
	for _, r := range seqs(t, s) {
		set = append(set, imap.UIDRange{Start: imap.UID(r.Start), Stop: imap.UID(r.Stop)})
	}
	return set
}

func number(t testing.TB, s string) uint32 {
	t.Helper()
	if s == "*" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func TestResolve(t *testing.T) {
	v := &selected{uids: []mail.UID{2, 3, 5, 8, 13, 21}, saved: []mail.UIDRange{{First: 3, Last: 4}, {First: 13, Last: 40}}}
	empty := &selected{}
	for _, c := range []struct {
		v    *selected
		set  imap.NumSet
		want string // UIDs
	}{
		{v, seqs(t, "1"), "[2]"},
		{v, seqs(t, "1:*"), "[2 3 5 8 13 21]"},
		{v, seqs(t, "*"), "[21]"},
		{v, seqs(t, "5:2"), "[3 5 8 13]"},
		{v, seqs(t, "1,3:4,6"), "[2 5 8 21]"},
		{v, seqs(t, "4:100"), "[8 13 21]"},
		{v, seqs(t, "9:*"), "[21]"},
		{v, seqs(t, "7"), "BAD"},
		{v, seqs(t, "7:4294967295"), "BAD"},
		{v, seqs(t, "2:4,9:*"), "[3 5 8 21]"},
		{v, uidsOf(t, "1:*"), "[2 3 5 8 13 21]"},
		{v, uidsOf(t, "*"), "[21]"},
		{v, uidsOf(t, "22:*"), "[21]"},
		{v, uidsOf(t, "4"), "[]"},
		{v, uidsOf(t, "4:6,20:30"), "[5 21]"},
		{v, uidsOf(t, "4294967295"), "[]"},
		{v, uidsOf(t, "8:4294967295"), "[8 13 21]"},
		{v, imap.SearchRes(), "[3 13 21]"},
		{empty, seqs(t, "1:*"), "[]"},
		{empty, seqs(t, "*"), "[]"},
		{empty, seqs(t, "1"), "BAD"},
		{empty, uidsOf(t, "1:*"), "[]"},
		{empty, uidsOf(t, "*"), "[]"},
		{empty, uidsOf(t, "7"), "[]"},
		{empty, imap.SearchRes(), "[]"},
		{v, imap.SeqSet(nil), "[]"},
	} {
		got := "BAD"
		if spans, err := c.v.resolve(c.set); err == nil {
			got = fmt.Sprint(c.v.at(spans))
		}
		if got != c.want {
			t.Errorf("%v of %v: %s, want %s", c.set, c.v.uids, got, c.want)
		}
	}
}

// FuzzResolve compares with the plainest way to find the messages of a set.
func FuzzResolve(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 200, 7}, []byte{0, 3, 9, 0, 4, 4}, true)
	f.Add([]byte{}, []byte{0, 0}, false)
	f.Add([]byte{5, 5, 5}, []byte{1, 200, 0, 2}, true)
	f.Fuzz(func(t *testing.T, gaps, ranges []byte, byUID bool) {
		if len(gaps) > 200 || len(ranges) > 200 {
			return
		}
		v := &selected{}
		uid := mail.UID(0)
		for _, g := range gaps {
			uid += mail.UID(g) + 1
			v.uids = append(v.uids, uid)
		}
		last := mail.UID(len(v.uids))
		if byUID {
			last = uid
		}
		var set imap.SeqSet
		want := map[mail.UID]bool{}
		for i := 0; i+1 < len(ranges); i += 2 {
			a, b := mail.UID(ranges[i]), mail.UID(ranges[i+1])
			set.AddRange(uint32(a), uint32(b))
			if a == 0 {
				a = last
			}
			if b == 0 {
				b = last
			}
			for j, u := range v.uids {
				n := mail.UID(j + 1)
				if byUID {
					n = u
				}
				if n >= min(a, b) && n <= max(a, b) {
					want[u] = true
				}
			}
		}
		var num imap.NumSet = set
		if byUID {
			var us imap.UIDSet
			for _, r := range set {
				us = append(us, imap.UIDRange{Start: imap.UID(r.Start), Stop: imap.UID(r.Stop)})
			}
			num = us
		}
		spans, err := v.resolve(num)
		if err != nil {
			return
		}
		got := v.at(spans)
		if !slices.IsSorted(got) || len(got) != len(want) {
			t.Fatalf("%v of %v (last %d): %v, want %v", num, v.uids, last, got, want)
		}
		for _, u := range got {
			if !want[u] {
				t.Fatalf("%v of %v: %v, want %v", num, v.uids, got, want)
			}
		}
		// A search gives the same messages.
		if !byUID {
			b := &queryBuilder{v: v}
			rs := b.sequence(set)
			for _, u := range v.uids {
				in := slices.ContainsFunc(rs, func(r mail.UIDRange) bool { return r.First <= u && u <= r.Last })
				if in != want[u] {
					t.Fatalf("search: %v of %v gives %v", num, v.uids, rs)
				}
			}
		}
	})
}

func TestIntersect(t *testing.T) {
	const m = math.MaxUint32
	for _, c := range []struct{ a, b, want []mail.UIDRange }{
		{[]mail.UIDRange{{First: 1, Last: 9}}, []mail.UIDRange{{First: 3, Last: 4}, {First: 8, Last: 12}}, []mail.UIDRange{{First: 3, Last: 4}, {First: 8, Last: 9}}},
		{[]mail.UIDRange{{First: 1, Last: 2}}, []mail.UIDRange{{First: 3, Last: m}}, []mail.UIDRange{}},
		{nil, []mail.UIDRange{{First: 3, Last: m}}, []mail.UIDRange{}},
		{[]mail.UIDRange{{First: 5, Last: m}}, []mail.UIDRange{{First: 3, Last: m}}, []mail.UIDRange{{First: 5, Last: m}}},
	} {
		if got := intersect(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: %v", c.a, c.b, got)
		}
		if got := intersect(c.b, c.a); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: %v", c.b, c.a, got)
		}
	}
}

func TestMissing(t *testing.T) {
	for _, c := range []struct {
		was, is []mail.UID
		want    []int
	}{
		{nil, nil, nil},
		{nil, []mail.UID{1}, nil},
		{[]mail.UID{1, 2}, []mail.UID{1, 2, 9}, nil},
		{[]mail.UID{1, 2}, nil, []int{0, 1}},
		{[]mail.UID{1, 2, 3, 4}, []mail.UID{2, 4}, []int{0, 2}},
		{[]mail.UID{1, 2, 3}, []mail.UID{1, 2, 7}, []int{2}},
		{[]mail.UID{1, 2, 3}, []mail.UID{4, 5, 6, 7}, []int{0, 1, 2}},
		{[]mail.UID{1, 2, 3}, []mail.UID{2, 3, 4}, []int{0}},
	} {
		if got := missing(c.was, c.is); !slices.Equal(got, c.want) {
			t.Errorf("%v, now %v: %v, want %v", c.was, c.is, got, c.want)
		}
	}
}

func TestSetsAreWrittenInRuns(t *testing.T) {
	if got := uidSet([]mail.UID{1, 2, 3, 7, 9, 10}).String(); got != "1:3,7,9:10" {
		t.Error(got)
	}
	if got := uidSet([]mail.UID{30, 31, 5}).String(); got != "30:31,5" { // order says what became of what
		t.Error(got)
	}
	if got := seqSet(nil); got == nil || len(got) != 0 {
		t.Errorf("%v", got)
	}
	if got := uidSet([]mail.UID{math.MaxUint32 - 1, math.MaxUint32}).String(); got != "4294967294:4294967295" {
		t.Error(got)
	}
}
