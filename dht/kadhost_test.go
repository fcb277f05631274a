package dht

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// Of a server that stops serving, those who are asking are told at once.
func TestStopServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		a, b := n.nodes[0], n.nodes[1]
		s, err := a.host.NewStream(t.Context(), b.self, Protocol)
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
		if _, err := io.ReadAll(s); err == nil || time.Since(start) > time.Second {
			t.Errorf("told after %v: %v", time.Since(start), err)
		}
	})
}
