package courier

import (
	"context"
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
)

// refuse sends so many refusals, and counts those that are safe.
func refuse(c *Courier, many int, to func(i int) identity.Root) (safe *atomic.Int64) {
	safe = new(atomic.Int64)
	for i := range many {
		id := MessageID{0xff}
		binary.BigEndian.PutUint32(id[1:], uint32(i))
		c.SendRefusal(id, to(i), []byte("refused"), func() { safe.Add(1) })
	}
	return safe
}

func (c *Courier) carried() (all, lasting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transits {
		if all++; t.lasting {
			lasting++
		}
	}
	return all, lasting
}

// TestRefusalToNobody refuses mail of somebody who cannot be found.
func TestRefusalToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.unknown = true
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		safe := refuse(c, 1, func(int) identity.Root { return w.recipient.Root() })
		pass(time.Minute)
		if all, _ := c.carried(); all != 1 || safe.Load() != 0 {
			t.Fatalf("given up too early: %d are carried, %d safe", all, safe.Load())
		}
		pass(12 * time.Hour)
		if all, _ := c.carried(); all != 0 || safe.Load() != 1 || len(c.refusals) != 0 || c.lasting != 0 {
			t.Errorf("%d are carried, %d safe, %d and %d counted", all, safe.Load(), c.lasting, len(c.refusals))
		}
	})
}

// TestRefusalsAreBounded refuses more than is carried, to one person and to many.
func TestRefusalsAreBounded(t *testing.T) {
	for _, one := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.alone = true
			c, end := w.carry(t, t.TempDir(), true)
			defer end()
			most, more := maxRefusals, 5
			if one {
				most = refusalsTo
			}
			safe := refuse(c, most+more, func(i int) identity.Root {
				if one {
					i = 0
				}
				root := w.recipient.Root()
				binary.BigEndian.PutUint32(root[:], uint32(i))
				return root
			})
			if all, lasting := c.carried(); all != most+more || lasting != most {
				t.Errorf("one %v: %d of %d are to last", one, lasting, all)
			}
			pass(15 * time.Minute)
			if all, _ := c.carried(); all != most || int(safe.Load()) != more {
				t.Errorf("one %v: %d are carried, %d were given up", one, all, safe.Load())
			}
			c.mu.Lock()
			for _, x := range c.transits {
				x.expires = time.Now()
			}
			c.mu.Unlock()
			pass(2 * sweepEvery)
			if all, _ := c.carried(); all != 0 || int(safe.Load()) != most+more {
				t.Errorf("one %v: %d are carried after their expiry, %d given up", one, all, safe.Load())
			}
		})
	}
}

// TestRefusalBeyondTheBound is on the disk like the others, but not to stay.
func TestRefusalBeyondTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		safe := refuse(c, refusalsTo+1, func(int) identity.Root { return w.recipient.Root() })
		pass(time.Minute)
		if n := safe.Load(); n != refusalsTo {
			t.Errorf("%d are safe", n)
		}
		pass(time.Hour)
		if all, _ := c.carried(); all != refusalsTo || safe.Load() != refusalsTo+1 {
			t.Errorf("%d are carried, %d safe", all, safe.Load())
		}
	})
}

// TestRefusalsAreBoundedOnDisk finds more on the disk than is carried.
func TestRefusalsAreBoundedOnDisk(t *testing.T) {
	c := &Courier{transits: make(map[MessageID]*transit), refusals: make(map[identity.Root]int)}
	for i := range maxRefusals + 5 {
		x := &transit{kind: sealed.KindReceipt, lasting: true}
		binary.BigEndian.PutUint32(x.id[:], uint32(i))
		c.book(x)
	}
	if all, lasting := c.carried(); all != maxRefusals+5 || lasting != maxRefusals {
		t.Errorf("%d of %d are to last", lasting, all)
	}
}

// stalling is a world in which looking for strangers takes for ever.
type stalling struct{ *world }

func (s stalling) Resolve(ctx context.Context, root identity.Root) (*identity.Record, []byte, error) {
	if root == s.recipient.Root() {
		return s.world.Resolve(ctx, root)
	}
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

// TestMailBesideRefusals sends mail while refusals go nowhere.
func TestMailBesideRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp = true
		c, end := carry(t, t.TempDir(), stalling{w}, nil)
		defer end()
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		refuse(c, workers, func(i int) identity.Root { return identity.Root{byte(i + 1)} })
		pass(time.Second)
		c.Send(w.accept(1))
		pass(time.Second)
		if d, _ := w.counts(); d != 1 {
			t.Error("mail waits behind refusals")
		}
	})
}

// TestRefusalNeedsSureTime finds a refusal on the disk by a clock that is ahead.
func TestRefusalNeedsSureTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, saved := t.TempDir(), filepath.Join(t.TempDir(), "clock")
		open := func() *clock.Clock { return clock.Open(saved, slog.New(slog.DiscardHandler)) }
		now, stop := context.WithCancel(t.Context())
		stop()
		open().Run(now) // saves

		w := newWorld(t)
		w.clock = open()
		c, end := w.carry(t, dir, true)
		refuse(c, 1, func(int) identity.Root { return w.recipient.Root() })
		pass(time.Minute)
		end()
		time.Sleep(2 * Lifetime)

		w.clock = open()
		c, end = w.carry(t, dir, true)
		defer end()
		pass(time.Hour)
		if all, _ := c.carried(); all != 1 {
			t.Fatal("dropped on the word of the own clock")
		}
		w.clock.Agree(time.Now())
		pass(2 * sweepEvery)
		if all, _ := c.carried(); all != 0 {
			t.Error("carried beyond its expiry")
		}
	})
}
