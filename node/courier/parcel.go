package courier

import (
	"context"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/wire"
	"github.com/peerpost/peerpost/mailbox"
)

// parcel is the heading of a sealed message that waits on the disk. It is in
// clear, so it names no person: the id is random, the record hash and the keys
// of the outer tell whom it is for only to somebody who knows the address.
type parcel struct {
	Message    MessageID       `cbor:"1,keyasint"`
	Kind       sealed.Kind     `cbor:"2,keyasint"`
	Outer      []byte          `cbor:"3,keyasint"`
	RecordHash [32]byte        `cbor:"4,keyasint"`
	Hosts      []identity.Host `cbor:"5,keyasint"`
	Keepers    []identity.Host `cbor:"6,keyasint"`
	Generation uint64          `cbor:"7,keyasint"`
	Accepted   int64           `cbor:"8,keyasint"` // Unix seconds
	Expires    int64           `cbor:"9,keyasint"` // Unix seconds
	WithRecord bool            `cbor:"10,keyasint"`
}

// mark stands in the journal after a parcel that was replicated, so that the
// state of a locked account's mail does not move back at a restart.
type mark struct {
	Replicated MessageID `cbor:"15,keyasint"`
}

// markReplicated notes beside its parcel that t was replicated.
func (c *Courier) markReplicated(ctx context.Context, t *transit) error {
	c.mu.Lock()
	due := t.isParcel && !t.isMarked
	c.mu.Unlock()
	if !due {
		return nil
	}
	head, err := wire.Marshal(&mark{t.id})
	if err != nil {
		return err
	}
	ref, err := c.parcels.Append(ctx, head, nil)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.isParcel || t.isMarked {
		c.parcels.Free(ref)
		return nil
	}
	t.mark, t.isMarked = ref, true
	return nil
}

// keep makes a parcel of the sealed message of t.
func (c *Courier) keep(ctx context.Context, t *transit) error {
	c.mu.Lock()
	m, done := t.msg, t.isParcel || t.msg == nil
	p := parcel{
		Message: t.id, Kind: t.kind, RecordHash: t.recordHash, Hosts: t.hosts, Keepers: t.keepers,
		Generation: t.generation, Accepted: t.accepted.Unix(), Expires: t.expires.Unix(), WithRecord: t.withRecord,
	}
	c.mu.Unlock()
	if done {
		return nil
	}
	p.Outer = m.Outer.Marshal()
	head, err := wire.Marshal(&p)
	if err != nil {
		return err
	}
	ref, err := c.parcels.Append(ctx, head, m.Body)
	if err != nil {
		return fmt.Errorf("keep a sealed message: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.over() || t.msg != m {
		c.parcels.Free(ref)
		return nil
	}
	t.parcel, t.isParcel = ref, true
	c.release(t)
	return nil
}

// assure tells once who waits for it that a refusal is on a disk to stay.
func (c *Courier) assure(t *transit) {
	c.mu.Lock()
	safe := t.safe
	if t.state < mailbox.Replicated && !(t.isParcel && t.lasting) {
		safe = nil
	} else {
		t.safe = nil
	}
	c.mu.Unlock()
	if safe != nil {
		safe()
	}
}

// release forgets the sealed bytes in memory. The mutex is held.
func (c *Courier) release(t *transit) {
	if t.msg != nil {
		c.resting -= int64(len(t.msg.Body))
		t.msg = nil
	}
}

// discard forgets everything that was sealed for t. The mutex is held.
func (c *Courier) discard(t *transit) {
	c.release(t)
	if t.isParcel {
		c.parcels.Free(t.parcel)
		t.isParcel = false
	}
	if t.isMarked {
		c.parcels.Free(t.mark)
		t.isMarked = false
	}
}

// sealedBytes gives the sealed message of t, from memory or from its parcel.
func (c *Courier) sealedBytes(ctx context.Context, t *transit) (*sealed.Message, error) {
	c.mu.Lock()
	m, ref, outer := t.msg, t.parcel, t.outer
	c.mu.Unlock()
	if err := c.take(ctx, t, outer.Size); err != nil {
		return nil, err
	}
	if m != nil {
		return &sealed.Message{Outer: outer, Body: m.Body}, nil
	}
	_, body, err := c.parcels.Read(ref)
	if err != nil {
		return nil, fmt.Errorf("read a sealed message: %w", err)
	}
	return &sealed.Message{Outer: outer, Body: body}, nil
}

// load makes transits of the parcels on the disk.
func (c *Courier) load(now time.Time) {
	for ref, head := range c.parcels.Records() {
		var m mark
		if err := wire.Unmarshal(head, &m); err == nil && m.Replicated != (MessageID{}) {
			if t := c.transits[m.Replicated]; t != nil && !t.isMarked {
				t.state, t.mark, t.isMarked = mailbox.Replicated, ref, true
			} else {
				c.parcels.Free(ref)
			}
			continue
		}
		t, err := unpack(ref, head)
		if err != nil {
			c.log.Warn("a parcel cannot be read", "err", err)
			c.parcels.Free(ref)
			continue
		}
		if old := c.transits[t.id]; old != nil { // sealed again before a crash: the later one counts
			c.unbook(old)
		}
		c.book(t)
		c.plan(t, now)
	}
}

func unpack(ref journal.Ref, head []byte) (*transit, error) {
	var p parcel
	if err := wire.Unmarshal(head, &p); err != nil {
		return nil, err
	}
	outer, err := sealed.ParseOuter(p.Outer)
	if err != nil {
		return nil, err
	}
	return &transit{
		id: p.Message, kind: p.Kind, isLarge: outer.Size > large, outer: outer, parcel: ref, isParcel: true, recordHash: p.RecordHash,
		hosts: p.Hosts, keepers: p.Keepers, generation: p.Generation, state: mailbox.Accepted,
		accepted: time.Unix(p.Accepted, 0), expires: time.Unix(p.Expires, 0), withRecord: p.WithRecord, index: -1,
		lasting: true, // a receipt may be a refusal: the heading does not tell
	}, nil
}
