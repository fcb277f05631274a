package courier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/store"
)

// errLocked stands in last_error of what could not be sealed before a restart.
var errLocked = errors.New("waits for a login, which unlocks the account")

// errUnfound is why nothing can be sealed for somebody of whom no record is known.
var errUnfound = errors.New("has not been found yet")

// tooLarge says that a message is larger than its recipient's policy allows.
type tooLarge struct {
	most uint64
	has  int
}

func (e tooLarge) Error() string {
	return fmt.Sprintf("the recipient takes at most %d bytes, this message has %d", e.most, e.has)
}

// freshFor is how long after its issue a record is used without looking for a
// newer one: twice the time after which its owner makes one.
const freshFor = 24 * time.Hour

// The deadlines of an attempt.
const (
	directTime = 10 * time.Second // one host, small body; see transferTime
	putTime    = time.Minute
	slowest    = 256 << 10 // bytes a second below which a transfer is given up
)

// sealing is how many times the size of a message its sealing takes in memory:
// the text and what comes of it, which is padded and has a heading.
const sealing = 2

// transferTime is the deadline for moving a body of the size.
func transferTime(base time.Duration, size uint64) time.Duration {
	return base + time.Duration(size/slowest)*time.Second
}

// take reserves memory for the message of an attempt. Only what is being tried
// holds any of it, so whoever waits for some gets it in the end.
func (c *Courier) take(ctx context.Context, t *transit, size uint64) error {
	l := c.lane(t)
	n := min(int64(size), l.memory)
	if err := l.budget.Acquire(ctx, n); err != nil {
		return err
	}
	t.held = n
	return nil
}

// free gives all of it back but for the size.
func (c *Courier) free(t *transit, size uint64) {
	n := min(int64(size), t.held)
	c.lane(t).budget.Release(t.held - n)
	t.held = n
}

// rest puts a message on the disk that would stay in memory between two
// attempts, when there are many of those.
func (c *Courier) rest(ctx context.Context, t *transit) {
	c.mu.Lock()
	many := t.msg != nil && !t.over() && c.resting > resting
	c.mu.Unlock()
	if !many {
		return
	}
	if err := c.keep(context.WithoutCancel(ctx), t); err != nil {
		c.log.Warn("a sealed message could not be kept", "err", err)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.discard(t) // it is sealed again
	}
}

// attempt tries to bring t further and says when to try again.
func (c *Courier) attempt(ctx context.Context, t *transit) (time.Duration, error) {
	c.mu.Lock()
	a := c.account
	over, entombed, expired := t.over(), t.entombed, time.Now().After(t.expires)
	if !over && entombed.IsZero() && !expired && !t.awaiting { // the way to the holders belongs to the attempt before
		t.begun++
	}
	c.mu.Unlock()
	if over {
		return tellAgain, c.tell(ctx, a, t)
	}
	if !entombed.IsZero() {
		return c.entomb(ctx, a, t, entombed)
	}
	if expired {
		return time.Hour, nil // nobody takes it any more; sweep ends it
	}
	defer func() { c.free(t, 0) }()
	m, err := c.prepare(ctx, a, t)
	if large := (tooLarge{}); a != nil && errors.As(err, &large) { // that does not pass
		return tellAgain, c.fail(ctx, a, t, Reason{StatusTooLarge, err.Error()})
	}
	if err != nil {
		if errors.Is(err, errUnfound) && !errors.Is(err, store.ErrNoHolders) { // somebody was asked
			c.mu.Lock()
			t.unfound++
			c.mu.Unlock()
		}
		return c.failed(ctx, a, t, err)
	}

	if t.kind == sealed.KindReceipt && t.lasting {
		if err := c.keep(ctx, t); err != nil && ctx.Err() == nil {
			c.log.Warn("a refusal could not be kept", "err", err)
		}
		c.assure(t)
	}
	c.mu.Lock()
	hosts, awaiting, to := t.hosts, t.awaiting, t.to.Root
	t.awaiting = false
	c.mu.Unlock()
	offered, stop := context.WithCancel(ctx)
	defer stop()
	if !awaiting {
		direct := make(chan error, 1)
		go func() {
			err := errors.New("direct delivery panicked")
			defer func() {
				if p := recover(); p != nil {
					c.log.Error("direct delivery panicked", "panic", p)
				}
				direct <- err
			}()
			err = c.direct(offered, m, hosts)
			if offered.Err() == nil {
				c.doubt(to, err != nil)
			}
		}()
		timer := time.NewTimer(DropAfter)
		defer timer.Stop()
		select {
		case err = <-direct:
			if err == nil {
				if c.hand(t) {
					return DropAfter, nil
				}
			}
		case <-timer.C:
			defer func() {
				if err := <-direct; err == nil {
					c.hand(t)
				}
			}()
		}
	}
	if err := c.keep(ctx, t); err != nil && ctx.Err() == nil {
		c.log.Warn("a sealed message could not be kept", "err", err)
	}
	stamped := *m // the stamp must not be made under the eyes of a direct delivery that goes on
	if err := c.put(ctx, t, &stamped); err != nil {
		return c.failed(ctx, a, t, err)
	}
	stop() // the holders have it: a host that takes so long gets it from them
	c.mu.Lock()
	t.attempts++
	t.lastError = ""
	n, gone := t.attempts, !t.entombed.IsZero()
	c.mu.Unlock()
	if gone {
		return refuseTime, nil
	}
	return backoff(n, true), c.record(ctx, a, t)
}

