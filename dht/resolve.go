package dht

import (
	"context"
	"fmt"
	"time"

	kaddht "github.com/libp2p/go-libp2p-kad-dht"

	"github.com/peerpost/peerpost/identity"
)

const (
	// resolveQuorum is how many nodes must have shown a record before the search
	// for a newer one ends early: a coalition of two cannot hide one.
	resolveQuorum = 4
	// resolveTimeout is how long a search goes on that has found nothing at all.
	resolveTimeout = PeerTimeout
)

// Resolve finds the identity record of a person: the newest of what the nodes
// nearest to it show, and of what is stored here. It ends when several nodes
// agree, which takes about a round trip; otherwise when the whole neighbourhood
// has been asked, or LookupDeadline after it began. Only while nothing has been
// found does it go on longer, up to 4 s. The bytes are those that were signed.
func (d *DHT) Resolve(ctx context.Context, root identity.Root) (*identity.Record, []byte, error) {
	return d.ResolveKey(ctx, identity.RecordKeyHash(root))
}

// ResolveKey is Resolve where only the hash of the root key is known.
func (d *DHT) ResolveKey(ctx context.Context, hash [32]byte) (*identity.Record, []byte, error) {
	key := recordKey(hash)
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	enough := time.NewTimer(LookupDeadline)
	defer enough.Stop()

	found, err := d.kad.SearchValue(ctx, key, kaddht.Quorum(resolveQuorum-1))
	if err != nil {
		return nil, nil, fmt.Errorf("resolve: %w", err)
	}
	var best []byte
	late := false
	for {
		select {
		case v, ok := <-found:
			if !ok {
				return parseFound(key, best)
			}
			if best = v; late {
				return parseFound(key, best)
			}
		case <-enough.C:
			if late = true; best != nil {
				return parseFound(key, best)
			}
		case <-ctx.Done():
			return parseFound(key, best)
		}
	}
}

// parseFound parses what the library has validated.
func parseFound(key string, b []byte) (*identity.Record, []byte, error) {
	if b == nil {
		return nil, nil, ErrNotFound
	}
	rec, err := checkRecord(key, b, time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("resolve: %w", err)
	}
	return rec, b, nil
}
