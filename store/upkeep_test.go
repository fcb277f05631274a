package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
	"github.com/peerpost/peerpost/store/storetest"
)

// by finds machines by their ids.
func by(ms []*machine, ids []peer.ID) (found []*machine) {
	for _, id := range ids {
		if i := slices.IndexFunc(ms, func(m *machine) bool { return m.ID == id }); i >= 0 {
			found = append(found, ms[i])
		}
	}
	return found
}

func copies(ms []*machine, m *sealed.Message) (n int) {
	for _, h := range ms {
		if h.holder.Has(m.Outer.Inbox, m.Outer.ID()) {
			n++
		}
	}
	return n
}

// A holder that was away while a message was deleted does not bring it back, and learns of it.
func TestTombstonesArePassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		holders := cluster(t, net, 12, noStamps)
		_, sender := outsider(t, net)
		_, owner := outsider(t, net)
		in := storetest.NewInbox(t)
		near := by(holders, net.Nearest(store.DropKey(in.Name()), 10))
		deleted, kept := in.Message(body), in.Message(body)
		put(t, sender, deleted)
		put(t, sender, kept)
		away := near[3]
		away.stop()
		if _, err := owner.Delete(t.Context(), in.Tombstone(deleted)); err != nil {
			t.Fatal(err)
		}
		// One that gets the tombstone while it has nothing, and one that gets the message after that.
		if n := copies(near[:3], deleted); n != 0 {
			t.Fatalf("%d copies after the delete", n)
		}
		away.start()
		if copies(near, deleted) != 1 {
			t.Fatal("the one that was away has not kept it")
		}
		for range 40 {
			time.Sleep(30 * time.Second)
			if n := copies(holders, deleted); n > 1 {
				t.Fatalf("a deleted message is back at %d holders", n)
			}
		}
		if n := copies(holders, deleted); n != 0 {
			t.Fatalf("%d holders did not learn of the delete", n)
		}
		if n := copies(near, kept); n != 10 {
			t.Fatalf("%d copies of the other message", n)
		}
		if st := away.holder.Status(); st.Tombstones != 1 || st.Upkeep.Learned != 1 {
			t.Fatalf("status %+v", st)
		}
	})
}

// The other way round: a message that only a holder without news of its delete has, offered by nobody else.
func TestTombstoneReachesWhoIsOnlyVisited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		holders := cluster(t, net, 3, noStamps)
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		m, other := in.Message(body), in.Message(body)
		put(t, sender, m)
		put(t, sender, other)
		late := holders[0]
		for _, h := range holders[1:] {
			net.Cut(late.Node, h.Node)
		}
		_, owner := outsider(t, net)
		late.Down()
		if _, err := owner.Delete(t.Context(), in.Tombstone(m)); err != nil {
			t.Fatal(err)
		}
		late.Up()
		for _, h := range holders[1:] {
			net.Heal(late.Node, h.Node)
		}
		time.Sleep(2 * store.UpkeepEvery)
		if n := copies(holders, m); n != 0 {
			t.Fatalf("%d copies", n)
		}
		if n := copies(holders, other); n != 3 {
			t.Fatalf("%d copies of the other", n)
		}
	})
}

// New holders get what waits within a minute or so, at no more than the byte budget.
func TestNewHolderIsFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		net.Latency = 10 * time.Millisecond
		limits := noStamps
		limits.UpkeepRate = 100_000
		holders := cluster(t, net, 3, limits)
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		var all []*sealed.Message
		for range 10 {
			m := in.Message(300_000)
			all = append(all, m)
			put(t, sender, m)
		}
		time.Sleep(time.Hour)
		fresh := newMachine(t, net, limits)
		joined := time.Now()
		var first time.Time
		for n := 0; n < 10; {
			time.Sleep(time.Second)
			n = 0
			for _, m := range all {
				n += copies([]*machine{fresh}, m)
			}
			if n > 0 && first.IsZero() {
				first = time.Now()
			}
			if took := time.Since(joined); took > 2*time.Minute {
				t.Fatalf("%d of 10 after %v", n, took)
			}
		}
		sum := uint64(0)
		for _, h := range holders {
			sum += h.holder.Status().Upkeep.PushedBytes
		}
		// Three holders push at their budgets, each the first message at once; nothing is pushed twice.
		if took := time.Since(first); took < 5*time.Second {
			t.Fatalf("%d bytes in %v", sum, took)
		}
		if sum > 11*300_000 {
			t.Fatalf("%d bytes were pushed for 3,000,000", sum)
		}
		time.Sleep(time.Hour)
		if st := fresh.holder.Status(); st.Messages != 10 || st.Upkeep.Taken != 10 {
			t.Fatalf("status %+v", st)
		}
	})
}

