package dht

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
)

func TestTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		a, b := n.nodes[0], n.nodes[1]
		p := newPerson(t)
		rec := p.record(t)
		res, err := a.Publish(t.Context(), rec)
		if err != nil || res != (PublishResult{Acks: 1, Asked: 1}) {
			t.Fatalf("publish: %+v, %v", res, err)
		}
		for _, nd := range n.nodes {
			got, raw, err := nd.Resolve(t.Context(), p.root())
			if err != nil {
				t.Fatal(err)
			}
			if got.Sequence != 1 || string(raw) != string(rec) {
				t.Errorf("resolved sequence %d, %d bytes", got.Sequence, len(raw))
			}
		}
		if a.Peers() != 1 || b.Peers() != 1 {
			t.Errorf("peers: %d and %d, want 1", a.Peers(), b.Peers())
		}
		if _, _, err := b.Resolve(t.Context(), newPerson(t).root()); !errors.Is(err, ErrNotFound) {
			t.Errorf("a stranger: %v", err)
		}
	})
}

// A node that is alone stores what it publishes; whoever comes later gets it
// soon, also when the publisher has gone meanwhile.
func TestLateComers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		a := n.add()
		p := newPerson(t)
		res, err := a.Publish(t.Context(), p.record(t))
		if err != nil || res != (PublishResult{}) {
			t.Fatalf("publish alone: %+v, %v", res, err)
		}
		if _, _, err := a.Resolve(t.Context(), p.root()); err != nil {
			t.Fatalf("resolve alone: %v", err)
		}
		b := n.add()
		b.join(a)
		time.Sleep(15 * time.Second)
		if !b.has(p.root()) {
			t.Fatal("the second node did not get the record")
		}
		n.remove(a)
		time.Sleep(time.Minute)
		c := n.add()
		c.join(b)
		time.Sleep(15 * time.Second)
		if !c.has(p.root()) {
			t.Fatal("the third node did not get the record")
		}
	})
}

// A client that had no network when it published does it again when it has.
func TestClientPublishesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		server := n.add()
		client := n.add(func(c *Config) { c.Mode = Client })
		p := newPerson(t)
		if res, err := client.Publish(t.Context(), p.record(t)); err != nil || res.Acks != 0 {
			t.Fatalf("publish: %+v, %v", res, err)
		}
		client.join(server)
		time.Sleep(15 * time.Second)
		if !server.has(p.root()) {
			t.Error("the record did not arrive")
		}
		if server.Peers() != 0 || client.Peers() != 1 {
			t.Errorf("peers: the server has %d, the client %d", server.Peers(), client.Peers())
		}
	})
}

func TestPublishCountsAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(8)
		p := newPerson(t)
		first := p.record(t)
		second := p.record(t)
		// Two nodes hold a newer record and will not take an older one; two are
		// silent.
		for _, nd := range n.nodes[1:3] {
			if _, err := nd.Publish(t.Context(), second); err != nil {
				t.Fatal(err)
			}
		}
		for _, nd := range n.nodes[3:] {
			for _, e := range nd.store.list() {
				if err := nd.store.Delete(t.Context(), e.at); err != nil {
					t.Fatal(err)
				}
			}
		}
		a := n.nodes[0]
		for _, e := range a.store.list() {
			if err := a.store.Delete(t.Context(), e.at); err != nil {
				t.Fatal(err)
			}
		}
		n.wire.Cut(a.at, n.nodes[3].at)
		n.wire.Cut(a.at, n.nodes[4].at)
		res, err := a.Publish(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		if res.Acks != 3 {
			t.Errorf("%d acknowledgements, want 3 of the 7 others (asked %d)", res.Acks, res.Asked)
		}
		if _, err := n.nodes[1].Publish(t.Context(), first); !errors.Is(err, ErrOlder) {
			t.Errorf("publishing an older record: %v", err)
		}
		got, _, err := a.Resolve(t.Context(), p.root())
		if err != nil || got.Sequence != 2 {
			t.Errorf("resolved %v, %v; want the newer record", sequence(got), err)
		}
	})
}

func TestPublishRefusesNonsense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expired := newPerson(t).record(t)
		time.Sleep(identity.MaxRecordLife + 2*clockTolerance)
		a := newTestNet(t).add()
		if _, err := a.Publish(t.Context(), expired); !errors.Is(err, identity.ErrExpired) {
			t.Errorf("publishing an expired record: %v", err)
		}
		broken := newPerson(t).record(t)
		broken[len(broken)-1] ^= 1
		if _, err := a.Publish(t.Context(), broken); err == nil {
			t.Error("published a record with a broken signature")
		}
	})
}

func TestResolveIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(crowd)
		p := newPerson(t)
		res, err := n.nodes[0].Publish(t.Context(), p.record(t))
		if err != nil || res.Acks < 15 {
			t.Fatalf("publish: %+v, %v", res, err)
		}
		for _, nd := range n.nodes[crowd/2:] {
			start := time.Now()
			if _, _, err := nd.Resolve(t.Context(), p.root()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > 4*latency {
				t.Errorf("a search took %v; a round trip takes %v", d, 2*latency)
			}
		}
	})
}

