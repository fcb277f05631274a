package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

const (
	// putTo is how many of the nearest nodes get a message at once: the ten, and two for those that are gone.
	putTo = Copies + 2
	// Quorum is how many of the ten must have a message on their disks before it counts as replicated.
	Quorum = 6
	// maxMore is how many bits of work more than the size costs are done at a holder's word: 64 times the usual, which is
	// as much as holders of our kind ever ask.
	maxMore = maxInboxBits + maxHolderBits
)

// PutResult is what came of a put.
type PutResult struct {
	// Receipts are the storage receipts that count, checked: of the ten chosen and of the keepers.
	Receipts map[peer.ID][]byte
	Wanted   int // copies: ten, or as many as there are nodes, besides the keepers
	Needed   int // receipts for the message to be replicated: six, or the majority of the live nodes where they are fewer than ten
	Refused  int // of those asked
	Failed   int // of those asked, not reached or not understood
	// Tombstone is set when a holder says that the owner has deleted the message, so it has arrived.
	Tombstone *identity.Tombstone
	// LastError is of the last one who did not take the message. A *Refusal in it names the limit.
	LastError error
}

// Replicated tells whether enough nodes have the message on their disks.
func (r PutResult) Replicated() bool { return r.Needed > 0 && len(r.Receipts) >= r.Needed }

// PutState is a PutResult on its way.
type PutState struct {
	PutResult
	Done bool // nothing more will come
}

