package node

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/store/storetest"
)

// Who has not solved the host puzzle holds no mail for others.
func TestNeighbourhoodKnowsWhoSolved(t *testing.T) {
	key, err := identity.GenerateHostKey(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	id := storetest.PeerID(key)
	bits := identity.PuzzleBits(key.Public())
	for _, c := range []struct {
		peer peer.ID
		bits int
		want bool
	}{
		{id, 4, true}, {id, bits, true}, {id, bits + 1, false}, {"nobody", 1, false}, {"nobody", 0, true},
	} {
		if got := (&neighbourhood{bits: c.bits}).Solved(c.peer); got != c.want {
			t.Errorf("%q with %d bits: %t", c.peer, c.bits, got)
		}
	}
}
