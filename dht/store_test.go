package dht

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/peerpost/peerpost/identity"
)

const testSelf peer.ID = "a node"

func openTestStore(t *testing.T, under ds.Batching, maxRecords int, maxBytes int64) *store {
	t.Helper()
	s, err := openStore(t.Context(), under, testSelf, maxRecords, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put stores a record of some size under the i-th key.
func put(t *testing.T, s *store, i, size int) error {
	t.Helper()
	key := fmt.Sprintf("/peerpost/%04d", i)
	b, err := proto.Marshal(&recpb.Record{
		Key:          []byte(key),
		Value:        make([]byte, size),
		TimeReceived: time.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Put(t.Context(), ds.NewKey(key), b)
}

func keys(s *store) []string {
	var all []string
	for _, e := range s.list() {
		all = append(all, e.key)
	}
	slices.SortFunc(all, func(a, b string) int {
		return placeOf(a).distance(s.self).compare(placeOf(b).distance(s.self))
	})
	return all
}

// nearest returns which of the first n keys are the nearest, nearest first.
func nearest(s *store, n, count int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("/peerpost/%04d", i))
	}
	slices.SortFunc(all, func(a, b string) int {
		return placeOf(a).distance(s.self).compare(placeOf(b).distance(s.self))
	})
	return all[:count]
}

func memory() ds.Batching { return dssync.MutexWrap(ds.NewMapDatastore()) }

func TestStoreKeepsTheNearest(t *testing.T) {
	under := memory()
	s := openTestStore(t, under, 10, 1<<20)
	refused := 0
	for i := range 100 {
		switch err := put(t, s, i, 100); {
		case errors.Is(err, errFull):
			refused++
		case err != nil:
			t.Fatal(err)
		}
	}
	if got, want := keys(s), nearest(s, 100, 10); !slices.Equal(got, want) {
		t.Errorf("kept %v\nwant %v", got, want)
	}
	if refused == 0 || refused == 90 {
		t.Errorf("%d of 90 refused: some should have been evicted, others refused", refused)
	}
	for _, key := range nearest(s, 100, 100) {
		has, err := under.Has(t.Context(), ds.NewKey(key))
		if err != nil || has != slices.Contains(keys(s), key) {
			t.Errorf("%s is on disk: %v, %v", key, has, err)
		}
	}
}

func TestStoreBoundsBytes(t *testing.T) {
	s := openTestStore(t, memory(), 1000, 10_000)
	for i := range 100 {
		if err := put(t, s, i, 900); err != nil && !errors.Is(err, errFull) {
			t.Fatal(err)
		}
	}
	if got := keys(s); len(got) < 9 || len(got) > 11 {
		t.Errorf("%d records of 900 bytes in 10,000", len(got))
	}
	if s.bytes > 10_000 {
		t.Errorf("%d bytes are counted", s.bytes)
	}
	// The same key again takes no more room, and a larger value has to fit.
	i := 0
	fmt.Sscanf(keys(s)[0], "/peerpost/%d", &i)
	before := len(keys(s))
	for range 50 {
		if err := put(t, s, i, 900); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(keys(s)); got != before {
		t.Errorf("%d records, after putting one again and again %d", before, got)
	}
	if err := put(t, s, i, 9_000); err != nil {
		t.Fatal(err)
	}
	if s.bytes > 10_000 {
		t.Errorf("%d bytes are counted after a record grew", s.bytes)
	}
	if err := put(t, s, i, 10_100); !errors.Is(err, errFull) {
		t.Errorf("a record larger than the quota: %v", err)
	}
	if !slices.Contains(keys(s), fmt.Sprintf("/peerpost/%04d", i)) {
		t.Error("the refused value took the stored one with it")
	}
}

func TestStorePins(t *testing.T) {
	s := openTestStore(t, memory(), 5, 1<<20)
	own := nearest(s, 100, 100)[99] // the furthest of all
	var i int
	fmt.Sscanf(own, "/peerpost/%d", &i)
	s.pin(own)
	for j := range 99 {
		if err := put(t, s, j, 100); err != nil && !errors.Is(err, errFull) {
			t.Fatal(err)
		}
	}
	if err := put(t, s, i, 100); err != nil {
		t.Fatalf("an own record: %v", err)
	}
	for j := range 99 {
		if j != i {
			put(t, s, j, 100)
		}
	}
	if !slices.Contains(keys(s), own) || len(keys(s)) != 6 {
		t.Errorf("stored %v, without %s", keys(s), own)
	}
	// Pinning what is stored already works too.
	second := nearest(s, 100, 5)[4]
	s.pin(second)
	var bytes int64
	for _, e := range s.far {
		bytes += e.size
	}
	if s.far.Len() != 4 || s.bytes != bytes {
		t.Errorf("%d records of %d bytes may be evicted, counted as %d", s.far.Len(), bytes, s.bytes)
	}
}

func TestStoreAfterRestart(t *testing.T) {
	under := memory()
	s := openTestStore(t, under, 20, 1<<20)
	for i := range 50 {
		put(t, s, i, 100)
	}
	before := s.list()
	s = openTestStore(t, under, 20, 1<<20)
	if len(s.list()) != len(before) || s.bytes == 0 {
		t.Errorf("%d records before, %d after", len(before), len(s.list()))
	}
	for _, e := range s.list() {
		if time.Since(e.received) > time.Minute {
			t.Errorf("a record was received at %v", e.received)
		}
	}
	// Lower limits take effect at once.
	s = openTestStore(t, under, 5, 1<<20)
	if got, want := keys(s), nearest(s, 50, 5); !slices.Equal(got, want) {
		t.Errorf("kept %v\nwant %v", got, want)
	}
	if err := s.Delete(t.Context(), s.list()[0].at); err != nil {
		t.Fatal(err)
	}
	if len(s.list()) != 4 || s.far.Len() != 4 {
		t.Errorf("%d records after one was deleted", len(s.list()))
	}
}

// What was stored padded, or is no record at all, is put right at the start.
func TestStoreCleansUp(t *testing.T) {
	under := memory()
	rec := &recpb.Record{
		Key: []byte("/peerpost/padded"), Value: make([]byte, 100), TimeReceived: time.Now().UTC().Format(time.RFC3339Nano),
	}
	rec.ProtoReflect().SetUnknown(padding(3 << 20))
	padded, err := proto.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	at, junk := ds.NewKey("/peerpost/padded"), ds.NewKey("/peerpost/junk")
	for at, b := range map[ds.Key][]byte{at: padded, junk: []byte("junk")} {
		if err := under.Put(t.Context(), at, b); err != nil {
			t.Fatal(err)
		}
	}
	s := openTestStore(t, under, 20, 1<<20)
	b, err := under.Get(t.Context(), at)
	if err != nil || len(b) > 200 || s.bytes != int64(len(b)) {
		t.Errorf("%d bytes are stored, %d are counted, %v", len(b), s.bytes, err)
	}
	if r, err := decodeStored(b); err != nil || r.key != string(rec.Key) || !bytes.Equal(r.value, rec.Value) {
		t.Errorf("the record was changed: %+v, %v", r, err)
	}
	if has, err := under.Has(t.Context(), junk); has || err != nil {
		t.Errorf("junk is still stored: %v, %v", has, err)
	}
}

// Whatever is read as a stored record is written and read again as the same.
func FuzzStored(f *testing.F) {
	b, err := stored{"/peerpost/key", []byte("value"), time.Unix(1<<31, 5)}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append(b, padding(10)...))
	f.Add([]byte("junk"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeStored(b)
		if err != nil {
			return
		}
		bare, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(bare) > identity.MaxRecord+512 {
			t.Fatalf("%d bytes", len(bare))
		}
		again, err := decodeStored(bare)
		if err != nil || again.key != r.key || !bytes.Equal(again.value, r.value) || !again.received.Equal(r.received) {
			t.Fatalf("%+v was read again as %+v, %v", r, again, err)
		}
	})
}