// Put brings a message to the nodes nearest to its drop and to the keepers that its owner chose, to all in parallel.
// It returns as soon as the message is replicated, or was deleted by its owner, or can not be replicated now; then
// the error is what the last one said, or ErrNoHolders. Those who have not answered yet go on until ctx ends, and
// progress, unless nil, hears of each answer, one at a time, until PutState.Done.
//
// A message without a stamp gets one; a holder that asks for more work gets that too.
func (c *Client) Put(ctx context.Context, m *sealed.Message, keepers []peer.ID, progress func(PutState)) (PutResult, error) {
	near, err := c.nearest(ctx, m.Outer.Inbox, putTo)
	if err != nil && len(keepers) == 0 {
		return PutResult{}, fmt.Errorf("put: %w", err)
	}
	p := &placing{
		client: c, message: m, id: m.Outer.ID(), near: near,
		answers: make(map[peer.ID]placed), progress: progress, settled: make(chan struct{}),
	}
	p.stamp.best = m.Outer.Stamp
	for _, k := range keepers {
		if !slices.Contains(near, k) && !slices.Contains(p.keepers, k) {
			p.keepers = append(p.keepers, k)
		}
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.left = len(near) + len(p.keepers)
	for _, q := range slices.Concat(near, p.keepers) {
		c.work.Go(func() { p.place(ctx, q) })
	}
	select {
	case <-p.settled:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.result()
	if r.Replicated() || r.Tombstone != nil {
		return r, nil
	}
	if err := ctx.Err(); err != nil && p.left > 0 {
		return r, fmt.Errorf("put: %w", err)
	}
	return r, fmt.Errorf("put: %d of %d receipts: %w", len(r.Receipts), r.Needed, r.LastError)
}

// placing is one Put.
type placing struct {
	client   *Client
	message  *sealed.Message
	id       sealed.ID
	near     []peer.ID // nearest first
	keepers  []peer.ID
	progress func(PutState)
	cancel   context.CancelFunc
	stamp    stamping

	mu      sync.Mutex
	answers map[peer.ID]placed
	left    int
	last    error
	settled chan struct{} // closed when Put can return
	ended   bool
}

// placed is what became of the message at one node.
type placed struct {
	given
	err error
}

// place puts the message at one node and takes its answer in.
func (p *placing) place(ctx context.Context, q peer.ID) {
	g, err := p.give(ctx, q)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
	p.answers[q] = placed{g, err}
	if err != nil {
		p.last = fmt.Errorf("%s: %w", q, err)
	}
	r := p.result()
	done := p.left == 0
	if !p.ended && (done || r.Replicated() || r.Tombstone != nil) {
		p.ended = true
		close(p.settled)
	}
	if p.progress != nil {
		p.progress(PutState{PutResult: r, Done: done})
	}
	if r.Tombstone != nil || done {
		p.cancel() // nobody needs it any more
	}
}

// result sums up. The ten chosen are the nearest of those who did not fail or refuse, so the two that were asked
// besides count when they are needed. It is called with the lock held.
func (p *placing) result() PutResult {
	r := PutResult{Receipts: make(map[peer.ID][]byte), Wanted: min(Copies, len(p.near)), LastError: p.last}
	chosen, live := 0, 0
	take := func(q peer.ID) (gone bool) {
		a, answered := p.answers[q]
		switch {
		case !answered:
		case isRefusal(a.err):
			r.Refused++
			return true
		case a.err != nil:
			r.Failed++
			return true
		case a.tombstone != nil:
			r.Tombstone = a.tombstone
		default:
			r.Receipts[q] = a.receipt
		}
		return false
	}
	for _, q := range p.near {
		a, answered := p.answers[q]
		if !answered || a.err == nil || isRefusal(a.err) {
			live++
		}
		if chosen < Copies && !take(q) {
			chosen++
		}
	}
	for _, q := range p.keepers {
		take(q)
	}
	r.Needed = Quorum
	if len(p.near) < Copies {
		r.Needed = max(1, live/2+1)
		if live == 0 {
			r.Needed = 1
		}
	}
	return r
}

// give puts the message at one node, with more work when it asks for that.
func (p *placing) give(ctx context.Context, q peer.ID) (given, error) {
	c := p.client
	o := p.message.Outer
	var err error
	if o.Stamp, err = p.stamp.atLeast(ctx, p.id, 0, o.Size); err != nil {
		return given{}, err
	}
	for try := 0; ; try++ {
		var g given
		err := later(ctx, func() (err error) {
			g, err = p.offer(ctx, q, &o)
			return err
		})
		r := new(Refusal)
		if !errors.As(err, &r) || r.Code != CodeStamp || r.Bits == 0 || int(r.Bits) > sealed.StampBits(int(o.Size))+maxMore || try > 0 {
			return g, err
		}
		c.log.Debug("holder asks for more work", "peer", q, "bits", r.Bits)
		if o.Stamp, err = p.stamp.atLeast(ctx, p.id, int(r.Bits), o.Size); err != nil {
			return given{}, err
		}
	}
}

func (p *placing) offer(ctx context.Context, q peer.ID, o *sealed.Outer) (given, error) {
	c := p.client
	if q == c.cfg.Self && c.cfg.Local != nil {
		return c.cfg.Local.putLocal(ctx, &sealed.Message{Outer: *o, Body: p.message.Body})
	}
	conn, err := c.out.dial(ctx, q, DropProtocol)
	if err != nil {
		return given{}, err
	}
	g, err := conn.give(o, p.id, false, bodyOf(p.message))
	if err != nil {
		conn.abort()
		return given{}, err
	}
	conn.close()
	return g, nil
}

// A peer that has no memory for a body at the moment is asked again, first after laterFirst, then after twice as long
// each time, up to laterMost, for laterFor in all.
const (
	laterFirst = time.Second
	laterMost  = 8 * time.Second
	laterFor   = 5 * time.Minute
)

// later asks a peer until it has memory for the body.
func later(ctx context.Context, ask func() error) error {
	until, wait := time.Now().Add(laterFor), laterFirst
	for {
		err := ask()
		if r := new(Refusal); !errors.As(err, &r) || r.Code != CodeMemory || time.Now().After(until) {
			return err
		}
		t := time.NewTimer(jitter(wait))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		wait = min(2*wait, laterMost)
	}
}

// stamping makes stamps for one message, one at a time, since all that ask can use the best.
type stamping struct {
	busy chan struct{}
	once sync.Once
	best *sealed.Stamp
}

// atLeast returns a stamp that shows so much work, or, with 0 bits, the one there is, or what the size costs.
func (s *stamping) atLeast(ctx context.Context, id sealed.ID, bits int, size uint64) (*sealed.Stamp, error) {
	s.once.Do(func() { s.busy = make(chan struct{}, 1) })
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.best != nil && s.best.Valid(id, bits) {
		return s.best, nil
	}
	if bits == 0 {
		bits = sealed.StampBits(int(size))
	}
	made, err := sealed.MakeStamp(ctx, id, bits)
	if err != nil {
		return nil, err
	}
	s.best = &made
	return s.best, nil
}

// newBody makes a body readable as a file is.
func newBody(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }
