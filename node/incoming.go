package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/wire"
	"github.com/peerpost/peerpost/store"
)

// MaxIncoming is how many bytes of sealed mail a locked account takes in
// before it says "later" to hosts and leaves mail with the holders. Of these,
// one host that delivers may fill what it may of an inbox at a holder: an
// eighth (store.PeerShare), and half of what the others left.
const MaxIncoming = 4 << 30

// maxSeen is how many ids of opened messages are remembered, so that they are
// deleted at the holders rather than fetched again; what is forgotten is
// fetched again and recognised as a duplicate.
const maxSeen = 100_000

// earlyFor is how long a message that is dated in the future is left alone. It
// takes room with its holders, not here, and is fetched again after that.
const earlyFor = 6 * time.Hour

// incoming is the sealed mail of an account that is on the disk and not opened
// yet, and the memory of what was opened.
type incoming struct {
	log   *journal.Log
	ready chan struct{} // something is there to be opened

	mu      sync.Mutex
	pending map[sealed.ID]arrival
	order   []sealed.ID // to be opened
	later   []sealed.ID // could not be filed, to be tried again
	seen    map[sealed.ID]sight
	ring    []sealed.ID       // of seen, to forget the oldest
	oldest  int               // in ring, once that is full
	bytes   int64             // of pending, and of what is being written
	shares  map[peer.ID]int64 // of these, by who delivered them
	took    int64             // messages ever taken
}

// sight is a message that is here no longer.
type sight struct {
	outer sealed.Outer // of one that was opened: it is to be deleted wherever it is met
	until time.Time    // of one that came too early: it is not to be fetched before
}

// arrival is a sealed message in the journal.
type arrival struct {
	ref   journal.Ref
	outer sealed.Outer
	at    time.Time // when it was on our disk

	collected bool // from holders, rather than straight from the sender
	busy      bool

	// from is who delivered it; "" of what was collected, or lay here before a
	// restart. It is not written down: a thief of the disk would learn who
	// writes to the owner.
	from peer.ID
}

// arrivalHead is the heading of an arrival in the journal.
type arrivalHead struct {
	Outer     []byte `cbor:"1,keyasint"`
	At        int64  `cbor:"2,keyasint"`           // Unix seconds
	Collected bool   `cbor:"3,keyasint,omitempty"` // from holders, who are to delete it
}

func parseArrival(ref journal.Ref, b []byte) (arrival, error) {
	var h arrivalHead
	if err := wire.Unmarshal(b, &h); err != nil {
		return arrival{}, err
	}
	outer, err := sealed.ParseOuter(h.Outer)
	return arrival{ref: ref, outer: outer, at: time.Unix(h.At, 0), collected: h.Collected}, err
}

func openIncoming(dir string, log *slog.Logger) (*incoming, error) {
	j, err := journal.Open(dir, journal.Options{Log: log})
	if err != nil {
		return nil, err
	}
	in := &incoming{
		log: j, ready: make(chan struct{}, 1),
		pending: make(map[sealed.ID]arrival), seen: make(map[sealed.ID]sight), shares: make(map[peer.ID]int64),
	}
	for ref, head := range j.Records() {
		a, err := parseArrival(ref, head)
		if err != nil {
			log.Warn("a waiting message cannot be read", "err", err)
			j.Free(ref)
			continue
		}
		id := a.outer.ID()
		if _, twice := in.pending[id]; twice {
			j.Free(ref)
			continue
		}
		in.charge("", int64(a.outer.Size))
		in.add(id, a)
	}
	return in, nil
}

// add notes an arrival that was charged for. The mutex is held, or nobody else
// has in yet.
func (in *incoming) add(id sealed.ID, a arrival) {
	in.pending[id] = a
	in.order = append(in.order, id)
	in.took++
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// has says whether a message is here or was, and is not wanted.
func (in *incoming) has(id sealed.ID) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, pending := in.pending[id]
	s, seen := in.seen[id]
	return pending || seen && (s.until.IsZero() || time.Now().Before(s.until))
}

// waits says whether a message is here and not opened yet.
func (in *incoming) waits(id sealed.ID) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, pending := in.pending[id]
	return pending
}

// names says whether a message for an inbox is here and not opened yet.
func (in *incoming) names(inbox identity.Inbox) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, a := range in.pending {
		if a.outer.Inbox == inbox {
			return true
		}
	}
	return false
}

// opened gives the outer of a message that was opened, and so may be deleted
// at the holders.
func (in *incoming) opened(id sealed.ID) (sealed.Outer, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	s, ok := in.seen[id]
	return s.outer, ok && s.until.IsZero()
}