// Whoever searches in vain for a while takes the best there is in time, and
// corrects those of the neighbourhood who were behind.
func TestResolveCorrects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(7)
		p := newPerson(t)
		old, newer := p.record(t), p.record(t)
		forget := func(nd *testNode) {
			for _, e := range nd.store.list() {
				if err := nd.store.Delete(t.Context(), e.at); err != nil {
					t.Fatal(err)
				}
			}
		}
		holds := func(nd *testNode) uint64 {
			rec, err := nd.values.Get(t.Context(), identity.RecordKey(p.root()))
			if err != nil || rec == nil {
				return 0
			}
			parsed, err := identity.ParseRecord(rec.GetValue())
			if err != nil {
				t.Fatal(err)
			}
			return parsed.Sequence
		}
		if _, err := n.nodes[0].Publish(t.Context(), newer); err != nil {
			t.Fatal(err)
		}
		// Two nodes know nothing, two an older record.
		for _, nd := range n.nodes[1:5] {
			forget(nd)
		}
		for _, nd := range n.nodes[3:5] {
			key := identity.RecordKey(p.root())
			if err := nd.values.Put(t.Context(), key, record.MakePutRecord(key, old)); err != nil {
				t.Fatal(err)
			}
		}
		if got := []uint64{holds(n.nodes[0]), holds(n.nodes[1]), holds(n.nodes[3])}; !slices.Equal(got, []uint64{2, 0, 1}) {
			t.Fatalf("the nodes hold %v", got)
		}
		got, _, err := n.nodes[6].Resolve(t.Context(), p.root())
		if err != nil || got.Sequence != 2 {
			t.Fatalf("resolved %v, %v", sequence(got), err)
		}
		time.Sleep(time.Second)
		for i, nd := range n.nodes {
			if holds(nd) != 2 {
				t.Errorf("node %d holds %d", i, holds(nd))
			}
		}
		// One node is silent: the answer is there in time all the same.
		n.wire.Cut(n.nodes[6].at, n.nodes[2].at)
		start := time.Now()
		if _, _, err := n.nodes[6].Resolve(t.Context(), p.root()); err != nil || time.Since(start) > LookupDeadline {
			t.Errorf("resolved after %v, %v", time.Since(start), err)
		}
		start = time.Now()
		if _, _, err := n.nodes[6].Resolve(t.Context(), newPerson(t).root()); !errors.Is(err, ErrNotFound) || time.Since(start) > searchTimeout {
			t.Errorf("searched in vain for %v, %v", time.Since(start), err)
		}
		n.wire.Heal(n.nodes[6].at, n.nodes[2].at)
	})
}

// With a fifth of the nodes silently dead, the ten nearest live ones are found
// in time, records are still found at once, and the second answer leaves the
// dead out.
func TestAFifthIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(crowd)
		p := newPerson(t)
		if res, err := n.nodes[0].Publish(t.Context(), p.record(t)); err != nil || res.Acks < 19 {
			t.Fatalf("publish: %+v, %v", res, err)
		}
		for i := 0; i < crowd; i += 5 {
			n.nodes[i].at.Kill()
		}
		var live []*testNode
		for i, nd := range slices.Clone(n.nodes) {
			if i%5 == 0 {
				n.remove(nd)
			} else {
				live = append(live, nd)
			}
		}
		time.Sleep(time.Minute) // connections have failed, tables have not noticed
		const key = "peerpost drop: a key"
		want := n.truth(key, 10)
		for _, nd := range live[:8] {
			start := time.Now()
			got, err := nd.Nearest(t.Context(), []byte(key), 20)
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > LookupDeadline {
				t.Errorf("a lookup took %v", d)
			}
			for _, id := range want {
				if !slices.Contains(got, id) {
					t.Errorf("a live node is missing from the first answer")
				}
			}
			time.Sleep(2 * PeerTimeout) // the dead are being tried
			got, err = nd.Nearest(t.Context(), []byte(key), 10)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("the second answer is not the ten nearest live nodes")
			}
			for _, p := range nd.kad.RoutingTable().NearestPeers(kbucket.ConvertKey(key), 10) {
				if n.byID(p) == nil {
					t.Error("a dead node near the key is in the routing table still")
				}
			}
			start = time.Now()
			if _, _, err := nd.Resolve(t.Context(), p.root()); err != nil {
				t.Error(err)
			}
			if d := time.Since(start); d > 20*latency {
				t.Errorf("a search took %v", d)
			}
		}
	})
}

