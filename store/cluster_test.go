package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/store"
	"github.com/peerpost/peerpost/store/storetest"
)

// noStamps is what holders in most tests ask: stamps cost real time.
var noStamps = store.Limits{StampDiscount: 64}

// body is the size of most messages in tests, the smallest there is.
const body = sealed.MinBody

// machine is a node with a holder and a client.
type machine struct {
	*storetest.Node
	t      testing.TB
	dir    string
	limits store.Limits
	alone  bool // no upkeep
	clock  *clock.Clock

	holder *store.Holder
	client *store.Client
	cancel context.CancelFunc
	run    sync.WaitGroup
}

func newMachine(t testing.TB, net *storetest.Network, limits store.Limits) *machine {
	m := &machine{Node: net.Add(t, true), t: t, dir: t.TempDir(), limits: limits}
	m.start()
	t.Cleanup(m.stop)
	return m
}

// start opens what is in the machine's directory and joins the network.
func (m *machine) start() {
	var err error
	m.holder, err = store.Open(store.HolderConfig{
		Dir: m.dir, Self: m.ID, HostKey: m.Key, Near: m.Node, Dial: m.Node, Clock: m.clock, Limits: m.limits,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.client = store.NewClient(store.ClientConfig{Self: m.ID, Local: m.holder, Near: m.Node, Dial: m.Node, Clock: m.clock})
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.Handle(store.DropProtocol, m.holder.Serve)
	if !m.alone {
		m.run.Go(func() { _ = m.holder.Run(ctx) })
	}
	m.Up()
}

// stop leaves the network and closes the holder, as a machine does that is switched off.
func (m *machine) stop() {
	m.Down()
	m.cancel()
	m.run.Wait()
	m.client.Close()
	if err := m.holder.Close(); err != nil {
		m.t.Error(err)
	}
}

// outsider is a node that only sends and collects.
func outsider(t testing.TB, net *storetest.Network) (*storetest.Node, *store.Client) {
	n := net.Add(t, false)
	c := store.NewClient(store.ClientConfig{Self: n.ID, Near: n, Dial: n})
	t.Cleanup(func() { c.Close() })
	return n, c
}

func cluster(t testing.TB, net *storetest.Network, n int, limits store.Limits) []*machine {
	var ms []*machine
	for range n {
		ms = append(ms, newMachine(t, net, limits))
	}
	return ms
}

// collected gathers what Collect finds.
type collected struct {
	mu  sync.Mutex
	ids map[sealed.ID]int
}

func (c *collected) have(id sealed.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[id] > 0
}

func (c *collected) accept(_ context.Context, m *sealed.Message, _ peer.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil {
		c.ids = make(map[sealed.ID]int)
	}
	c.ids[m.Outer.ID()]++
	return nil
}

func collect(t testing.TB, c *store.Client, keys ...store.FetchKey) (*collected, store.CollectReport) {
	t.Helper()
	var got collected
	r, err := c.Collect(t.Context(), keys, got.have, got.accept)
	if err != nil {
		t.Fatal(err)
	}
	return &got, r
}

// put puts a message and waits until nothing more comes of it.
func put(t testing.TB, c *store.Client, m *sealed.Message, keepers ...peer.ID) store.PutResult {
	t.Helper()
	done := make(chan store.PutResult, 1)
	_, err := c.Put(t.Context(), m, keepers, func(s store.PutState) {
		if s.Done {
			done <- s.PutResult
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return <-done
}

// refusal is the refusal in an error.
func refusal(t testing.TB, err error) *store.Refusal {
	t.Helper()
	r := new(store.Refusal)
	if !errors.As(err, &r) {
		t.Fatalf("no refusal: %v", err)
	}
	return r
}

func TestPutCollectDelete(t *testing.T) {
	for _, n := range []int{1, 2, 3, 12, 25} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := storetest.New()
				net.Latency = 20 * time.Millisecond
				holders := cluster(t, net, n, noStamps)
				_, sender := outsider(t, net)
				_, owner := outsider(t, net)
				in, other := storetest.NewInbox(t), storetest.NewInbox(t)
				var sent []*sealed.Message
				for i := range 5 {
					m := in.Message(body + 100_000*i) // the last two are files of their own
					sent = append(sent, m)
					r := put(t, sender, m)
					wanted := min(n, 10)
					needed := wanted/2 + 1
					if n >= 10 {
						needed = 6
					}
					if len(r.Receipts) != wanted || r.Wanted != wanted || r.Needed != needed || !r.Replicated() {
						t.Fatalf("put: %d receipts, wanted %d, needed %d", len(r.Receipts), r.Wanted, r.Needed)
					}
					put(t, sender, m) // idempotent
				}
				put(t, sender, other.Message(body))

				got, report := collect(t, owner, in.Key(), other.Key())
				if len(got.ids) != 6 || report.Fetched != 6 || report.Failed != 0 {
					t.Fatalf("collected %d, %+v", len(got.ids), report)
				}
				for _, m := range sent {
					if got.ids[m.Outer.ID()] != 1 {
						t.Fatalf("message came %d times", got.ids[m.Outer.ID()])
					}
				}
				for _, r := range report.Inboxes {
					if !r.Complete() || r.AnsweredTen != min(10, n) || r.Answered != min(20, n) {
						t.Fatalf("inbox report %+v", r)
					}
				}
				// What the caller has is not fetched again.
				if r, err := owner.Collect(t.Context(), []store.FetchKey{in.Key()}, got.have, got.accept); err != nil || r.Fetched != 0 || !r.Inboxes[0].Complete() {
					t.Fatalf("second collection: %+v, %v", r, err)
				}

				acks, err := owner.Delete(t.Context(), in.Tombstone(sent[:3]...))
				if err != nil || acks != min(20, n) {
					t.Fatalf("delete: %d acks, %v", acks, err)
				}
				got, _ = collect(t, owner, in.Key())
				if len(got.ids) != 2 || got.have(sent[0].Outer.ID()) {
					t.Fatalf("after delete: %d messages", len(got.ids))
				}
				// A put of a deleted message is answered with the tombstone.
				r, err := sender.Put(t.Context(), sent[0], nil, nil)
				if err != nil || r.Tombstone == nil || len(r.Receipts) > 0 {
					t.Fatalf("put of a deleted message: %+v, %v", r, err)
				}
				sender.Close()
				told := 0
				for _, h := range holders {
					if h.holder.Status().Tombstones == 3 {
						told++
					}
				}
				if told != min(20, n) {
					t.Fatalf("%d holders remember the tombstone", told)
				}
			})
		})
	}
}

