package dht

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// DefaultMaxRecords is how many records a node stores for others.
	DefaultMaxRecords = 65536
	// DefaultMaxBytes is how many bytes they may take. Records have up to 10 KiB
	// and 20 holders, so this serves more than a thousand people per node.
	DefaultMaxBytes = 256 << 20
	// settledAfter is how long a record must have been here before newer arrivals
	// cannot push it out. Its owner has put it again by then.
	settledAfter = 12 * time.Hour
	// blockShare is the part of a full store, one in so many, that may have come
	// from one address block.
	blockShare = 8
)

// errFull refuses a record for which nothing that is stored has to give way.
var errFull = errors.New("no room for another record")

// store is the datastore under the Kademlia library. The library lets any peer
// put any valid record, and records cost nothing; this bounds how many there
// are. While there is room all are taken. When it is full a new record takes the
// place of
//
//   - the furthest of an address block that has brought more than its share, or
//   - the furthest that is further from this node, and came less than
//     settledAfter ago.
//
// A record that came from such a block itself may only push out others of it;
// one that is settled itself, and has grown, any that is further. Records that
// the node publishes itself are pinned: they always fit.
type store struct {
	ds.Batching
	self       place
	maxRecords int
	maxBytes   int64

	mu      sync.Mutex
	entries map[ds.Key]*entry
	known   map[string]*entry   // the same, by the keys of the records
	pinned  map[string]struct{} // record keys
	blocks  map[string]*load    // what each address block has brought
	all     load                // of what may be evicted
}

// An entry is what is known of a stored record without reading it.
type entry struct {
	at       ds.Key
	key      string // "/peerpost/…"
	distance place  // from this node
	size     int64
	received time.Time // last put, by whomever
	first    time.Time // when it came
	from     string    // the address block of who brought it first; "" if not known
	block    *load     // of from; nil if not known
	pinned   bool
}

// settled tells whether the entry has been here for long.
func (e *entry) settled(now time.Time) bool { return now.Sub(e.first) >= settledAfter }

// load is a number of records and their size.
type load struct {
	records int
	bytes   int64
}

func (l *load) add(records int, bytes int64) {
	l.records += records
	l.bytes += bytes
}

