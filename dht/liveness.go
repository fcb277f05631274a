package dht

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// failureMemory is how long a peer that could not be dialled is left out of
	// neighbourhoods.
	failureMemory = 3 * time.Minute
	// maxFailures bounds how many such peers are remembered.
	maxFailures = 4096
)

// liveness remembers which peers could not be dialled lately, and which are
// being tried.
type liveness struct {
	mu     sync.Mutex
	failed map[peer.ID]time.Time
	trying map[peer.ID]struct{}
}

func newLiveness() *liveness {
	return &liveness{failed: make(map[peer.ID]time.Time), trying: make(map[peer.ID]struct{})}
}

// try claims a peer for a dial; exactly one caller may.
func (l *liveness) try(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, busy := l.trying[p]; busy {
		return false
	}
	l.trying[p] = struct{}{}
	return true
}

func (l *liveness) tried(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.trying, p)
}

func (l *liveness) fail(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.failed) >= maxFailures {
		for q, at := range l.failed {
			if now.Sub(at) >= failureMemory {
				delete(l.failed, q)
			}
		}
	}
	if len(l.failed) < maxFailures {
		l.failed[p] = now
	}
}

// alive forgets the failures of a peer.
func (l *liveness) alive(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, p)
}

// dead tells whether a peer could not be dialled lately.
func (l *liveness) dead(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, failed := l.failed[p]
	return failed && time.Since(at) < failureMemory
}
