package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
)

const (
	// quickVisits is how many other holders are visited at once. A visit that lasts longer than quickTime makes room
	// for others; slowVisits is how many of these there may be, beyond which they are cut short.
	quickVisits = 8
	quickTime   = 10 * time.Second
	slowVisits  = 32
	// visitTime is how long a visit may last; a message that is under way then still arrives. What is left over then
	// has to wait for visitPause.
	visitTime  = 2 * time.Minute
	visitPause = time.Minute
)

// visits are those of upkeep to other holders. Each holder has one at a time: what is to be compared with it meanwhile
// waits for its next one. So a holder that is slow, or lacks all that it is offered, is in its own way only.
type visits struct {
	h     *Holder
	visit func(ctx context.Context, p peer.ID, inboxes []identity.Inbox) (left []identity.Inbox, err error)
	quick chan struct{}
	slow  chan struct{}
	work  sync.WaitGroup

	mu  sync.Mutex
	due map[peer.ID][]identity.Inbox // of the holders that are visited
}

// add has inboxes compared with another holder, at once or after the visit that is under way.
func (v *visits) add(ctx context.Context, p peer.ID, inboxes []identity.Inbox) {
	v.mu.Lock()
	defer v.mu.Unlock()
	due, visited := v.due[p]
	for _, in := range inboxes {
		if !slices.Contains(due, in) {
			due = append(due, in)
		}
	}
	v.due[p] = due
	if !visited {
		v.work.Go(func() { v.keep(ctx, p) })
	}
}

// take returns what is due at a holder. Without any, its visits end.
func (v *visits) take(p peer.ID) []identity.Inbox {
	v.mu.Lock()
	defer v.mu.Unlock()
	due := v.due[p]
	if len(due) == 0 {
		delete(v.due, p)
		return nil
	}
	v.due[p] = nil
	return due
}

// keep visits a holder until nothing is due any more.
func (v *visits) keep(ctx context.Context, p peer.ID) {
	for ctx.Err() == nil {
		due := v.take(p)
		if len(due) == 0 {
			return
		}
		left, err := v.one(ctx, p, due)
		if err != nil && ctx.Err() == nil {
			v.h.counts.failed.Add(1)
			v.h.log.Debug("upkeep visit failed", "peer", p, "error", err)
		}
		if len(left) == 0 {
			continue
		}
		v.add(ctx, p, left)
		t := time.NewTimer(jitter(visitPause))
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.due, p) // the next run begins anew
}

// one makes one visit. After quickTime it goes on as a slow one.
func (v *visits) one(ctx context.Context, p peer.ID, due []identity.Inbox) (left []identity.Inbox, err error) {
	select {
	case v.quick <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots, moved := v.quick, make(chan struct{})
	t := time.AfterFunc(quickTime, func() {
		defer close(moved)
		select {
		case v.slow <- struct{}{}:
			<-v.quick
			slots = v.slow
		default:
			cancel()
		}
	})
	defer func() {
		if !t.Stop() {
			<-moved
		}
		<-slots
	}()
	return v.visit(ctx, p, due)
}

// errOver says that the time of a visit is up.
var errOver = errors.New("time of the visit is up")
