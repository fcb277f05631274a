package mailbox

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

// TestRoll edits a roll at random and compares it, and every older one, with what it should be.
func TestRoll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	type version struct {
		roll *roll
		want map[mail.UID]mail.ModSeq
	}
	versions := []version{{emptyRoll, map[mail.UID]mail.ModSeq{}}}
	next := mail.UID(1)
	for step := range 300 {
		last := versions[len(versions)-1]
		e, want := last.roll.edit(), maps.Clone(last.want)
		for range r.IntN(20) {
			switch uids := slices.Collect(maps.Keys(want)); {
			case len(uids) == 0 || r.IntN(3) == 0:
				next += mail.UID(1 + r.IntN(40))
				e.add(message{uid: next, modseq: mail.ModSeq(step)})
				want[next] = mail.ModSeq(step)
			case r.IntN(2) == 0:
				uid := uids[r.IntN(len(uids))]
				e.set(message{uid: uid, modseq: mail.ModSeq(step)})
				want[uid] = mail.ModSeq(step)
			default:
				uid := uids[r.IntN(len(uids))]
				e.remove(uid)
				delete(want, uid)
			}
		}
		versions = append(versions, version{e.done(), want})
	}
	for i, v := range versions {
		uids := slices.Sorted(maps.Keys(v.want))
		if !slices.Equal(v.roll.uids, uids) {
			t.Fatalf("version %d: %v, want %v", i, v.roll.uids, uids)
		}
		var seen []mail.UID
		v.roll.all(func(m *message) bool {
			seen = append(seen, m.uid)
			if m.modseq != v.want[m.uid] {
				t.Fatalf("version %d: message %d has modseq %d, want %d", i, m.uid, m.modseq, v.want[m.uid])
			}
			return true
		})
		if !slices.Equal(seen, uids) {
			t.Fatalf("version %d: all gives %v", i, seen)
		}
	}
	last := versions[len(versions)-1].roll
	var seen []mail.UID
	last.some([]mail.UID{last.uids[3], 0, last.uids[1], last.uids[3], next + 5000}, func(m *message) bool {
		seen = append(seen, m.uid)
		return true
	})
	wantUIDs(t, "some", seen, last.uids[1], last.uids[3])
}

// TestStretches checks that the stretches hold all the UIDs and no other message of the kind.
func TestStretches(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		e := emptyRoll.edit()
		uid := mail.UID(0)
		for range 1 + r.IntN(60) {
			uid += mail.UID(1 + r.IntN(3))
			e.add(message{uid: uid, size: int64(r.IntN(2))})
		}
		roll := e.done()
		kind := func(m *message) bool { return m.size == 0 }
		var chosen []mail.UID
		roll.all(func(m *message) bool {
			if kind(m) && r.IntN(3) > 0 {
				chosen = append(chosen, m.uid)
			}
			return true
		})
		if len(chosen) == 0 {
			continue
		}
		var got []mail.UID
		tcheck(t, roll.stretches(chosen, kind, func(first, last mail.UID) error {
			roll.all(func(m *message) bool {
				if kind(m) && m.uid >= first && m.uid <= last {
					got = append(got, m.uid)
				}
				return true
			})
			return nil
		}))
		if !slices.Equal(got, chosen) {
			t.Fatalf("stretches hold %v, want %v of %v", got, chosen, roll.uids)
		}
	}
}

func TestRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		var uids []mail.UID
		uid := mail.UID(0)
		for range r.IntN(50) {
			uid += mail.UID(1 + r.IntN(2)*r.IntN(1_000_000))
			uids = append(uids, uid)
		}
		got, err := parseRanges(appendRanges(nil, uids))
		if err != nil || !slices.Equal(got, uids) {
			t.Fatalf("%v became %v: %v", uids, got, err)
		}
	}
	if b := appendRanges(nil, []mail.UID{1, 2, 3, 4, 4_294_967_295}); len(b) > 8 {
		t.Errorf("%d bytes", len(b))
	}
}

func FuzzRanges(f *testing.F) {
	f.Add([]byte{1, 3, 200, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		uids, err := parseRanges(b)
		if err != nil || len(uids) > 1<<16 {
			return
		}
		again, err := parseRanges(appendRanges(nil, uids))
		if err != nil || !slices.Equal(uids, again) {
			t.Fatalf("%v became %v: %v", uids, again, err)
		}
	})
}
