package dht

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
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
	if s.all.bytes > 10_000 {
		t.Errorf("%d bytes are counted", s.all.bytes)
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
	if s.all.bytes > 10_000 {
		t.Errorf("%d bytes are counted after a record grew", s.all.bytes)
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
	for _, e := range s.entries {
		if !e.pinned {
			bytes += e.size
		}
	}
	if s.all.records != 4 || s.all.bytes != bytes {
		t.Errorf("%d records of %d bytes may be evicted, counted as %d", s.all.records, bytes, s.all.bytes)
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
	if len(s.list()) != len(before) || s.all.bytes == 0 {
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
	if len(s.list()) != 4 || s.all.records != 4 {
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
	if err != nil || len(b) > 210 || s.all.bytes != int64(len(b)) {
		t.Errorf("%d bytes are stored, %d are counted, %v", len(b), s.all.bytes, err)
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
	b, err := stored{"/peerpost/key", []byte("value"), time.Unix(1<<31, 5), time.Unix(1<<30, 0), "5.1.0.0"}.encode()
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
		if err != nil || again.key != r.key || !bytes.Equal(again.value, r.value) || !again.received.Equal(r.received) ||
			!again.first.Equal(r.first.Truncate(time.Second)) || again.from != r.from {
			t.Fatalf("%+v was read again as %+v, %v", r, again, err)
		}
	})
}

// putFrom stores a record of 100 bytes under the i-th key that an address block
// brings.
func putFrom(t *testing.T, s *store, from string, i int) error {
	t.Helper()
	return putSized(t, s, from, i, 100)
}

func putSized(t *testing.T, s *store, from string, i, size int) error {
	t.Helper()
	key := fmt.Sprintf("/peerpost/%04d", i)
	rec := &recpb.Record{Key: []byte(key), Value: make([]byte, size), TimeReceived: time.Now().UTC().Format(time.RFC3339Nano)}
	rec.ProtoReflect().SetUnknown(markFrom(from))
	b, err := proto.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	return s.Put(t.Context(), ds.NewKey(key), b)
}

// nearestNumbers returns the numbers of the first n keys, the nearest first.
func nearestNumbers(t *testing.T, s *store, n int) []int {
	t.Helper()
	var all []int
	for _, key := range nearest(s, n, n) {
		var i int
		if _, err := fmt.Sscanf(key, "/peerpost/%d", &i); err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
	}
	return all
}

// A record that has been here for half a day is not pushed out by one that comes
// just now, however near that is, also when the node was started again meanwhile.
func TestSettledRecordsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := memory()
		s := openTestStore(t, under, 10, 1<<20)
		order := nearestNumbers(t, s, 100)
		for _, i := range order[50:60] {
			if err := put(t, s, i, 100); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(settledAfter - time.Minute)
		for _, i := range order[50:60] { // to be put again does not make them younger
			if err := put(t, s, i, 100); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(t, s, order[0], 100); err != nil {
			t.Errorf("a nearer record than one that is young: %v", err)
		}
		time.Sleep(time.Minute)
		s = openTestStore(t, under, 10, 1<<20)
		before := keys(s)
		for _, i := range order[1:20] { // one that is there is young: none is further
			if err := put(t, s, i, 100); !errors.Is(err, errFull) {
				t.Errorf("a record that came just now, in a full store: %v", err)
			}
		}
		if !slices.Equal(keys(s), before) {
			t.Error("a refused record changed the store")
		}
		// What is settled may become larger.
		s = openTestStore(t, under, 10, s.all.bytes)
		if err := put(t, s, order[50], 200); err != nil {
			t.Errorf("a settled record that has grown: %v", err)
		}
		if got := keys(s); !slices.Contains(got, before[1]) || len(got) != 9 {
			t.Errorf("stored %v, before %v", got, before)
		}
	})
}

// One address block may fill a store that has room. When it is full, what is
// more than the block's share gives way to others, near or far, settled or not,
// and the block itself can only replace what is its own.
func TestShareOfABlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, share = 80, 80 / blockShare
		under := memory()
		s := openTestStore(t, under, room, 1<<20)
		order := nearestNumbers(t, s, 400)
		far := order[300:]
		if err := putFrom(t, s, "real", far[0]); err != nil {
			t.Fatal(err)
		}
		for _, i := range order[:room-1] {
			if err := putFrom(t, s, "junk", i); err != nil {
				t.Fatalf("while there is room: %v", err)
			}
		}
		time.Sleep(settledAfter)
		s = openTestStore(t, under, room, 1<<20)
		if err := putFrom(t, s, "junk", order[room]); !errors.Is(err, errFull) {
			t.Errorf("more from a block that has more than its share: %v", err)
		}
		for k, i := range far[1 : room-share] {
			if err := putFrom(t, s, fmt.Sprint("block ", k/share), i); err != nil {
				t.Fatalf("a record of another block: %v", err)
			}
		}
		if err := putFrom(t, s, "another", far[room]); !errors.Is(err, errFull) {
			t.Errorf("more than there is room for: %v", err)
		}
		if got := s.blocks["junk"].records; got != share {
			t.Errorf("a block keeps %d records, its share is %d", got, share)
		}
		if !s.has(fmt.Sprintf("/peerpost/%04d", far[0])) {
			t.Error("the record that was there before is gone")
		}
		// Whoever puts it again is not who brought it.
		if err := putFrom(t, s, "junk", far[0]); err != nil {
			t.Fatal(err)
		}
		if s.blocks["junk"].records != share || s.blocks["real"].records != 1 {
			t.Error("a record was charged to whoever put it again")
		}
		var all load
		for _, l := range s.blocks {
			all.add(l.records, l.bytes)
		}
		if all != s.all || all.records != room {
			t.Errorf("the blocks have %+v, all have %+v", all, s.all)
		}
	})
}

