package mailbox

import (
	"slices"

	"github.com/peerpost/peerpost/internal/mail"
)

// message is what of a message is kept in memory while its folder is open.
type message struct {
	uid      mail.UID
	sent     int32 // day of the Date field as it stands there, in days since 1970
	flags    *flagSet
	modseq   mail.ModSeq
	content  int64
	internal int64 // Unix seconds
	size     int64
}

func (m *message) entry() mail.Entry {
	return mail.Entry{UID: m.uid, ModSeq: m.modseq, Flags: m.flags.list}
}

// roll is the messages of a folder. It never changes: an edit makes a new one
// that shares what stayed the same, so readers need no lock.
type roll struct {
	uids   []mail.UID // ascending
	chunks []chunk    // by uid >> chunkBits; what has no messages is nil
}

// chunk is the messages of one range of UIDs, ascending.
type chunk []message

// chunkBits says how many UIDs share a chunk: 128, so that the change of one message copies 8 KB at most.
const chunkBits = 7

var emptyRoll = &roll{}

// get finds a message; nil when there is none. It must not be changed.
func (r *roll) get(uid mail.UID) *message {
	k := int(uid >> chunkBits)
	if k >= len(r.chunks) {
		return nil
	}
	c := r.chunks[k]
	if i, ok := c.find(uid); ok {
		return &c[i]
	}
	return nil
}

func (c chunk) find(uid mail.UID) (int, bool) {
	return slices.BinarySearchFunc(c, uid, func(m message, uid mail.UID) int { return int(int64(m.uid) - int64(uid)) })
}

// all calls f for each message, ascending, until f is false.
func (r *roll) all(f func(*message) bool) {
	for _, c := range r.chunks {
		for i := range c {
			if !f(&c[i]) {
				return
			}
		}
	}
}

// some calls f for each of the UIDs that exists, ascending, until f is false.
func (r *roll) some(uids []mail.UID, f func(*message) bool) {
	if !slices.IsSorted(uids) {
		uids = slices.Sorted(slices.Values(uids))
	}
	last := mail.UID(0)
	for i, uid := range uids {
		if i > 0 && uid == last {
			continue
		}
		last = uid
		if m := r.get(uid); m != nil && !f(m) {
			return
		}
	}
}

// edit begins an edit.
func (r *roll) edit() *rollEdit {
	return &rollEdit{roll: roll{uids: r.uids, chunks: slices.Clone(r.chunks)}}
}

// rollEdit is a roll in the making.
type rollEdit struct {
	roll
	own     []bool // chunks that were copied and may be changed
	removed bool
}

// chunk returns the chunk of a UID, ready to be changed.
func (e *rollEdit) chunk(uid mail.UID) *chunk {
	k := int(uid >> chunkBits)
	for len(e.chunks) <= k {
		e.chunks = append(e.chunks, nil)
	}
	for len(e.own) <= k {
		e.own = append(e.own, false)
	}
	if !e.own[k] {
		old := e.chunks[k]
		e.chunks[k] = append(make(chunk, 0, len(old)+1), old...)
		e.own[k] = true
	}
	return &e.chunks[k]
}

// add adds a message whose UID is above all that were there.
func (e *rollEdit) add(m message) {
	c := e.chunk(m.uid)
	*c = append(*c, m)
	// Views that share the array end before this place.
	e.uids = append(e.uids, m.uid)
}

// set changes a message that is there.
func (e *rollEdit) set(m message) {
	c := *e.chunk(m.uid)
	if i, ok := c.find(m.uid); ok {
		c[i] = m
	}
}

// remove removes a message that is there.
func (e *rollEdit) remove(uid mail.UID) {
	c := e.chunk(uid)
	if i, ok := c.find(uid); ok {
		*c = slices.Delete(*c, i, i+1)
		e.removed = true
	}
}

// done ends the edit.
func (e *rollEdit) done() *roll {
	if e.removed {
		e.uids = make([]mail.UID, 0, len(e.uids))
		e.all(func(m *message) bool {
			e.uids = append(e.uids, m.uid)
			return true
		})
	}
	return &roll{uids: e.uids, chunks: e.chunks}
}
