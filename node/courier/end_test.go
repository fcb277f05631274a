package courier

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
)

// heavy is a world whose messages are large.
type heavy struct{ *world }

func (h heavy) Text(context.Context, MessageID) ([]byte, error) { return make([]byte, 8<<20), nil }

// TestMoreThanMemory sends more than the courier may have in memory to a host
// that takes everything and confirms nothing, as a locked one does.
func TestMoreThanMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp, w.holders = true, 10
		c, end := w.carry(t, t.TempDir(), false)
		defer end()
		if err := c.Unlock(t.Context(), heavy{w}); err != nil {
			t.Fatal(err)
		}
		const mails = 40
		for i := range mails {
			row := w.accept(byte(i + 1))
			row.Size = 8 << 20
			c.Send(row)
		}
		pass(10 * time.Minute)
		for i := range mails {
			if s := w.row(byte(i + 1)).State; s != mailbox.Replicated {
				t.Fatalf("message %d has state %s", i, s)
			}
		}
	})
}

// scales is a world that weighs what is in memory from the reading of a text to
// the end of its sealing.
type scales struct {
	*world
	size       int64
	have, most int64
}

func (s *scales) Text(ctx context.Context, id MessageID) ([]byte, error) {
	s.set(func() { s.have += s.size; s.most = max(s.most, s.have) })
	<-time.After(time.Second)
	return s.world.Text(ctx, id)
}

func (s *scales) Seal(in *sealed.Inner, to identity.KeySet, e identity.Epoch) (*sealed.Message, error) {
	defer s.set(func() { s.have -= s.size })
	return s.world.Seal(in, to, e)
}

// TestSealingIsBounded sends the largest message to thirty people, and to some
// what they may have at once.
func TestSealingIsBounded(t *testing.T) {
	for _, size := range []int64{sealed.MaxMessage, 15 << 20, large} {
		synctest.Test(t, func(t *testing.T) {
			w := &scales{world: newWorld(t), size: size}
			w.holders = 10
			c, end := w.carry(t, t.TempDir(), false)
			defer end()
			if err := c.Unlock(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			for i := range 30 {
				row := w.accept(byte(i + 1))
				row.Size = size
				c.Send(row)
			}
			pass(time.Minute)
			for i := range 30 {
				if s := w.row(byte(i + 1)).State; s != mailbox.Replicated {
					t.Fatalf("message %d has state %s", i, s)
				}
			}
			room := int64(largeMemory)
			if size <= large {
				room = memory
			}
			if sealing*w.most > room || w.most == 0 {
				t.Errorf("%d bytes of text at once, of %d each", w.most, size)
			}
		})
	}
}

// dawdling is a world in which hosts take the offer of a large message and then
// do not read it.
type dawdling struct {
	*world
	taken int // deliveries under way
}

func (d *dawdling) Text(ctx context.Context, id MessageID) ([]byte, error) {
	if id[0] < 100 {
		return make([]byte, 6<<20), nil
	}
	return d.world.Text(ctx, id)
}

func (d *dawdling) Deliver(ctx context.Context, h identity.Host, m *sealed.Message) error {
	if m.Outer.Size < large {
		return d.world.Deliver(ctx, h, m)
	}
	d.set(func() { d.taken++ })
	defer d.set(func() { d.taken-- })
	<-ctx.Done()
	return ctx.Err()
}

// TestSmallBesideLarge sends small mail while large mail goes nowhere.
func TestSmallBesideLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &dawdling{world: newWorld(t)}
		w.hostUp = true
		c, end := carry(t, t.TempDir(), w, nil)
		defer end()
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			row := w.accept(byte(i + 1))
			row.Size = 6 << 20
			c.Send(row)
		}
		pass(10 * time.Second)
		if w.taken == 0 {
			t.Fatal("no large message is under way")
		}
		c.Send(w.accept(100))
		pass(time.Second)
		if d, _ := w.counts(); d != 1 {
			t.Error("a small message waits behind large ones")
		}
		w.set(func() { w.holders = 10 })
		pass(3 * time.Minute)
		replicated := 0
		for _, x := range c.Waiting() {
			if x.State == mailbox.Replicated {
				replicated++
			}
		}
		if replicated < 30 || w.taken != 0 {
			t.Errorf("%d messages are with holders, %d are offered still", replicated, w.taken)
		}
	})
}

// grumpy is a world whose disk is full for a while.
type grumpy struct {
	*world
	full bool
}