// A keeper that is far from the drop hears of a delete at once, and even when nobody else can be found.
func TestDeleteAtKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		holders := cluster(t, net, 22, noStamps)
		_, sender := outsider(t, net)
		node, owner := outsider(t, net)
		in := storetest.NewInbox(t)
		order := net.Nearest(store.DropKey(in.Name()), len(holders))
		keepers := by(holders, order[20:])
		first, second := in.Message(body), in.Message(body)
		put(t, sender, first, order[20:]...)
		put(t, sender, second, order[20:]...)
		if n := copies(keepers, first) + copies(keepers, second); n != 4 {
			t.Fatalf("the keepers have %d copies", n)
		}
		acks, err := owner.Delete(t.Context(), in.Tombstone(first), order[19:]...)
		if err != nil || acks != 22 {
			t.Fatalf("delete: %d acks, %v", acks, err)
		}
		if n := copies(holders, first); n != 0 {
			t.Fatalf("%d copies remain", n)
		}
		for _, h := range by(holders, order[:20]) {
			net.Cut(node, h.Node)
		}
		lost := store.NewClient(store.ClientConfig{Self: node.ID, Near: nobody{node}, Dial: node})
		defer lost.Close()
		acks, err = lost.Delete(t.Context(), in.Tombstone(second), order[20:]...)
		if acks != 2 || !errors.Is(err, store.ErrNoHolders) {
			t.Fatalf("delete without a neighbourhood: %d acks, %v", acks, err)
		}
		if n := copies(keepers, second); n != 0 {
			t.Fatalf("%d copies at the keepers", n)
		}
	})
}

