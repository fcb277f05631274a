package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

// want fails unless err is a refusal with the code whose sentence has the number.
func want(t *testing.T, err error, c Code, number any) {
	t.Helper()
	if !isCode(err, c) {
		t.Fatalf("%v, want code %d", err, c)
	}
	if !strings.Contains(err.Error(), fmt.Sprint(number)) {
		t.Fatalf("%q does not name the limit %v", err, number)
	}
}

// reserveN makes room for messages of a size, whose bodies never come, until that is refused.
func reserveN(s *spool, k keys, from func(i int) peer.ID, size uint64, most int) (n int, err error) {
	for n < most {
		m := k.letter(n, 0, month())
		m.Outer.Size = size
		m.Outer.Hash[0], m.Outer.Hash[1], m.Outer.Hash[2] = byte(n), byte(n>>8), byte(n>>16)
		if _, err := s.reserve(&m.Outer, m.Outer.ID(), from(n), from(n) == ""); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func onePeer(int) peer.ID     { return "peer" }
func upkeepPeer(int) peer.ID  { return "" }
func manyPeers(i int) peer.ID { return peer.ID(fmt.Sprint(i % 64)) }
func spoolFor(t *testing.T, l Limits) *spool {
	return spoolAt(t, t.TempDir(), 1<<50, free(l))
}

func TestInboxMessages(t *testing.T) {
	n, err := reserveN(spoolFor(t, Limits{}), newKeys(t), manyPeers, 1000, 2*InboxMessages)
	if n != InboxMessages {
		t.Fatalf("%d messages", n)
	}
	want(t, err, CodeInboxMessages, InboxMessages)
	n, err = reserveN(spoolFor(t, Limits{InboxMessages: 20, PeerShare: 1}), newKeys(t), upkeepPeer, 1000, 2*InboxMessages)
	if n != 20 {
		t.Fatalf("%d messages", n)
	}
	want(t, err, CodeInboxMessages, 20)
}

func TestInboxBytes(t *testing.T) {
	n, err := reserveN(spoolFor(t, Limits{}), newKeys(t), upkeepPeer, 1<<20-overhead, 10_000)
	if n != InboxBytes>>20 {
		t.Fatalf("%d MiB", n)
	}
	want(t, err, CodeInboxBytes, InboxBytes)
	n, err = reserveN(spoolFor(t, Limits{InboxBytes: 5 << 20}), newKeys(t), upkeepPeer, 1<<20-overhead, 10_000)
	if n != 5 {
		t.Fatalf("%d MiB", n)
	}
	want(t, err, CodeInboxBytes, 5<<20)
}

// One peer fills half of an inbox that nobody else uses, an eighth in any case; others still put, and upkeep is not
// counted.
func TestPeerShare(t *testing.T) {
	s, k := spoolFor(t, Limits{}), newKeys(t)
	n, err := reserveN(s, k, onePeer, 1000, InboxMessages)
	if n != InboxMessages/2 {
		t.Fatalf("%d messages of one peer", n)
	}
	want(t, err, CodePeerMessages, InboxMessages/2)
	if n, err := reserveN(s, k, func(int) peer.ID { return "other" }, 1000, 10); n != 10 {
		t.Fatal(err)
	}
	if n, err := reserveN(s, k, upkeepPeer, 1000, 2*InboxMessages/PeerShare); n != 2*InboxMessages/PeerShare {
		t.Fatal(err)
	}
	s, k = spoolFor(t, Limits{}), newKeys(t)
	n, err = reserveN(s, k, onePeer, 1<<20-overhead, 1000)
	if n != InboxBytes/2>>20 {
		t.Fatalf("%d MiB of one peer", n)
	}
	want(t, err, CodePeerBytes, InboxBytes/2)
	s, k = spoolFor(t, Limits{}), newKeys(t)
	if n, err := reserveN(s, k, upkeepPeer, 1<<20-overhead, InboxBytes*7/8>>20); n != InboxBytes*7/8>>20 {
		t.Fatal(err)
	}
	n, err = reserveN(s, k, onePeer, 1<<20-overhead, 1000)
	if n != InboxBytes/PeerShare>>20 {
		t.Fatalf("%d MiB of one peer in a full inbox", n)
	}
	want(t, err, CodeInboxBytes, InboxBytes)
	s, k = spoolFor(t, Limits{PeerShare: 1}), newKeys(t)
	if n, _ := reserveN(s, k, onePeer, 1<<20-overhead, 1000); n != InboxBytes>>20 {
		t.Fatalf("%d MiB of one peer", n)
	}
}

func TestCapacity(t *testing.T) {
	s := spoolAt(t, t.TempDir(), 3<<20, free(Limits{}))
	n, err := reserveN(s, newKeys(t), upkeepPeer, 1<<20-overhead, 10)
	if n != 3 {
		t.Fatalf("%d MiB", n)
	}
	want(t, err, CodeCapacity, 3<<20)
	h, err := Open(HolderConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if h.spool.capacity != DefaultCapacity {
		t.Fatalf("capacity %d", h.spool.capacity)
	}
}

// Room that is reserved for a body that does not come is given back.
func TestReservationsEnd(t *testing.T) {
	s, k := spoolFor(t, Limits{InboxMessages: 1, PeerShare: 1}), newKeys(t)
	for range 5 {
		m := k.letter(1, sealed.MinBody, month())
		r, err := s.reserve(&m.Outer, m.Outer.ID(), "peer", false)
		if err != nil {
			t.Fatal(err)
		}
		r.release()
		r.release()
	}
	if s.bytes != 0 || s.messages != 0 || len(s.inboxes) != 0 || len(s.claims) != 0 {
		t.Fatal(s.books())
	}
}

// One more bit is asked per doubling of the inbox's fill above a quarter, and up to four when the holder is full, of
// senders.
func TestStampBits(t *testing.T) {
	l := Limits{}.withDefaults()
	for _, c := range []struct {
		size          uint64
		inbox, holder float64
		bits          int
	}{
		{sealed.MinBody, 0, 0, 18}, {64 << 10, 0.25, 0, 18}, {64<<10 + 1, 0, 0, 19}, {1 << 20, 0, 0, 22},
		{sealed.MinBody, 0.26, 0, 19}, {sealed.MinBody, 0.5, 0, 19}, {sealed.MinBody, 0.51, 0, 20}, {1 << 20, 0.99, 0, 24},
		{sealed.MinBody, 0, 0.5, 18}, {sealed.MinBody, 0, 0.51, 19}, {sealed.MinBody, 0, 0.76, 20},
		{sealed.MinBody, 0, 0.88, 21}, {sealed.MinBody, 0, 0.94, 22}, {sealed.MinBody, 0, 1.1, 22},
		{sealed.MinBody, 1.1, 1.1, 18 + maxMore},
	} {
		if got := l.stampBits(c.size, c.inbox, c.holder); got != c.bits {
			t.Errorf("%d bytes at %v and %v: %d bits, want %d", c.size, c.inbox, c.holder, got, c.bits)
		}
	}
	l = Limits{InboxMessages: 8, PeerShare: 1, StampDiscount: 10}.withDefaults()
	s := spoolAt(t, t.TempDir(), 1<<50, l)
	k := newKeys(t)
	for i := range 8 {
		m := k.letter(i, sealed.MinBody, month())
		bits := 8
		if i > 2 {
			bits++
		}
		if i > 4 {
			bits++
		}
		m.Outer.Stamp = nil
		_, err := s.store(m, "peer")
		want(t, err, CodeStamp, bits)
		if r := err.(*Refusal); int(r.Bits) != bits {
			t.Fatalf("message %d: %d bits asked, want %d", i, r.Bits, bits)
		}
		stamp, err := sealed.MakeStamp(t.Context(), m.Outer.ID(), bits)
		if err != nil {
			t.Fatal(err)
		}
		m.Outer.Stamp = &stamp
		storeT(t, s, m, "peer")
	}
	// Upkeep shows what the first holder asked.
	l.InboxMessages = 9
	s.limits = l
	m := k.letter(8, sealed.MinBody, month())
	for bits := 8; ; bits-- {
		stamp, _ := sealed.MakeStamp(t.Context(), m.Outer.ID(), bits)
		if m.Outer.Stamp = &stamp; !stamp.Valid(m.Outer.ID(), 9) {
			break
		}
		m = k.letter(8+bits, sealed.MinBody, month())
	}
	if _, err := s.store(m, "peer"); !isCode(err, CodeStamp) && m.Outer.Stamp.Valid(m.Outer.ID(), 8) {
		t.Fatalf("too little work: %v", err)
	}
}

// The last of a holder's room costs more, but for upkeep; cold copies do not count, since they make room.
func TestFullHolderAsksForMore(t *testing.T) {
	const size = 10_000
	l := Limits{StampDiscount: 18}.withDefaults()
	s := spoolAt(t, t.TempDir(), 4*(size+overhead), l)
	k, other := newKeys(t), newKeys(t)
	for i := range 2 {
		storeT(t, s, k.letter(i, size, month()), "peer")
	}
	storeT(t, s, other.letter(2, size, month()), "")
	last := k.letter(3, size, month())
	for last.Outer.Stamp.Valid(last.Outer.ID(), 1) {
		last.Outer.Stamp.Nonce++
	}
	_, err := s.store(last, "peer")
	want(t, err, CodeStamp, "holder to 75 %")
	s.setCold(other.inbox(), true)
	s.setCold(other.inbox(), true)
	if s.cold != size+overhead {
		t.Fatalf("%d bytes are cold", s.cold)
	}
	storeT(t, s, last, "peer")
	s.setCold(other.inbox(), false)
	if s.cold != 0 {
		t.Fatalf("%d bytes are cold", s.cold)
	}
	upkeep := k.letter(4, size/2, month())
	s.capacity += size / 4
	for upkeep.Outer.Stamp.Valid(upkeep.Outer.ID(), 1) {
		upkeep.Outer.Stamp.Nonce++
	}
	_, err = s.store(upkeep, "peer")
	if r := new(Refusal); !errors.As(err, &r) || r.Code != CodeStamp || r.Bits != maxHolderBits {
		t.Fatalf("the last room: %v", err)
	}
	s.setCold(other.inbox(), true)
	buryT(t, s, other, "owner", other.letter(2, size, month()))
	if s.cold != 0 {
		t.Fatalf("%d bytes are cold", s.cold)
	}
	storeT(t, s, upkeep, "")
}

func TestRate(t *testing.T) {
	r := newRate(PutBurst, PutsPerMinute)
	now := time.Unix(1e9, 0)
	count := func(p peer.ID) (n int) {
		for r.take(p, now) {
			n++
		}
		return n
	}
	if n := count("a"); n != PutBurst {
		t.Fatalf("burst of %d", n)
	}
	if n := count("b"); n != PutBurst {
		t.Fatalf("another's burst of %d", n)
	}
	now = now.Add(time.Minute)
	if n := count("a"); n != PutsPerMinute {
		t.Fatalf("%d in a minute", n)
	}
	now = now.Add(24 * time.Hour)
	if n := count("a"); n != PutBurst {
		t.Fatalf("after a day a burst of %d", n)
	}
	// Meters are bounded: the idle are forgotten, and beyond that newcomers wait.
	for i := range maxMeters - 1 { // and "a"; "b" has its burst again
		if !r.take(peer.ID(fmt.Sprint(i)), now) {
			t.Fatal("refused a newcomer")
		}
	}
	if r.take("one more", now) {
		t.Fatal("more meters than allowed")
	}
	now = now.Add(24 * time.Hour)
	if !r.take("one more", now) || len(r.meters) != 1 {
		t.Fatalf("%d meters", len(r.meters))
	}
	r.sweep(now.Add(time.Hour))
	if len(r.meters) != 0 {
		t.Fatal("meters remain")
	}
}

// A friend who sends 300 messages a second for a minute gets all of them delivered. One who goes on does not.
func TestDeliveriesOfAFriend(t *testing.T) {
	r := NewReceiver(ReceiverConfig{}).rate
	now := time.Unix(1e9, 0)
	for i := range 300 * 60 {
		if !r.take("friend", now.Add(time.Duration(i)*time.Second/300)) {
			t.Fatalf("refused after %d", i)
		}
	}
	count := func(p peer.ID, now time.Time) (n int) {
		for r.take(p, now) {
			n++
		}
		return n
	}
	now = now.Add(time.Hour)
	if n := count("friend", now); n != DeliveryBurst {
		t.Errorf("a burst of %d", n)
	}
	if n := count("friend", now.Add(time.Minute)); n != DeliveriesPerMinute {
		t.Errorf("%d in a minute", n)
	}
}

func TestUpkeepRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{perSecond: UpkeepRate}
		start := time.Now()
		spend := func(p peer.ID, n int, after time.Duration) {
			t.Helper()
			if err := b.spend(t.Context(), p, n); err != nil || time.Since(start) != after {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
		}
		spend("a", 10*UpkeepRate, 0)
		spend("a", UpkeepRate, 10*time.Second)
		spend("a", 60*UpkeepRate, 11*time.Second)
		// What would wait for longer than a visited holder does is not counted.
		if err := b.spend(t.Context(), "b", UpkeepRate); !errors.Is(err, errBudget) || time.Since(start) != 11*time.Second+patience {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Until(start.Add(71 * time.Second)))
		spend("b", 1, 71*time.Second)
	})
}

// One that takes large messages without end leaves as many bytes to each other one as it has itself.
func TestUpkeepShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{perSecond: UpkeepRate}
		ctx, cancel := context.WithCancel(t.Context())
		sent := make([]int, 3)
		var work sync.WaitGroup
		for i, size := range []int{8 << 20, 8 << 20, 50_000} {
			work.Go(func() {
				for b.spend(ctx, peer.ID(fmt.Sprint(i)), size) == nil {
					sent[i] += size
				}
			})
		}
		time.Sleep(10 * time.Minute)
		cancel()
		work.Wait()
		if all := sent[0] + sent[1] + sent[2]; all < 590*UpkeepRate || sent[2] < all*3/10 {
			t.Fatalf("sent %v", sent)
		}
		if len(b.waiting) != 0 {
			t.Fatalf("%d wait", len(b.waiting))
		}
	})
}

