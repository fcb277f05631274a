package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
)

// HolderConfig of Open.
type HolderConfig struct {
	Dir      string            // of the spool
	Capacity int64             // bytes to keep in all; 0 means DefaultCapacity
	Self     peer.ID           // this node
	HostKey  *identity.HostKey // of Self; signs receipts
	Near     Neighbourhood
	Dial     Transport    // for upkeep
	Clock    *clock.Clock // what is sure of the time; nil believes the machine
	Log      *slog.Logger
	Limits   Limits
}

// Holder keeps mail for others and answers on DropProtocol. Serve may be called as soon as it is open; expiry and
// upkeep happen while Run runs.
type Holder struct {
	cfg     HolderConfig
	limits  Limits
	log     *slog.Logger
	spool   *spool
	puts    *rate
	asks    *rate // digests, and offers that none came before
	guests  guests
	watches guests
	memory  memory
	views   views
	upkeep  *upkeep
	out     dialer

	mu       sync.Mutex
	watchers map[identity.Inbox]map[*watcher]bool

	counts counters
}

// counters count since the holder was opened.
type counters struct {
	puts, haves, lists, gets, deletes, expired       atomic.Uint64
	rounds, digests, same, pushed, pushedBytes       atomic.Uint64
	taken, passedOn, learned, failed, rescued, moved atomic.Uint64
	refused                                          [maxCode + 1]atomic.Uint64
}

const maxCode = CodeMessageTooLarge

// HolderStatus is what a holder keeps and did since it was opened.
type HolderStatus struct {
	Inboxes    int
	Messages   int   // kept, and arriving
	Bytes      int64 // of these and of tombstones
	Capacity   int64
	Cold       int    // inboxes for which this node is not among the nearest
	Tombstones int    // messages remembered as deleted
	Streams    int    // served now
	Watches    int    // of these, watching
	Puts       uint64 // messages taken from senders
	Haves      uint64 // offers of what was here already
	Lists      uint64
	Gets       uint64 // messages handed out
	Deletes    uint64 // messages deleted by their owners
	Expired    uint64
	Evicted    uint64 // cold copies dropped for want of room
	Lost       uint64 // messages whose bytes were missing or damaged
	Refused    map[Code]uint64
	Upkeep     UpkeepStatus
}

