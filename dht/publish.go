package dht

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p-kad-dht/records"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
)

// ErrOlder says that this node already stores a newer record of the same
// person.
var ErrOlder = errors.New("a newer record is known")

// PublishResult tells how far a record got.
type PublishResult struct {
	Acks  int // nodes other than this one that have stored it
	Asked int // nodes that were asked to
}

// Publish stores a signed record here and with the nodes nearest to it. It
// returns when all have answered or had their time. Without any acknowledgement
// it is not an error: the record is stored here, and is sent again as soon as
// the network changes.
func (d *DHT) Publish(ctx context.Context, rec []byte) (PublishResult, error) {
	parsed, err := identity.ParseRecord(rec)
	if err != nil {
		return PublishResult{}, fmt.Errorf("publish: %w", err)
	}
	key := identity.RecordKey(parsed.Root())
	if _, err := checkRecord(key, rec, time.Now()); err != nil {
		return PublishResult{}, fmt.Errorf("publish: %w", err)
	}
	d.store.pin(key)
	switch err := d.values.Put(ctx, key, record.MakePutRecord(key, rec)); {
	case errors.Is(err, records.ErrOldRecord):
		return PublishResult{}, fmt.Errorf("publish: %w", ErrOlder)
	case err != nil:
		return PublishResult{}, fmt.Errorf("publish: store: %w", err)
	}
	d.setPending(key, rec)
	res := d.spread(ctx, key, rec)
	if res.Acks > 0 {
		d.clearPending(key, rec)
	}
	if res.Acks == 0 && ctx.Err() != nil {
		return res, fmt.Errorf("publish: %w", ctx.Err())
	}
	return res, nil
}

// spread puts a record to the nodes nearest to its key, all at once.
func (d *DHT) spread(ctx context.Context, key string, value []byte) PublishResult {
	return d.putTo(ctx, d.lookup(ctx, key, replication), key, value)
}

// putTo puts a record to the given peers and counts who says that it is stored.
func (d *DHT) putTo(ctx context.Context, peers []peer.ID, key string, value []byte) PublishResult {
	var acks atomic.Int32
	var done sync.WaitGroup
	for _, p := range peers {
		done.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, PeerTimeout)
			defer cancel()
			if err := d.msg.PutValue(ctx, p, record.MakePutRecord(key, value)); err != nil {
				d.log.Debug("record was not stored by a peer", "peer", p, "err", err)
				return
			}
			acks.Add(1)
		})
	}
	done.Wait()
	return PublishResult{Acks: int(acks.Load()), Asked: len(peers)}
}

func (d *DHT) setPending(key string, rec []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending[key] = bytes.Clone(rec)
}

func (d *DHT) clearPending(key string, rec []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if bytes.Equal(d.pending[key], rec) {
		delete(d.pending, key)
	}
}

// unacknowledged returns the own records that no other node has stored yet.
func (d *DHT) unacknowledged() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string][]byte, len(d.pending))
	for key, rec := range d.pending {
		all[key] = rec
	}
	return all
}