func openStore(ctx context.Context, under ds.Batching, self peer.ID, maxRecords int, maxBytes int64) (*store, error) {
	s := &store{
		Batching:   under,
		self:       placeOfPeer(self),
		maxRecords: maxRecords,
		maxBytes:   maxBytes,
		entries:    make(map[ds.Key]*entry),
		known:      make(map[string]*entry),
		pinned:     make(map[string]struct{}),
		blocks:     make(map[string]*load),
	}
	found, err := under.Query(ctx, dsq.Query{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for r := range found.Next() {
		if r.Error != nil {
			return nil, r.Error
		}
		if err := s.read(ctx, ds.RawKey(r.Key), r.Value); err != nil {
			return nil, err
		}
	}
	far := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		far = append(far, e)
	}
	slices.SortFunc(far, func(a, b *entry) int { return b.distance.compare(a.distance) })
	for _, e := range far {
		if s.all.records <= maxRecords && s.all.bytes <= maxBytes {
			break
		}
		if err := s.remove(ctx, e); err != nil { // the limits were higher last time
			return nil, err
		}
	}
	return s, nil
}

// read takes note of what is stored, and rewrites it where it is larger than it
// has to be: versions before this one kept what strangers had added.
func (s *store) read(ctx context.Context, at ds.Key, value []byte) error {
	r, err := decodeStored(value)
	if err != nil {
		return s.Batching.Delete(ctx, at)
	}
	kept, err := r.encode()
	if err != nil {
		return err
	}
	if len(kept) < len(value) {
		if err := s.Batching.Put(ctx, at, kept); err != nil {
			return err
		}
	}
	s.enter(s.entryOf(at, r, int64(len(kept))))
	return nil
}

// entryOf makes the entry of a record.
func (s *store) entryOf(at ds.Key, r stored, size int64) *entry {
	_, own := s.pinned[r.key]
	return &entry{
		at: at, key: r.key, distance: placeOf(r.key).distance(s.self), size: size,
		received: r.received, first: r.first, from: r.from, pinned: own,
	}
}

// enter takes an entry in, in the place of the one that was there; s.mu is held.
func (s *store) enter(e *entry) {
	if old := s.entries[e.at]; old != nil {
		s.leave(old)
	}
	s.entries[e.at], s.known[e.key] = e, e
	s.count(e)
}

// leave is the opposite; s.mu is held.
func (s *store) leave(e *entry) {
	delete(s.entries, e.at)
	delete(s.known, e.key)
	s.discount(e)
}

// count adds an entry to what may be evicted, and discount takes it out; s.mu is
// held.
func (s *store) count(e *entry) {
	if e.pinned {
		return
	}
	s.all.add(1, e.size)
	if e.from == "" {
		return
	}
	if e.block = s.blocks[e.from]; e.block == nil {
		e.block = new(load)
		s.blocks[e.from] = e.block
	}
	e.block.add(1, e.size)
}

func (s *store) discount(e *entry) {
	if e.pinned {
		return
	}
	s.all.add(-1, -e.size)
	if e.block == nil {
		return
	}
	if e.block.add(-1, -e.size); e.block.records == 0 {
		delete(s.blocks, e.from)
	}
}

// crowded tells whether a block has brought more than its share; s.mu is held.
func (s *store) crowded(block *load) bool {
	return block != nil &&
		(block.records > max(1, s.maxRecords/blockShare) || block.bytes > max(1, s.maxBytes/blockShare))
}

// admit says what has to go before an entry fits in the place of old, which may
// be nil, or errFull; s.mu is held.
func (s *store) admit(e, old *entry, now time.Time) ([]*entry, error) {
	if e.pinned {
		return nil, nil
	}
	// See how things would be, and put everything back.
	if old != nil {
		s.discount(old)
		defer s.count(old)
	}
	s.count(e)
	defer s.discount(e)
	var out []*entry
	defer func() {
		for _, o := range out {
			s.count(o)
		}
	}()
	for s.all.records > s.maxRecords || s.all.bytes > s.maxBytes {
		o := s.weakest(e, out, now)
		if o == nil {
			return nil, errFull
		}
		out = append(out, o)
		s.discount(o)
	}
	return out, nil
}

// weakest returns the entry that has to give way to e before any other, nil if
// none has to; s.mu is held.
func (s *store) weakest(e *entry, out []*entry, now time.Time) *entry {
	var found *entry
	var foundYields bool
	crowd, settled := s.crowded(e.block), e.settled(now)
	for _, o := range s.entries {
		if o.pinned || o.at == e.at || slices.Contains(out, o) {
			continue
		}
		if crowd && o.block != e.block {
			continue
		}
		yields := !crowd && s.crowded(o.block)
		if !yields && (o.distance.compare(e.distance) < 0 || o.settled(now) && !settled) {
			continue
		}
		if found == nil || yields && !foundYields || yields == foundYields && o.distance.compare(found.distance) > 0 {
			found, foundYields = o, yields
		}
	}
	return found
}

// remove deletes an entry and its bytes; s.mu is held.
func (s *store) remove(ctx context.Context, e *entry) error {
	if err := s.Batching.Delete(ctx, e.at); err != nil {
		return err
	}
	s.leave(e)
	return nil
}

// Put stores a record if it fits, without what does not belong to it. It is
// called with what the library encoded, after validation.
func (s *store) Put(ctx context.Context, at ds.Key, value []byte) error {
	r, err := decodeStored(value)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.entries[at]
	if r.first = r.received; old != nil {
		r.first, r.from = old.first, old.from
	}
	kept, err := r.encode()
	if err != nil {
		return err
	}
	e := s.entryOf(at, r, int64(len(kept)))
	out, err := s.admit(e, old, r.received)
	if err != nil {
		return err
	}
	for _, o := range out {
		if err := s.remove(ctx, o); err != nil {
			return err
		}
	}
	if err := s.Batching.Put(ctx, at, kept); err != nil {
		return err
	}
	s.enter(e)
	return nil
}

// Get returns a record as the library wrote it: what was noted of its arrival is
// nobody else's business.
func (s *store) Get(ctx context.Context, at ds.Key) ([]byte, error) {
	kept, err := s.Batching.Get(ctx, at)
	if err != nil {
		return nil, err
	}
	return bare(kept), nil
}

// Query is Get for many.
func (s *store) Query(ctx context.Context, q dsq.Query) (dsq.Results, error) {
	found, err := s.Batching.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	return dsq.ResultsFromIterator(q, dsq.Iterator{
		Next: func() (dsq.Result, bool) {
			r, ok := found.NextSync()
			r.Value = bare(r.Value)
			return r, ok
		},
		Close: found.Close,
	}), nil
}

// Delete removes a record.
func (s *store) Delete(ctx context.Context, at ds.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[at]; e != nil {
		return s.remove(ctx, e)
	}
	return s.Batching.Delete(ctx, at)
}

// Batch goes through Put and Delete.
func (s *store) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(s), nil }

// Close does nothing: the datastore is the caller's.
func (s *store) Close() error { return nil }

// pin makes room for a record of this node's own.
func (s *store) pin(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned[key] = struct{}{}
	if e := s.known[key]; e != nil {
		s.discount(e)
		e.pinned = true
	}
}

// has tells whether a record is stored.
func (s *store) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[key] != nil
}

// list returns a copy of what is known of all records.
func (s *store) list() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]entry, 0, len(s.entries))
	for _, e := range s.entries {
		all = append(all, *e)
	}
	return all
}
