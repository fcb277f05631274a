package imap

import (
	"iter"
	"math"
	"slices"

	"github.com/emersion/go-imap/v2"

	"github.com/peerpost/peerpost/internal/mail"
)

// span is the positions lo up to, not including, hi in a view.
type span struct {
	lo, hi int
}

// never is a condition that no message meets: this UID is not given out.
var never = []mail.UIDRange{{First: math.MaxUint32, Last: math.MaxUint32}}

// find returns the position of a UID.
func (v *selected) find(uid mail.UID) (int, bool) { return slices.BinarySearch(v.uids, uid) }

// resolve finds the messages that a command names, in ascending order, each
// once. Numbers beyond the last message are an error only if they name nothing
// else and do not come from "*".
func (v *selected) resolve(set imap.NumSet) ([]span, error) {
	var spans []span
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			sp, ok := v.positions(r)
			if !ok {
				return nil, bad("There is no message of that number")
			}
			spans = append(spans, sp)
		}
	case imap.UIDSet:
		for _, r := range v.uidRanges(set) {
			lo, _ := v.find(r.First)
			hi := len(v.uids)
			if r.Last < math.MaxUint32 {
				hi, _ = v.find(r.Last + 1)
			}
			spans = append(spans, span{lo, hi})
		}
	default:
		return nil, bad("No such kind of message set")
	}
	return tidy(spans), nil
}

// positions finds the messages of a range of sequence numbers; false when
// there are none although numbers were given.
func (v *selected) positions(r imap.SeqRange) (span, bool) {
	n := uint32(len(v.uids))
	lo, hi := r.Start, r.Stop
	star := lo == 0 || hi == 0
	if lo == 0 {
		lo = n
	}
	if hi == 0 {
		hi = n
	}
	if lo > hi {
		lo, hi = hi, lo
	}
	if n == 0 {
		return span{}, star
	}
	if lo > n {
		return span{}, false
	}
	return span{int(max(lo, 1)) - 1, int(min(hi, n))}, true
}

// uidRanges resolves "*" and "$" of a set. The ranges ascend within the set's
// own order and have no open ends.
func (v *selected) uidRanges(set imap.UIDSet) []mail.UIDRange {
	if imap.IsSearchRes(set) {
		return v.saved
	}
	var last mail.UID
	if n := len(v.uids); n > 0 {
		last = v.uids[n-1]
	}
	var rs []mail.UIDRange
	for _, r := range set {
		lo, hi := mail.UID(r.Start), mail.UID(r.Stop)
		if lo == 0 {
			lo = last
		}
		if hi == 0 {
			hi = last
		}
		if lo > hi {
			lo, hi = hi, lo
		}
		if hi == 0 {
			continue // "*" of an empty folder
		}
		rs = append(rs, mail.UIDRange{First: max(lo, 1), Last: hi})
	}
	return rs
}

// tidy sorts spans, and joins those that touch.
func tidy(spans []span) []span {
	spans = slices.DeleteFunc(spans, func(s span) bool { return s.lo >= s.hi })
	slices.SortFunc(spans, func(a, b span) int { return a.lo - b.lo })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			continue
		}
		out = append(out, s)
	}
	return out
}

// at returns the UIDs of spans. It is a piece of the view when it can be.
func (v *selected) at(spans []span) []mail.UID {
	if len(spans) == 1 {
		return slices.Clip(v.uids[spans[0].lo:spans[0].hi])
	}
	var uids []mail.UID
	for _, s := range spans {
		uids = append(uids, v.uids[s.lo:s.hi]...)
	}
	return uids
}

// intersect returns what two lists of ranges have in common. Both are sorted
// and their ranges do not overlap.
func intersect(a, b []mail.UIDRange) []mail.UIDRange {
	out := []mail.UIDRange{}
	for len(a) > 0 && len(b) > 0 {
		r := mail.UIDRange{First: max(a[0].First, b[0].First), Last: min(a[0].Last, b[0].Last)}
		if r.First <= r.Last {
			out = append(out, r)
		}
		if a[0].Last < b[0].Last {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// sorted returns ranges in order, joined where they overlap.
func sorted(rs []mail.UIDRange) []mail.UIDRange {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b mail.UIDRange) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	out := rs[:0]
	for _, r := range rs {
		if n := len(out); n > 0 && r.First <= out[n-1].Last {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// runs writes a list of numbers as ranges, in the order of the list.
func runs[N ~uint32](list []N) iter.Seq2[N, N] {
	return func(yield func(first, last N) bool) {
		for i := 0; i < len(list); {
			j := i + 1
			for j < len(list) && list[j] == list[j-1]+1 {
				j++
			}
			if !yield(list[i], list[j-1]) {
				return
			}
			i = j
		}
	}
}

func uidSet(list []mail.UID) imap.UIDSet {
	set := imap.UIDSet{}
	for a, b := range runs(list) {
		set = append(set, imap.UIDRange{Start: imap.UID(a), Stop: imap.UID(b)})
	}
	return set
}

func seqSet(list []uint32) imap.SeqSet {
	set := imap.SeqSet{}
	for a, b := range runs(list) {
		set = append(set, imap.SeqRange{Start: a, Stop: b})
	}
	return set
}
