package store

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

const (
	// Copies is how many nodes hold a message: the nearest ten.
	Copies = 10
	// UpkeepEvery is how often a holder compares each inbox with the other holders, give or take a tenth.
	UpkeepEvery = 30 * time.Minute
	// UpkeepAfterChange is how long after a change among the neighbours it does so besides.
	UpkeepAfterChange = 30 * time.Second

	// upkeepBatch is how many inboxes are looked at together, and upkeepPace how long a batch lasts at least: with
	// ten thousand inboxes a third of the time is left.
	upkeepBatch = 16
	upkeepPace  = time.Second
	// upkeepRounds is for how many batches the holders are looked up at once.
	upkeepRounds = 4
	// nudgeEvery is how often others can bring the turn of an inbox forward.
	nudgeEvery = 5 * time.Minute
	// shunnedEvery is how soon another holder that does not know this node as near is asked again, and shunnedTurns
	// how often: tables of neighbours take a while to fill after a start.
	shunnedEvery = 2 * time.Minute
	shunnedTurns = 5
	// maxExpected is how many messages a visited holder expects on one stream.
	maxExpected = 2 * InboxMessages
)

// UpkeepStatus counts what upkeep did since the holder was opened.
type UpkeepStatus struct {
	Rounds      uint64 // turns of inboxes
	Moved       uint64 // of these, because the ten nearest had changed
	Digests     uint64 // comparisons with another holder
	Same        uint64 // of these, without a difference
	Pushed      uint64 // copies brought to others
	PushedBytes uint64
	Taken       uint64 // copies brought by others
	PassedOn    uint64 // tombstones told to others
	Learned     uint64 // tombstones told by others
	Rescued     uint64 // copies put to a drop that is far away by now
	Failed      uint64 // visits cut short
}

// upkeep keeps the drops complete of which this holder has messages. Each inbox has its turn every UpkeepEvery, at a
// time of its own, so that a holder of many inboxes works evenly.
type upkeep struct {
	h      *Holder
	budget budget
	wake   chan struct{}
	visits visits

	rescues  chan struct{} // those under way
	rescuing sync.WaitGroup

	mu     sync.Mutex
	turns  map[identity.Inbox]*turn
	rounds int // under way
}

// turn is when an inbox is looked at next.
type turn struct {
	next    time.Time
	busy    bool      // it is its turn
	regular time.Time // when it would be without a change or a nudge
	moved   bool      // next is early because neighbours changed: only new holders are visited
	ten     []peer.ID // the nearest at the last turn, without this node
	last    time.Time // of a whole turn
	shunned int       // turns in which another holder did not know this node as near
	rescue  rescue
}

func newUpkeep(h *Holder) *upkeep {
	u := &upkeep{
		h: h, budget: budget{perSecond: h.limits.UpkeepRate},
		wake: make(chan struct{}, 1), turns: make(map[identity.Inbox]*turn), rescues: make(chan struct{}, rescues),
	}
	u.visits = visits{
		h: h, visit: u.visit, quick: make(chan struct{}, quickVisits), slow: make(chan struct{}, slowVisits),
		due: make(map[peer.ID][]identity.Inbox),
	}
	return u
}

// added gives an inbox that has a new message its turn, if it has none.
func (u *upkeep) added(inbox identity.Inbox) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.turns[inbox] == nil {
		at := time.Now().Add(jitter(UpkeepEvery))
		u.turns[inbox] = &turn{next: at, regular: at}
		u.poke()
	}
}

// nudge brings the turn of an inbox forward, since another holder lacks something that is here.
func (u *upkeep) nudge(inbox identity.Inbox) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	t := u.turns[inbox]
	if t == nil || now.Sub(t.last) < nudgeEvery {
		return
	}
	if at := now.Add(random(upkeepPace)); at.Before(t.next) || t.moved {
		t.next, t.moved = at, false
		u.poke()
	}
}