// Each limit on tombstones refuses, with its number; nothing is deleted without being remembered.
func TestTombstoneLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		seen   bool // the messages are there
		from   peer.ID
		most   int
		number any
	}{
		{"Tombstones", Limits{Tombstones: 3}, true, "owner", 3, 3},
		{"Tombstones, unseen", Limits{Tombstones: 3}, false, "", 3, 3},
		{"TombstonesPerInbox", Limits{TombstonesPerInbox: 4}, true, "owner", 4, 4},
		{"TombstonesPerInbox, unseen", Limits{TombstonesPerInbox: 5}, false, "", 5, 5},
		{"Unseen", Limits{Unseen: 7}, false, "", 7, 7},
		{"UnseenPerPeer", Limits{UnseenPerPeer: 6}, false, "owner", 6, 6},
		{"TombstoneBytesPerPeer", Limits{TombstoneBytesPerPeer: 1500}, true, "owner", 0, 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, k := spoolFor(t, c.limits), newKeys(t)
			n := 0
			for ; n < 20; n++ {
				m := k.letter(n, sealed.MinBody, month())
				if c.seen {
					storeT(t, s, m, "peer")
				}
				tomb, blob := k.tombstone(m)
				if c.most == 0 {
					c.most = 1500 / len(blob)
				}
				_, err := s.bury(t.Context(), tomb, blob, c.from, time.Now())
				if err != nil {
					want(t, err, CodeTombstones, c.number)
					if c.seen && !s.has(m) {
						t.Fatal("deleted without being remembered")
					}
					break
				}
			}
			if n != c.most {
				t.Fatalf("%d tombstones, want %d", n, c.most)
			}
			books := s.books()
			s.close()
			if again := spoolAt(t, s.dir, 1<<50, s.limits); again.books() != books {
				t.Fatalf("%s\nafter\n%s", books, again.books())
			}
		})
	}
	d := Limits{}.withDefaults()
	if d.Tombstones != Tombstones || d.TombstonesPerInbox != TombstonesPerInbox ||
		d.UnseenPerPeer != UnseenPerPeer || d.Unseen != Unseen || d.TombstoneBytesPerPeer != TombstoneBytesPerPeer {
		t.Fatalf("defaults %+v", d)
	}
}