var errFull = errors.New("no space")

func (g *grumpy) Report(ctx context.Context, id MessageID, k mail.Notify, why Reason) error {
	g.mu.Lock()
	full := g.full
	g.mu.Unlock()
	if full {
		return errFull
	}
	return g.world.Report(ctx, id, k, why)
}

func (g *grumpy) Update(ctx context.Context, id MessageID, f func(*mailbox.Outgoing)) error {
	g.mu.Lock()
	full := g.full
	g.mu.Unlock()
	if full {
		return errFull
	}
	return g.world.Update(ctx, id, f)
}

// TestEndOnFullDisk has the end of a message come while nothing can be written.
func TestEndOnFullDisk(t *testing.T) {
	for _, s := range []sealed.Status{sealed.StatusRefused, sealed.StatusDelivered} {
		synctest.Test(t, func(t *testing.T) {
			w := &grumpy{world: newWorld(t)}
			w.holders = 10
			c, end := w.carry(t, t.TempDir(), false)
			defer end()
			if err := c.Unlock(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			c.Send(w.accept(1))
			synctest.Wait()
			w.set(func() { w.full = true })
			if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, s)); err == nil {
				t.Error("the receipt counts as dealt with")
			}
			pass(time.Hour)
			w.set(func() { w.full = false })
			pass(time.Hour)
			if !w.row(1).State.Settled() {
				t.Errorf("state %s", w.row(1).State)
			}
			if len(w.reports) != 1 {
				t.Errorf("reports %q", w.reports)
			}
			if n := len(c.Waiting()); n != 0 {
				t.Errorf("%d messages under way", n)
			}
		})
	}
}

// TestTombstoneReports wants the success told when a tombstone was the sign.
func TestTombstoneReports(t *testing.T) {
	for _, locked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			dir := t.TempDir()
			c, end := w.carry(t, dir, true)
			c.Send(w.accept(1))
			pass(time.Second)
			w.set(func() { w.tombstone = true })
			if locked {
				end()
				c, end = w.carry(t, dir, false)
			}
			defer func() { end() }()
			pass(time.Hour)
			if locked {
				if err := c.Unlock(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
			}
			if s := w.row(1).State; s != mailbox.Delivered || len(w.reports) != 1 {
				t.Errorf("state %s, reports %q", s, w.reports)
			}
		})
	}
}

// TestPolicyFailsAtOnce sends more than the recipient takes.
func TestPolicyFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp, w.holders, w.sequence = true, 10, w.sequence+1
		raw, err := w.recipient.SignRecord(identity.RecordParams{
			Now: time.Now(), Sequence: w.sequence, Policy: identity.Policy{MaxMessage: 4},
			Hosts: []identity.Host{{Peer: []byte("bob's host")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.record = raw
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		synctest.Wait()
		if s := w.row(1).State; s != mailbox.Failed || len(w.reports) != 1 || len(c.Waiting()) != 0 || !strings.HasPrefix(w.reports[0], "failed: 5.3.4 ") {
			t.Errorf("state %s, reports %q", s, w.reports)
		}
	})
}

// TestAcceptedInTheFuture has a clock put right after a message was accepted.
func TestAcceptedInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		row := w.accept(1)
		later := time.Now().AddDate(14, 0, 0)
		w.set(func() { w.rows[row.MessageID].Accepted, w.rows[row.MessageID].Expires = later, later.Add(Lifetime) })
		_, end := w.carry(t, t.TempDir(), true)
		defer end()
		synctest.Wait()
		if _, put := w.counts(); put != 1 {
			t.Fatalf("%d puts", put)
		}
		if err := w.put[0].Outer.Check(time.Now()); err != nil {
			t.Error(err)
		}
	})
}

// TestUnlockDuringAttempt unlocks the account while an attempt is under way
// that finds the end of the message.
func TestUnlockDuringAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1))
		pass(time.Second)
		end()
		c, end = w.carry(t, dir, false)
		defer end()
		pass(time.Second)
		c.mu.Lock()
		tr := c.transits[MessageID{1}]
		c.drop(tr)
		tr.running, tr.state = true, mailbox.Delivered // as what ended just before
		c.mu.Unlock()
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		c.finish(tr, time.Now())
		pass(time.Minute)
		if s := w.row(1).State; s != mailbox.Delivered || len(c.Waiting()) != 0 {
			t.Errorf("state %s, %d under way", s, len(c.Waiting()))
		}
	})
}