func (u *upkeep) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// run gives the inboxes their turns until ctx ends.
func (u *upkeep) run(ctx context.Context) {
	u.begin(time.Now())
	var rounds sync.WaitGroup
	defer func() {
		rounds.Wait()
		u.visits.work.Wait()
		u.rescuing.Wait()
	}()
	var changed time.Time // when a change is dealt with; zero means that there was none
	for {
		now := time.Now()
		if !changed.IsZero() && !now.Before(changed) {
			changed = time.Time{}
			u.change(now)
		}
		batch, next := u.take(now)
		if len(batch) > 0 {
			rounds.Go(func() {
				u.round(ctx, batch)
				u.done(batch)
			})
			next = now.Add(upkeepPace)
		}
		if !changed.IsZero() && changed.Before(next) {
			next = changed
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-u.wake:
		case <-u.h.cfg.Near.Changed():
			if changed.IsZero() {
				changed = time.Now().Add(jitter(UpkeepAfterChange))
			}
		}
		timer.Stop()
	}
}

// begin spreads what the spool had at open over the first turn: soon, since others may have moved on meanwhile, but
// not all at once.
func (u *upkeep) begin(now time.Time) {
	keys := u.h.spool.keys()
	spread := u.spread(len(keys))
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range keys {
		if u.turns[k] == nil {
			at := now.Add(UpkeepAfterChange + random(spread))
			u.turns[k] = &turn{next: at, regular: at}
		}
	}
}

// spread is how long that many turns take.
func (u *upkeep) spread(inboxes int) time.Duration {
	return min(time.Duration(inboxes)*upkeepPace/upkeepBatch, UpkeepEvery)
}

// change brings all turns forward after a change among the neighbours.
func (u *upkeep) change(now time.Time) {
	u.h.views.forget()
	u.mu.Lock()
	defer u.mu.Unlock()
	spread := u.spread(len(u.turns))
	for _, t := range u.turns {
		if at := now.Add(random(spread)); at.Before(t.next) {
			t.next, t.moved = at, true
		}
	}
}

// job is the turn of one inbox.
type job struct {
	inbox identity.Inbox
	moved bool
	ten   []peer.ID // of the last turn
}

// take returns the inboxes whose turn it is, and when the next turn will be. Inboxes of which nothing is left lose
// their turn.
func (u *upkeep) take(now time.Time) (batch []job, next time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	next = now.Add(UpkeepEvery)
	if u.rounds >= upkeepRounds {
		return nil, next // the end of one wakes
	}
	for k, t := range u.turns {
		if t.busy {
			continue
		}
		if t.next.After(now) || len(batch) == upkeepBatch {
			if t.next.Before(next) {
				next = t.next
			}
			continue
		}
		if u.h.spool.digest(k).Count == 0 {
			delete(u.turns, k)
			continue
		}
		batch = append(batch, job{k, t.moved, t.ten})
		if !t.moved {
			t.regular = now.Add(jitter(UpkeepEvery))
			t.last = now
		}
		t.next, t.moved, t.busy = t.regular, false, true
	}
	if len(batch) > 0 {
		u.rounds++
	}
	return batch, next
}

// done ends the turns of a batch.
func (u *upkeep) done(batch []job) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rounds--
	for _, j := range batch {
		if t := u.turns[j.inbox]; t != nil {
			t.busy = false
		}
	}
	u.poke()
}

// round finds the holders of each inbox and has them visited, each once for all the inboxes. It does not wait for the
// visits.
func (u *upkeep) round(ctx context.Context, batch []job) {
	var mu sync.Mutex
	visits := make(map[peer.ID][]identity.Inbox)
	var work sync.WaitGroup
	for _, j := range batch {
		work.Go(func() {
			for _, p := range u.holders(ctx, j) {
				mu.Lock()
				visits[p] = append(visits[p], j.inbox)
				mu.Unlock()
			}
		})
	}
	work.Wait()
	for p, inboxes := range visits {
		u.visits.add(ctx, p, inboxes)
	}
}

// holders returns whom to visit for an inbox, and notes whether this node is one of its holders.
func (u *upkeep) holders(ctx context.Context, j job) []peer.ID {
	h := u.h
	fresh := viewTime
	if j.moved {
		fresh = 0
	}
	near, err := h.views.get(ctx, j.inbox, fresh, h.views.own)
	if err != nil {
		h.log.Debug("upkeep found no holders", "error", err)
		u.again(j.inbox, j.moved)
		return nil
	}
	ten := slices.Clone(near[:min(Copies, len(near))])
	h.spool.setCold(j.inbox, !slices.Contains(ten, h.cfg.Self))
	ten = slices.DeleteFunc(ten, func(p peer.ID) bool { return p == h.cfg.Self })
	u.mu.Lock()
	if t := u.turns[j.inbox]; t != nil {
		if !slices.Equal(t.ten, ten) {
			t.shunned = 0
		}
		t.ten = ten
	}
	u.mu.Unlock()
	visit := ten
	if j.moved {
		visit = slices.DeleteFunc(slices.Clone(ten), func(p peer.ID) bool { return slices.Contains(j.ten, p) })
	}
	h.counts.rounds.Add(1)
	if j.moved && len(visit) > 0 {
		h.counts.moved.Add(1)
	}
	if !slices.Contains(near, h.cfg.Self) && len(near) >= Copies {
		// Those near the drop would not take upkeep from here, as far as one can tell.
		u.rescue(ctx, j.inbox, ten[:min(rescuePeers, len(ten))])
		return nil
	}
	return visit
}