// A message that another holder does not take is in the way of no other one of the inbox.
func TestRefusedCopyIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		cluster(t, net, 1, noStamps)
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		var small []*sealed.Message
		for i := range 30 {
			if i%3 == 0 {
				put(t, sender, in.Message(3<<20))
			}
			m := in.Message(body)
			small = append(small, m)
			put(t, sender, m)
		}
		limits := noStamps
		limits.InboxBytes = 2 << 20
		fresh := newMachine(t, net, limits)
		time.Sleep(2 * time.Minute)
		for _, m := range small {
			if copies([]*machine{fresh}, m) != 1 {
				t.Fatalf("%d copies: %+v", fresh.holder.Status().Messages, fresh.holder.Status().Refused)
			}
		}
	})
}

// A copy is kept when its holder is no longer among the nearest, and is cold then.
func TestColdCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		old := cluster(t, net, 10, noStamps)
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		m := in.Message(body)
		put(t, sender, m)
		all := append(slices.Clone(old), cluster(t, net, 15, noStamps)...)
		time.Sleep(time.Hour)
		near := by(all, net.Nearest(store.DropKey(in.Name()), 10))
		if n := copies(near, m); n != 10 {
			t.Fatalf("%d copies among the nearest", n)
		}
		for _, h := range old {
			cold := 0
			if !slices.Contains(near, h) {
				cold = 1
			}
			if st := h.holder.Status(); st.Messages != 1 || st.Cold != cold {
				t.Fatalf("status %+v, want %d cold", st, cold)
			}
		}
	})
}

// When everybody near a drop has gone, one that is far by now and still has the messages puts them to the new ones.
func TestRescueFromAfar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		first := newMachine(t, net, noStamps)
		others := cluster(t, net, 40, noStamps)
		in := storetest.NewInbox(t)
		for slices.Index(net.Nearest(store.DropKey(in.Name()), 41), first.ID) < 25 {
			in = storetest.NewInbox(t)
		}
		for _, m := range others {
			m.Down()
		}
		_, sender := outsider(t, net)
		put(t, sender, in.Message(body))
		for _, m := range others {
			m.Up()
		}
		time.Sleep(2 * store.UpkeepEvery)
		_, owner := outsider(t, net)
		if got, _ := collect(t, owner, in.Key()); len(got.ids) != 1 {
			t.Fatal("the message is not found")
		}
		if st := first.holder.Status(); st.Upkeep.Rescued != 3 || st.Cold != 1 {
			t.Fatalf("status %+v", st)
		}
	})
}

// few is a node whose lookups find fewer than there are near.
type few struct {
	*storetest.Node
	most int
}

func (f few) Nearest(ctx context.Context, key []byte, n int) ([]peer.ID, error) {
	return f.Node.Nearest(ctx, key, min(n, f.most))
}

