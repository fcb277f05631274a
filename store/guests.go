package store

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// keptStreams is the part of all streams that is kept for those who are known: nodes that have solved the puzzle, and
// whoever watches an inbox of which there is mail. It is one in this many.
const keptStreams = 4

// guests are the streams of all peers. When they are full, one more takes the place of the oldest one of whoever has
// most, so that nobody shuts others out for ever.
type guests struct {
	perPeer int
	most    int

	mu      sync.Mutex
	in      map[*seat]bool
	unknown int // of these
	counts  map[peer.ID]int
	waiting map[peer.ID]int
	left    chan struct{} // closed and made anew when one leaves
}

// seat is the place of one stream.
type seat struct {
	peer  peer.ID
	known bool
	since time.Time
	end   func() // nil when it may not be ended
}

func newGuests(perPeer, most int) guests {
	return guests{
		perPeer: perPeer, most: most, in: make(map[*seat]bool),
		counts: make(map[peer.ID]int), waiting: make(map[peer.ID]int), left: make(chan struct{}),
	}
}

// enter admits a stream that nobody will end.
func (g *guests) enter(ctx context.Context, p peer.ID) (leave func(), refusal *Refusal) {
	return g.admit(ctx, &seat{peer: p, known: true})
}

// admit admits a stream, or names the limit. It waits a moment for others to leave, since a peer that ends one stream
// and begins the next may be a little ahead of us; as many may wait as may be in.
func (g *guests) admit(ctx context.Context, s *seat) (leave func(), refusal *Refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var patience <-chan time.Time
	for {
		if refusal = g.full(s); refusal == nil {
			s.since = time.Now()
			g.in[s] = true
			g.counts[s.peer]++
			if !s.known {
				g.unknown++
			}
			return func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.remove(s)
			}, nil
		}
		if patience == nil {
			if g.waiting[s.peer] >= g.perPeer {
				return nil, refusal
			}
			t := time.NewTimer(hangUpTime)
			defer t.Stop()
			patience = t.C
			g.waiting[s.peer]++
			defer func() {
				if g.waiting[s.peer]--; g.waiting[s.peer] == 0 {
					delete(g.waiting, s.peer)
				}
			}()
		}
		left := g.left
		g.mu.Unlock()
		gone := false
		select {
		case <-left:
		case <-patience:
			gone = true
		case <-ctx.Done():
			gone = true
		}
		g.mu.Lock()
		if gone {
			return nil, refusal
		}
	}
}

// full says which limit is in the way of one more stream, and makes room for it where it can. It is called with the
// lock held.
func (g *guests) full(s *seat) *Refusal {
	if g.counts[s.peer] >= g.perPeer {
		return refuse(CodeStreams, "%d streams of one peer are served at once", g.perPeer)
	}
	most := g.most - g.most/keptStreams
	if !s.known && g.unknown >= most && !g.makeRoom(s, false) {
		return refuse(CodeStreams, "%d streams of strangers are served at once", most)
	}
	if len(g.in) >= g.most && !g.makeRoom(s, false) && !(s.known && g.makeRoom(s, true)) {
		return refuse(CodeStreams, "%d streams are served at once", g.most)
	}
	return nil
}

// makeRoom ends the oldest stream of the peer that has most of the known or of the unknown ones. One of a peer that has
// hardly more than the newcomer has its time first. It is called with the lock held.
func (g *guests) makeRoom(s *seat, known bool) bool {
	var out *seat
	for o := range g.in {
		if o.known != known || o.end == nil {
			continue
		}
		if out == nil || g.counts[o.peer] > g.counts[out.peer] ||
			g.counts[o.peer] == g.counts[out.peer] && o.since.Before(out.since) {
			out = o
		}
	}
	if out == nil {
		return false
	}
	more := g.counts[out.peer] - g.counts[s.peer]
	if more < 1 || more == 1 && time.Since(out.since) < IdleTime {
		return false
	}
	g.remove(out)
	out.end()
	return true
}

// remove takes a stream out, once. It is called with the lock held.
func (g *guests) remove(s *seat) {
	if !g.in[s] {
		return
	}
	delete(g.in, s)
	if !s.known {
		g.unknown--
	}
	if g.counts[s.peer]--; g.counts[s.peer] == 0 {
		delete(g.counts, s.peer)
	}
	close(g.left)
	g.left = make(chan struct{})
}

func (g *guests) now() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.in)
}