// shunned gives an inbox another turn soon when another holder does not know yet that this node is near.
func (u *upkeep) shunned(inbox identity.Inbox) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.turns[inbox]
	if t == nil || t.shunned >= shunnedTurns {
		return
	}
	if at := time.Now().Add(jitter(shunnedEvery)); at.Before(t.next) {
		t.shunned++
		t.next, t.moved = at, false
		u.poke()
	}
}

// again gives an inbox another turn soon, since this one came to nothing.
func (u *upkeep) again(inbox identity.Inbox, moved bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.turns[inbox]; t != nil {
		if at := time.Now().Add(jitter(time.Minute)); at.Before(t.next) {
			t.next, t.moved = at, moved
			u.poke()
		}
	}
}

// visit compares inboxes with one other holder and brings it what it lacks. It returns those for which there was no
// time, or none of the byte budget.
func (u *upkeep) visit(ctx context.Context, p peer.ID, inboxes []identity.Inbox) (left []identity.Inbox, err error) {
	h, until := u.h, time.Now().Add(visitTime)
	c, err := h.out.dial(ctx, p, DropProtocol)
	if err != nil {
		return nil, err
	}
	defer func() { c.end(err) }()
	for len(inboxes) > 0 {
		chunk := inboxes[:min(MaxInboxes, len(inboxes))]
		if time.Now().After(until) {
			return append(inboxes, left...), nil
		}
		inboxes = inboxes[len(chunk):]
		q := &digestRequest{}
		for _, in := range chunk {
			q.Inboxes = append(q.Inboxes, h.spool.digest(in))
		}
		var a digestAnswer
		if err := c.ask(&request{Digest: q}, &a, AnswerTime); err != nil {
			return nil, err
		}
		if len(a.Results) != len(chunk) {
			return nil, errors.New("digest answer is for other inboxes")
		}
		h.counts.digests.Add(uint64(len(chunk)))
		for i, state := range a.Results {
			switch state {
			case digestSame:
				h.counts.same.Add(1)
			case digestDiffers:
				err := u.exchange(ctx, c, chunk[i], until)
				if errors.Is(err, errOver) || errors.Is(err, errBudget) {
					// The others go first the next time.
					left = append(left, chunk[i])
					continue
				}
				if err != nil {
					return nil, err
				}
			case digestNotNear:
				u.shunned(chunk[i])
			}
		}
	}
	return left, nil
}

// exchange offers all messages of an inbox, takes the tombstones that come back and pushes what is lacking.
func (u *upkeep) exchange(ctx context.Context, c *conn, inbox identity.Inbox, until time.Time) error {
	h := u.h
	for _, page := range h.spool.offers(inbox) {
		if time.Now().After(until) {
			return errOver
		}
		var a offerAnswer
		if err := c.ask(&request{Offer: page}, &a, AnswerTime); err != nil {
			return err
		}
		for _, blob := range a.Tombstones {
			t, err := identity.ParseTombstone(blob)
			if err != nil {
				return err
			}
			if t.Inbox() != inbox {
				return errors.New("tombstone is for another inbox")
			}
			if err := h.learn(ctx, t, blob); err != nil && !isRefusal(err) {
				return err
			}
		}
		for _, place := range a.Lacks {
			if place >= uint64(len(page.Items)) {
				return errors.New("answer lacks what was not offered")
			}
			if time.Now().After(until) {
				return errOver
			}
			if err := u.push(ctx, c, inbox, page.Items[place].ID, true); err != nil {
				if isOfMessage(err) {
					continue
				}
				r := new(Refusal)
				switch {
				case !errors.As(err, &r) || r.Code == CodeInternal:
					return err
				case r.Code == CodeMemory:
					return errOver // for now
				}
				return nil // it has no room for this inbox
			}
		}
	}
	return nil
}