// TestRefusalBeneathTombstone sees a tombstone while the refusal lies unopened
// on the own disk, or still with the holders.
func TestRefusalBeneathTombstone(t *testing.T) {
	for _, locked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.holders = 10
			dir := t.TempDir()
			c, end := w.carry(t, dir, true)
			defer func() { end() }()
			c.Send(w.accept(1))
			pass(time.Minute)
			w.set(func() { w.tombstone, w.drained = true, false })
			if locked {
				end()
				c, end = w.carry(t, dir, false)
			}
			pass(8 * time.Hour)
			if locked {
				if err := c.Unlock(t.Context(), w); err != nil {
					t.Fatal(err)
				}
			}
			pass(graveTime / 2)
			if s := w.row(1).State; s.Settled() {
				t.Fatalf("state %s before all was opened", s)
			}
			if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, sealed.StatusRefused)); err != nil {
				t.Fatal(err)
			}
			w.set(func() { w.drained = true })
			pass(time.Minute)
			const want = "failed: 5.7.1 the recipient refused the message: the mailbox is closed"
			if s := w.row(1).State; s != mailbox.Failed || w.reports[len(w.reports)-1] != want {
				t.Errorf("state %s, reports %q", s, w.reports)
			}
		})
	}
}

// TestTombstoneWithoutRound cannot drain the own drop, and counts only the time
// for which the account is unlocked.
func TestTombstoneWithoutRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1))
		pass(time.Minute)
		end()
		w.set(func() { w.tombstone, w.drained = true, false })
		c, end = w.carry(t, dir, false)
		defer end()
		pass(3 * graveTime)
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		pass(graveTime - time.Minute)
		if s := w.row(1).State; s.Settled() {
			t.Errorf("state %s too early", s)
		}
		pass(2 * time.Minute)
		if s := w.row(1).State; s != mailbox.Delivered {
			t.Errorf("state %s: it waits for ever", s)
		}
	})
}

// TestTombstoneOutlivesExpiry drains the own drop only after a message that has
// a tombstone would have failed without one.
func TestTombstoneOutlivesExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1))
		pass(time.Minute)
		end()
		w.set(func() { w.tombstone, w.drained = true, false })
		c, end = w.carry(t, dir, false)
		defer end()
		pass(Lifetime + Grace + GiveUp + time.Hour - 10*time.Second) // the next sweep finds it soon after the unlock
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		w.set(func() { w.drained = true })
		pass(2 * sweepEvery)
		if s := w.row(1).State; s != mailbox.Delivered {
			t.Errorf("state %s, reports %q", s, w.reports)
		}
	})
}

// TestRefusalLasts has a refusal wait for a network, over a restart.
func TestRefusalLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.alone = true
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		defer func() { end() }()
		safe := 0
		id := MessageID{1}
		c.SendRefusal(id, w.recipient.Root(), []byte("refused"), func() { safe++ })
		c.SendReceipt(MessageID{2}, w.recipient.Root(), []byte("delivered"))
		pass(12 * time.Hour)
		if _, there := c.transits[MessageID{2}]; there || c.transits[id] == nil || safe != 0 {
			t.Fatalf("the receipt is there: %v, the refusal: %v, called safe %d times", there, c.transits[id] != nil, safe)
		}
		w.set(func() { w.alone = false })
		pass(2 * time.Hour)
		if safe != 1 {
			t.Fatalf("called safe %d times when it was on the disk", safe)
		}
		end()
		c, end = w.carry(t, dir, false)
		pass(12 * time.Hour)
		w.set(func() { w.holders = 10 })
		pass(2 * time.Hour)
		if _, put := w.counts(); put == 0 {
			t.Fatal("the refusal was given up")
		}
		pass(7 * 24 * time.Hour)
		if c.transits[id] != nil {
			t.Error("it is carried although holders have it")
		}
	})
}

// TestRefusalIsOnDiskFirst looks at the parcels when a refusal is handed over.
func TestRefusalIsOnDiskFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp = true
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		safe := -1
		c.SendRefusal(MessageID{1}, w.recipient.Root(), []byte("refused"), func() { safe, _ = w.counts() })
		pass(time.Second)
		if d, _ := w.counts(); d != 1 || safe != 0 {
			t.Errorf("%d deliveries, it was safe after %d", d, safe)
		}
	})
}

