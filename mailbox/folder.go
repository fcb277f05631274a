package mailbox

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// folder is the state of a folder after a commit. It never changes; the next
// commit makes another.
type folder struct {
	id         int64
	name       string
	role       mail.Role
	validity   mail.UIDValidity
	next       mail.UID
	modseq     mail.ModSeq
	messages   uint32
	unseen     uint32
	deleted    uint32
	size       int64
	subscribed bool

	roll *roll // nil: not in memory
}

func (f *folder) describe() mail.Folder {
	return mail.Folder{
		ID: f.id, Name: f.name, Role: f.role, UIDValidity: f.validity, UIDNext: f.next,
		Messages: f.messages, Unseen: f.unseen, Deleted: f.deleted, Size: f.size,
		HighestModSeq: f.modseq, Subscribed: f.subscribed,
	}
}

// count adds a message to the counts, or takes it away (by -1).
func (f *folder) count(m *message, by int) {
	f.messages += uint32(by)
	f.size += int64(by) * m.size
	if !m.flags.seen {
		f.unseen += uint32(by)
	}
	if m.flags.deleted {
		f.deleted += uint32(by)
	}
}

// change is what one commit did to the messages of a folder.
type change struct {
	modseq   mail.ModSeq
	touched  []mail.UID // new, or with other flags; ascending or not
	expunged []mail.UID
}

// The recent changes of a folder that are kept, so that telling a session does not look at all messages.
const (
	keepChanges = 1024 // commits
	keepUIDs    = 8192 // UIDs in all of them
)

// room is a folder in memory: its state, who watches it, and what happened lately.
type room struct {
	id   int64
	used atomic.Int64 // Unix nanoseconds of the last look at its messages

	mu       sync.Mutex
	state    *folder // nil once deleted
	log      []change
	logUIDs  int
	since    mail.ModSeq // the log is complete for what came after this one
	memo     mail.Changes
	memoFrom mail.ModSeq // memo is the answer to this one, if memo.ModSeq is not 0
	watchers map[chan struct{}]struct{}
}

func newRoom(f *folder) *room {
	return &room{id: f.id, state: f, since: f.modseq, watchers: make(map[chan struct{}]struct{})}
}

// now returns the state; nil once the folder is deleted.
func (r *room) now() *folder {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// touch notes that somebody looks at the messages.
func (r *room) touch() { r.used.Store(time.Now().UnixNano()) }

// publish makes a state the current one and tells the watchers. changes are
// those that lead to it.
func (r *room) publish(f *folder, changes []change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = f
	for _, c := range changes {
		r.log = append(r.log, c)
		r.logUIDs += len(c.touched) + len(c.expunged)
	}
	for len(r.log) > keepChanges || r.logUIDs > keepUIDs {
		r.since = r.log[0].modseq
		r.logUIDs -= len(r.log[0].touched) + len(r.log[0].expunged)
		r.log = r.log[1:]
	}
	if len(changes) == 0 {
		return
	}
	r.memo = mail.Changes{}
	for w := range r.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// remove ends the room: the folder was deleted.
func (r *room) remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = nil
	for w := range r.watchers {
		close(w)
	}
	r.watchers = nil
}

// watch is Mailbox.Notify.
func (r *room) watch() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil {
		close(w)
		return w, func() {}
	}
	r.watchers[w] = struct{}{}
	return w, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, w)
	}
}

// changes answers from the log; false when it does not reach back, or when the
// messages are not in memory.
func (r *room) changes(since mail.ModSeq) (c mail.Changes, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.state
	switch {
	case f == nil:
		return c, false
	case since >= f.modseq:
		return mail.Changes{ModSeq: f.modseq}, true
	case r.memo.ModSeq == f.modseq && r.memoFrom == since:
		return r.memo, true
	case since < r.since || f.roll == nil:
		return c, false
	}
	c.ModSeq = f.modseq
	var touched []mail.UID
	i := len(r.log)
	for i > 0 && r.log[i-1].modseq > since {
		i--
	}
	for _, x := range r.log[i:] {
		touched = append(touched, x.touched...)
		c.Expunged = append(c.Expunged, x.expunged...)
	}
	slices.Sort(c.Expunged)
	c.Expunged = slices.Compact(c.Expunged)
	f.roll.some(touched, func(m *message) bool {
		c.Entries = append(c.Entries, m.entry())
		return true
	})
	r.memo, r.memoFrom = c, since
	return c, true
}

// remember keeps an answer that was found otherwise, for the next who asks.
func (r *room) remember(since mail.ModSeq, c mail.Changes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != nil && r.state.modseq == c.ModSeq {
		r.memo, r.memoFrom = c, since
	}
}