// The neighbourhood is exact where everybody lives, contains ourselves, and is
// looked up once for many questions.
func TestNearest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(crowd)
		for _, key := range []string{"one", "two", "three"} {
			want := n.truth(key, 10)
			for _, nd := range append(n.nodes[:5:5], n.byID(want[0])) {
				got, err := nd.Nearest(t.Context(), []byte(key), 10)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("the ten nearest to %q are wrong", key)
				}
				start := time.Now()
				if _, err := nd.Nearest(t.Context(), []byte(key), 10); err != nil || time.Since(start) != 0 {
					t.Errorf("the second answer took %v, %v", time.Since(start), err)
				}
			}
		}
		// A newcomer that is the nearest of all is noticed before the answer is old.
		const key = "one"
		for {
			nd := n.add()
			if n.truth(key, 10)[0] == nd.self {
				nd.join(n.nodes[0])
				break
			}
			n.remove(nd)
		}
		a := n.nodes[0]
		time.Sleep(changePatience + changeQuiet)
		got, err := a.Nearest(t.Context(), []byte(key), 10)
		if err != nil || !slices.Equal(got, n.truth(key, 10)) {
			t.Errorf("the newcomer is missing: %v", err)
		}
	})
}

func TestNearestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		server := n.add()
		client := n.add(func(c *Config) { c.Mode = Client })
		if got, err := server.Nearest(t.Context(), []byte("key"), 10); err != nil || !slices.Equal(got, []peer.ID{server.self}) {
			t.Errorf("a server alone: %v, %v", got, err)
		}
		if got, err := client.Nearest(t.Context(), []byte("key"), 10); err != nil || len(got) != 0 {
			t.Errorf("a client alone: %v, %v", got, err)
		}
	})
}

// Servers whose key does not satisfy the puzzle are in nobody's table, and in
// no neighbourhood, even if they are the nearest, and even if some servers that
// do not care name them to others.
func TestPuzzle(t *testing.T) {
	const bits = 3
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		puzzled := func(c *Config) { c.PuzzleBits = bits }
		n.bits = bits
		n.grow(8, puzzled)
		n.grow(4) // solve it, but do not ask it of others
		n.bits = 0
		n.grow(12)
		solved := func(p peer.ID) bool { return n.nodes[0].puzzled(p) }
		var without int
		for _, nd := range n.nodes {
			if !solved(nd.self) {
				without++
			}
		}
		for _, nd := range n.nodes[:8] {
			got, err := nd.Nearest(t.Context(), []byte("key"), 20)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) < 8 || !slices.Equal(got, slices.DeleteFunc(slices.Clone(got), func(p peer.ID) bool { return !solved(p) })) {
				t.Errorf("%d neighbours, or some without a solution", len(got))
			}
			for _, p := range nd.kad.RoutingTable().ListPeers() {
				if !solved(p) {
					t.Error("a peer without a solution is in a routing table")
				}
			}
		}
		if without < 6 {
			t.Fatalf("only %d nodes without a solution: the test shows nothing", without)
		}
	})
}

// On a public network at most two of one address block are chosen. The same
// addresses would not matter on a LAN: see TestNearest, where all are of one.
func TestAtMostTwoPerBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		for i := range 24 {
			block := i / 2 // a dozen blocks with two nodes each
			if i >= 12 {
				block = 100 // and one with a dozen
			}
			at, err := n.wire.NodeAt(addr(t, fmt.Sprintf("5.%d.%d.1", block, i)))
			if err != nil {
				t.Fatal(err)
			}
			nd := n.addAt(at)
			if i > 0 {
				nd.join(n.nodes[0])
			}
		}
		time.Sleep(15 * time.Second)
		crowded := 0
		for _, key := range []string{"one", "two", "three", "four"} {
			perBlock := func(ids []peer.ID) int {
				blocks, most := make(map[string]int), 0
				for _, id := range ids {
					g, ok := addressGroup(n.byID(id).host.Addrs()[0])
					if !ok {
						t.Fatal("a public address without a block")
					}
					blocks[g]++
					most = max(most, blocks[g])
				}
				return most
			}
			crowded = max(crowded, perBlock(n.truth(key, 10)))
			for _, nd := range n.nodes[:3] {
				got, err := nd.Nearest(t.Context(), []byte(key), 10)
				if err != nil {
					t.Fatal(err)
				}
				if most := perBlock(got); len(got) < 6 || most > maxPerGroup {
					t.Errorf("%d neighbours, %d of one block", len(got), most)
				}
			}
		}
		if crowded <= maxPerGroup {
			t.Fatal("no neighbourhood is crowded: the test shows nothing")
		}
	})
}

func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(3)
		a := n.nodes[0]
		drain := func() (tokens int) {
			for {
				select {
				case <-a.Changed():
					tokens++
				default:
					return tokens
				}
			}
		}
		if drain() == 0 {
			t.Error("nothing was said of the first neighbours")
		}
		time.Sleep(time.Hour)
		drain()
		time.Sleep(time.Hour)
		if drain() != 0 {
			t.Error("a change was announced while nothing changed")
		}
		n.remove(n.nodes[2])
		time.Sleep(10 * time.Minute)
		if drain() == 0 {
			t.Error("a server left unnoticed")
		}
		n.add().join(a)
		time.Sleep(time.Minute)
		if drain() == 0 {
			t.Error("a server joined unnoticed")
		}
		client := n.add(func(c *Config) { c.Mode = Client })
		client.join(a)
		time.Sleep(time.Minute)
		if drain() != 0 {
			t.Error("a client is no neighbour")
		}
	})
}
