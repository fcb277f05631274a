package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/wire"
)

// graveKey is all of a message that its tombstone must agree with, the inbox apart. A message id fixes the expiry, so
// a tombstone that names another buries nothing: it lies under a key that no message has.
type graveKey struct {
	id     sealed.ID
	expiry identity.Day
}

// graveReserve is how many bytes tombstones may take above the capacity.
const graveReserve = 64 << 20

// grave is one tombstone, for as many messages as it names here.
type grave struct {
	ref    journal.Ref
	inbox  identity.Inbox
	peer   peer.ID // that brought it; "" for upkeep
	size   int64
	items  int
	unseen int          // of these, messages that were never here
	last   identity.Day // of all the messages
}

// buried is one message that a tombstone deletes, as it is remembered.
type buried struct {
	graveKey
	unseen bool
}

// peerGraves is what the spool remembers on the word of one peer.
type peerGraves struct {
	unseen int
	bytes  int64
}

// graveMeta is the header of a journal record of a tombstone, which is the body.
type graveMeta struct {
	From   []byte `cbor:"1,keyasint"` // the peer that brought it; empty for upkeep
	Kept   []byte `cbor:"2,keyasint"` // a bit for each item, lowest first: whether it is remembered
	Unseen []byte `cbor:"3,keyasint"` // and whether the message was never here
}

func bit(b []byte, i int) bool { return i/8 < len(b) && b[i/8]>>(i%8)&1 == 1 }

func setBit(b []byte, i int) { b[i/8] |= 1 << (i % 8) }

// buried tells whether a message of the inbox was deleted. It is called with the lock held.
func (b *inbox) buried(id sealed.ID, e *entry) bool {
	return b.graves[graveKey{id, e.expiry}] != nil
}

// bury takes a tombstone, whose signature was checked: it remembers it, on the disk, and then drops the messages it
// names. from is "" when upkeep brought it.
func (s *spool) bury(ctx context.Context, t *identity.Tombstone, blob []byte, from peer.ID, now time.Time) (deleted int, err error) {
	m := graveMeta{From: []byte(from), Kept: make([]byte, (len(t.Items)+7)/8), Unseen: make([]byte, (len(t.Items)+7)/8)}
	s.mu.Lock()
	g, items, free, err := s.admitGrave(t, int64(len(blob)), from, now, &m)
	s.mu.Unlock()
	for _, f := range free {
		f()
	}
	if err != nil || g == nil {
		return 0, err
	}
	header, err := wire.Marshal(m)
	if err == nil {
		err = s.makingRoom(g.size, nil, func() (err error) {
			g.ref, err = s.appendTo(s.graves, ctx, header, blob)
			return err
		})
	}

	s.mu.Lock()
	b := s.box(g.inbox)
	b.pins--
	s.chargeGrave(g, -1)
	free = nil
	if err == nil {
		if s.linkGrave(b, g, items); g.items == 0 {
			free = append(free, func() { s.graves.Free(g.ref) })
		}
		for _, k := range items {
			if e := b.entries[k.id]; e != nil && e.expiry == k.expiry {
				free = append(free, s.drop(k.id, e))
				deleted++
				s.full = time.Time{}
			}
		}
	}
	s.tidy(b)
	s.mu.Unlock()
	for _, f := range free {
		f()
	}
	return deleted, err
}

