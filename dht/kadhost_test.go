package dht

import (
	"testing"
	"testing/synctest"
	"time"
)

// A peer that takes a request and says nothing costs PeerTimeout, not the 10 s
// of the library.
func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		a, b := n.nodes[0], n.nodes[1]
		s, err := a.kh.NewStream(t.Context(), b.self, Protocol)
		if err != nil {
			t.Fatal(err)
		}
		n.wire.Cut(a.at, b.at)
		start := time.Now()
		if _, err := s.Write([]byte("a request")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); err == nil || time.Since(start) != PeerTimeout {
			t.Errorf("gave up after %v: %v", time.Since(start), err)
		}
		s.Reset()
		n.wire.Heal(a.at, b.at)
	})
}

// Of a server that stops serving, those who are asking are told at once.
func TestStopServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		a, b := n.nodes[0], n.nodes[1]
		s, err := a.kh.NewStream(t.Context(), b.self, Protocol)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if _, err := s.Write([]byte{1}); err != nil { // half a request
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		start := time.Now()
		if !b.kh.serve(false) || b.kh.serve(false) {
			t.Error("what is news is told wrongly")
		}
		if _, err := s.Read(make([]byte, 100)); err == nil || time.Since(start) > time.Second {
			t.Errorf("told after %v: %v", time.Since(start), err)
		}
	})
}