// Whoever deletes what never came, from as many peers as they like and for as many inboxes, does not keep an owner from
// deleting what is here, nor push anything out.
func TestTombstonesForNothing(t *testing.T) {
	const size = 10_000
	s := spoolAt(t, t.TempDir(), 3*(size+overhead), free(Limits{Tombstones: 12, Unseen: 8, UnseenPerPeer: 2}))
	k, far := newKeys(t), newKeys(t)
	mine, cold := k.letter(1, size, month()), far.letter(2, size, month())
	storeT(t, s, mine, "sender")
	storeT(t, s, cold, "sender")
	s.setCold(far.inbox(), true)
	var refusal error
	for i := 0; refusal == nil; i++ {
		stranger := newKeys(t)
		tomb, blob := stranger.tombstone(stranger.letter(100+i, sealed.MinBody, month()))
		_, refusal = s.bury(t.Context(), tomb, blob, peer.ID(fmt.Sprint("stranger", i)), time.Now())
	}
	want(t, refusal, CodeTombstones, 8)
	// A holder that is full takes none of these, and evicts nothing for them.
	storeT(t, s, k.letter(3, size-int(s.bytes-2*(size+overhead)), month()), "sender")
	stranger := newKeys(t)
	s.limits.Unseen = 100
	tomb, blob := stranger.tombstone(stranger.letter(4, sealed.MinBody, month()))
	_, err := s.bury(t.Context(), tomb, blob, "one more", time.Now())
	want(t, err, CodeCapacity, s.capacity)
	if !s.has(cold) || s.evicted != 0 {
		t.Fatal("a tombstone for nothing pushed a message out")
	}
	if n := buryT(t, s, k, "owner", mine); n != 1 || s.has(mine) {
		t.Fatal("the owner cannot delete")
	}
}