// failed notes why an attempt failed.
func (c *Courier) failed(ctx context.Context, a Account, t *transit, err error) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	c.mu.Lock()
	t.attempts++
	t.lastError = err.Error()
	n, done := t.attempts, t.state >= mailbox.Replicated
	c.mu.Unlock()
	if e := c.record(ctx, a, t); e != nil {
		c.log.Warn("the outbox could not be changed", "err", e)
	}
	if errors.Is(err, store.ErrNoHolders) { // nobody was asked, which says nothing about asking
		n = min(n, 3)
	}
	return backoff(n, done), err
}

// hand notes that a host of the recipient's has the message. It reports
// whether a receipt is to be waited for before copies are made.
func (c *Courier) hand(t *transit) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.kind == sealed.KindReceipt { // never receipted: this is the end of it
		t.state = mailbox.Delivered
		return true
	}
	t.awaiting = t.handed.IsZero()
	t.handed = time.Now()
	return t.awaiting
}

// prepare gives the sealed message of t with its stamp, if it needs none made.
func (c *Courier) prepare(ctx context.Context, a Account, t *transit) (*sealed.Message, error) {
	var record *identity.Record
	var err error
	c.mu.Lock()
	first, have := t.attempts == 0, t.msg != nil || t.isParcel
	c.mu.Unlock()
	known := a != nil && !t.to.Root.IsZero() // a receipt that waits from before a restart has no name
	if known {
		record, err = c.recipient(ctx, a, t, first)
	} else if !first {
		if r, _, e := c.net.ResolveKey(ctx, t.recordHash); e == nil {
			c.mu.Lock()
			t.hosts, t.keepers = r.Hosts, r.Keepers
			c.mu.Unlock()
		}
	}
	current := have
	if record != nil {
		c.mu.Lock()
		t.hosts, t.keepers = record.Hosts, record.Keepers
		current = have && t.generation >= record.Roster.Generation
		c.mu.Unlock()
	}
	if current { // without a record too: what was sealed before can still go
		m, e := c.sealedBytes(ctx, t)
		if !errors.Is(e, journal.ErrDamaged) && !errors.Is(e, journal.ErrNotFound) {
			return m, e
		}
		c.log.Warn("a parcel is damaged, the message is sealed again", "err", e)
		c.free(t, 0)
		c.mu.Lock()
		c.discard(t)
		c.mu.Unlock()
	}
	switch {
	case record != nil:
		return c.seal(ctx, a, t, record)
	case !known:
		return nil, errLocked
	}
	return nil, err // recipient gives one or the other
}

