package dht

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
)

func TestSearchEnds(t *testing.T) {
	found := &identity.Record{}
	for _, c := range []struct {
		best             *identity.Record
		holders, answers int
		late             bool
		want             bool
	}{
		{nil, 0, 0, false, false},
		{nil, 0, 20, false, false},
		{nil, 0, 20, true, false}, // nothing to show: go on
		{found, 1, 1, true, true},
		{found, 0, 3, true, true}, // what is stored here
		{found, searchHolders, searchHolders, false, false},
		{found, searchHolders, searchAnswers, false, true},
		{found, searchHolders - 1, 2 * searchAnswers, false, false},
	} {
		s := &search{best: c.best, holders: c.holders, answers: c.answers}
		if got := s.finished(c.late); got != c.want {
			t.Errorf("record %v, %d holders, %d answers, late %v: %v", c.best != nil, c.holders, c.answers, c.late, got)
		}
	}
}

// The nearest are asked first, a few at a time, the dead not at all, and nobody
// beyond the twenty nearest.
func TestSearchAsksTheNearest(t *testing.T) {
	s := &search{target: placeOf("key"), peers: make(map[peer.ID]*asked)}
	for i := range 40 {
		s.hear(peerNumber(t, i))
	}
	s.sort()
	dead := s.order[3]
	isDead := func(p peer.ID) bool { return p == dead }
	var got []peer.ID
	ask := func() {
		for p, ok := s.next(isDead); ok; p, ok = s.next(isDead) {
			got = append(got, p)
		}
	}
	ask()
	if len(got) != searchParallel {
		t.Fatalf("asked %d at once", len(got))
	}
	for len(got) > 0 && s.inFlight > 0 {
		s.inFlight--
		s.peers[got[s.answers]].stage = answered
		s.answers++
		ask()
	}
	if len(got) != replication {
		t.Errorf("asked %d", len(got))
	}
	for i, p := range got {
		at := i
		if i >= 3 {
			at++
		}
		if p != s.order[at] {
			t.Errorf("number %d to be asked is not the nearest", i)
		}
	}
}

func peerNumber(t *testing.T, i int) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(seeded(t, i, 0))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