// Tombstones of what is here go above the capacity, so that a full holder can be emptied, but not for ever.
func TestGraveReserve(t *testing.T) {
	k := newKeys(t)
	m := k.letter(1, sealed.MinBody, month())
	for over, good := range map[int64]bool{0: true, graveReserve - 1000: true, graveReserve: false} {
		s := spoolAt(t, t.TempDir(), 100_000, free(Limits{}))
		storeT(t, s, m, "peer")
		s.bytes = s.capacity + over
		tomb, blob := k.tombstone(m)
		_, err := s.bury(t.Context(), tomb, blob, "owner", time.Now())
		if good && err != nil || !good && !isCode(err, CodeCapacity) || s.has(m) == good {
			t.Errorf("%d bytes over the capacity: %v", over, err)
		}
	}
}

// As many streams of one peer may wait as may be in; more are sent away at once.
func TestGuestsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuests(2, 100)
		var work sync.WaitGroup
		start := time.Now()
		var at []time.Duration
		var mu sync.Mutex
		for range 7 {
			work.Go(func() {
				if _, refusal := g.enter(t.Context(), "peer"); refusal != nil {
					mu.Lock()
					defer mu.Unlock()
					at = append(at, time.Since(start))
				}
			})
		}
		work.Wait()
		slices.Sort(at)
		if want := []time.Duration{0, 0, 0, hangUpTime, hangUpTime}; !slices.Equal(at, want) {
			t.Fatalf("refused after %v, want %v", at, want)
		}
	})
}