// admitGrave makes room for a tombstone, or says which limit is in the way. A nil grave with a nil error means that
// there is nothing to remember: all is known, over, or not for the messages that are here. It is called with the
// lock held.
func (s *spool) admitGrave(t *identity.Tombstone, size int64, from peer.ID, now time.Time, m *graveMeta) (
	g *grave, items []buried, free []func(), err error,
) {
	l := s.limits
	b := s.box(t.Inbox())
	defer func() {
		if g == nil {
			s.tidy(b)
		}
	}()
	g = &grave{inbox: b.key, peer: from, size: size}
	var unseen []int
	known := make(map[graveKey]bool)
	keep := func(i int, b buried) {
		setBit(m.Kept, i)
		items = append(items, b)
		if b.unseen {
			setBit(m.Unseen, i)
		}
	}
	for i, item := range t.Items {
		k := graveKey{item.ID, item.Expiry}
		if known[k] || b.graves[k] != nil || !now.Before(gone(item.Expiry)) {
			continue
		}
		known[k] = true
		e := b.entries[item.ID]
		switch {
		case e == nil:
			unseen = append(unseen, i)
		case e.expiry == item.Expiry:
			keep(i, buried{k, false})
		}
		// Else the message is here, and its id disproves the expiry.
	}
	if len(items) == 0 && len(unseen) == 0 {
		return nil, nil, nil, nil
	}
	over := func(have, add, most int, what string) error {
		if have+add <= most {
			return nil
		}
		return refuse(CodeTombstones, "%d deleted messages %s are remembered here, and %d may be", have, what, most)
	}
	if err := errors.Join(
		over(s.tombs, len(items), l.Tombstones, "in all"),
		over(len(b.graves), len(items), l.TombstonesPerInbox, "of this inbox"),
	); err != nil {
		return nil, nil, nil, firstRefusal(err)
	}
	p := s.peers[from]
	if p == nil {
		p = &peerGraves{}
	}
	if from != "" && p.bytes+size > l.TombstoneBytesPerPeer {
		return nil, nil, nil, refuse(CodeTombstones, "%d bytes of your tombstones are kept here, and %d may be", p.bytes, l.TombstoneBytesPerPeer)
	}
	// Of messages that were never here only as many are remembered as there is room for.
	room := min(l.Tombstones-s.tombs-len(items), l.Unseen-s.unseen, l.TombstonesPerInbox-len(b.graves)-len(items))
	if from != "" {
		room = min(room, l.UnseenPerPeer-p.unseen)
	}
	if room < len(unseen) && len(items) == 0 {
		if from != "" && p.unseen+len(unseen) > l.UnseenPerPeer {
			return nil, nil, nil, firstRefusal(over(p.unseen, len(unseen), l.UnseenPerPeer, "that were never here, on your word,"))
		}
		return nil, nil, nil, firstRefusal(errors.Join(
			over(len(b.graves), len(unseen), l.TombstonesPerInbox, "of this inbox"),
			over(s.unseen, len(unseen), l.Unseen, "in all that were never here"),
			over(s.tombs, len(unseen), l.Tombstones, "in all")))
	}
	makesRoom := len(items) > 0
	for _, i := range unseen[:max(0, min(room, len(unseen)))] {
		keep(i, buried{graveKey{t.Items[i].ID, t.Items[i].Expiry}, true})
	}
	g.count(items)
	// A tombstone for what is here makes room, so it may push out cold copies and go over what messages may fill. One
	// for what never came may not: anybody can make those, for nothing.
	most := s.capacity
	if makesRoom {
		most += graveReserve
	}
	if makesRoom && s.bytes+size > s.capacity {
		free = s.evict(s.bytes+size-s.capacity, b, false)
	}
	if s.bytes+size > most {
		return nil, nil, free, refuse(CodeCapacity, "%d bytes are kept here, of %d", s.bytes, s.capacity)
	}
	s.chargeGrave(g, 1)
	b.pins++
	return g, items, free, nil
}

// firstRefusal takes the first of several refusals.
func firstRefusal(err error) error {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return err
}

// chargeGrave counts a tombstone in or out. It is called with the lock held.
func (s *spool) chargeGrave(g *grave, sign int) {
	s.tombs += sign * g.items
	s.unseen += sign * g.unseen
	s.bytes += int64(sign) * g.size
	if g.peer == "" {
		return
	}
	p := s.peers[g.peer]
	if p == nil {
		p = &peerGraves{}
		s.peers[g.peer] = p
	}
	p.unseen += sign * g.unseen
	p.bytes += int64(sign) * g.size
	if p.bytes == 0 {
		delete(s.peers, g.peer)
	}
}

// count sums up what a tombstone deletes.
func (g *grave) count(items []buried) {
	g.items, g.unseen, g.last = len(items), 0, 0
	for _, k := range items {
		g.last = max(g.last, k.expiry)
		if k.unseen {
			g.unseen++
		}
	}
}

// linkGrave puts a tombstone into the index, for those of its messages that no other one deletes, and charges it. It
// is called with the lock held.
func (s *spool) linkGrave(b *inbox, g *grave, items []buried) {
	var mine []buried
	for _, k := range items {
		if b.graves[k.graveKey] == nil {
			mine = append(mine, k)
		}
	}
	g.count(mine)
	if len(mine) == 0 {
		return
	}
	if b.graves == nil {
		b.graves = make(map[graveKey]*grave)
	}
	for _, k := range mine {
		b.graves[k.graveKey] = g
	}
	s.chargeGrave(g, 1)
}

