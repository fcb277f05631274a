package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

const (
	// MaxTombstone is the size of a signed tombstone in bytes; one with all its items has about 40,200.
	MaxTombstone = 48 << 10
	// MaxTombstoneItems is how many messages one tombstone may delete.
	MaxTombstoneItems = 1000
)

// Tombstone deletes messages. It is signed with the delete key and names no holder, so every holder can check it and
// pass it on; to show it again does no harm. It counts only for the inbox of the two keys it names
// (sealed.Outer.DeletedBy).
type Tombstone struct {
	Delete Public          `cbor:"1,keyasint"` // by SignTombstone: its private half signs
	Fetch  Public          `cbor:"2,keyasint"` // that goes with it
	Time   int64           `cbor:"3,keyasint"` // Unix seconds
	Items  []TombstoneItem `cbor:"4,keyasint"`
}

// TombstoneItem is one message that is deleted.
type TombstoneItem struct {
	_      struct{} `cbor:",toarray"`
	ID     [32]byte
	Expiry Day // of the message; a holder keeps the tombstone a day longer
}

// Inbox is the inbox whose messages are deleted.
func (t *Tombstone) Inbox() Inbox { return InboxOf(t.Fetch, t.Delete) }

// SignTombstone signs t with the delete key. It panics when t has no items or more than MaxTombstoneItems.
func SignTombstone(priv ed25519.PrivateKey, t Tombstone) []byte {
	t.Delete = publicOf(priv)
	if err := t.check(); err != nil {
		panic("identity: sign tombstone: " + err.Error())
	}
	return Sign(ContextDelete, priv, encode(t))
}

// ParseTombstone reads a tombstone and checks that the delete key it names has signed it.
func ParseTombstone(b []byte) (*Tombstone, error) {
	if len(b) > MaxTombstone {
		return nil, fmt.Errorf("tombstone has %d bytes, limit %d", len(b), MaxTombstone)
	}
	var t Tombstone
	if err := open(ContextDelete, b, &t, func(t *Tombstone) Public { return t.Delete }); err != nil {
		return nil, fmt.Errorf("tombstone: %w", err)
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return &t, nil
}

// Check tells whether a holder should keep the tombstone at now. It is refused when it is dated in the future or
// names a message that no holder can have, because it would expire too late.
func (t *Tombstone) Check(now time.Time) error {
	if t.Time > now.Add(ClockTolerance).Unix() {
		return errors.New("tombstone is dated in the future")
	}
	last := DayAt(now.Add(MessageLife + ClockTolerance))
	for _, i := range t.Items {
		if i.Expiry > last {
			return errors.New("tombstone names a message that expires too late")
		}
	}
	return nil
}

func (t *Tombstone) check() error {
	if !ValidTime(t.Time) {
		return errors.New("tombstone is dated beyond all time")
	}
	if len(t.Items) == 0 || len(t.Items) > MaxTombstoneItems {
		return fmt.Errorf("tombstone has %d items, and 1 to %d are allowed", len(t.Items), MaxTombstoneItems)
	}
	return nil
}
