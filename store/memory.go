package store

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// bodyShare is the part of the memory for bodies that those of one peer may have announced: one in this many. One
	// body alone may be larger.
	bodyShare = 16
	// bodyPause is how long a peer has to wait whose body did not come in time, or was another one.
	bodyPause = 20 * time.Second
	// largeBody is the size in bytes from which bodies leave a quarter of the memory to smaller ones.
	largeBody = 4 << 20
)

// memory bounds the bodies that are in memory at once. What counts is what has come of them, and a little ahead: so
// nobody takes it by announcing bodies. What a peer announces counts against its own share.
type memory struct {
	most int64

	mu    sync.Mutex
	used  int64
	peers map[peer.ID]uploads
}

// uploads are the bodies of one peer.
type uploads struct {
	n         int
	announced int64
	paused    time.Time // until then it is to wait
}

// arrival is one body that comes.
type arrival struct {
	m    *memory
	s    Stream
	peer peer.ID
	size int
	had  int
	back []func() // to the stream's scope
	lost bool
}

// admit lets a peer send a body, or tells it to come later.
func (m *memory) admit(s Stream, p peer.ID, size int) (*arrival, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if most := m.bound(size); int64(size) > most {
		return nil, refuse(CodeMemory, "bodies of %d bytes may arrive at once, and this one has %d", most, size)
	}
	u := m.peers[p]
	if wait := time.Until(u.paused); wait > 0 {
		return nil, refuse(CodeMemory, "the body of your last offer did not come in time, or was another one; wait for %d seconds", (wait+time.Second-1)/time.Second)
	}
	if share := m.most / bodyShare; u.n > 0 && u.announced+int64(size) > share {
		return nil, refuse(CodeMemory, "one body of yours may arrive at once, or some of %d bytes in all", share)
	}
	a := &arrival{m: m, s: s, peer: p, size: size}
	if err := a.reserve(min(size, bodyAhead)); err != nil {
		return nil, err
	}
	u.n++
	u.announced += int64(size)
	m.note(p, u)
	return a, nil
}

// bound is how much of the memory bodies may have when one of that size comes.
func (m *memory) bound(size int) int64 {
	if size > largeBody {
		return m.most - m.most/4
	}
	return m.most
}

// note remembers the uploads of a peer while there is something to remember. It is called with the lock held.
func (m *memory) note(p peer.ID, u uploads) {
	if u.n == 0 && !time.Now().Before(u.paused) {
		delete(m.peers, p)
		return
	}
	if m.peers == nil {
		m.peers = make(map[peer.ID]uploads)
	}
	if _, known := m.peers[p]; !known && len(m.peers) >= maxMeters {
		for q, v := range m.peers {
			if v.n == 0 {
				delete(m.peers, q)
			}
		}
	}
	m.peers[p] = u
}

// reserve asks the common bound and the stream's scope for so many bytes in all. It is called with the lock held.
func (a *arrival) reserve(n int) error {
	m, more := a.m, n-a.had
	if most := m.bound(a.size); m.used+int64(more) > most {
		return refuse(CodeMemory, "bodies of %d bytes may arrive at once, and there is no room for %d more", most, more)
	}
	back, err := a.s.ReserveMemory(more)
	if err != nil {
		return refuse(CodeMemory, "your share of memory has no room for %d bytes", more)
	}
	m.used += int64(more)
	a.had = n
	a.back = append(a.back, back)
	return nil
}

// grow reserves memory for so many bytes of the body.
func (a *arrival) grow(n int) error {
	if n <= a.had {
		return nil
	}
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return a.reserve(n)
}

// broken says that the body did not come in time, or was another one.
func (a *arrival) broken() { a.lost = true }

// release gives all of it back.
func (a *arrival) release() {
	m := a.m
	m.mu.Lock()
	m.used -= int64(a.had)
	u := m.peers[a.peer]
	u.n--
	u.announced -= int64(a.size)
	if a.lost {
		u.paused = time.Now().Add(bodyPause)
	}
	m.note(a.peer, u)
	m.mu.Unlock()
	for _, back := range a.back {
		back()
	}
}