// TestAfterHoliday was off while messages expired, and has still to collect
// what was said about them.
func TestAfterHoliday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1), w.accept(2))
		pass(time.Minute)
		end()
		pass(Lifetime + Grace + GiveUp + 24*time.Hour)
		w.set(func() { w.drained = false })
		c, end = w.carry(t, dir, true)
		defer end()
		pass(GiveUp - time.Minute)
		if s := w.row(1).State; s.Settled() {
			t.Fatalf("state %s, reports %q", s, w.reports)
		}
		if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, sealed.StatusDelivered)); err != nil {
			t.Fatal(err)
		}
		pass(2 * sweepEvery)
		if s := w.row(1).State; s != mailbox.Delivered {
			t.Errorf("state %s of what was confirmed", s)
		}
		if s := w.row(2).State; s != mailbox.Failed {
			t.Errorf("state %s of what was not: it waits for ever", s)
		}
	})
}

// overtaken is a world in which something happens just after the rows were read.
type overtaken struct {
	*world
	then func()
}

func (o *overtaken) Unsettled(ctx context.Context) ([]mailbox.Outgoing, error) {
	rows, err := o.world.Unsettled(ctx)
	o.mu.Lock()
	then := o.then
	o.then = nil
	o.mu.Unlock()
	if then != nil {
		then()
	}
	return rows, err
}

// TestEndDuringJoin has a receipt settle what the courier has just read from
// the outbox.
func TestEndDuringJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &overtaken{world: newWorld(t)}
		w.holders = 10
		c, end := w.carry(t, t.TempDir(), false)
		defer end()
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		row := w.accept(1)
		c.Send(row)
		pass(time.Minute)
		w.set(func() {
			w.then = func() {
				if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, sealed.StatusDelivered)); err != nil {
					t.Error(err)
				}
			}
		})
		c.join(t.Context())
		if n := len(c.Waiting()); n != 0 {
			t.Errorf("%d messages under way", n)
		}
		pass(Lifetime + Grace + time.Hour)
		if s := w.row(1).State; s != mailbox.Delivered || len(w.reports) != 1 {
			t.Errorf("state %s, reports %q", s, w.reports)
		}
		if n := len(c.ended[0]) + len(c.ended[1]); n != 0 {
			t.Errorf("%d ended messages are remembered for ever", n)
		}
	})
}

// TestRowsDoNotFailAfterAll ends as failed what its row says has arrived.
func TestRowsDoNotFailAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		pass(time.Minute)
		w.set(func() { w.rows[MessageID{1}].State = mailbox.Delivered })
		pass(Lifetime + Grace + time.Hour)
		if s := w.row(1).State; s != mailbox.Delivered || len(c.Waiting()) != 0 {
			t.Errorf("state %s, %d under way", s, len(c.Waiting()))
		}
	})
}

// TestDamagedParcel loses what was sealed, with and without the account.
func TestDamagedParcel(t *testing.T) {
	for _, locked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			dir := t.TempDir()
			c, end := w.carry(t, dir, true)
			defer func() { end() }()
			c.Send(w.accept(1))
			pass(time.Minute)
			if locked {
				end()
				c, end = w.carry(t, dir, false)
				pass(time.Second)
			}
			c.mu.Lock()
			x := c.transits[MessageID{1}]
			if !x.isParcel {
				t.Fatal("there is no parcel")
			}
			c.parcels.Free(x.parcel) // stands for damage: it cannot be read any more
			c.mu.Unlock()
			w.set(func() { w.holders = 10 })
			pass(2 * time.Hour)
			if locked {
				if e := c.Waiting()[MessageID{1}].LastError; e != errLocked.Error() {
					t.Errorf("while locked: %q", e)
				}
				if err := c.Unlock(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
			}
			if r := w.row(1); r.State != mailbox.Replicated || r.LastError != "" {
				t.Errorf("state %s, last error %q", r.State, r.LastError)
			}
		})
	}
}

// lingering is a world whose host takes its time.
type lingering struct{ *world }

func (l lingering) Deliver(context.Context, identity.Host, *sealed.Message) error {
	<-time.After(time.Second)
	return errors.New("no answer")
}

// TestUnlockDuringDelivery is for the race detector.
func TestUnlockDuringDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1))
		pass(time.Second)
		end()
		c, end = carry(t, dir, lingering{w}, nil)
		defer end()
		<-time.After(time.Second / 2)
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
	})
}