// An answer that names more than it may is refused by the one who asked.
func TestBoundsOfAnswers(t *testing.T) {
	ids := make([]sealed.ID, MaxIDs+1)
	items := make([]listItem, MaxIDs+1)
	for i := range items {
		items[i].ID = sealed.ID{byte(i >> 8), byte(i)}
	}
	for name, c := range map[string]func(n int) answer{
		"list":          func(n int) answer { return &listAnswer{Inboxes: []listedPage{{Items: items[:n]}}} },
		"list in parts": func(n int) answer { return &listAnswer{Inboxes: []listedPage{{Items: items[:9]}, {Items: items[9:n]}}} },
		"get":           func(n int) answer { return &getItem{Last: true, Missing: ids[:n]} },
		"watch":         func(n int) answer { return &watchNotice{IDs: ids[:n]} },
		"offer":         func(n int) answer { return &offerAnswer{Lacks: make([]uint64, n)} },
	} {
		if err := c(MaxIDs).check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := c(MaxIDs + 1).check(); err == nil {
			t.Errorf("%s of %d", name, MaxIDs+1)
		}
	}
	if (&digestAnswer{Results: make([]digestState, MaxInboxes)}).check() != nil || (&digestAnswer{Results: make([]digestState, MaxInboxes+1)}).check() == nil {
		t.Error("digest answer without bound")
	}
}