// All that is far away is put to the new ones, however much it is, although one message is refused there, and also when
// a lookup does not find all twenty.
func TestRescueIsWhole(t *testing.T) {
	for _, found := range []int{20, 19} {
		synctest.Test(t, func(t *testing.T) {
			net := storetest.New()
			first := net.Add(t, true)
			h, err := store.Open(store.HolderConfig{Dir: t.TempDir(), Self: first.ID, HostKey: first.Key, Near: few{first, found}, Dial: first, Limits: noStamps})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			first.Handle(store.DropProtocol, h.Serve)
			in := storetest.NewInbox(t)
			_, sender := outsider(t, net)
			var all []*sealed.Message
			for range 149 {
				m := in.Message(body)
				all = append(all, m)
				put(t, sender, m)
			}
			large := in.Message(3 << 20)
			put(t, sender, large)
			limits := noStamps
			limits.InboxBytes = 2 << 20
			others := cluster(t, net, 40, limits)
			for slices.Index(net.Nearest(store.DropKey(in.Name()), 41), first.ID) < 25 {
				others = append(others, newMachine(t, net, limits))
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = h.Run(ctx) }()
			time.Sleep(time.Minute)
			if n := h.Status().Upkeep.Rescued; n == 0 || n > 3*100 {
				t.Errorf("%d copies in the first turn", n)
			}
			time.Sleep(9 * time.Minute)
			near := by(others, net.Nearest(store.DropKey(in.Name()), 3))
			for i, m := range all {
				if n := copies(near, m); n < 3 {
					t.Errorf("%d found: message %d has %d copies at the nearest: %+v", found, i, n, h.Status().Upkeep)
					break
				}
			}
			// What was refused is tried again, the rest is there.
			before := h.Status().Upkeep.Rescued
			time.Sleep(3 * store.UpkeepEvery)
			if n := h.Status().Upkeep.Rescued; n != before {
				t.Errorf("%d copies were put again", n-before)
			}
			cancel()
			<-ended
		})
	}
}

// A holder of many inboxes spreads its work.
func TestUpkeepIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		limits := noStamps
		limits.PutBurst = 5000
		holders := cluster(t, net, 2, limits)
		_, sender := outsider(t, net)
		const n = 400
		for range n {
			put(t, sender, storetest.NewInbox(t).Message(body))
		}
		holders[0].stop()
		holders[0].start() // all inboxes are known at once
		last, most := uint64(0), uint64(0)
		for range 45 {
			time.Sleep(time.Minute)
			now := holders[0].holder.Status().Upkeep.Rounds
			most = max(most, now-last)
			last = now
		}
		if last < n || last > 3*n {
			t.Fatalf("%d turns of %d inboxes in 45 minutes", last, n)
		}
		// The turns after the start are quick; those that follow are a thirtieth a minute, give or take.
		last = holders[0].holder.Status().Upkeep.Rounds
		most = 0
		for range 60 {
			time.Sleep(time.Minute)
			now := holders[0].holder.Status().Upkeep.Rounds
			most = max(most, now-last)
			last = now
		}
		if most > n/3 {
			t.Fatalf("%d turns in one minute", most)
		}
	})
}

// A peer that is not near cannot put under the name of upkeep, nor learn what waits.
func TestPutResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		net.Silent = true
		holders := cluster(t, net, 14, noStamps)
		keeper := cluster(t, net, 1, noStamps)[0]
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		near := by(append(slices.Clone(holders), keeper), net.Nearest(store.DropKey(in.Name()), 12))
		far := slices.DeleteFunc(slices.Clone(holders), func(m *machine) bool { return slices.Contains(near, m) })

		// All answer: the two that were asked besides do not count, the keeper does.
		r := put(t, sender, in.Message(body), far[0].ID)
		if len(r.Receipts) != 11 || r.Receipts[far[0].ID] == nil || r.Receipts[near[10].ID] != nil || r.Receipts[near[11].ID] != nil {
			t.Fatalf("%d receipts", len(r.Receipts))
		}
		// Three of the ten fall silent: the two take their places.
		for _, m := range near[:3] {
			m.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, _ peer.ID) { <-ctx.Done() })
		}
		start := time.Now()
		done := make(chan store.PutState, 1)
		r, err := sender.Put(t.Context(), in.Message(body), nil, func(s store.PutState) {
			if s.Done {
				done <- s
			}
		})
		if took := time.Since(start); err != nil || !r.Replicated() || len(r.Receipts) < store.Quorum || took > time.Second {
			t.Fatalf("%d receipts after %v, %v", len(r.Receipts), took, err)
		}
		s := <-done
		if took := time.Since(start); took > store.PeerTime+time.Second {
			t.Fatalf("silent holders took %v", took)
		}
		if len(s.Receipts) != 9 || s.Failed != 3 || s.Receipts[near[11].ID] == nil {
			t.Fatalf("%d receipts, %d failed", len(s.Receipts), s.Failed)
		}
		// Seven silent: five receipts are not six.
		for _, m := range near[3:7] {
			m.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, _ peer.ID) { <-ctx.Done() })
		}
		r, err = sender.Put(t.Context(), in.Message(body), nil, nil)
		if err == nil || r.Replicated() || len(r.Receipts) != 5 || r.Failed != 7 || r.Needed != 6 {
			t.Fatalf("%d receipts, %d failed, %v", len(r.Receipts), r.Failed, err)
		}
		// A receipt of somebody else's key is none.
		for _, m := range near[:7] {
			m.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, remote peer.ID) { near[11].holder.Serve(ctx, s, remote) })
		}
		if r, err = sender.Put(t.Context(), in.Message(body), nil, nil); err == nil || len(r.Receipts) != 5 {
			t.Fatalf("%d receipts, %v", len(r.Receipts), err)
		}
		// With the context the rest ends too.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, m := range near {
			m.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, _ peer.ID) { <-ctx.Done() })
		}
		if _, err = sender.Put(ctx, in.Message(body), nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		sender.Close()
		if took := time.Since(start); took > time.Minute {
			t.Fatalf("took %v", took)
		}
	})
}

