package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxMeters is how many peers are metered at once. A peer that did not use its burst up for a while is forgotten,
// which changes nothing for it.
const maxMeters = 16_384

// rate meters how often each peer does something: a burst, and so many a minute in the long run.
type rate struct {
	burst     float64
	perSecond float64

	mu     sync.Mutex
	meters map[peer.ID]meter
}

type meter struct {
	left float64
	at   time.Time
}

func newRate(burst, perMinute int) *rate {
	return &rate{burst: float64(burst), perSecond: float64(perMinute) / 60, meters: make(map[peer.ID]meter)}
}

// take tells whether p may do it once more now.
func (r *rate) take(p peer.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.meters[p]
	if !ok {
		if len(r.meters) >= maxMeters {
			r.forget(now)
		}
		if len(r.meters) >= maxMeters {
			return false
		}
		m = meter{left: r.burst, at: now}
	}
	m = r.refill(m, now)
	if m.left < 1 {
		r.meters[p] = m
		return false
	}
	m.left--
	r.meters[p] = m
	return true
}

func (r *rate) refill(m meter, now time.Time) meter {
	if d := now.Sub(m.at); d > 0 {
		m.left = min(r.burst, m.left+d.Seconds()*r.perSecond)
		m.at = now
	}
	return m
}

// forget drops those whose burst is whole again. It is called with the lock held.
func (r *rate) forget(now time.Time) {
	for p, m := range r.meters {
		if r.refill(m, now).left >= r.burst {
			delete(r.meters, p)
		}
	}
}

func (r *rate) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
}

// patience is how long a visited holder is kept waiting for the byte budget; it hangs up after IdleTime.
const patience = IdleTime / 2

// errBudget says that the byte budget is used up for the moment.
var errBudget = errors.New("byte budget of upkeep is used up")

// budget spreads the bytes that upkeep sends over time: one that sends waits until those before it are paid for. Of
// the peers that wait, the one that was sent the least comes first, so none has more than its share while others wait.
type budget struct {
	perSecond int

	mu      sync.Mutex
	free    time.Time // when what was sent is paid for
	clock   int64     // bytes of the peer that was served last, when it was
	spent   map[peer.ID]int64
	waiting []*spender
	armed   bool // serve is called when the next ones may go on
}

// spender waits for n bytes.
type spender struct {
	peer    peer.ID
	start   int64 // bytes that its peer was sent before, or the clock when that is more
	n       int
	granted chan struct{}
}

// spend waits until n bytes may be sent to a peer, for as long as patience goes.
func (b *budget) spend(ctx context.Context, p peer.ID, n int) error {
	s := b.enter(p, n)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-s.granted:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	if b.leave(s) {
		return errors.Join(errBudget, ctx.Err())
	}
	return nil
}

func (b *budget) enter(p peer.ID, n int) *spender {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 && !time.Now().Before(b.free) {
		b.clock, b.spent = 0, make(map[peer.ID]int64) // nobody is in anybody's way
	}
	s := &spender{peer: p, start: max(b.clock, b.spent[p]), n: n, granted: make(chan struct{})}
	b.spent[p] = s.start + int64(n)
	b.waiting = append(b.waiting, s)
	b.serve()
	return s
}

// leave gives up waiting. It is false when the bytes were granted meanwhile.
func (b *budget) leave(s *spender) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, s)
	if i < 0 {
		return false
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	if b.spent[s.peer] == s.start+int64(s.n) {
		b.spent[s.peer] = s.start
	}
	return true
}

// serve lets those go on whose bytes are paid for, and comes back when the next ones are. It is called with the lock
// held.
func (b *budget) serve() {
	now := time.Now()
	for len(b.waiting) > 0 {
		if wait := b.free.Sub(now); wait > 0 {
			if !b.armed {
				b.armed = true
				time.AfterFunc(wait, func() {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.armed = false
					b.serve()
				})
			}
			return
		}
		first := 0
		for i, s := range b.waiting {
			if s.start < b.waiting[first].start {
				first = i
			}
		}
		s := b.waiting[first]
		b.waiting = slices.Delete(b.waiting, first, first+1)
		b.clock = s.start
		b.free = now.Add(time.Duration(s.n) * time.Second / time.Duration(b.perSecond))
		close(s.granted)
	}
}
