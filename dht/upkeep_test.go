//go:build !race

// Days of virtual time: see churn_test.go.

package dht

import (
	"errors"
	"flag"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	record "github.com/libp2p/go-libp2p-record"

	"github.com/peerpost/peerpost/identity"
)

// A stored record is put again about a day after anybody did, at the time that
// node and record give; where others do it, every third day all the same.
func TestPutAgainInTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		others time.Duration // how often somebody else puts it to the node
	}{{"by nobody else", 0}, {"by others", 6 * time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t)
				n.configure = func(nd *testNode) { nd.handsOver = false }
				n.grow(2)
				a, b := n.nodes[0], n.nodes[1]
				p := newPerson(t)
				key, rec := identity.RecordKey(p.root()), p.record(t)
				put := func() {
					if err := a.values.Put(t.Context(), key, record.MakePutRecord(key, rec)); err != nil {
						t.Fatal(err)
					}
				}
				put()
				began, last := time.Now(), time.Now()
				for !b.has(p.root()) && time.Since(began) < 5*reputPeriod {
					time.Sleep(time.Minute)
					if c.others > 0 && time.Since(last) >= c.others {
						put()
						last = time.Now()
					}
				}
				want := a.reputAfter(key)
				if want < reputPeriod*3/4 || want > reputPeriod*5/4 {
					t.Errorf("a record is put again after %v", want)
				}
				if c.others > 0 {
					want = reputAnyway * reputPeriod
				}
				if took := time.Since(began); took < want-time.Minute || took > want+2*reputTick {
					t.Errorf("it was put again after %v, want %v", took, want)
				}
			})
		})
	}
}

// Who is silently gone leaves the routing table within five refreshes, whose
// period nobody has to set.
func TestRefreshForgetsTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(16, func(c *Config) { c.Refresh = 0 })
		a, dead := n.nodes[0], n.nodes[15]
		dead.at.Kill()
		n.remove(dead)
		time.Sleep(5 * DefaultRefresh)
		if slices.Contains(a.kad.RoutingTable().ListPeers(), dead.self) {
			t.Error("a dead peer is in the routing table still")
		}
		if got := a.kad.RoutingTable().Size(); got != 14 {
			t.Errorf("%d live peers in the table, want 14", got)
		}
	})
}

// Where everybody is silent a search ends in time, however many there are.
func TestSearchInVainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(3 * searchParallel)
		reader := n.nodes[0]
		for _, nd := range n.nodes[1:] {
			n.wire.Cut(reader.at, nd.at)
		}
		start := time.Now()
		if _, _, err := reader.Resolve(t.Context(), newPerson(t).root()); !errors.Is(err, ErrNotFound) || time.Since(start) > searchTimeout {
			t.Errorf("searched for %v, %v", time.Since(start), err)
		}
		for _, nd := range n.nodes[1:] {
			n.wire.Heal(reader.at, nd.at)
		}
	})
}

var soak = flag.Bool("soak", false, "run TestLargeNetwork with 200 nodes, which takes a minute or two")

// In a large network a record has 20 holders, which are the right ones, and is
// found by whoever looks in a few round trips; the neighbourhoods are exact.
func TestLargeNetwork(t *testing.T) {
	size := crowd
	if *soak {
		size = 200
	}
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(size)
		p := newPerson(t)
		key := identity.RecordKey(p.root())
		res, err := n.nodes[0].Publish(t.Context(), p.record(t))
		if err != nil || res.Acks < replication-1 {
			t.Fatalf("publish: %+v, %v", res, err)
		}
		held := 0
		for _, id := range n.truth(key, replication) {
			if n.byID(id).has(p.root()) {
				held++
			}
		}
		if held < replication-1 {
			t.Errorf("%d of the nearest %d hold the record", held, replication)
		}
		for i := 5; i < len(n.nodes); i += size / 10 {
			nd := n.nodes[i]
			start := time.Now()
			if _, _, err := nd.Resolve(t.Context(), p.root()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > 12*latency {
				t.Errorf("a search took %v", d)
			}
			start = time.Now()
			got, err := nd.Nearest(t.Context(), []byte("a drop"), 10)
			if err != nil || !slices.Equal(got, n.truth("a drop", 10)) {
				t.Errorf("the ten nearest are wrong: %v", err)
			}
			if d := time.Since(start); d > LookupDeadline {
				t.Errorf("a lookup took %v", d)
			}
		}
	})
}
