package dht

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"

	"github.com/peerpost/peerpost/identity"
)

func TestIntake(t *testing.T) {
	i, now := newIntake(), time.Unix(1<<31, 0)
	allowed := func(from string) (n int) {
		for i.allow(from, now) {
			n++
		}
		return n
	}
	if got := allowed("a"); got != newBurst {
		t.Errorf("%d at once, want %d", got, newBurst)
	}
	now = now.Add(time.Minute)
	if got := allowed("a"); got != newPerMinute {
		t.Errorf("%d in a minute, want %d", got, newPerMinute)
	}
	if !i.allow("b", now) {
		t.Error("another block pays for the first")
	}
	now = now.Add(-time.Hour)
	if i.allow("a", now) {
		t.Error("a clock that was set back gives tokens")
	}
	now = now.Add(24 * time.Hour)
	if got := allowed("a"); got != newBurst {
		t.Errorf("%d after a day, want %d", got, newBurst)
	}
	// More blocks than can be told apart share one allowance, until others have
	// rested.
	for b := range 2 * maxIntake {
		i.allow(fmt.Sprint("block ", b), now)
	}
	if len(i.blocks) > maxIntake+1 {
		t.Errorf("%d blocks are remembered", len(i.blocks))
	}
	now = now.Add(time.Hour)
	i.allow("another", now)
	if len(i.blocks) > 2 {
		t.Errorf("%d blocks are remembered after an hour", len(i.blocks))
	}
}

// putRecord puts a person's record to a node and tells whether it was taken.
func (nd *testNode) putRecord(to *testNode, p *person) bool {
	key := identity.RecordKey(p.root())
	m := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
	m.Record = record.MakePutRecord(key, p.record(nd.net.t))
	return nd.putRaw(to, m)
}

// New records from one place are bounded in time; what is stored already is not
// counted, nor what comes from elsewhere.
func TestNewRecordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		server := n.addPublic("5.1.0.1")
		client := func(c *Config) { c.Mode = Client }
		a, neighbour, b := n.addPublic("5.2.0.1", client), n.addPublic("5.2.0.2", client), n.addPublic("5.3.0.1", client)
		known := newPerson(t)
		if !a.putRecord(server, known) {
			t.Fatal("the first record was refused")
		}
		if !neighbour.putRecord(server, known) {
			t.Fatal("a newer record was refused")
		}
		for _, nd := range []*testNode{a, neighbour} { // connected, so that no time passes
			for server.intake.allow("5.2.0.0", time.Now()) {
			}
			if p := newPerson(t); nd.putRecord(server, p) || server.has(p.root()) {
				t.Error("a block puts what it likes")
			}
		}
		if !a.putRecord(server, known) {
			t.Error("a newer record of somebody who is known was refused")
		}
		if !b.putRecord(server, newPerson(t)) {
			t.Error("another block pays for the first")
		}
		time.Sleep(time.Minute)
		if !a.putRecord(server, newPerson(t)) {
			t.Error("the block is refused for good")
		}
	})
}

// Somebody makes junk that is nearer to a node than everything real, and more
// than it can store. What was there stays, also what comes later from elsewhere
// finds its place, and whoever finds none is told.
func TestJunkPushesNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 4 * blockShare
		n := newTestNet(t)
		server := n.addPublic("5.1.0.1", func(c *Config) { c.MaxRecords = room })
		owner := n.addPublic("5.2.0.1", func(c *Config) { c.Mode = Client })
		attacker := n.addPublic("5.3.0.1", func(c *Config) { c.Mode = Client })
		owner.join(server)
		var real, junk []*person
		for range 3 * room {
			p := newPerson(t)
			near := placeOf(identity.RecordKey(p.root())).distance(placeOfPeer(server.self))[0] < 0x80
			switch {
			case near:
				junk = append(junk, p)
			case len(real) < 4:
				real = append(real, p)
			}
		}
		publish := func(p *person) int {
			t.Helper()
			res, err := owner.Publish(t.Context(), p.record(t))
			if err != nil {
				t.Fatal(err)
			}
			return res.Acks
		}
		for _, p := range real[:2] {
			if publish(p) != 1 {
				t.Fatal("there is room, and nothing was stored")
			}
		}
		time.Sleep(settledAfter)
		taken := 0
		for _, p := range junk {
			if attacker.putRecord(server, p) {
				taken++
			}
		}
		if taken < room-2 || len(server.store.list()) != room {
			t.Fatalf("%d of %d taken: the test shows nothing", taken, len(junk))
		}
		for _, p := range real[2:] {
			if publish(p) != 1 {
				t.Error("a new record found no place among the junk of one block")
			}
		}
		for _, p := range real {
			if !server.has(p.root()) {
				t.Error("a record was pushed out")
			}
		}
		if attacker.putRecord(server, newPerson(t)) && len(server.store.list()) != room {
			t.Error("more is stored than there is room for")
		}
	})
}
