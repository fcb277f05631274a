package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
)

// keys are those of one inbox.
type keys struct{ fetch, delete ed25519.PrivateKey }

func newKeys(t testing.TB) keys {
	t.Helper()
	var k keys
	for _, p := range []*ed25519.PrivateKey{&k.fetch, &k.delete} {
		_, priv, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		*p = priv
	}
	return k
}

func pub(k ed25519.PrivateKey) identity.Public {
	return identity.Public(k.Public().(ed25519.PublicKey))
}

func (k keys) inbox() identity.Inbox { return identity.InboxOf(pub(k.fetch), pub(k.delete)) }

func (k keys) key() FetchKey { return FetchKey{Inbox: k.inbox(), Key: k.fetch, Delete: pub(k.delete)} }

// month is the usual expiry.
func month() identity.Day { return identity.DayAt(time.Now().Add(30 * 24 * time.Hour)) }

// letter makes a message for the inbox; equal numbers make equal bodies.
func (k keys) letter(n, size int, expiry identity.Day) *sealed.Message {
	seed := [32]byte{}
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	body := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(body)
	return &sealed.Message{Body: body, Outer: sealed.Outer{
		Version: 1, Suite: 1, Inbox: k.inbox(), Epoch: identity.EpochAt(time.Now()),
		Expiry: expiry, Hash: sha256.Sum256(body), Size: uint64(size), Stamp: &sealed.Stamp{},
	}}
}

func (k keys) tombstone(ms ...*sealed.Message) (*identity.Tombstone, []byte) {
	t := identity.Tombstone{Delete: pub(k.delete), Fetch: pub(k.fetch), Time: time.Now().Unix()}
	for _, m := range ms {
		t.Items = append(t.Items, identity.TombstoneItem{ID: m.Outer.ID(), Expiry: m.Outer.Expiry})
	}
	return &t, identity.SignTombstone(k.delete, t)
}

var quiet = slog.New(slog.DiscardHandler)

// free are limits without work.
func free(l Limits) Limits {
	l.StampDiscount = 64
	return l.withDefaults()
}

