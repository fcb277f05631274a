package dht

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/peerpost/peerpost/identity"
)

const (
	// DefaultMaxRecords is how many records a node stores for others.
	DefaultMaxRecords = 65536
	// DefaultMaxBytes is how many bytes they may take. Records have up to 10 KiB
	// and 20 holders, so this serves more than a thousand people per node.
	DefaultMaxBytes = 256 << 20
	// maxKey is how long a record's key may be; ours have 62 bytes.
	maxKey = 128
)

// errFull refuses a record that is further from this node than everything it
// stores already.
var errFull = errors.New("record store is full of nearer records")

// store is the datastore under the Kademlia library. The library lets any peer
// put any valid record; this bounds how many there are, and when it is full
// keeps those that are nearest to this node, for which it is responsible.
// Records that the node publishes itself are pinned: they always fit.
type store struct {
	ds.Batching
	self       place
	maxRecords int
	maxBytes   int64

	mu      sync.Mutex
	entries map[ds.Key]*entry
	pinned  map[string]struct{} // record keys
	far     farthest            // the entries that may be evicted
	bytes   int64               // of these
}

// An entry is what is known of a stored record without reading it.
type entry struct {
	at       ds.Key
	key      string // "/peerpost/…"
	distance place  // from this node
	size     int64
	received time.Time // last put, by whomever
	index    int       // in the heap; -1 when pinned
}

func openStore(ctx context.Context, under ds.Batching, self peer.ID, maxRecords int, maxBytes int64) (*store, error) {
	s := &store{
		Batching:   under,
		self:       placeOfPeer(self),
		maxRecords: maxRecords,
		maxBytes:   maxBytes,
		entries:    make(map[ds.Key]*entry),
		pinned:     make(map[string]struct{}),
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
		if err := s.load(ctx, ds.RawKey(r.Key), r.Value); err != nil {
			return nil, err
		}
	}
	for len(s.far) > maxRecords || s.bytes > maxBytes { // the limits were higher last time
		if err := s.remove(ctx, s.far[0]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// load takes note of what is stored, and rewrites it where it is larger than it
// has to be: versions before this one kept what strangers had added.
func (s *store) load(ctx context.Context, at ds.Key, value []byte) error {
	r, err := decodeStored(value)
	if err != nil {
		return s.Batching.Delete(ctx, at)
	}
	bare, err := r.encode()
	if err != nil {
		return err
	}
	if len(bare) < len(value) {
		if err := s.Batching.Put(ctx, at, bare); err != nil {
			return err
		}
	}
	s.enter(at, r.key, int64(len(bare)), r.received)
	return nil
}

// stored is a record as it is kept.
type stored struct {
	key      string
	value    []byte
	received time.Time
}

// decodeStored reads what the library encoded. The library clones the message
// of whoever put the record, with every field that it does not know; of those
// nothing is read.
func decodeStored(b []byte) (stored, error) {
	var rec recpb.Record
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, &rec); err != nil {
		return stored{}, err
	}
	switch {
	case len(rec.GetKey()) == 0:
		return stored{}, errors.New("record without a key")
	case len(rec.GetKey()) > maxKey:
		return stored{}, fmt.Errorf("record key of %d bytes, more than %d", len(rec.GetKey()), maxKey)
	case len(rec.GetValue()) > identity.MaxRecord:
		return stored{}, fmt.Errorf("record of %d bytes, more than %d", len(rec.GetValue()), identity.MaxRecord)
	}
	received, err := time.Parse(time.RFC3339Nano, rec.GetTimeReceived())
	if err != nil {
		return stored{}, err
	}
	if year := received.UTC().Year(); year < 1970 || year > 9999 {
		return stored{}, fmt.Errorf("record received in the year %d", year)
	}
	return stored{string(rec.GetKey()), rec.GetValue(), received}, nil
}

// encode writes what the library reads, and no more.
func (r stored) encode() ([]byte, error) {
	return proto.Marshal(&recpb.Record{
		Key: []byte(r.key), Value: r.value, TimeReceived: r.received.UTC().Format(time.RFC3339Nano),
	})
}

// admit says what has to go before a record fits, or errFull; s.mu is held. The
// record that is there under the same key counts as gone.
func (s *store) admit(at ds.Key, key string, size int64) (out []*entry, err error) {
	if _, own := s.pinned[key]; own {
		return nil, nil
	}
	records, bytes := len(s.far)+1, s.bytes+size
	if old := s.entries[at]; old != nil && old.index >= 0 {
		records, bytes = records-1, bytes-old.size
	}
	distance := placeOf(key).distance(s.self)
	var keep []*entry
	defer func() {
		for _, e := range keep {
			heap.Push(&s.far, e)
		}
	}()
	for records > s.maxRecords || bytes > s.maxBytes {
		if len(s.far) == 0 {
			return nil, errFull
		}
		e := heap.Pop(&s.far).(*entry)
		keep = append(keep, e)
		if e.at == at {
			continue // counted as gone already
		}
		if e.distance.compare(distance) < 0 {
			return nil, errFull
		}
		out = append(out, e)
		records, bytes = records-1, bytes-e.size
	}
	return out, nil
}

// enter records an entry; s.mu is held.
func (s *store) enter(at ds.Key, key string, size int64, received time.Time) {
	e := s.entries[at]
	if e == nil {
		e = &entry{at: at, key: key, distance: placeOf(key).distance(s.self), index: -1}
		s.entries[at] = e
	} else {
		s.unlist(e)
	}
	e.size, e.received = size, received
	if _, own := s.pinned[key]; !own {
		heap.Push(&s.far, e)
		s.bytes += size
	}
}

// unlist takes an entry out of what may be evicted; s.mu is held.
func (s *store) unlist(e *entry) {
	if e.index >= 0 {
		heap.Remove(&s.far, e.index)
		s.bytes -= e.size
	}
}

// remove deletes an entry and its bytes; s.mu is held.
func (s *store) remove(ctx context.Context, e *entry) error {
	if s.entries[e.at] != e {
		return nil
	}
	if err := s.Batching.Delete(ctx, e.at); err != nil {
		return err
	}
	s.unlist(e)
	delete(s.entries, e.at)
	return nil
}

// Put stores a record if it fits, without what does not belong to it. It is
// called with what the library encoded, after validation.
func (s *store) Put(ctx context.Context, at ds.Key, value []byte) error {
	r, err := decodeStored(value)
	if err != nil {
		return err
	}
	if value, err = r.encode(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.admit(at, r.key, int64(len(value)))
	if err != nil {
		return err
	}
	for _, e := range out {
		if err := s.remove(ctx, e); err != nil {
			return err
		}
	}
	if err := s.Batching.Put(ctx, at, value); err != nil {
		return err
	}
	s.enter(at, r.key, int64(len(value)), r.received)
	return nil
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
	for _, e := range s.entries {
		if e.key == key {
			s.unlist(e)
			e.index = -1
		}
	}
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

// farthest is a heap with the entry furthest from this node on top.
type farthest []*entry

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return bytes.Compare(f[i].distance[:], f[j].distance[:]) > 0 }

func (f farthest) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].index, f[j].index = i, j
}

func (f *farthest) Push(x any) {
	e := x.(*entry)
	e.index = len(*f)
	*f = append(*f, e)
}

func (f *farthest) Pop() any {
	old := *f
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	e.index = -1
	return e
}