// loadGraves reads the tombstones at open. Without one that only cannot be read now, what it deleted would come back.
func (s *spool) loadGraves(now time.Time) error {
	return s.graves.Walk(func(ref journal.Ref, header []byte) error {
		g, items, err := s.readGrave(ref, header)
		if errors.Is(err, errNoGrave) {
			s.log.Error("tombstone is not readable", "error", err)
			s.graves.Free(ref)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tombstone: %w", err)
		}
		b := s.box(g.inbox)
		if g.count(items); now.Before(gone(g.last)) {
			s.linkGrave(b, g, items)
		}
		if b.graves == nil || g.items == 0 || !now.Before(gone(g.last)) {
			s.graves.Free(ref)
		}
		s.tidy(b)
		return nil
	})
}

// errNoGrave says that a record of the graves is no tombstone, or none any more.
var errNoGrave = errors.New("no tombstone")

func (s *spool) readGrave(ref journal.Ref, header []byte) (*grave, []buried, error) {
	var m graveMeta
	if err := wire.Unmarshal(header, &m); err != nil {
		return nil, nil, errors.Join(errNoGrave, err)
	}
	_, blob, err := s.graves.Read(ref)
	if isLost(err) {
		return nil, nil, errors.Join(errNoGrave, err)
	}
	if err != nil {
		return nil, nil, err
	}
	t, err := identity.ParseTombstone(blob)
	if err != nil {
		return nil, nil, errors.Join(errNoGrave, err)
	}
	var items []buried
	for i, item := range t.Items {
		if bit(m.Kept, i) {
			items = append(items, buried{graveKey{item.ID, item.Expiry}, bit(m.Unseen, i)})
		}
	}
	return &grave{ref: ref, inbox: t.Inbox(), peer: peer.ID(m.From), size: int64(len(blob))}, items, nil
}

// expireGraves forgets tombstones of messages that nobody takes any more.
func (s *spool) expireGraves(now time.Time) {
	s.mu.Lock()
	over := make(map[*grave]bool)
	for _, b := range s.inboxes {
		for k, g := range b.graves {
			if !now.Before(gone(g.last)) {
				delete(b.graves, k)
				over[g] = true
			}
		}
	}
	for g := range over {
		s.chargeGrave(g, -1)
		s.tidy(s.box(g.inbox))
	}
	s.mu.Unlock()
	for g := range over {
		s.graves.Free(g.ref)
	}
}

// answerOffer tells which of the offered messages are neither here nor deleted, and finds the tombstones of those
// that were deleted. absent sums up all that are not here.
func (s *spool) answerOffer(o *offerRequest, now time.Time) (lacks []uint64, tombstones [][]byte, absent digest) {
	s.mu.Lock()
	b := s.inboxes[o.Inbox]
	seen := make(map[*grave]bool)
	var refs []journal.Ref
	size := int64(0)
	for i, item := range o.Items {
		if b != nil && b.entries[item.ID] != nil {
			continue
		}
		absent.Count++
		xor(&absent.XOR, item.ID)
		if !now.Before(gone(item.Expiry)) {
			continue
		}
		if b != nil {
			if g := b.graves[graveKey{item.ID, item.Expiry}]; g != nil {
				// What does not fit is told the next time.
				if !seen[g] && (size == 0 || size+g.size <= OfferTombstones) {
					seen[g] = true
					size += g.size
					refs = append(refs, g.ref)
				}
				continue
			}
		}
		lacks = append(lacks, uint64(i))
	}
	s.mu.Unlock()
	for _, ref := range refs {
		_, blob, err := s.graves.Read(ref)
		if err != nil {
			s.log.Error("tombstone is not readable", "error", err)
			continue
		}
		tombstones = append(tombstones, blob)
	}
	return lacks, tombstones, absent
}

// same tells whether two digests are of the same ids.
func (d digest) same(o digest) bool { return d.Count == o.Count && d.XOR == o.XOR }

// minus leaves out the ids of another digest, all of which are in this one.
func (d digest) minus(o digest) digest {
	d.Count -= o.Count
	xor(&d.XOR, o.XOR)
	return d
}
