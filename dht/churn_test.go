//go:build !race

// Days of virtual time are too much for the race detector: in long synctest
// bubbles it fails by itself (golang/go#78156). The other tests run under it.

package dht

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
)

// crowd is how many nodes a scenario has that wants many.
const crowd = 40

// The publisher goes away, and within ten days every node that was there at the
// beginning is replaced. Others keep the record alive by putting it again, and
// by handing it to newcomers. Either is enough; without both the record is lost,
// which shows that the scenario asks for them.
func TestRecordOutlivesItsHolders(t *testing.T) {
	for _, c := range []struct {
		name             string
		reput, handsOver bool
	}{
		{"put again", true, false},
		{"handed over", false, true},
		{"neither", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size, days = 14, 10
				n := newTestNet(t)
				n.configure = func(nd *testNode) {
					nd.handsOver = c.handsOver
					if !c.reput {
						nd.reput = 1000 * reputPeriod
					}
				}
				owner := n.add()
				n.grow(size)
				p := newPerson(t)
				if res, err := owner.Publish(t.Context(), p.record(t)); err != nil || res.Acks < 12 {
					t.Fatalf("publish: %+v, %v", res, err)
				}
				n.remove(owner)
				first := slices.Clone(n.nodes)
				for day := range days {
					// Replacements are silent deaths; newcomers know any node.
					for i := day * size / days; i < (day+1)*size/days; i++ {
						first[i].at.Kill()
						n.remove(first[i])
						n.add().join(n.nodes[len(n.nodes)/2])
					}
					time.Sleep(24 * time.Hour)
				}
				held := 0
				for _, nd := range n.nodes {
					if slices.Contains(first, nd) {
						t.Fatal("not all nodes were replaced")
					}
					if nd.has(p.root()) {
						held++
					}
				}
				t.Logf("%d of %d nodes hold the record", held, len(n.nodes))
				_, _, err := n.nodes[0].Resolve(t.Context(), p.root())
				if want := c.reput || c.handsOver; want && err != nil {
					t.Errorf("the record is lost: %v", err)
				} else if !want && err == nil {
					t.Error("the record survived without upkeep: the test shows nothing")
				}
			})
		})
	}
}

// An expired record is put nowhere, and forgotten.
func TestExpiredRecordGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson(t)
		rec := p.record(t)
		time.Sleep(identity.MaxRecordLife - 24*time.Hour)
		n := newTestNet(t)
		n.grow(3)
		if res, err := n.nodes[0].Publish(t.Context(), rec); err != nil || res.Acks != 2 {
			t.Fatalf("publish: %+v, %v", res, err)
		}
		time.Sleep(4 * 24 * time.Hour)
		for _, nd := range n.nodes {
			if nd.has(p.root()) {
				t.Error("an expired record is still stored")
			}
		}
		if _, _, err := n.nodes[1].Resolve(t.Context(), p.root()); !errors.Is(err, ErrNotFound) {
			t.Errorf("resolving it: %v", err)
		}
	})
}
