package dht

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A place is a position in the keyspace.
type place [sha256.Size]byte

func placeOf(key string) place      { return sha256.Sum256([]byte(key)) }
func placeOfPeer(p peer.ID) place   { return placeOf(string(p)) }
func compareIDs(a, b peer.ID) int   { return strings.Compare(string(a), string(b)) }
func (a place) compare(b place) int { return bytes.Compare(a[:], b[:]) }
func (a place) distance(b place) place {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// byDistance sorts peers by their distance from a place, the nearest first.
func byDistance(peers []peer.ID, from place) {
	at := make(map[peer.ID]place, len(peers))
	for _, p := range peers {
		at[p] = placeOfPeer(p).distance(from)
	}
	slices.SortFunc(peers, func(a, b peer.ID) int {
		return cmp.Or(at[a].compare(at[b]), compareIDs(a, b))
	})
}
