package store_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
	"github.com/peerpost/peerpost/store/storetest"
)

// pause takes a machine off the network without closing its spool, as when its cable is pulled and its process
// stopped; resume undoes that.
func (m *machine) pause() {
	m.Down()
	m.cancel()
	m.run.Wait()
}

func (m *machine) resume() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	if !m.alone {
		m.run.Go(func() { _ = m.holder.Run(ctx) })
	}
	m.Up()
}

// churn is three days of sixty holders of which one leaves every twelve minutes, each comes back after some hours,
// and one in four of them is stopped for real and opens its spool again. It returns the smallest number of copies
// that a waiting message had among the ten nearest, looked at every ten minutes, and what the holders did.
func churn(t *testing.T, alone bool) (least int, lost int, sum store.UpkeepStatus) {
	const (
		nodes    = 60
		inboxes  = 3
		each     = 10
		days     = 3
		every    = 12 * time.Minute
		step     = 2 * time.Minute
		longest  = 11 * time.Hour
		shortest = time.Hour
	)
	random := rand.New(rand.NewPCG(1, 2))
	net := storetest.New()
	net.Latency = 20 * time.Millisecond
	var holders []*machine
	for range nodes {
		m := newMachine(t, net, noStamps)
		if alone {
			m.pause()
			m.alone = true
			m.resume()
		}
		holders = append(holders, m)
	}
	_, sender := outsider(t, net)
	waiting := make(map[sealed.ID]*storetest.Inbox)
	for range inboxes {
		in := storetest.NewInbox(t)
		for range each {
			m := in.Message(body)
			put(t, sender, m)
			waiting[m.Outer.ID()] = in
		}
	}
	type leave struct {
		m    *machine
		back time.Time
		real bool
	}
	var away []leave
	start := time.Now()
	next := start.Add(every)
	least = store.Copies
	for i := 0; time.Since(start) < days*24*time.Hour; i++ {
		time.Sleep(step)
		now := time.Now()
		away = slices.DeleteFunc(away, func(l leave) bool {
			if now.Before(l.back) {
				return false
			}
			if l.real {
				l.m.start()
			} else {
				l.m.resume()
			}
			return true
		})
		if !now.Before(next) && len(away) < nodes/2 {
			next = next.Add(every)
			m := holders[random.IntN(nodes)]
			if !slices.ContainsFunc(away, func(l leave) bool { return l.m == m }) {
				l := leave{m, now.Add(shortest + time.Duration(random.Int64N(int64(longest-shortest)))), random.IntN(4) == 0}
				if l.real {
					m.stop()
				} else {
					m.pause()
				}
				away = append(away, l)
			}
		}
		if i%5 != 0 {
			continue
		}
		byID := make(map[string]*machine)
		for _, h := range holders {
			byID[string(h.ID)] = h
		}
		lost = 0
		for id, in := range waiting {
			copies := 0
			for _, p := range net.Nearest(store.DropKey(in.Name()), store.Copies) {
				if byID[string(p)].holder.Has(in.Name(), id) {
					copies++
				}
			}
			least = min(least, copies)
			if copies == 0 {
				lost++
			}
		}
	}
	for _, l := range away {
		if l.real {
			l.m.start()
		} else {
			l.m.resume()
		}
	}
	for _, h := range holders {
		u := h.holder.Status().Upkeep
		sum.Rounds += u.Rounds
		sum.Digests += u.Digests
		sum.Same += u.Same
		sum.Pushed += u.Pushed
		sum.PushedBytes += u.PushedBytes
		sum.Taken += u.Taken
		sum.Failed += u.Failed
	}
	return least, lost, sum
}

func TestUpkeepKeepsCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		least, _, did := churn(t, false)
		t.Logf("least %d copies; %+v", least, did)
		if least < 8 {
			t.Errorf("a message had %d of 10 copies", least)
		}
	})
}

func TestWithoutUpkeepCopiesVanish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		least, lost, did := churn(t, true)
		t.Logf("least %d copies, %d messages without any; %+v", least, lost, did)
		if least >= 8 {
			t.Errorf("without upkeep a message still had %d of 10 copies", least)
		}
	})
}