// In a small network the majority of those that are there is enough, and of two the other one.
func TestPutInSmallNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		if _, err := sender.Put(t.Context(), in.Message(body), nil, nil); !errors.Is(err, store.ErrNoHolders) {
			t.Fatalf("alone: %v", err)
		}
		if _, err := sender.Collect(t.Context(), []store.FetchKey{in.Key()}, nil, nil); !errors.Is(err, store.ErrNoHolders) {
			t.Fatalf("alone: %v", err)
		}
		holders := cluster(t, net, 5, noStamps)
		for dead := range 5 {
			if dead > 0 { // known to all and gone
				holders[dead].Handle(store.DropProtocol, nil)
			}
			r := put(t, sender, in.Message(body))
			live := 5 - dead
			if len(r.Receipts) != live || r.Needed != live/2+1 {
				t.Fatalf("%d live: %d receipts, needed %d", live, len(r.Receipts), r.Needed)
			}
		}
		// The node itself may be the only holder.
		r, err := holders[0].client.Put(t.Context(), in.Message(body), nil, nil)
		if err != nil || !r.Replicated() {
			t.Fatal(err)
		}
	})
}

// A stamp is made when none is there, and made stronger when a holder asks.
func TestPutStamps(t *testing.T) {
	net := storetest.New()
	cluster(t, net, 1, store.Limits{StampDiscount: 10, InboxMessages: 3, PeerShare: 1})
	_, sender := outsider(t, net)
	in := storetest.NewInbox(t)
	for i := range 3 { // 8, 9 and 10 bits
		m := in.Message(body)
		m.Outer.Stamp = &sealed.Stamp{Nonce: 1 << 63}
		if r := put(t, sender, m); len(r.Receipts) != 1 {
			t.Fatalf("message %d: %d receipts", i, len(r.Receipts))
		}
	}
	_, err := sender.Put(t.Context(), in.Message(body), nil, nil)
	if r := refusal(t, err); r.Code != store.CodeInboxMessages {
		t.Fatal(r)
	}
	net = storetest.New()
	cluster(t, net, 1, store.Limits{})
	_, sender = outsider(t, net)
	m := in.Message(body)
	m.Outer.Stamp = nil
	if r := put(t, sender, m); len(r.Receipts) != 1 {
		t.Fatalf("%d receipts", len(r.Receipts))
	}
	if m.Outer.Stamp != nil {
		t.Fatal("the caller's message was changed")
	}
}