// doubt notes whether the hosts in a record could be reached. When they could
// not, the next message looks for a newer record first.
func (c *Courier) doubt(root identity.Root, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if failed {
		c.doubted[root] = true
	} else {
		delete(c.doubted, root)
	}
}

// recipient finds the record of the recipient: the one at hand for a first
// attempt, the network's newest after that.
func (c *Courier) recipient(ctx context.Context, a Account, t *transit, first bool) (*identity.Record, error) {
	root := t.to.Root
	pinned, err := a.Pinned(ctx, root)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	sure := first && !c.doubted[root]
	c.mu.Unlock()
	if now := time.Now(); sure && pinned != nil && len(pinned.Hosts) > 0 && pinned.Valid(now) == nil && now.Sub(pinned.Issued) < freshFor {
		return pinned, nil
	}
	found, raw, err := c.net.Resolve(ctx, root)
	if err == nil {
		if err = a.Pin(ctx, root, raw); err == nil {
			return found, nil
		}
	}
	if pinned != nil {
		if !errors.Is(err, context.Canceled) {
			c.log.Debug("no newer record found", "err", err)
		}
		return pinned, nil // its fallback keys serve when the weekly ones have run out
	}
	return nil, fmt.Errorf("the record of %s %w: %w", t.to, errUnfound, err)
}

