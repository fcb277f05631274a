package store_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/store/storetest"
)

const day = 24 * time.Hour

// away is a machine that held a message and was off for so long that it has expired, or whose clock says so. What was
// deleted at it before is another.
func away(t *testing.T, net *storetest.Network) (m *machine, in *storetest.Inbox, held func() bool) {
	m = newMachine(t, net, noStamps)
	in = storetest.NewInbox(t)
	_, sender := outsider(t, net)
	msg, gone := in.Message(body), in.Message(body)
	put(t, sender, msg)
	put(t, sender, gone)
	if n, err := sender.Delete(t.Context(), in.Tombstone(gone)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	m.stop()
	path := filepath.Join(m.dir, "clock")
	open := func() *clock.Clock { return clock.Open(path, slog.New(slog.DiscardHandler)) }
	save(t, open())
	time.Sleep(60 * day)
	m.clock = open()
	m.start()
	return m, in, func() bool {
		st := m.holder.Status()
		kept := m.holder.Has(in.Name(), msg.Outer.ID())
		if kept != (st.Tombstones == 1) || kept != (st.Messages == 1) {
			t.Errorf("held %v, and %d messages and %d tombstones", kept, st.Messages, st.Tombstones)
		}
		return kept
	}
}

// save lets a clock save what it is sure of.
func save(t *testing.T, c *clock.Clock) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	c.Run(ctx)
}

// A holder that was off for two months, by its clock, drops nothing before others have shown that it is right.
func TestHolderAfterLongTimeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		m, in, held := away(t, net)
		time.Sleep(5*day + time.Minute) // between two looks for what has expired
		if !held() {
			t.Fatal("dropped on the word of the own clock")
		}
		_, owner := outsider(t, net)
		if got, _ := collect(t, owner, in.Key()); len(got.ids) != 1 {
			t.Error("what is held was not handed out")
		}
		time.Sleep(time.Hour)
		if held() {
			t.Error("kept though somebody has proved something with that date")
		}
		if !m.clock.Sure().Equal(time.Now()) {
			t.Errorf("sure of %v", m.clock.Sure())
		}
	})
}

// With nobody who proves anything, what is held goes after it was kept for its time.
func TestHolderWithoutVisitors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, held := away(t, storetest.New())
		time.Sleep(30 * day)
		if !held() {
			t.Error("dropped before its time")
		}
		time.Sleep(3 * day)
		if held() {
			t.Error("kept for ever")
		}
	})
}

// Who collects is sure of the time when others have taken its proofs, and not when only its own holder was there.
func TestCollectShowsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		m, in, held := away(t, net)
		collect(t, m.client, in.Key())
		if time.Since(m.clock.Sure()) < 59*day || !held() {
			t.Errorf("alone, it is sure of %v", m.clock.Sure())
		}
		cluster(t, net, 3, noStamps)
		collect(t, m.client, in.Key())
		if d := time.Since(m.clock.Sure()); d > time.Minute {
			t.Errorf("with others it is %v behind", d)
		}
	})
}