// push brings one message to another holder, within the byte budget. What the other
// does not want is none of its errors.
func (u *upkeep) push(ctx context.Context, c *conn, inbox identity.Inbox, id sealed.ID, expected bool) error {
	h := u.h
	m, err := h.spool.open(inbox, id)
	if errors.Is(err, errMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.body.Close()
	o, err := sealed.ParseOuter(m.outer)
	if err != nil {
		return err
	}
	if err := u.budget.spend(ctx, c.peer, int(m.size)); err != nil {
		return err
	}
	g, err := c.give(&o, id, expected, func() (io.ReadCloser, error) { return io.NopCloser(m.body), nil })
	if r := new(Refusal); errors.As(err, &r) {
		switch r.Code {
		case CodeHash:
			u.doubt(inbox, id, &o)
			return nil
		case CodeUnexpected, CodeExpiry:
			return nil
		}
	}
	if err != nil {
		return err
	}
	if g.sent {
		if expected {
			h.counts.pushed.Add(1)
		} else {
			h.counts.rescued.Add(1)
		}
		h.counts.pushedBytes.Add(uint64(m.size))
	}
	if g.tombstone != nil {
		return h.learn(ctx, g.tombstone, g.blob)
	}
	return nil
}

// learn takes a tombstone that another holder told.
func (h *Holder) learn(ctx context.Context, t *identity.Tombstone, blob []byte) error {
	n, err := h.bury(ctx, t, blob, "")
	if n > 0 {
		h.counts.learned.Add(1)
	}
	return err
}

// doubt reads a message again of which another holder said that its body is wrong, and forgets it if so.
func (u *upkeep) doubt(inbox identity.Inbox, id sealed.ID, o *sealed.Outer) {
	m, err := u.h.spool.open(inbox, id)
	if err != nil {
		return
	}
	defer m.body.Close()
	_, _ = u.h.spool.readBody(id, m, o)
}

// digest answers a comparison: for each inbox whether it is the same here.
func (v *visit) digest(ctx context.Context, q *digestRequest) error {
	if err := v.asking(); err != nil {
		return err
	}
	var a digestAnswer
	v.theirs = make(map[identity.Inbox]digest, len(q.Inboxes))
	for _, d := range q.Inboxes {
		near, err := v.isNear(ctx, d.Inbox)
		if err != nil {
			return refuse(CodeNear, "this holder does not know who is near that drop")
		}
		state := digestDiffers
		switch {
		case !near:
			state = digestNotNear
		case v.holder.spool.digest(d.Inbox).same(d):
			state = digestSame
		default:
			v.theirs[d.Inbox] = d
		}
		a.Results = append(a.Results, state)
	}
	return v.session.answer(&a)
}

// offer answers which of the offered messages this holder lacks. Those may be put as upkeep, on this stream.
func (v *visit) offer(ctx context.Context, q *offerRequest) error {
	h := v.holder
	if _, known := v.near[q.Inbox]; !known {
		if err := v.asking(); err != nil {
			return err
		}
	}
	near, err := v.isNear(ctx, q.Inbox)
	if err != nil || !near {
		return refuse(CodeNear, "you are not among the %d nodes nearest to that drop, as seen from here", viewPeers)
	}
	lacks, tombstones, absent := h.spool.answerOffer(q, time.Now())
	if v.expected == nil {
		v.expected = make(map[sealed.ID]bool)
	}
	lacks = lacks[:min(len(lacks), max(0, maxExpected-len(v.expected)))]
	for _, place := range lacks {
		v.expected[q.Items[place].ID] = true
	}
	h.counts.passedOn.Add(uint64(len(tombstones)))
	if theirs, ok := v.theirs[q.Inbox]; ok {
		// What they still have beyond this page must be what is here: else there is something here that they lack.
		theirs = theirs.minus(absent)
		v.theirs[q.Inbox] = theirs
		if q.Last && !h.spool.digest(q.Inbox).same(theirs) {
			h.upkeep.nudge(q.Inbox)
		}
	}
	return v.session.answer(&offerAnswer{Lacks: lacks, Tombstones: tombstones})
}