// A tombstone for many takes those that are here even when there is no room for the unseen.
func TestTombstoneTakesWhatItCan(t *testing.T) {
	s, k := spoolFor(t, Limits{UnseenPerPeer: 2}), newKeys(t)
	var ms []*sealed.Message
	for i := range 6 {
		m := k.letter(i, sealed.MinBody, month())
		ms = append(ms, m)
		if i < 2 {
			storeT(t, s, m, "peer")
		}
	}
	if n := buryT(t, s, k, "owner", ms...); n != 2 || s.tombs != 4 {
		t.Fatalf("deleted %d, remembered %d", n, s.tombs)
	}
	// Again is nothing new.
	if n := buryT(t, s, k, "owner", ms[:4]...); n != 0 || s.tombs != 4 || s.graves.Status().Records != 1 {
		t.Fatalf("deleted %d, remembered %d, %d records", n, s.tombs, s.graves.Status().Records)
	}
}

// Every field of Limits has a constant of its name as its default, so that none is forgotten.
func TestEveryLimitHasADefault(t *testing.T) {
	v := reflect.ValueOf(Limits{}.withDefaults())
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != (name == "StampDiscount") {
			t.Errorf("%s has no default", name)
		}
	}
	if got, want := (Limits{}).withDefaults(), (Limits{
		InboxBytes: 512 << 20, InboxMessages: 10_000, PeerShare: 8, PutsPerMinute: 60, PutBurst: 1000,
		DeliveriesPerMinute: 600, DeliveryBurst: 20_000,
		TombstonesPerInbox: 50_000, UnseenPerPeer: 10_000, Unseen: 100_000,
		TombstoneBytesPerPeer: 4 << 20, Tombstones: 500_000,
		StreamsPerPeer: 8, WatchesPerPeer: 32, Streams: 1024, BodyMemory: 128 << 20, UpkeepRate: 1 << 20,
	}); got != want {
		t.Errorf("defaults %+v, and the protocol promises %+v", got, want)
	}
	h := holderT(t, Limits{})
	if h.limits.PutBurst != PutBurst || h.puts.burst != PutBurst || h.puts.perSecond != PutsPerMinute/60 ||
		h.guests.perPeer != StreamsPerPeer || h.guests.most != Streams || h.watches.perPeer != WatchesPerPeer ||
		h.memory.most != BodyMemory || h.upkeep.budget.perSecond != UpkeepRate {
		t.Errorf("a holder with %+v", h.limits)
	}
}