// Large messages that one sender puts at once are taken one after the other.
func TestPutsOfLargeBodiesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		holder := cluster(t, net, 1, noStamps)[0]
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		var work sync.WaitGroup
		for range 10 {
			m := in.Message(10 << 20)
			work.Go(func() {
				if r, err := sender.Put(t.Context(), m, nil, nil); err != nil || len(r.Receipts) != 1 {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if st := holder.holder.Status(); st.Messages != 10 || st.Refused[store.CodeMemory] == 0 {
			t.Fatalf("%d messages, refused %v", st.Messages, st.Refused)
		}
	})
}

// Getting what a notice named, from one holder.
func TestGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		h := cluster(t, net, 1, noStamps)[0]
		_, sender := outsider(t, net)
		_, owner := outsider(t, net)
		in := storetest.NewInbox(t)
		var ids []sealed.ID
		for range 5 {
			m := in.Message(5 << 20) // more than one get carries
			put(t, sender, m)
			ids = append(ids, m.Outer.ID())
		}
		ids = append(ids, sealed.ID{1})
		for _, c := range []*store.Client{owner, h.client} {
			var got collected
			missing, err := c.Get(t.Context(), h.ID, in.Key(), ids, got.accept)
			if err != nil || len(missing) != 1 || len(got.ids) != 5 {
				t.Fatalf("%d came, %d missing, %v", len(got.ids), len(missing), err)
			}
		}
		full := errors.New("disk full")
		if _, err := owner.Get(t.Context(), h.ID, in.Key(), ids, func(context.Context, *sealed.Message, peer.ID) error { return full }); !errors.Is(err, full) {
			t.Fatal(err)
		}
		_, report := collectFailing(t, owner, in.Key())
		if report.Failed != 5 || report.Inboxes[0].Complete() {
			t.Fatalf("report %+v", report)
		}
	})
}

func collectFailing(t *testing.T, c *store.Client, key store.FetchKey) (*collected, store.CollectReport) {
	t.Helper()
	r, err := c.Collect(t.Context(), []store.FetchKey{key}, func(sealed.ID) bool { return false },
		func(context.Context, *sealed.Message, peer.ID) error { return errors.New("disk full") })
	if err != nil {
		t.Fatal(err)
	}
	return nil, r
}

// Holders that take all they are offered, as slowly as they may, do not keep others from getting their copies.
func TestSlowHoldersAreInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		limits := noStamps
		limits.PutBurst = 100_000
		old := newMachine(t, net, limits)
		var slow []*storetest.Node
		for range 2 {
			n := net.Add(t, true)
			n.Handle(store.DropProtocol, store.Slow(n.Key))
			n.Down()
			slow = append(slow, n)
		}
		fresh := newMachine(t, net, limits)
		fresh.Down()
		_, sender := outsider(t, net)
		for range 80 {
			in := storetest.NewInbox(t)
			for range 10 {
				put(t, sender, in.Message(body))
			}
		}
		for _, n := range slow {
			n.Up()
		}
		time.Sleep(10 * time.Minute)
		in := storetest.NewInbox(t)
		m := in.Message(body)
		put(t, sender, m)
		if copies([]*machine{old}, m) != 1 || copies([]*machine{fresh}, m) != 0 {
			t.Fatal("the message is not where it should be")
		}
		fresh.Up()
		for start := time.Now(); copies([]*machine{fresh}, m) == 0; time.Sleep(10 * time.Second) {
			if took := time.Since(start); took > 2*time.Minute {
				t.Fatalf("no copy after %v: %+v", took, old.holder.Status().Upkeep)
			}
		}
	})
}

// lost is a node that takes its time to find others.
type lost struct {
	*storetest.Node
	takes time.Duration
}

func (l lost) Nearest(ctx context.Context, key []byte, n int) ([]peer.ID, error) {
	select {
	case <-time.After(l.takes):
		return l.Node.Nearest(ctx, key, n)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Slow lookups do not keep a holder of many inboxes from their turns.
func TestTurnsDespiteSlowLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		const inboxes = 300
		n := net.Add(t, true)
		h, err := store.Open(store.HolderConfig{Dir: t.TempDir(), Self: n.ID, HostKey: n.Key, Near: lost{n, 3 * time.Second}, Dial: n, Limits: noStamps})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		n.Handle(store.DropProtocol, h.Serve)
		_, sender := outsider(t, net)
		for range inboxes {
			put(t, sender, storetest.NewInbox(t).Message(body))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = h.Run(ctx) }()
		time.Sleep(2*time.Minute + 30*time.Second)
		if n := h.Status().Upkeep.Rounds; n < inboxes {
			t.Errorf("%d turns of %d inboxes", n, inboxes)
		}
		cancel()
		<-ended
	})
}
