package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
)

// door takes in what other nodes deliver to the accounts of this one.
type door struct {
	owner func(m sealed.Outer, now time.Time) *account
}

// Have says whether the message is on our disk already.
func (d *door) Have(id sealed.ID, o sealed.Outer) bool {
	a := d.owner(o, time.Now())
	return a != nil && a.incoming.waits(id)
}

// Accept puts a message on the disk. Its sender is told that it is there, and
// no more; whether it is filed or refused is said by a receipt.
func (d *door) Accept(ctx context.Context, m *sealed.Message, from peer.ID) error {
	a := d.owner(m.Outer, time.Now())
	if a == nil {
		return errNotOurs
	}
	return a.incoming.accept(ctx, m, from)
}

// Admit refuses before the body is sent what would be refused after it.
func (d *door) Admit(o sealed.Outer, from peer.ID) error {
	if err := o.Check(time.Now()); err != nil {
		return &store.Refusal{Code: store.CodeExpiry, Text: err.Error()}
	}
	a := d.owner(o, time.Now())
	if a == nil {
		return errNotOurs
	}
	return a.incoming.admit(o.Size, from)
}
