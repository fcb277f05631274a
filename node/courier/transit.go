package courier

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
)

// MessageID is the random id inside a sealed message, the same however often
// it is sealed again.
type MessageID = [16]byte

// transit is one message on its way to one recipient. Its fields are guarded
// by the courier's mutex, but for those that one attempt alone works on.
type transit struct {
	id      MessageID
	kind    sealed.Kind
	to      identity.Address // zero while locked
	receipt []byte           // the body of a receipt; mail is read from the mailbox
	lasting bool             // a receipt that is carried until somebody has it
	unfound int              // attempts of a receipt for which no record was found
	safe    func()           // called when it cannot be lost any more, or is given up
	notify  mail.Notify      // what the sender wants to be told

	accepted, expires time.Time
	size              int64 // of the message; 0 when not known
	isLarge           bool  // which lane it takes, from its beginning

	// what was sealed
	msg        *sealed.Message // in memory until it is a parcel
	outer      sealed.Outer
	parcel     journal.Ref
	isParcel   bool
	mark       journal.Ref // beside the parcel: it was replicated
	isMarked   bool
	generation uint64 // of the recipient's roster
	recordHash [32]byte
	hosts      []identity.Host
	keepers    []identity.Host
	withRecord bool // it carries our record

	// how far it has come
	state     mailbox.State
	replicas  int
	wanted    int
	begun     int // attempts, as the sender is shown them
	attempts  int // of these, those that ended: the next one's place in the schedule
	lastError string
	delayTold bool
	tried     time.Time     // the last attempt
	handed    time.Time     // a host of the recipient's has it on disk
	awaiting  bool          // just handed, so the next attempt goes to the holders
	entombed  time.Time     // a tombstone was seen
	reason    Reason        // of a failure
	told      mailbox.State // the end that row and sender have been told
	held      int64         // bytes of the memory budget that the present attempt has

	next    time.Time
	running bool
	again   bool // something happened meanwhile, so try again soon
	index   int  // in the schedule, -1 when not in it
}

// newMail makes the transit of a row; adopt fills it in.
func newMail(row mailbox.Outgoing) *transit {
	return &transit{id: row.MessageID, kind: sealed.KindMail, isLarge: row.Size > large, index: -1}
}

// over says that nothing more is to be tried.
func (t *transit) over() bool {
	return t.state == mailbox.Delivered || t.state == mailbox.Displayed || t.state == mailbox.Failed
}

// lane is the work on messages of about one size. Large ones have places and
// memory of their own, so that small ones do not wait behind those which a slow
// host takes minutes for, and so have receipts: to whom they go is chosen by
// whoever writes to us, and mail must not wait behind them.
type lane struct {
	places, busy int
	memory       int64
	budget       *semaphore.Weighted
	queue        schedule
}

func newLane(places int, memory int64) lane {
	return lane{places: places, memory: memory, budget: semaphore.NewWeighted(memory)}
}

func (c *Courier) lane(t *transit) *lane {
	switch {
	case t.kind == sealed.KindReceipt:
		return &c.lanes[2]
	case t.isLarge:
		return &c.lanes[1]
	}
	return &c.lanes[0]
}

// plan has t tried at the time, drop not at all. The mutex is held.
func (c *Courier) plan(t *transit, at time.Time) { c.lane(t).queue.plan(t, at) }
func (c *Courier) drop(t *transit)               { c.lane(t).queue.drop(t) }

// schedule is the transits that wait for an attempt, the next first.
type schedule []*transit

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].next.Before(s[j].next) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

func (s *schedule) Push(x any) {
	t := x.(*transit)
	t.index = len(*s)
	*s = append(*s, t)
}

func (s *schedule) Pop() any {
	old := *s
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	t.index = -1
	return t
}

// plan puts t at the time, wherever it stood.
func (s *schedule) plan(t *transit, at time.Time) {
	t.next = at
	if t.index >= 0 {
		heap.Fix(s, t.index)
		return
	}
	heap.Push(s, t)
}

// drop takes t out.
func (s *schedule) drop(t *transit) {
	if t.index >= 0 {
		heap.Remove(s, t.index)
	}
}

// backoff is the wait before the attempt after the n-th. What holders keep is
// looked after less often than what no one has.
func backoff(n int, replicated bool) time.Duration {
	waits := []time.Duration{5 * time.Second, 20 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
	if replicated {
		waits = []time.Duration{15 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour}
	}
	d := waits[min(max(n-1, 0), len(waits)-1)]
	return d - d/10 + rand.N(d/5) // ±10 %, so that a node's mail is not tried all at once
}