// nobody finds no neighbours.
type nobody struct{ store.Neighbourhood }

func (nobody) Nearest(context.Context, []byte, int) ([]peer.ID, error) { return nil, nil }

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		holders := cluster(t, net, 2, noStamps)
		_, sender := outsider(t, net)
		_, owner := outsider(t, net)
		var inboxes []*storetest.Inbox
		var keys []store.FetchKey
		for range 20 { // two streams
			in := storetest.NewInbox(t)
			inboxes = append(inboxes, in)
			keys = append(keys, in.Key())
		}
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		seen := make(map[sealed.ID]identity.Inbox)
		var watching sync.WaitGroup
		for _, c := range []*store.Client{owner, holders[0].client} {
			watching.Go(func() {
				err := c.Watch(ctx, holders[0].ID, keys, func(in identity.Inbox, ids []sealed.ID) {
					mu.Lock()
					defer mu.Unlock()
					for _, id := range ids {
						seen[id] = in
					}
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("watch ended: %v", err)
				}
			})
		}
		synctest.Wait()
		time.Sleep(time.Hour) // beats keep it alive
		for _, in := range inboxes {
			m := in.Message(body)
			put(t, sender, m)
			synctest.Wait()
			mu.Lock()
			if seen[m.Outer.ID()] != in.Name() {
				t.Fatal("no notice")
			}
			mu.Unlock()
		}
		cancel()
		watching.Wait()
		synctest.Wait()
		if st := holders[0].holder.Status(); st.Watches != 0 || st.Streams != 0 {
			t.Fatalf("status after the watch: %+v", st)
		}

		// A holder that goes away ends the watch.
		done := make(chan error, 1)
		go func() { done <- owner.Watch(t.Context(), holders[0].ID, keys, func(identity.Inbox, []sealed.ID) {}) }()
		synctest.Wait()
		holders[0].Down()
		if err := <-done; err == nil {
			t.Fatal("watch ended without an error")
		}
		holders[0].Up()
	})
}

func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		host := net.Add(t, false)
		_, sender := outsider(t, net)
		in := storetest.NewInbox(t)
		a := &account{inbox: in.Name(), got: make(map[sealed.ID]bool)}
		r := store.NewReceiver(store.ReceiverConfig{HostKey: host.Key, Accept: a})
		host.Handle(store.DeliverProtocol, r.ServeDeliver)
		m := in.Message(300_000)
		m.Outer.Stamp = nil // none is needed
		for i := range 2 {
			receipt, err := sender.Deliver(t.Context(), host.ID, m)
			if err != nil {
				t.Fatal(err)
			}
			sr, err := identity.ParseStorageReceipt(receipt, host.Key.Public())
			if err != nil || sr.ID != m.Outer.ID() {
				t.Fatalf("receipt %+v, %v", sr, err)
			}
			if a.accepted != 1 {
				t.Fatalf("try %d: accepted %d times", i, a.accepted)
			}
		}
		_, err := sender.Deliver(t.Context(), host.ID, storetest.NewInbox(t).Message(body))
		if r := refusal(t, err); r.Code != store.CodeUnknownInbox {
			t.Fatalf("refusal %v", r)
		}
		a.fail = errors.New("disk full, a private matter")
		_, err = sender.Deliver(t.Context(), host.ID, in.Message(body))
		if r := refusal(t, err); r.Code != store.CodeInternal {
			t.Fatalf("refusal %v", r)
		}
		bad := in.Message(body)
		bad.Body[7] ^= 1
		_, err = sender.Deliver(t.Context(), host.ID, bad)
		if r := refusal(t, err); r.Code != store.CodeHash {
			t.Fatalf("refusal %v", r)
		}
	})
}