// Open opens a holder's spool and rebuilds its index. It starts nothing.
func Open(cfg HolderConfig) (*Holder, error) {
	if cfg.Capacity == 0 {
		cfg.Capacity = DefaultCapacity
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := cfg.Limits.withDefaults()
	spool, err := openSpool(cfg.Dir, cfg.Capacity, cfg.Self, l, cfg.Log, cfg.Clock.Sure())
	if err != nil {
		return nil, err
	}
	h := &Holder{
		cfg: cfg, limits: l, log: cfg.Log, spool: spool,
		puts:     newRate(l.PutBurst, l.PutsPerMinute),
		asks:     newRate(l.PutBurst, l.PutsPerMinute),
		guests:   newGuests(l.StreamsPerPeer, l.Streams),
		watches:  newGuests(l.WatchesPerPeer, l.Streams),
		memory:   memory{most: l.BodyMemory},
		watchers: make(map[identity.Inbox]map[*watcher]bool),
	}
	h.out.transport = cfg.Dial
	h.views.init(cfg.Near)
	h.upkeep = newUpkeep(h)
	return h, nil
}

// Close closes the spool. Serve and Run must have returned, or return errors from here on. It may be called twice.
func (h *Holder) Close() error { return h.spool.close() }

// Status counts.
func (h *Holder) Status() HolderStatus {
	c := &h.counts
	st := HolderStatus{
		Capacity: h.cfg.Capacity,
		Streams:  h.guests.now() + h.watches.now(), Watches: h.watches.now(),
		Puts: c.puts.Load(), Haves: c.haves.Load(), Lists: c.lists.Load(), Gets: c.gets.Load(),
		Deletes: c.deletes.Load(), Expired: c.expired.Load(),
		Refused: make(map[Code]uint64),
		Upkeep: UpkeepStatus{
			Rounds: c.rounds.Load(), Digests: c.digests.Load(), Same: c.same.Load(), Moved: c.moved.Load(),
			Pushed: c.pushed.Load(), PushedBytes: c.pushedBytes.Load(), Taken: c.taken.Load(),
			PassedOn: c.passedOn.Load(), Learned: c.learned.Load(), Rescued: c.rescued.Load(), Failed: c.failed.Load(),
		},
	}
	for code := range c.refused {
		if n := c.refused[code].Load(); n > 0 {
			st.Refused[Code(code)] = n
		}
	}
	s := h.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Messages, st.Bytes, st.Tombstones, st.Evicted, st.Lost = s.messages, s.bytes, s.tombs, s.evicted, s.lost
	for _, b := range s.inboxes {
		if len(b.entries) > 0 {
			st.Inboxes++
			if b.cold {
				st.Cold++
			}
		}
	}
	return st
}

// Serve answers one stream. It returns when the stream has ended, and ends it when ctx does.
func (h *Holder) Serve(ctx context.Context, s Stream, remote peer.ID) {
	x := newSession(s, remote, h.log)
	ctx, end := context.WithCancel(ctx)
	defer end()
	solved := h.cfg.Near.Solved(remote)
	leave, refusal := h.guests.admit(ctx, &seat{peer: remote, known: solved, end: end})
	if refusal != nil {
		h.counts.refused[refusal.Code].Add(1)
		x.turnAway(refusal)
		return
	}
	v := &visit{holder: h, session: x, leave: leave, end: end, solved: solved}
	defer func() { v.leave() }()
	x.serve(ctx, v.handle)
}

// visit is what one stream with a holder has come to.
type visit struct {
	holder  *Holder
	session *session
	leave   func()
	end     func()
	solved  bool // the other side has solved the host puzzle

	nonce    [32]byte
	drawn    bool
	expected map[sealed.ID]bool            // what the answers to offers on this stream asked for
	theirs   map[identity.Inbox]digest     // what the other side has, by the last digest it sent
	near     map[identity.Inbox]nearAnswer // whether it is near
}

type nearAnswer struct {
	near bool
	err  error
}

// handle answers one request.
func (v *visit) handle(ctx context.Context, q *request) error {
	err := v.dispatch(ctx, q)
	if refusal := new(Refusal); errors.As(err, &refusal) {
		v.holder.counts.refused[refusal.Code].Add(1)
	}
	return err
}

func (v *visit) dispatch(ctx context.Context, q *request) error {
	switch {
	case q.Put != nil:
		return v.put(ctx, q.Put)
	case q.Nonce != nil:
		v.nonce, v.drawn = newNonce(), true
		return v.session.answer(&nonceAnswer{Nonce: v.nonce[:]})
	case q.List != nil:
		return v.list(q.List)
	case q.Get != nil:
		return v.get(q.Get)
	case q.Watch != nil:
		return v.watch(ctx, q.Watch)
	case q.Delete != nil:
		return v.delete(ctx, q.Delete)
	case q.Digest != nil:
		return v.digest(ctx, q.Digest)
	case q.Offer != nil:
		return v.offer(ctx, q.Offer)
	}
	return refuse(CodeMalformed, "nothing is asked")
}

// metered counts a put or a delete against the peer's rate.
func (v *visit) metered() error {
	h := v.holder
	if !h.puts.take(v.session.remote, time.Now()) {
		return refuse(CodeRate, "%d puts a minute are taken from one peer, and %d at once", h.limits.PutsPerMinute, h.limits.PutBurst)
	}
	return nil
}

func (v *visit) put(ctx context.Context, q *putRequest) error {
	h, x := v.holder, v.session
	return x.put(ctx, q, h.cfg.HostKey, &h.memory, func(o *sealed.Outer, id sealed.ID) (verdict, error) {
		if q.Upkeep {
			if !v.expected[id] {
				return verdict{}, refuse(CodeUnexpected, "this message was not asked for on this stream")
			}
			delete(v.expected, id)
		} else if err := v.metered(); err != nil {
			return verdict{}, err
		}
		return h.offered(ctx, o, id, x.remote, q.Upkeep)
	})
}

// offered decides about a message that is offered to this holder.
func (h *Holder) offered(ctx context.Context, o *sealed.Outer, id sealed.ID, from peer.ID, upkeep bool) (verdict, error) {
	h.spool.await(ctx, id)
	was, err := h.spool.look(o, id)
	if err != nil {
		return verdict{}, h.broken(err)
	}
	if was.have {
		h.counts.haves.Add(1)
		return verdict{have: true}, nil
	}
	if was.tombstone != nil {
		return verdict{tombstone: was.tombstone}, nil
	}
	room, err := h.spool.reserve(o, id, from, upkeep)
	if err != nil {
		return verdict{}, err
	}
	return verdict{done: room.release, take: func(ctx context.Context, body []byte) ([]byte, error) {
		tombstone, fresh, err := room.commit(ctx, body)
		if isRefusal(err) {
			return nil, err
		}
		if err != nil {
			return nil, h.broken(err)
		}
		if fresh {
			if upkeep {
				h.counts.taken.Add(1)
			} else {
				h.counts.puts.Add(1)
			}
			h.upkeep.added(o.Inbox)
			h.notify(o.Inbox, id)
		}
		return tombstone, nil
	}}, nil
}

// broken tells the log what went wrong here, and the peer that something did.
func (h *Holder) broken(err error) error {
	h.log.Error("spool failed", "error", err)
	return refuse(CodeInternal, "this holder cannot read or write at the moment")
}

// putLocal is a put by this very node.
func (h *Holder) putLocal(ctx context.Context, m *sealed.Message) (given, error) {
	o := m.Outer
	if err := o.Check(time.Now()); err != nil {
		return given{}, refuse(CodeExpiry, "%v", err)
	}
	if !hashes(&o, m.Body) {
		return given{}, refuse(CodeHash, "the body is not the one that the outer part names")
	}
	id := o.ID()
	v, err := h.offered(ctx, &o, id, h.cfg.Self, false)
	if err != nil {
		return given{}, err
	}
	if v.done != nil {
		defer v.done()
	}
	if v.take != nil {
		if v.tombstone, err = v.take(ctx, m.Body); err != nil {
			return given{}, err
		}
	}
	if v.tombstone != nil {
		t, err := identity.ParseTombstone(v.tombstone)
		return given{tombstone: t}, err
	}
	r := identity.StorageReceipt{ID: id, Inbox: o.Inbox, Expiry: o.Expiry, Time: time.Now().Unix()}
	return given{receipt: identity.SignStorageReceipt(h.cfg.HostKey, r)}, nil
}

// access checks a proof for an operation and returns what it is for.
func (v *visit) access(proof []byte, op string) (*identity.Access, error) {
	if !v.drawn {
		return nil, refuse(CodeAccess, "ask for a nonce first")
	}
	a, err := identity.VerifyAccess(proof, []byte(v.holder.cfg.Self), v.nonce, time.Now())
	if err != nil {
		return nil, refuse(CodeAccess, "%v", err)
	}
	v.holder.cfg.Clock.Agree(time.Unix(a.Time, 0))
	if a.Op != op {
		return nil, refuse(CodeAccess, "the proof is for %q, and %q is asked", printable(a.Op), op)
	}
	return a, nil
}

func (v *visit) list(q *listRequest) error {
	var a listAnswer
	left := MaxIDs
	for _, in := range q.Inboxes {
		access, err := v.access(in.Proof, identity.OpList)
		if err != nil {
			return err
		}
		items, more := v.holder.spool.list(access.Inbox(), in.After, left)
		left -= len(items)
		a.Inboxes = append(a.Inboxes, listedPage{Items: items, More: more})
	}
	v.holder.counts.lists.Add(1)
	return v.session.answer(&a)
}

// getBuffer is how many bytes of answers are gathered before they are sent, so that small messages go together.
const getBuffer = 32 << 10

// get sends the messages one after the other, until all are sent or they are many bytes.
func (v *visit) get(q *getRequest) error {
	h, x := v.holder, v.session
	access, err := v.access(q.Proof, identity.OpGet)
	if err != nil {
		return err
	}
	if x.w.Size() < getBuffer {
		x.w = bufio.NewWriterSize(x.s, getBuffer)
	}
	var last getItem
	inbox, sent := access.Inbox(), uint64(0)
	for _, id := range access.IDs {
		size, ok := h.spool.size(inbox, id)
		if ok && sent > 0 && sent+size > GetBytes {
			break
		}
		if ok {
			ok, err = v.send(inbox, id, size)
			if err != nil {
				return err
			}
		}
		if !ok {
			last.Missing = append(last.Missing, id)
			continue
		}
		sent += size
		h.counts.gets.Add(1)
	}
	last.Last = true
	return x.answer(&last)
}

// send writes one message. It is false when the message is not here any more.
func (v *visit) send(inbox identity.Inbox, id sealed.ID, size uint64) (bool, error) {
	h, x := v.holder, v.session
	release, err := x.s.ReserveMemory(int(min(size, segmented)))
	if err != nil {
		return false, errors.Join(err, errors.New("no memory for an answer"))
	}
	defer release()
	m, err := h.spool.open(inbox, id)
	if errors.Is(err, errMissing) {
		return false, nil
	}
	if err != nil {
		return false, h.broken(err)
	}
	defer m.body.Close()
	if err := x.write(&getItem{Outer: m.outer}, size); err != nil {
		return false, err
	}
	if _, err := io.CopyN(x.w, m.body, m.size); err != nil {
		// The frame is out, so the stream cannot be used on. A file that is too short is lost.
		if errors.Is(err, io.EOF) {
			h.spool.forget(id, m.entry, err)
		}
		return false, fmt.Errorf("send body: %w", err)
	}
	return true, nil
}

func (v *visit) delete(ctx context.Context, q *deleteRequest) error {
	h := v.holder
	if err := v.metered(); err != nil {
		return err
	}
	t, err := identity.ParseTombstone(q.Tombstone)
	if err != nil {
		return refuse(CodeTombstone, "%v", err)
	}
	deleted, err := h.bury(ctx, t, q.Tombstone, v.session.remote)
	if err != nil {
		return err
	}
	return v.session.answer(&deleteAnswer{Deleted: uint64(deleted)})
}

// bury takes a tombstone whose signature was checked.
func (h *Holder) bury(ctx context.Context, t *identity.Tombstone, blob []byte, from peer.ID) (int, error) {
	now := time.Now()
	if err := t.Check(now); err != nil {
		return 0, refuse(CodeTombstone, "%v", err)
	}
	deleted, err := h.spool.bury(ctx, t, blob, from, now)
	if err != nil && !isRefusal(err) {
		err = h.broken(err)
	}
	h.counts.deletes.Add(uint64(deleted))
	return deleted, err
}

// Run drops what expires, gives its space back and does the upkeep, until ctx ends.
func (h *Holder) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { h.expiring(ctx) })
	h.upkeep.run(ctx)
	h.out.ending.Wait()
	return ctx.Err()
}

