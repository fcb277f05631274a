package dht

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxPerGroup is how many nodes of one IPv4 /16 or IPv6 /32 a neighbourhood
	// may contain. Private and loopback addresses are not counted.
	maxPerGroup = 2
	// nearestAge is how long the answer to Nearest is good for: delivering many
	// mails to one inbox costs one lookup.
	nearestAge = 30 * time.Second
	// maxNearest bounds how many answers are kept.
	maxNearest = 1024
	// nearestWant is how many of the nearest must have answered before a lookup
	// may end: the 10 holders of a drop and two in reserve.
	nearestWant = 12
)

// Nearest returns up to n, and no more than 21, live servers nearest to
// SHA-256(key), the nearest first, this node included where it serves. All satisfy the puzzle, and at
// most two are of one address block. Where no peer is known the answer is this
// node alone, or nobody.
func (d *DHT) Nearest(ctx context.Context, key []byte, n int) ([]peer.ID, error) {
	peers, err := d.candidates(ctx, string(key))
	if err != nil {
		return nil, err
	}
	if d.IsServer() && d.puzzled(d.self) {
		peers = append(peers, d.self)
		byDistance(peers, placeOf(string(key)))
	}
	groups := make(map[string]int)
	chosen := make([]peer.ID, 0, n)
	for _, p := range peers {
		if len(chosen) == n {
			break
		}
		if d.live.dead(p) {
			continue
		}
		if g, ok := d.groupOf(p); ok {
			if groups[g] == maxPerGroup {
				continue
			}
			groups[g]++
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

// candidates looks up, or remembers, the nearest peers other than ourselves.
// The result is the caller's.
func (d *DHT) candidates(ctx context.Context, key string) ([]peer.ID, error) {
	e, mine := d.near.claim(key, time.Now())
	if mine {
		// The lookup belongs to nobody's context: others may join in.
		d.spawn(func() {
			defer close(e.done)
			e.peers = d.lookup(d.ctx, key, nearestWant)
			for _, p := range e.peers {
				if d.host.Network().Connectedness(p) != network.Connected {
					d.probe(p)
				}
			}
		})
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.ctx.Done():
		return nil, d.ctx.Err()
	}
	if len(e.peers) == 0 {
		d.near.drop(key, e) // do not remember that nobody is there
	}
	return slices.Clone(e.peers), nil
}

// groupOf names the address block of a peer: of its connection if there is one,
// otherwise of the first public address that is known of it.
func (d *DHT) groupOf(p peer.ID) (string, bool) {
	if p == d.self {
		for _, a := range d.host.Addrs() {
			if g, ok := addressGroup(a); ok {
				return g, true
			}
		}
		return "", false
	}
	direct := false
	for _, c := range d.host.Network().ConnsToPeer(p) {
		if g, ok := addressGroup(c.RemoteMultiaddr()); ok {
			return g, true
		}
		direct = direct || !c.Stat().Limited
	}
	if direct {
		return "", false // it is near: on our own network
	}
	for _, a := range d.host.Peerstore().Addrs(p) {
		if g, ok := addressGroup(a); ok {
			return g, true
		}
	}
	return "", false
}

// nearCache remembers answers for a while, and lets everybody who asks the same
// wait for the same lookup.
type nearCache struct {
	mu      sync.Mutex
	answers map[string]*nearAnswer
}

type nearAnswer struct {
	done    chan struct{} // closed when peers is set
	peers   []peer.ID
	expires time.Time
}

func newNearCache() *nearCache { return &nearCache{answers: make(map[string]*nearAnswer)} }

// claim returns the answer for key, and whether the caller must find it.
func (c *nearCache) claim(key string, now time.Time) (*nearAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.answers[key]; e != nil && now.Before(e.expires) {
		return e, false
	}
	if len(c.answers) >= maxNearest {
		for k, e := range c.answers {
			if !now.Before(e.expires) {
				delete(c.answers, k)
			}
		}
		if len(c.answers) >= maxNearest {
			clear(c.answers)
		}
	}
	e := &nearAnswer{done: make(chan struct{}), expires: now.Add(nearestAge)}
	c.answers[key] = e
	return e, true
}

func (c *nearCache) drop(key string, e *nearAnswer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers[key] == e {
		delete(c.answers, key)
	}
}

// forget drops all answers: the neighbourhood changed.
func (c *nearCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.answers)
}