// accept puts a message on the disk. What waits here already is accepted again.
// What was opened before and is brought once more by its sender is taken once
// more: the sender missed the receipt, and gets it again. from is the host that
// brings it, "" when it was collected from holders.
func (in *incoming) accept(ctx context.Context, m *sealed.Message, from peer.ID) error {
	id, size, collected := m.Outer.ID(), int64(m.Outer.Size), from == ""
	if in.waits(id) || collected && in.has(id) {
		return nil
	}
	if err := in.reserve(size, from); err != nil {
		return err
	}
	now := time.Now()
	head, err := wire.Marshal(&arrivalHead{Outer: m.Outer.Marshal(), At: now.Unix(), Collected: collected})
	if err != nil {
		in.giveBack(size, from)
		return err
	}
	ref, err := in.log.Append(ctx, head, m.Body)
	if err != nil {
		in.giveBack(size, from)
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, twice := in.pending[id]; twice { // two streams brought it at once
		in.charge(from, -size)
		in.log.Free(ref)
		return nil
	}
	in.add(id, arrival{ref: ref, outer: m.Outer, at: now, collected: collected, from: from})
	return nil
}

// reserve makes room for a body from a host, "" for the holders.
func (in *incoming) reserve(size int64, from peer.ID) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.fits(size, from); err != nil {
		return err
	}
	in.charge(from, size)
	return nil
}

// giveBack undoes reserve.
func (in *incoming) giveBack(size int64, from peer.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.charge(from, -size)
}

// charge counts bytes, also to the host that brought them. There are never more
// hosts in shares than messages in pending or on their way into it. The mutex is
// held, or nobody else has in yet.
func (in *incoming) charge(from peer.ID, bytes int64) {
	in.bytes += bytes
	if from == "" {
		return
	}
	if in.shares[from] += bytes; in.shares[from] == 0 {
		delete(in.shares, from)
	}
}

// admit says whether there is room for a body of the size from a host.
func (in *incoming) admit(size uint64, from peer.ID) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fits(int64(size), from)
}

// fits is admit with the mutex held.
func (in *incoming) fits(size int64, from peer.ID) error {
	if in.bytes+size > MaxIncoming {
		return errFull
	}
	if from == "" {
		return nil
	}
	own := in.shares[from]
	if most := store.Share(MaxIncoming, in.bytes-own, store.PeerShare); own+size > most {
		return &store.Refusal{
			Code: store.CodePeerBytes,
			Text: fmt.Sprintf("of the mail that waits for this account to be unlocked, one peer may deliver %d bytes", most),
		}
	}
	return nil
}

// crowded says whether there may be no room for what a holder names.
func (in *incoming) crowded() bool { return in.admit(sealed.MaxBody, "") != nil }

// take gives the next message to be opened.
func (in *incoming) take() (sealed.ID, arrival, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.order) > 0 {
		id := in.order[0]
		in.order = in.order[1:]
		if a, ok := in.pending[id]; ok && !a.busy {
			a.busy = true
			in.pending[id] = a
			return id, a, true
		}
	}
	return sealed.ID{}, arrival{}, false
}

// putBack leaves a message for a later try; see again.
func (in *incoming) putBack(id sealed.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a, ok := in.pending[id]; ok {
		a.busy = false
		in.pending[id] = a
		in.later = append(in.later, id)
	}
}

// again lines up what was put back.
func (in *incoming) again() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.order = append(in.order, in.later...)
	in.later = nil
}

// done forgets a message that was opened and filed, or can never be.
func (in *incoming) done(id sealed.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	a, ok := in.pending[id]
	if !ok {
		return
	}
	in.drop(id, a)
	in.remember(id, sight{outer: a.outer})
}

// early forgets a message that is dated in the future, and leaves it to its
// holders for a while: whatever waits here takes room, and its date is a
// stranger's to choose.
func (in *incoming) early(id sealed.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a, ok := in.pending[id]; ok {
		in.drop(id, a)
		in.remember(id, sight{until: time.Now().Add(earlyFor)})
	}
}

// drop takes a message off the disk. The mutex is held.
func (in *incoming) drop(id sealed.ID, a arrival) {
	delete(in.pending, id)
	in.charge(a.from, -int64(a.outer.Size))
	in.log.Free(a.ref)
}

// remember notes a message that is not to be fetched again. The mutex is held.
func (in *incoming) remember(id sealed.ID, s sight) {
	_, twice := in.seen[id]
	in.seen[id] = s
	switch {
	case twice:
	case len(in.ring) < maxSeen:
		in.ring = append(in.ring, id)
	default:
		delete(in.seen, in.ring[in.oldest])
		in.ring[in.oldest] = id
		in.oldest = (in.oldest + 1) % maxSeen
	}
}

// forget drops a message as if it had never come, so that it can come again.
func (in *incoming) forget(id sealed.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a, ok := in.pending[id]; ok {
		in.drop(id, a)
	}
}

// waiting counts what is not opened yet.
func (in *incoming) waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.pending)
}

func (in *incoming) close() error { return in.log.Close() }
