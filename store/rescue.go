package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

const (
	// rescuePeers is how many of the nearest nodes get what a holder has that is far from the drop by now, and
	// rescueBatch how many messages it puts there in one turn. rescues is of how many inboxes at once.
	rescuePeers = 3
	rescueBatch = 100
	rescues     = 4
)

// rescue is how far an inbox has got of which the messages are put to nearer nodes from afar.
type rescue struct {
	busy  bool
	after sealed.ID // of the last message that was put
	began digest    // of the inbox, when the first one was
	short bool      // messages were refused on the way
	done  digest    // of what was put
}

// rescue puts messages of a drop that is far from here by now to the nodes that are nearest, as a sender would: so many
// in a turn, and each once. It happens when all neighbours of a drop have gone at once. Nobody waits for it.
func (u *upkeep) rescue(ctx context.Context, inbox identity.Inbox, peers []peer.ID) {
	d := u.h.spool.digest(inbox)
	u.mu.Lock()
	t := u.turns[inbox]
	if t == nil || t.rescue.busy || t.rescue.done.same(d) || len(peers) == 0 {
		u.mu.Unlock()
		return
	}
	select {
	case u.rescues <- struct{}{}:
	default:
		u.mu.Unlock()
		u.again(inbox, false)
		return
	}
	if t.rescue.after == (sealed.ID{}) {
		t.rescue.began, t.rescue.short = d, false
	}
	t.rescue.busy = true
	after := t.rescue.after
	u.mu.Unlock()
	u.rescuing.Go(func() {
		defer func() { <-u.rescues }()
		items, more := u.h.spool.list(inbox, after, rescueBatch)
		put, refused := u.rescueTo(ctx, inbox, items, peers)
		u.mu.Lock()
		r := &t.rescue
		r.busy = false
		r.short = r.short || refused > 0
		switch {
		case put < len(items) && put > 0:
			r.after = items[put-1].ID
		case put == len(items) && more:
			r.after = items[put-1].ID
		case put == len(items):
			r.after = sealed.ID{}
			if !r.short {
				r.done = r.began
			}
		}
		on := r.after != after && r.after != (sealed.ID{})
		u.mu.Unlock()
		if on {
			u.again(inbox, false)
		}
	})
}

// rescueTo puts messages to all of the peers at once. It tells how many of the messages the most of the peers were
// shown, and how many these refused.
func (u *upkeep) rescueTo(ctx context.Context, inbox identity.Inbox, items []listItem, peers []peer.ID) (put, refused int) {
	puts, refusals := make([]int, len(peers)), make([]int, len(peers))
	var work sync.WaitGroup
	for i, p := range peers {
		work.Go(func() {
			var err error
			if puts[i], refusals[i], err = u.rescueAt(ctx, p, inbox, items); err != nil {
				u.h.log.Debug("rescue failed", "peer", p, "error", err)
			}
		})
	}
	work.Wait()
	slices.Sort(puts)
	slices.Sort(refusals)
	return puts[(len(peers)-1)/2], refusals[len(peers)/2]
}

func (u *upkeep) rescueAt(ctx context.Context, p peer.ID, inbox identity.Inbox, items []listItem) (put, refused int, err error) {
	until := time.Now().Add(visitTime)
	c, err := u.h.out.dial(ctx, p, DropProtocol)
	if err != nil {
		return 0, 0, err
	}
	defer func() { c.end(err) }()
	for i, item := range items {
		if time.Now().After(until) {
			return i, refused, nil
		}
		err := u.push(ctx, c, inbox, item.ID, false)
		if isOfMessage(err) {
			refused++
			continue
		}
		if errors.Is(err, errBudget) {
			return i, refused, nil
		}
		if err != nil {
			return i, refused, err
		}
	}
	return len(items), refused, nil
}

// isOfMessage tells whether an error refuses one message, so that others of the inbox may be taken.
func isOfMessage(err error) bool {
	r := new(Refusal)
	if !errors.As(err, &r) {
		return false
	}
	switch r.Code {
	case CodeInboxBytes, CodeInboxMessages, CodePeerBytes, CodePeerMessages, CodeStamp:
		return true
	}
	return false
}