// A peer that delivers more than its rate is told so, by the numbers; others deliver on, and so does it in a while.
func TestDeliveryRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		host := net.Add(t, false)
		_, busy := outsider(t, net)
		_, other := outsider(t, net)
		in := storetest.NewInbox(t)
		a := &account{inbox: in.Name(), got: make(map[sealed.ID]bool)}
		limits := store.Limits{DeliveryBurst: 5, DeliveriesPerMinute: 2}
		r := store.NewReceiver(store.ReceiverConfig{HostKey: host.Key, Accept: a, Limits: limits})
		host.Handle(store.DeliverProtocol, r.ServeDeliver)
		deliver := func(c *store.Client) error {
			_, err := c.Deliver(t.Context(), host.ID, in.Message(body))
			return err
		}
		for range 5 {
			if err := deliver(busy); err != nil {
				t.Fatal(err)
			}
		}
		err := deliver(busy)
		if r := refusal(t, err); r.Code != store.CodeRate || !strings.Contains(r.Text, "2 deliveries a minute") || !strings.Contains(r.Text, "5 at once") {
			t.Fatalf("refusal %v", r)
		}
		if err := deliver(other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		if err := deliver(busy); err != nil {
			t.Fatal(err)
		}
		if r := refusal(t, deliver(busy)); r.Code != store.CodeRate || a.accepted != 7 {
			t.Fatalf("refusal %v after %d deliveries", r, a.accepted)
		}
	})
}

// account is an Acceptor.
type account struct {
	inbox    identity.Inbox
	got      map[sealed.ID]bool
	accepted int
	fail     error
}

func (a *account) Have(id sealed.ID, _ sealed.Outer) bool { return a.got[id] }

func (a *account) Admit(o sealed.Outer, _ peer.ID) error {
	if o.Inbox != a.inbox {
		return &store.Refusal{Code: store.CodeUnknownInbox, Text: "nobody here has this inbox"}
	}
	return nil
}

func (a *account) Accept(_ context.Context, m *sealed.Message, _ peer.ID) error {
	if a.fail != nil {
		return a.fail
	}
	a.got[m.Outer.ID()] = true
	a.accepted++
	return nil
}

// A month of messages is too many for one list, and too many bytes for one get.
func TestCollectMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		cluster(t, net, 3, store.Limits{StampDiscount: 64, PutBurst: 5000, PeerShare: 1})
		_, sender := outsider(t, net)
		_, owner := outsider(t, net)
		in := storetest.NewInbox(t)
		const n = 1100
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for range n / 4 {
					put(t, sender, in.Message(body))
				}
			})
		}
		work.Wait()
		got, report := collect(t, owner, in.Key())
		if len(got.ids) != n || report.Failed != 0 {
			t.Fatalf("collected %d of %d, %+v", len(got.ids), n, report)
		}
		listed, err := owner.List(t.Context(), net.Nearest(store.DropKey(in.Name()), 1)[0], []store.FetchKey{in.Key()})
		if err != nil || len(listed[in.Name()]) != n {
			t.Fatalf("listed %d, %v", len(listed[in.Name()]), err)
		}
	})
}