// expireEvery is how often expired messages are looked for. They expire by the day.
const expireEvery = 10 * time.Minute

func (h *Holder) expiring(ctx context.Context) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		n, err := h.spool.expire(h.cfg.Clock.Sure())
		if err != nil {
			h.log.Error("spool expiry failed", "error", err)
		}
		h.counts.expired.Add(uint64(n))
		if err := h.spool.compact(ctx); err != nil && ctx.Err() == nil {
			h.log.Error("spool compaction failed", "error", err)
		}
		h.puts.sweep(time.Now())
		h.asks.sweep(time.Now())
		h.views.sweep(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Bounds of what a holder remembers of the neighbourhoods of drops.
const (
	viewTime  = 5 * time.Minute // how long a view is believed
	viewPeers = 20              // how many nodes are near
	maxViews  = 4096
	lookups   = 4               // at once for others
	ownLooks  = 16              // at once for this holder's own upkeep, which waits for its turn
	lookTime  = 4 * time.Second // for one lookup, and for others with the wait for their turn
)

// views remembers who is near a drop, so that strangers cannot make a holder look up more than it likes to, nor keep it
// from its own lookups.
type views struct {
	near   Neighbourhood
	own    chan struct{} // lookups of this holder
	others chan struct{} // lookups for others

	mu sync.Mutex
	m  map[identity.Inbox]view
}

type view struct {
	peers []peer.ID
	at    time.Time
}

func (v *views) init(near Neighbourhood) {
	v.near, v.m = near, make(map[identity.Inbox]view)
	v.own, v.others = make(chan struct{}, ownLooks), make(chan struct{}, lookups)
}

// get returns the nearest nodes of a drop, from memory when that is fresh enough. slots is own or others.
func (v *views) get(ctx context.Context, inbox identity.Inbox, fresh time.Duration, slots chan struct{}) ([]peer.ID, error) {
	v.mu.Lock()
	known, ok := v.m[inbox]
	v.mu.Unlock()
	if ok && time.Since(known.at) < fresh {
		return known.peers, nil
	}
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if slots == v.others {
		waiting, cancel = context.WithTimeout(ctx, lookTime)
	}
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-waiting.Done():
		return nil, waiting.Err()
	}
	ctx, cancel = context.WithTimeout(waiting, lookTime)
	defer cancel()
	peers, err := v.near.Nearest(ctx, DropKey(inbox), viewPeers)
	if len(peers) == 0 {
		if err == nil {
			err = ErrNoHolders
		}
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.m) >= maxViews {
		clear(v.m)
	}
	v.m[inbox] = view{peers: slices.Clone(peers), at: time.Now()}
	return peers, nil
}