func TestGuests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuests(2, 3)
		leave, err := g.enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		g.enter(t.Context(), "a")
		if _, r := g.enter(t.Context(), "a"); r == nil || r.Code != CodeStreams || !strings.Contains(r.Text, "2") {
			t.Fatalf("third of one peer: %v", r)
		}
		leaveB, _ := g.enter(t.Context(), "b")
		if _, r := g.enter(t.Context(), "c"); r == nil || r.Code != CodeStreams || !strings.Contains(r.Text, "3") {
			t.Fatalf("fourth of all: %v", r)
		}
		leave()
		if _, r := g.enter(t.Context(), "c"); r != nil {
			t.Fatal(r)
		}
		// One that leaves makes room for one that waits; who waits in vain is told so, and not for ever.
		time.AfterFunc(hangUpTime/2, leaveB)
		start := time.Now()
		if _, r := g.enter(t.Context(), "d"); r != nil || time.Since(start) != hangUpTime/2 {
			t.Fatalf("after %v: %v", time.Since(start), r)
		}
		if _, r := g.enter(t.Context(), "d"); r == nil || time.Since(start) != hangUpTime*3/2 {
			t.Fatalf("after %v: %v", time.Since(start), r)
		}
		if g.now() != 3 || len(g.waiting) != 0 {
			t.Fatalf("%d in, %d wait", g.now(), len(g.waiting))
		}
	})
}

// When the streams are full, the oldest of whoever has most makes room, and a quarter is kept for those who are known.
func TestGuestsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuests(8, 64)
		ended := make(map[string]int)
		enter := func(p string, known bool) *Refusal {
			_, refusal := g.admit(t.Context(), &seat{peer: peer.ID(p), known: known, end: func() { ended[p]++ }})
			return refusal
		}
		for i := range 6 { // three quarters
			for range 8 {
				if r := enter(fmt.Sprint("hoarder", i), false); r != nil {
					t.Fatal(r)
				}
			}
		}
		if len(ended) != 0 {
			t.Fatalf("ended %v", ended)
		}
		for range 4 {
			if r := enter("stranger", false); r != nil {
				t.Fatal(r)
			}
		}
		if n := len(ended); n != 4 || ended["stranger"] != 0 || g.now() != 48 {
			t.Fatalf("ended %v, %d in", ended, g.now())
		}
		for i := range 16 {
			if r := enter(fmt.Sprint("known", i), true); r != nil {
				t.Fatal(r)
			}
		}
		if n := len(ended); n != 4 || g.now() != 64 {
			t.Fatalf("ended %v, %d in", ended, g.now())
		}
		// One more of these takes the place of a stranger, and never the other way round.
		if r := enter("one more", true); r != nil || g.unknown != 47 {
			t.Fatalf("%d strangers, %v", g.unknown, r)
		}
		for i := range 100 {
			enter(fmt.Sprint("flood", i), false)
		}
		for i := range 16 {
			if ended[fmt.Sprint("known", i)] != 0 {
				t.Fatal("a stranger has the place of one who is known")
			}
		}
	})
}

// Of many peers with a stream each nobody is turned out in the first minute.
func TestGuestsHaveTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuests(8, 8)
		out := 0
		enter := func(i int) *Refusal {
			_, refusal := g.admit(t.Context(), &seat{peer: peer.ID(fmt.Sprint(i)), end: func() { out++ }})
			return refusal
		}
		for i := range 6 {
			if r := enter(i); r != nil {
				t.Fatal(r)
			}
		}
		if r := enter(6); r == nil || out != 0 {
			t.Fatalf("%d turned out, %v", out, r)
		}
		time.Sleep(IdleTime)
		if r := enter(7); r != nil || out != 1 {
			t.Fatalf("%d turned out, %v", out, r)
		}
	})
}

// The times of a body grow with it, and are bounded.
func TestBodyTime(t *testing.T) {
	if d := bodyTime(0); d != AnswerTime {
		t.Fatal(d)
	}
	if d := bodyTime(MinRate); d != AnswerTime+time.Second {
		t.Fatal(d)
	}
	if d := bodyTime(sealed.MaxBody); d > 15*time.Minute {
		t.Fatal(d)
	}
}

// An outer part that expired, or that expires too late, is refused before anything else.
func TestExpiryAtTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		today := identity.DayAt(time.Now())
		for _, d := range []identity.Day{today - 2, today + 40} {
			if _, err := h.putLocal(t.Context(), k.letter(1, sealed.MinBody, d)); !isCode(err, CodeExpiry) {
				t.Fatalf("day %d: %v", d, err)
			}
		}
		if g, err := h.putLocal(t.Context(), k.letter(1, sealed.MinBody, today+30)); err != nil || g.receipt == nil {
			t.Fatal(err)
		}
	})
}