// Whoever holds back, lies about content or falls silent hides nothing.
func TestCollectFromLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		net.Silent = true
		holders := cluster(t, net, 12, noStamps)
		_, sender := outsider(t, net)
		_, owner := outsider(t, net)
		in := storetest.NewInbox(t)
		for range 20 {
			put(t, sender, in.Message(body))
		}
		near := net.Nearest(store.DropKey(in.Name()), 10)
		for _, h := range holders {
			switch i := slices.Index(near, h.ID); {
			case i < 0:
			case i < 3: // keeps its messages to itself
				empty := store.HolderConfig{Dir: t.TempDir(), Self: h.ID, HostKey: h.Key, Near: h.Node, Dial: h.Node}
				hiding, err := store.Open(empty)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { hiding.Close() })
				h.Handle(store.DropProtocol, hiding.Serve)
			case i < 6: // falls silent in the middle of the first body
				h.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, remote peer.ID) {
					h.holder.Serve(ctx, &stalling{Stream: s, left: 3000}, remote)
				})
			case i < 8:
				h.Down()
			case i < 9: // sends other bytes
				h.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, remote peer.ID) {
					h.holder.Serve(ctx, &garbling{Stream: s, after: 3000}, remote)
				})
			}
		}
		start := time.Now()
		got, report := collect(t, owner, in.Key())
		if len(got.ids) != 20 {
			t.Fatalf("collected %d of 20, %+v", len(got.ids), report)
		}
		if took := time.Since(start); took > time.Minute {
			t.Fatalf("took %v", took)
		}
		if report.Inboxes[0].AnsweredTen != 10 {
			t.Logf("report %+v", report)
		}
	})
}

// Holders that make up large messages, and send them as slowly as they may, neither hide mail nor keep a collection from
// being complete.
func TestCollectDespiteHogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := storetest.New()
		holders := cluster(t, net, 12, noStamps)
		_, sender := outsider(t, net)
		_, owner := outsider(t, net)
		in := storetest.NewInbox(t)
		near := by(holders, net.Nearest(store.DropKey(in.Name()), 10))
		sent := make(map[sealed.ID]bool)
		for i := range 12 {
			m := in.Message(body)
			if i > 9 {
				m = in.Message(6 << 20)
			}
			sent[m.Outer.ID()] = true
			put(t, sender, m)
		}
		for _, h := range near[:3] {
			alone := store.NewClient(store.ClientConfig{Self: h.ID, Local: h.holder, Near: only{h.Node}, Dial: h.Node})
			if _, err := alone.Put(t.Context(), in.Message(sealed.MaxBody), nil, nil); err != nil {
				t.Fatal(err)
			}
			alone.Close()
			h.Handle(store.DropProtocol, func(ctx context.Context, s store.Stream, remote peer.ID) {
				h.holder.Serve(ctx, trickling{s}, remote)
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		start := time.Now()
		var mu sync.Mutex
		r, err := owner.Collect(ctx, []store.FetchKey{in.Key()}, func(sealed.ID) bool { return false },
			func(_ context.Context, m *sealed.Message, _ peer.ID) error {
				mu.Lock()
				defer mu.Unlock()
				if took := time.Since(start); took > time.Minute {
					t.Errorf("message of %d bytes came after %v", m.Outer.Size, took)
				}
				delete(sent, m.Outer.ID())
				return nil
			})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("collect: %v", err)
		}
		if len(sent) > 0 {
			t.Errorf("%d messages did not come", len(sent))
		}
		if in := r.Inboxes[0]; !in.Complete() || in.AnsweredTen != 7 || in.Failed != 0 || r.Failed != 3 {
			t.Errorf("report %+v", r)
		}
	})
}

// only knows no node but itself.
type only struct{ *storetest.Node }

func (o only) Nearest(context.Context, []byte, int) ([]peer.ID, error) { return []peer.ID{o.ID}, nil }

// trickling writes little more than a peer must.
type trickling struct{ store.Stream }

func (s trickling) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(len(b)) * time.Second / (store.MinRate + 1000))
	return s.Stream.Write(b)
}

// stalling writes so many bytes and then nothing.
type stalling struct {
	store.Stream
	left int
}

func (s *stalling) Write(b []byte) (int, error) {
	if s.left -= len(b); s.left < 0 {
		return len(b), nil
	}
	return s.Stream.Write(b)
}

// garbling changes what it writes after so many bytes.
type garbling struct {
	store.Stream
	after int
}

func (g *garbling) Write(b []byte) (int, error) {
	c := slices.Clone(b)
	for i := range c {
		if g.after--; g.after < 0 {
			c[i] ^= 0x55
		}
	}
	return g.Stream.Write(c)
}
