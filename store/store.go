// Package store keeps sealed mail for others and finds places for one's own.
//
// The sealed messages that wait for one inbox are its drop. The ten live nodes nearest to the drop's key are
// its holders; each keeps what it can in a spool, and all of them keep each other complete (upkeep). The package
// has both ends of the two protocols that this takes:
//
//   - [Holder] answers on [DropProtocol]: it takes messages, lists and hands them out to whoever proves the fetch
//     key, deletes them for whoever proves the delete key, and repairs copies with its neighbours;
//   - [Client] puts messages into drops, delivers them directly, collects, deletes and watches;
//   - [Receiver] answers on [DeliverProtocol], where a message comes to the recipient's own machine.
//
// A message is offered by its outer part first, so that what is there already, or was deleted, is not sent again.
// A storage receipt follows only after the bytes are on the disk. Nothing here can open a message.
//
// # On the stream
//
// Both protocols are frames of deterministic CBOR (see internal/wire); bodies follow their frame as bare bytes, since
// their size is known. The one who opened the stream asks, the other answers, one request after the other:
//
//	put     outer part                        → want, then the body → receipt; or receipt; or tombstone
//	nonce                                     → 32 bytes that the proofs on this stream must contain
//	list    up to 16 proofs of fetch keys     → ids and sizes, 1,000 at a time
//	get     a proof that names ids            → outer part and body of each
//	watch   up to 16 proofs                   → a notice for each new message, as long as the stream lasts
//	delete  a tombstone                       → how many messages it met
//	digest  count and exclusive-or of ids     → same or not, for each inbox
//	offer   ids of one inbox                  → those that the other lacks, and tombstones of the rest
//
// Digest and offer are for upkeep. They answer only to nodes near the drop, and only about ids that the asker names,
// so nobody lists a drop without its key. Every answer may instead be a [Refusal], which names the limit that was hit.
package store

import (
	"context"
	"crypto/sha256"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
)

const (
	// DropProtocol is spoken with holders.
	DropProtocol = "/peerpost/drop/1"
	// DeliverProtocol is spoken with the recipient's own machine.
	DeliverProtocol = "/peerpost/deliver/1"
)

// A Neighbourhood knows who is near a key.
type Neighbourhood interface {
	// Nearest returns up to n live nodes, nearest first, oneself among them when one holds mail for others. All
	// have solved the host puzzle. Fewer than n means that there are no more. An error comes with whatever was
	// found until then.
	Nearest(ctx context.Context, key []byte, n int) ([]peer.ID, error)
	// Solved tells at once whether a node has solved the host puzzle, without which it holds no mail for others.
	Solved(p peer.ID) bool
	// Changed has a value whenever the neighbours may have changed since the last one was taken.
	Changed() <-chan struct{}
}

// A Transport opens streams to other nodes.
type Transport interface {
	// Open connects if need be. It returns when the stream can be written to, or when ctx ends.
	Open(ctx context.Context, p peer.ID, protocol string) (Stream, error)
}

// A Stream is one conversation with another node.
type Stream interface {
	io.ReadWriteCloser
	// CloseWrite tells the other side that nothing more comes.
	CloseWrite() error
	// Reset ends the stream at once, for both sides and for calls that are under way.
	Reset() error
	// SetDeadline bounds reads and writes, also those under way.
	SetDeadline(t time.Time) error
	// ReserveMemory asks for n bytes before they are allocated; release gives them back. An error means that the
	// other side has taken its share.
	ReserveMemory(n int) (release func(), err error)
}

// DropKey is what the holders of an inbox are nearest to, as the argument of Nearest. The routing hashes it.
func DropKey(inbox identity.Inbox) []byte {
	return append([]byte("peerpost drop"), inbox[:]...)
}

// distance is how far a node is from a drop, as a number that bytes.Compare orders.
func distance(p peer.ID, inbox identity.Inbox) (d [32]byte) {
	a, b := sha256.Sum256([]byte(p)), sha256.Sum256(DropKey(inbox))
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}