// forget drops all views, after a change.
func (v *views) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.m)
}

func (v *views) sweep(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, known := range v.m {
		if now.Sub(known.at) > viewTime {
			delete(v.m, k)
		}
	}
}

// asking counts a request for which this holder may have to look who is near a drop.
func (v *visit) asking() error {
	h := v.holder
	if v.solved && !h.asks.take(v.session.remote, time.Now()) {
		return refuse(CodeRate, "%d digests a minute are answered to one peer, and %d at once", h.limits.PutsPerMinute, h.limits.PutBurst)
	}
	return nil
}

// isNear tells whether the other side of this stream is near a drop, in this node's own view. Nobody who has not solved
// the host puzzle is near any, and nothing is looked up for them.
func (v *visit) isNear(ctx context.Context, inbox identity.Inbox) (bool, error) {
	if !v.solved {
		return false, nil
	}
	if a, ok := v.near[inbox]; ok {
		return a.near, a.err
	}
	views := &v.holder.views
	peers, err := views.get(ctx, inbox, viewTime, views.others)
	if err == nil && !slices.Contains(peers, v.session.remote) {
		// It may have come since.
		peers, err = views.get(ctx, inbox, UpkeepAfterChange, views.others)
	}
	a := nearAnswer{slices.Contains(peers, v.session.remote), err}
	if v.near == nil {
		v.near = make(map[identity.Inbox]nearAnswer)
	}
	if len(v.near) < maxViews {
		v.near[inbox] = a
	}
	return a.near, a.err
}

// jitter is a duration drawn evenly from d ± a tenth.
func jitter(d time.Duration) time.Duration { return d - d/10 + random(d/5) }

// random is a duration drawn evenly from 0 to d.
func random(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