// seal seals t to the keys that the record gives for now.
func (c *Courier) seal(ctx context.Context, a Account, t *transit, r *identity.Record) (*sealed.Message, error) {
	if err := c.take(ctx, t, sealing*uint64(max(t.size, int64(len(t.receipt))))+4096); err != nil {
		return nil, err
	}
	text := t.receipt
	if t.kind == sealed.KindMail {
		var err error
		if text, err = a.Text(ctx, t.id); err != nil {
			return nil, err
		}
	}
	if most := r.Policy.MaxMessage; most > 0 && uint64(len(text)) > most {
		return nil, tooLarge{most, len(text)}
	}
	now := time.Now()
	epoch, keys, _ := r.KeysAt(now)
	in := &sealed.Inner{
		Kind: t.kind, To: t.to.Root, MessageID: t.id, Time: t.accepted.Unix(),
		Expiry: identity.DayAt(t.expires), Recipient: t.to.Local, Body: text,
	}
	withRecord := t.kind == sealed.KindMail && !a.KnowsUs(t.to.Root) // who gets a receipt has written to us
	if withRecord {
		in.SenderRecord = a.OwnRecord()
	}
	select { // half of the machine is left to whoever waits for an answer
	case c.sealing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m, err := a.Seal(in, keys, epoch)
	<-c.sealing
	if err != nil {
		return nil, err
	}
	c.free(t, m.Outer.Size)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.discard(t)
	c.resting += int64(len(m.Body))
	t.msg, t.outer, t.generation, t.withRecord = m, m.Outer, r.Roster.Generation, withRecord && in.SenderRecord != nil
	t.recordHash, t.hosts, t.keepers = identity.RecordKeyHash(t.to.Root), r.Hosts, r.Keepers
	t.handed, t.awaiting = time.Time{}, false
	return m, nil
}

// direct offers the message to the recipient's hosts until one has it.
func (c *Courier) direct(ctx context.Context, m *sealed.Message, hosts []identity.Host) error {
	err := errors.New("the record names no host")
	for i, h := range hosts {
		if i == directHosts {
			break
		}
		each, cancel := context.WithTimeout(ctx, transferTime(directTime, m.Outer.Size))
		err = c.net.Deliver(each, h, m)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// put leaves the message with the holders. It returns when enough of them have
// it; the rest goes on until the time is over, and counts as it comes.
func (c *Courier) put(ctx context.Context, t *transit, m *sealed.Message) error {
	if err := c.stamp(ctx, t, m); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, transferTime(putTime, m.Outer.Size))
	result, err := c.net.Put(ctx, m, t.keepers, func(s store.PutState) {
		if s.Done {
			cancel()
		}
		if s.Replicated() || s.Tombstone != nil {
			c.placed(t, s.PutResult)
		}
	})
	if err != nil {
		cancel()
	} else { // the rest of the ten get it while other messages are tried
		n := t.held
		t.held = 0
		context.AfterFunc(ctx, func() { c.lane(t).budget.Release(n) })
	}
	c.mu.Lock()
	before := t.state
	if err == nil {
		t.state = max(t.state, mailbox.Replicated)
	}
	c.mu.Unlock()
	if err == nil || before < mailbox.Replicated { // a failed look does not mean that copies are gone
		c.placed(t, result)
	}
	if err == nil {
		if e := c.markReplicated(ctx, t); e != nil && ctx.Err() == nil {
			c.log.Warn("how far a message has come could not be kept", "err", e)
		}
	}
	return err
}

// placed notes where copies are.
func (c *Courier) placed(t *transit, r store.PutResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.replicas, t.wanted = len(r.Receipts), r.Wanted
	if r.Tombstone != nil && t.entombed.IsZero() {
		t.entombed = time.Now()
	}
}

// stamp makes the stamp that holders ask for, unless there is one already.
func (c *Courier) stamp(ctx context.Context, t *transit, m *sealed.Message) error {
	id, bits := m.Outer.ID(), c.net.StampBits(int64(m.Outer.Size))
	if m.Outer.Stamp != nil && m.Outer.Stamp.Valid(id, bits) {
		return nil
	}
	s, err := sealed.MakeStamp(ctx, id, bits)
	if err != nil {
		return err
	}
	m.Outer.Stamp = &s
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.outer.ID() == id {
		t.outer.Stamp = &s
	}
	return nil
}

// entomb ends a transit whose tombstone was seen: the recipient has deleted
// the message at the holders, which it does when it has filed or refused it.
// Which of the two is said by what comes to this account, so nothing is settled
// before all of that was opened.
func (c *Courier) entomb(ctx context.Context, a Account, t *transit, since time.Time) (time.Duration, error) {
	if t.kind == sealed.KindMail {
		if a == nil {
			return time.Hour, nil // or at the unlock
		}
		c.mu.Lock()
		waited := time.Since(c.unlocked)
		c.mu.Unlock()
		waited = min(waited, time.Since(since))
		if waited < refuseTime || waited < graveTime && !a.Drained(since) {
			return refuseTime, nil
		}
	}
	c.settle(t, mailbox.Delivered)
	return tellAgain, c.tell(ctx, a, t)
}

// settle moves t to a final state; a state never moves back.
func (c *Courier) settle(t *transit, s mailbox.State) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s <= t.state || t.over() && s == mailbox.Failed {
		return false
	}
	t.state = s
	return true
}

// record writes how far t has come into its row.
func (c *Courier) record(ctx context.Context, a Account, t *transit) error {
	if a == nil || t.kind != sealed.KindMail {
		return nil
	}
	c.mu.Lock()
	now := *t
	next := time.Now().Add(backoff(t.attempts, t.state >= mailbox.Replicated))
	id := sealed.ID{}
	if t.outer.Size > 0 {
		id = t.outer.ID()
	}
	c.mu.Unlock()
	return a.Update(ctx, t.id, func(row *mailbox.Outgoing) {
		if !row.State.Settled() || now.state != mailbox.Failed {
			row.State = max(row.State, now.state)
		}
		row.Replicas, row.Wanted, row.Attempts = now.replicas, now.wanted, now.begun
		row.LastError, row.NextAttempt, row.SealedID, row.Generation = now.lastError, next, id, now.generation
		if now.over() {
			row.NextAttempt = time.Time{}
		}
	})
}
