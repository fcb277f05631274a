package store

import (
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

// pace spreads bytes over time: one that sends waits until those before it are paid for.
type pace struct {
	perSecond int

	mu   sync.Mutex
	free time.Time // when what was sent is paid for
}

// delay tells how long to wait before n bytes are sent, and counts them as sent, unless that is longer than most.
func (p *pace) delay(n int, now time.Time, most time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	if wait <= most {
		p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.perSecond))
	}
	return wait
}