// The share is one of bytes too, and a young record of the block's own gives way
// to a nearer one.
func TestShareOfBytes(t *testing.T) {
	s := openTestStore(t, memory(), 1000, 80_000)
	order := nearestNumbers(t, s, 100)
	for _, i := range order[1:16] {
		if err := putSized(t, s, "junk", i, 5000); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range order[50:56] {
		if err := putSized(t, s, "real", i, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if !s.has(fmt.Sprintf("/peerpost/%04d", order[55])) || s.has(fmt.Sprintf("/peerpost/%04d", order[15])) {
		t.Error("a block with more than its share of bytes did not give way")
	}
	if err := putSized(t, s, "junk", order[0], 5000); err != nil {
		t.Errorf("a nearer one of the same block: %v", err)
	}
	if s.has(fmt.Sprintf("/peerpost/%04d", order[14])) || !s.has(fmt.Sprintf("/peerpost/%04d", order[50])) {
		t.Error("it took the place of another block's record")
	}
}

// Who brought a record is nobody else's business.
func TestMarksAreNotShown(t *testing.T) {
	under := memory()
	s := openTestStore(t, under, 10, 1<<20)
	if err := putFrom(t, s, "5.1.0.0", 1); err != nil {
		t.Fatal(err)
	}
	at := s.list()[0].at
	kept, err := under.Get(t.Context(), at)
	if err != nil || !bytes.Contains(kept, []byte("5.1.0.0")) {
		t.Fatalf("kept %q, %v", kept, err)
	}
	shown, err := s.Get(t.Context(), at)
	if err != nil || bytes.Contains(shown, []byte("5.1.0.0")) {
		t.Errorf("Get: %q, %v", shown, err)
	}
	found, err := s.Query(t.Context(), dsq.Query{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	all, err := found.Rest()
	if err != nil || len(all) != 1 || !bytes.Equal(all[0].Value, shown) {
		t.Errorf("Query: %v, %v", all, err)
	}
}