func spoolAt(t testing.TB, dir string, capacity int64, l Limits) *spool {
	t.Helper()
	s, err := openSpool(dir, capacity, "self", l, quiet, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// store puts a message as a peer would.
func (s *spool) store(m *sealed.Message, from peer.ID) (tombstone []byte, err error) {
	id := m.Outer.ID()
	r, err := s.reserve(&m.Outer, id, from, from == "")
	if err != nil {
		return nil, err
	}
	tombstone, _, err = r.commit(context.Background(), m.Body)
	return tombstone, err
}

func storeT(t testing.TB, s *spool, m *sealed.Message, from peer.ID) {
	t.Helper()
	if tomb, err := s.store(m, from); err != nil || tomb != nil {
		t.Fatalf("store: %v, tombstone %d bytes", err, len(tomb))
	}
}

func buryT(t testing.TB, s *spool, k keys, from peer.ID, ms ...*sealed.Message) int {
	t.Helper()
	tomb, blob := k.tombstone(ms...)
	n, err := s.bury(t.Context(), tomb, blob, from, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *spool) has(m *sealed.Message) bool {
	_, ok := s.size(m.Outer.Inbox, m.Outer.ID())
	return ok
}

func readT(t testing.TB, s *spool, m *sealed.Message) {
	t.Helper()
	h, err := s.open(m.Outer.Inbox, m.Outer.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer h.body.Close()
	b, err := io.ReadAll(h.body)
	if err != nil || !bytes.Equal(b, m.Body) || !bytes.Equal(h.outer, m.Outer.Marshal()) {
		t.Fatalf("read %d bytes, %v", len(b), err)
	}
}

// books are the sums that a spool keeps, which must be the same after a restart.
func (s *spool) books() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d messages, %d bytes, %d tombs\n", s.messages, s.bytes, s.tombs)
	var lines []string
	for key, in := range s.inboxes {
		line := fmt.Sprintf("%s: %d messages %d bytes %x, %d entries, %d graves", key, in.messages, in.bytes, in.xor, len(in.entries), len(in.graves))
		var from []string
		for p, u := range in.from {
			from = append(from, fmt.Sprintf(" %s %d %d", p, u.messages, u.bytes))
		}
		slices.Sort(from)
		lines = append(lines, line+strings.Join(from, ","))
	}
	for p, g := range s.peers {
		lines = append(lines, fmt.Sprintf("%s: %+v", p, *g))
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "\n"))
	return b.String()
}

func TestSpoolReopen(t *testing.T) {
	dir := t.TempDir()
	s := spoolAt(t, dir, 1<<30, free(Limits{}))
	a, b := newKeys(t), newKeys(t)
	var all []*sealed.Message
	for i := range 30 {
		k := a
		if i%3 == 0 {
			k = b
		}
		size := sealed.MinBody + i*20_000 // the last ones have files of their own
		m := k.letter(i, size, month()-identity.Day(i%4))
		all = append(all, m)
		from := peer.ID(fmt.Sprint("peer", i%5))
		if i%5 == 4 {
			from = "" // by upkeep
		}
		storeT(t, s, m, from)
		storeT(t, s, m, from)
	}
	if n := buryT(t, s, a, "owner", all[1], all[28], a.letter(99, sealed.MinBody, month())); n != 2 {
		t.Fatalf("deleted %d", n)
	}
	for _, m := range all {
		if gone := m == all[1] || m == all[28]; gone == s.has(m) {
			t.Fatal("wrong after delete")
		} else if !gone {
			readT(t, s, m)
		}
	}
	before := s.books()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	// What a crash may leave: a large body without its record, and a torn one.
	stray := filepath.Join(s.largeDir(all[29].Outer.Expiry), strings.Repeat("ab", 32))
	if err := os.WriteFile(stray, []byte("half a body"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = spoolAt(t, dir, 1<<30, free(Limits{}))
	if after := s.books(); after != before {
		t.Fatalf("before\n%s\nafter\n%s", before, after)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Fatal("a stray body was kept")
	}
	for _, m := range all {
		if s.has(m) {
			readT(t, s, m)
		}
	}
	for _, m := range []*sealed.Message{all[1], all[28], a.letter(99, sealed.MinBody, month())} {
		if tomb, err := s.store(m, "late"); err != nil || tomb == nil {
			t.Fatalf("a deleted message was taken again: %v", err)
		}
		if s.has(m) {
			t.Fatal("a deleted message is back")
		}
	}
	// Of a lost file the index learns at open.
	if err := os.Remove(s.largePath(all[29].Outer.Expiry, all[29].Outer.ID())); err != nil {
		t.Fatal(err)
	}
	s.close()
	if s = spoolAt(t, dir, 1<<30, free(Limits{})); s.has(all[29]) || s.lost != 1 {
		t.Fatal("a lost file is still listed")
	}
	// And of damage when it is read.
	for _, name := range segments(t, s.dayDir(all[2].Outer.Expiry)) {
		b, _ := os.ReadFile(name)
		i := bytes.Index(b, all[2].Body[:64])
		if i < 0 {
			continue
		}
		b[i+70] ^= 1
		os.WriteFile(name, b, 0o600)
	}
	if _, err := s.open(all[2].Outer.Inbox, all[2].Outer.ID()); !errors.Is(err, errMissing) || s.has(all[2]) {
		t.Fatalf("a damaged message: %v", err)
	}
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments in %s: %v", dir, err)
	}
	return names
}

// Copies of the directory taken at any instant hold every message that was receipted before, and none that was
// deleted before.
func TestSpoolCrash(t *testing.T) {
	dir := t.TempDir()
	s := spoolAt(t, dir, 1<<30, free(Limits{}))
	k := newKeys(t)
	var mu sync.Mutex
	receipted, touched, deleted := map[int]bool{}, map[int]bool{}, map[int]bool{}
	letter := func(n int) *sealed.Message {
		size := sealed.MinBody + n%7*1000
		if n%10 == 0 {
			size = segmented + 1 + n
		}
		return k.letter(n, size, month()-identity.Day(n%2))
	}
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := range 60 {
				n := i*4 + w
				if _, err := s.store(letter(n), "peer"); err != nil {
					t.Error(err)
				}
				mu.Lock()
				receipted[n] = true
				mu.Unlock()
				if n%3 == 0 {
					mu.Lock()
					touched[n] = true
					mu.Unlock()
					buryT(t, s, k, "owner", letter(n))
					mu.Lock()
					deleted[n] = true
					mu.Unlock()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	checks := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		mu.Lock()
		var must, mustNot []int
		for n := range receipted {
			if !touched[n] {
				must = append(must, n)
			}
		}
		for n := range deleted {
			mustNot = append(mustNot, n)
		}
		mu.Unlock()
		c := filepath.Join(t.TempDir(), "copy")
		// The tombstones first and last: what is deleted while the rest is copied may be missing from it.
		if err := os.CopyFS(c, os.DirFS(dir)); err != nil {
			continue // something was removed on the way
		}
		if checks++; checks%2 == 0 {
			tear(t, c)
		}
		cs := spoolAt(t, c, 1<<30, free(Limits{}))
		mu.Lock()
		later := make(map[int]bool)
		for n := range touched {
			later[n] = true
		}
		mu.Unlock()
		for _, n := range must {
			if m := letter(n); cs.has(m) {
				readT(t, cs, m)
			} else if !later[n] {
				t.Fatalf("message %d was receipted and is lost", n)
			}
		}
		for _, n := range mustNot {
			if cs.has(letter(n)) {
				t.Fatalf("message %d was deleted and is back", n)
			}
		}
		cs.close()
		os.RemoveAll(c)
	}
	if checks < 3 {
		t.Fatalf("only %d copies were looked at", checks)
	}
}

// tear adds to the copy what a torn write leaves.
func tear(t *testing.T, dir string) {
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".seg") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Behind the last record, before the zeros: the beginning of another one.
		end := len(bytes.TrimRight(b, "\x00"))
		end += -end & 7
		if end >= 64 && end+100 < len(b) {
			copy(b[end:], b[:60])
			return os.WriteFile(path, b, 0o600)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSpoolExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := spoolAt(t, dir, 1<<30, free(Limits{}))
		k := newKeys(t)
		today := identity.DayAt(time.Now())
		soon, later := k.letter(1, segmented+1, today+2), k.letter(2, sealed.MinBody, today+10)
		dead := k.letter(3, sealed.MinBody, today+2)
		for _, m := range []*sealed.Message{soon, later, dead} {
			storeT(t, s, m, "peer")
		}
		buryT(t, s, k, "owner", dead)

		// A day after the last day nobody takes it any more; until then it is kept.
		time.Sleep(time.Until((today + 3).End()) - time.Second)
		if n, err := s.expire(time.Now()); n != 0 || err != nil || !s.has(soon) {
			t.Fatalf("expired %d too early, %v", n, err)
		}
		if tomb, err := s.store(dead, "peer"); err != nil || tomb == nil {
			t.Fatalf("a tombstone was forgotten too early: %v", err)
		}
		if soon.Outer.Check(time.Now()) != nil {
			t.Fatal("the outer part is refused before the message is dropped")
		}
		time.Sleep(2 * time.Second)
		if err := dead.Outer.Check(time.Now()); !errors.Is(err, sealed.ErrExpired) {
			t.Fatalf("a tombstone is forgotten while its message is still taken: %v", err)
		}
		if n, err := s.expire(time.Now()); n != 1 || err != nil || s.has(soon) || !s.has(later) {
			t.Fatalf("expired %d, %v", n, err)
		}
		if s.tombs != 0 || s.graves.Status().Records != 0 {
			t.Fatalf("%d tombstones, %d on the disk", s.tombs, s.graves.Status().Records)
		}
		for _, d := range []string{s.dayDir(today + 2), s.largeDir(today + 2)} {
			if _, err := os.Stat(d); err == nil {
				t.Errorf("%s is still there", d)
			}
		}
		want := s.books()
		s.close()
		s = spoolAt(t, dir, 1<<30, free(Limits{}))
		if got := s.books(); got != want {
			t.Fatalf("%s\n%s", want, got)
		}
		// What expires while the holder is off is dropped at open.
		s.close()
		time.Sleep(time.Until(gone(today + 10)))
		s = spoolAt(t, dir, 1<<30, free(Limits{}))
		if s.messages != 0 || len(s.inboxes) != 0 {
			t.Fatalf("after the last expiry: %s", s.books())
		}
	})
}

// What was collected gives its space back although a few messages beside it were not.
func TestSpoolCompact(t *testing.T) {
	dir := t.TempDir()
	s := spoolAt(t, dir, 1<<30, free(Limits{PeerShare: 1}))
	k := newKeys(t)
	var all []*sealed.Message
	for i := range 300 {
		m := k.letter(i, 200_000, month())
		all = append(all, m)
		storeT(t, s, m, "peer")
	}
	var gone, kept []*sealed.Message
	for i, m := range all {
		if i%20 == 0 {
			kept = append(kept, m)
		} else {
			gone = append(gone, m)
		}
	}
	before := len(segments(t, s.dayDir(month())))
	buryT(t, s, k, "owner", gone...)
	if err := s.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range kept {
		readT(t, s, m)
	}
	books := s.books()
	s.close()
	if after := len(segments(t, s.dayDir(month()))); before < 4 || after > 1 {
		t.Fatalf("%d segments of %d remain", after, before)
	}
	s = spoolAt(t, dir, 1<<30, free(Limits{PeerShare: 1}))
	if got := s.books(); got != books {
		t.Fatalf("%s\n%s", books, got)
	}
	for _, m := range kept {
		readT(t, s, m)
	}
}

// However many small messages come and go, a spool does not take much more on the disk than its capacity allows.
func TestSpoolDiskIsBounded(t *testing.T) {
	const size = 7400 // too small for its pages to be given back
	s := spoolAt(t, t.TempDir(), 1<<30, free(Limits{PeerShare: 1}))
	k := newKeys(t)
	var all []*sealed.Message
	for n := 0; n < 3*spoolSegment; n += size {
		all = append(all, k.letter(len(all), size, month()))
	}
	next := make(chan *sealed.Message)
	var work sync.WaitGroup
	for range 64 {
		work.Go(func() {
			for m := range next {
				if _, err := s.store(m, "peer"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, m := range all {
		next <- m
	}
	close(next)
	work.Wait()
	var gone []*sealed.Message
	for i, m := range all {
		if i%5 > 1 {
			gone = append(gone, m)
		}
	}
	for batch := range slices.Chunk(gone, 1000) {
		buryT(t, s, k, "owner", batch...)
	}
	// While there is room, two fifths that are live are left where they are.
	before := s.disk()
	if err := s.compact(t.Context()); err != nil || s.disk() < before-spoolSegment/2 {
		t.Fatalf("%d bytes of %d remain, %v", s.disk(), before, err)
	}
	s.capacity = before
	if err := s.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := s.days[month()]
	for deadline := time.Now().Add(20 * time.Second); log.Status().Segments > 2 && time.Now().Before(deadline); {
		log.Trim()
	}
	if got, most := s.disk(), s.bytes*10/7+spoolSegment; got > most || got > before*2/3 {
		t.Fatalf("%d bytes of %d remain, want %d", got, before, most)
	}
	readT(t, s, all[0])
	readT(t, s, all[len(all)/5*5-5])
}

// A message id covers the expiry and the inbox, so nothing that is put again can displace a message.
func TestPutAgainWithOtherExpiry(t *testing.T) {
	s := spoolAt(t, t.TempDir(), 1<<30, free(Limits{}))
	k, thief := newKeys(t), newKeys(t)
	m := k.letter(1, sealed.MinBody, month())
	storeT(t, s, m, "peer")
	shorter, elsewhere := *m, *m
	shorter.Outer.Expiry = identity.DayAt(time.Now())
	elsewhere.Outer.Inbox = thief.inbox()
	for _, o := range []*sealed.Message{&shorter, &elsewhere} {
		if o.Outer.ID() == m.Outer.ID() {
			t.Fatal("another message has the same id")
		}
		storeT(t, s, o, "peer")
		readT(t, s, m)
	}
	// The thief can delete what lies in his own inbox, and no more.
	if n := buryT(t, s, thief, "thief", &elsewhere, m); n != 1 {
		t.Fatalf("deleted %d", n)
	}
	readT(t, s, m)
}

// A tombstone counts for ids that come later too, if they are of its inbox.
func TestTombstoneOfUnseen(t *testing.T) {
	dir := t.TempDir()
	s := spoolAt(t, dir, 1<<30, free(Limits{}))
	k, thief := newKeys(t), newKeys(t)
	mine, bait, odd := k.letter(1, sealed.MinBody, month()), k.letter(2, sealed.MinBody, month()), k.letter(3, sealed.MinBody, month())
	buryT(t, s, k, "owner", mine)
	buryT(t, s, thief, "thief", bait)
	tomb, _ := k.tombstone(odd)
	tomb.Items[0].Expiry-- // names another message than there is
	if _, err := s.bury(t.Context(), tomb, identity.SignTombstone(k.delete, *tomb), "owner", time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := s.store(mine, "peer"); err != nil || got == nil {
			t.Fatalf("an unseen message was resurrected: %v", err)
		}
		if got, err := s.store(mine, ""); err != nil || got == nil {
			t.Fatalf("upkeep resurrected it: %v", err)
		}
		storeT(t, s, bait, "peer")
		storeT(t, s, odd, "peer")
		s.close()
		s = spoolAt(t, dir, 1<<30, free(Limits{}))
	}
}

// A tombstone that comes while a body is on its way wins.
func TestDeleteWhileArriving(t *testing.T) {
	for _, size := range []int{sealed.MinBody, segmented + 1} {
		s := spoolAt(t, t.TempDir(), 1<<30, free(Limits{}))
		k := newKeys(t)
		m := k.letter(1, size, month())
		r, err := s.reserve(&m.Outer, m.Outer.ID(), "peer", false)
		if err != nil {
			t.Fatal(err)
		}
		buryT(t, s, k, "owner", m)
		tomb, fresh, err := r.commit(t.Context(), m.Body)
		if err != nil || tomb == nil || fresh || s.has(m) {
			t.Fatalf("tombstone %d bytes, fresh %v, %v", len(tomb), fresh, err)
		}
		if s.messages != 0 || len(s.claims) != 0 || len(s.touching) != 0 {
			t.Fatalf("left over: %s", s.books())
		}
	}
}

// Two that bring the same message at once are both right, and it is kept once.
func TestPutTwiceAtOnce(t *testing.T) {
	for _, size := range []int{sealed.MinBody, segmented + 1} {
		dir := t.TempDir()
		s := spoolAt(t, dir, 1<<30, free(Limits{}))
		m := newKeys(t).letter(1, size, month())
		var work sync.WaitGroup
		for i := range 8 {
			work.Go(func() { storeT(t, s, m, peer.ID(fmt.Sprint("peer", i))) })
		}
		work.Wait()
		if s.messages != 1 || s.bytes != int64(size)+overhead {
			t.Fatal(s.books())
		}
		readT(t, s, m)
		books := s.books()
		s.close()
		s = spoolAt(t, dir, 1<<30, free(Limits{}))
		if got := s.books(); got != books {
			t.Fatalf("%s\n%s", books, got)
		}
		readT(t, s, m)
	}
}

// A disk that cannot be written gives no receipt, and the room comes back.
func TestUnwritableSpool(t *testing.T) {
	dir := t.TempDir()
	s := spoolAt(t, dir, 1<<30, free(Limits{}))
	k := newKeys(t)
	if err := os.RemoveAll(filepath.Join(dir, "days")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "days"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := k.letter(1, sealed.MinBody, month())
	if _, err := s.store(m, "peer"); err == nil {
		t.Fatal("stored without a directory")
	}
	if s.has(m) || s.messages != 0 || s.bytes != 0 || len(s.inboxes) != 0 {
		t.Fatal(s.books())
	}
}

func TestEvictCold(t *testing.T) {
	const size = 10_000
	s := spoolAt(t, t.TempDir(), 20*(size+overhead), free(Limits{}))
	var boxes []keys
	for i := range 5 {
		k := newKeys(t)
		boxes = append(boxes, k)
		for j := range 4 {
			storeT(t, s, k.letter(i*10+j, size, month()), "peer")
		}
	}
	fresh := newKeys(t)
	if _, err := s.store(fresh.letter(100, size, month()), "peer"); !isCode(err, CodeCapacity) {
		t.Fatalf("over capacity: %v", err)
	}
	// The three furthest are cold, and go furthest first.
	slices.SortFunc(boxes, func(a, b keys) int {
		x, y := distance(s.self, a.inbox()), distance(s.self, b.inbox())
		return bytes.Compare(y[:], x[:])
	})
	for _, k := range boxes[:3] {
		s.setCold(k.inbox(), true)
	}
	for i := range 12 {
		storeT(t, s, fresh.letter(100+i, size, month()), "peer")
		for j, k := range boxes {
			want := 4
			if j < 3 {
				want = min(4, max(0, 4*(j+1)-(i+1)))
			}
			if got := int(s.digest(k.inbox()).Count); got != want {
				t.Fatalf("after %d puts drop %d has %d messages, want %d", i+1, j, got, want)
			}
		}
	}
	if _, err := s.store(fresh.letter(200, size, month()), "peer"); !isCode(err, CodeCapacity) || s.evicted != 12 {
		t.Fatalf("over capacity: %v, %d evicted", err, s.evicted)
	}
}

// A disk that is full before the capacity is reached costs cold copies, and after that a refusal. What was accepted
// stays.
func TestFullDisk(t *testing.T) {
	for _, size := range []int{10_000, segmented + 1} {
		synctest.Test(t, func(t *testing.T) {
			h := holderT(t, Limits{})
			s := h.spool
			hot, cold := newKeys(t), newKeys(t)
			var kept, spare []*sealed.Message
			for i := range 3 {
				kept, spare = append(kept, hot.letter(i, size, month())), append(spare, cold.letter(10+i, size, month()))
				storeT(t, s, kept[i], "peer")
				storeT(t, s, spare[i], "peer")
			}
			writes := 0
			s.appendTo = func(l *journal.Log, ctx context.Context, header, body []byte) (journal.Ref, error) {
				if writes++; s.evicted == 0 {
					return journal.Ref{}, &fs.PathError{Op: "write", Path: "segment", Err: syscall.ENOSPC}
				}
				return l.Append(ctx, header, body)
			}
			books, g := s.books(), visitT(t, h, "peer")
			next := hot.letter(20, size, month())
			want(t, g.put(next, false), CodeCapacity, "disk")
			want(t, g.put(next, false), CodeCapacity, "disk")
			tomb, blob := hot.tombstone(kept[2])
			if _, err := s.bury(t.Context(), tomb, blob, "owner", time.Now()); !isCode(err, CodeCapacity) || !s.has(kept[2]) {
				t.Fatalf("deleted without being remembered: %v", err)
			}
			if got := s.books(); got != books || writes != 2 {
				t.Fatalf("%d writes, %s\nafter\n%s", writes, got, books)
			}
			if left, _ := os.ReadDir(s.largeDir(month())); size > segmented && len(left) != 6 {
				t.Fatalf("%d files", len(left))
			}

			time.Sleep(fullPause)
			s.setCold(cold.inbox(), true)
			if err := g.put(next, false); err != nil {
				t.Fatal(err)
			}
			for _, m := range append(kept, next) {
				readT(t, s, m)
			}
			if s.evicted != 3 || s.has(spare[0]) {
				t.Fatalf("%d evicted", s.evicted)
			}
			if n := buryT(t, s, hot, "owner", kept[2]); n != 1 {
				t.Fatal("not deleted")
			}
		})
	}
}

func isCode(err error, c Code) bool {
	r := new(Refusal)
	return errors.As(err, &r) && r.Code == c
}

// More of the others have to take what we date than refuse it.
func TestBelieved(t *testing.T) {
	late := fmt.Errorf("list: %w", refuse(CodeAccess, "it was made more than a day from now"))
	busy := refuse(CodeStreams, "enough")
	g := &gathering{client: &Client{cfg: ClientConfig{Self: "self"}}, answers: map[peer.ID]bool{"self": true, "a": true, "b": true}}
	for _, c := range []struct {
		order []peer.ID
		errs  []error
		want  bool
	}{
		{nil, nil, false},
		{[]peer.ID{"self"}, []error{nil}, false},
		{[]peer.ID{"self", "a"}, []error{nil, nil}, true},
		{[]peer.ID{"self", "a", "c"}, []error{nil, nil, late}, false},
		{[]peer.ID{"self", "a", "c"}, []error{nil, nil, busy}, true},
		{[]peer.ID{"a", "b", "c"}, []error{nil, nil, late}, true},
		{[]peer.ID{"a", "c", "d"}, []error{nil, late, late}, false},
	} {
		if got := g.believed(c.order, c.errs); got != c.want {
			t.Errorf("%v with %v: %v", c.order, c.errs, got)
		}
	}
}

// hide makes what is at a path unreadable until show is called: a file is where its directory was.
func hide(t testing.TB, path string) (show func()) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Rename(path, path+".away"))
	must(os.WriteFile(path, nil, 0o600))
	return func() {
		must(os.Remove(path))
		must(os.Rename(path+".away", path))
	}
}

// What cannot be read for a while is kept, and whoever asks for it is told to ask again.
func TestReadErrorsLoseNothing(t *testing.T) {
	h := holderT(t, Limits{})
	s, k := h.spool, newKeys(t)
	small, large := k.letter(1, sealed.MinBody, month()), k.letter(2, segmented+1, month())
	storeT(t, s, small, "peer")
	storeT(t, s, large, "peer")
	broken := func(m *sealed.Message) {
		t.Helper()
		id := m.Outer.ID()
		if _, err := s.open(m.Outer.Inbox, id); err == nil || errors.Is(err, errMissing) {
			t.Fatalf("open: %v", err)
		}
		h.upkeep.doubt(m.Outer.Inbox, id, &m.Outer)
		room := func(sealed.ID, uint64) func() { return func() {} }
		missing, err := localSource{h}.get(k.key(), []sealed.ID{id}, room, nil)
		if err == nil || len(missing) > 0 {
			t.Fatalf("local get: %d missing, %v", len(missing), err)
		}
		g := visitT(t, h, "owner")
		_, err = g.c.get(g.hello(), k.key(), []sealed.ID{id}, room, nil)
		want(t, err, CodeInternal, "at the moment")
		if !s.has(m) || s.lost != 0 {
			t.Fatal("a message is forgotten that could not be read once")
		}
	}
	show := hide(t, s.dayDir(month()))
	broken(small)
	show()
	readT(t, s, small)
	show = hide(t, s.largeDir(month()))
	broken(large)
	show()
	readT(t, s, large)

	// Neither is it at open.
	gone := k.letter(3, sealed.MinBody, month())
	buryT(t, s, k, "owner", gone)
	books := s.books()
	s.close()
	show = hide(t, s.largeDir(month()))
	if again, err := openSpool(s.dir, s.capacity, "self", s.limits, quiet, time.Now()); err == nil {
		again.close()
	}
	show()
	again := spoolAt(t, s.dir, s.capacity, s.limits)
	if got := again.books(); got != books {
		t.Fatalf("%s\nafter\n%s", books, got)
	}
	readT(t, again, large)
	show = hide(t, filepath.Join(s.dir, "graves"))
	if err := again.loadGraves(time.Now()); err == nil {
		t.Fatal("tombstones that cannot be read are passed over")
	}
	show()
	if n := again.graves.Status().Records; n != 1 {
		t.Fatalf("%d tombstones", n)
	}

	// What is lost is forgotten.
	if err := os.Truncate(again.largePath(month(), large.Outer.ID()), 10); err != nil {
		t.Fatal(err)
	}
	o := large.Outer
	m, err := again.open(o.Inbox, o.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.readBody(o.ID(), m, &o); !errors.Is(err, errMissing) || again.has(large) {
		t.Fatalf("a short file: %v", err)
	}
	m.body.Close()
}
