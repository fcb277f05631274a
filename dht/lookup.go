package dht

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
)

// lookup finds the peers nearest to the place of key, the nearest first and
// without ourselves. It ends when the nearest want of them have answered and
// know of none nearer, and at LookupDeadline with the best set so far. The set
// is empty where no peer is known.
func (d *DHT) lookup(ctx context.Context, key string, want int) []peer.ID {
	ctx, cancel := context.WithTimeout(ctx, LookupDeadline)
	defer cancel()
	progress := &lookupProgress{
		target:   placeOf(key),
		want:     want,
		heard:    make(map[peer.ID]struct{}),
		answered: make(map[peer.ID]struct{}),
		failed:   make(map[peer.ID]struct{}),
	}
	for _, p := range d.kad.RoutingTable().NearestPeers(progress.target[:], replication) {
		progress.heard[p] = struct{}{}
	}
	if len(progress.heard) == 0 {
		return nil
	}
	watched, events := routing.RegisterForQueryEvents(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for e := range events {
			if ctx.Err() != nil {
				continue // what fails now fails because we stopped
			}
			switch e.Type {
			case routing.PeerResponse:
				progress.answered[e.ID] = struct{}{}
				for _, info := range e.Responses {
					if info.ID != d.self && d.mayQuery(nil, *info) {
						progress.heard[info.ID] = struct{}{}
					}
				}
			case routing.QueryError:
				if e.ID == "" || interrupted(e.Extra) {
					continue
				}
				progress.failed[e.ID] = struct{}{}
				d.noteFailure(e.ID)
			}
			if progress.finished() {
				cancel()
			}
		}
	})
	peers, _ := d.kad.GetClosestPeers(watched, key) // an error says that it was cut off
	cancel()
	done.Wait()
	peers = slices.DeleteFunc(peers, func(p peer.ID) bool { return p == d.self || !d.puzzled(p) })
	byDistance(peers, progress.target)
	return peers
}

// interrupted recognises the errors of requests that were given up, which say
// nothing about the peer.
func interrupted(err string) bool {
	return strings.Contains(err, context.Canceled.Error()) || strings.Contains(err, context.DeadlineExceeded.Error())
}

// lookupProgress is what a lookup has learnt so far.
type lookupProgress struct {
	target   place
	want     int
	heard    map[peer.ID]struct{}
	answered map[peer.ID]struct{}
	failed   map[peer.ID]struct{}
}

// finished tells whether the nearest want of those heard of have answered.
func (l *lookupProgress) finished() bool {
	if len(l.answered) < l.want {
		return false
	}
	peers := make([]peer.ID, 0, len(l.heard))
	for p := range l.heard {
		if _, failed := l.failed[p]; !failed {
			peers = append(peers, p)
		}
	}
	byDistance(peers, l.target)
	for _, p := range peers[:min(l.want, len(peers))] {
		if _, ok := l.answered[p]; !ok {
			return false
		}
	}
	return true
}

// noteFailure remembers that a peer could not be dialled, and takes it out of
// the routing table, unless it is we who are cut off.
func (d *DHT) noteFailure(p peer.ID) {
	if d.host.Network().Connectedness(p) == network.Connected || len(d.host.Network().Peers()) == 0 {
		return
	}
	d.live.fail(p)
	d.kad.RoutingTable().RemovePeer(p)
}

// probe finds out in the background whether a peer can be dialled, so that the
// next lookup knows.
func (d *DHT) probe(p peer.ID) {
	if d.live.dead(p) || !d.live.try(p) {
		return
	}
	d.spawn(func() {
		defer d.live.tried(p)
		ctx, cancel := context.WithTimeout(d.ctx, PeerTimeout)
		defer cancel()
		if err := d.host.Connect(ctx, peer.AddrInfo{ID: p}); err == nil {
			d.live.alive(p)
		} else if d.ctx.Err() == nil {
			d.noteFailure(p)
		}
	})
}
