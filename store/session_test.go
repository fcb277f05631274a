package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/wire"
)

// hostOf makes a key and its peer id.
func hostOf(t testing.TB) (*identity.HostKey, peer.ID) {
	t.Helper()
	key, err := identity.GenerateHostKey(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := crypto.UnmarshalEd25519PublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

// neighbours are the same for every drop.
type neighbours []peer.ID

func (n neighbours) Nearest(context.Context, []byte, int) ([]peer.ID, error) {
	return n, nil
}
func (n neighbours) Solved(p peer.ID) bool    { return slices.Contains(n, p) }
func (n neighbours) Changed() <-chan struct{} { return nil }

// holderT is a holder whose only neighbour is "near".
func holderT(t testing.TB, l Limits) *Holder {
	t.Helper()
	key, id := hostOf(t)
	if l.StampDiscount == 0 {
		l.StampDiscount = 64
	}
	h, err := Open(HolderConfig{Dir: t.TempDir(), Self: id, HostKey: key, Near: neighbours{id, "near"}, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// pipe is one end of a stream without buffer. It counts what is reserved.
type pipe struct {
	net.Conn
	memory *int
	peak   *int
	most   int
	mu     *sync.Mutex
}

func (p pipe) CloseWrite() error { return nil }
func (p pipe) Reset() error      { return p.Close() }

func (p pipe) ReserveMemory(n int) (func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most > 0 && *p.memory+n > p.most {
		return nil, errors.New("no memory")
	}
	*p.memory += n
	*p.peak = max(*p.peak, *p.memory)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		*p.memory -= n
	}, nil
}

// guest is a stranger at a holder's door.
type guest struct {
	t      testing.TB
	c      *conn
	server pipe
	ended  chan struct{}
}

// visitT opens a stream to a holder.
func visitT(t testing.TB, h *Holder, from peer.ID) *guest {
	t.Helper()
	a, b := net.Pipe()
	g := &guest{t: t, server: pipe{b, new(int), new(int), 0, new(sync.Mutex)}, ended: make(chan struct{})}
	g.c = &conn{s: pipe{a, new(int), new(int), 0, new(sync.Mutex)}, peer: h.cfg.Self, stop: func() bool { return true }, ending: new(sync.WaitGroup)}
	g.c.r = bufio.NewReader(a)
	go func() {
		defer close(g.ended)
		h.Serve(context.Background(), g.server, from)
	}()
	t.Cleanup(func() { a.Close(); <-g.ended })
	return g
}

func (g *guest) ask(q *request, a answer) error { return g.c.ask(q, a, AnswerTime) }

func (g *guest) put(m *sealed.Message, upkeep bool) error {
	_, err := g.c.give(&m.Outer, m.Outer.ID(), upkeep, bodyOf(m))
	return err
}

func (g *guest) hello() prover {
	g.t.Helper()
	p, err := g.c.hello()
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// over tells when the holder has ended the stream.
func (g *guest) over() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

func TestProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k, thief := newKeys(t), newKeys(t)
		mine := k.key()
		m := k.letter(1, sealed.MinBody, month())
		if _, err := h.putLocal(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		g := visitT(t, h, "owner")
		list := func(g *guest, proof []byte) error {
			var a listAnswer
			err := g.ask(&request{List: &listRequest{Inboxes: []listInbox{{Proof: proof}}}}, &a)
			if err == nil && len(a.Inboxes[0].Items) != 1 {
				t.Errorf("listed %d", len(a.Inboxes[0].Items))
			}
			return err
		}
		// Before the nonce nothing is proven.
		if err := list(g, prover{holder: h.cfg.Self}.prove(identity.OpList, mine, nil)); !isCode(err, CodeAccess) {
			t.Fatalf("without a nonce: %v", err)
		}
		p := g.hello()
		good := p.prove(identity.OpList, mine, nil)
		if err := list(g, good); err != nil {
			t.Fatal(err)
		}
		other := visitT(t, h, "owner")
		fresh := other.hello()
		// The nonce of another stream, and of an earlier one.
		if err := list(other, good); !isCode(err, CodeAccess) {
			t.Fatalf("replayed on another stream: %v", err)
		}
		if fresh.nonce == p.nonce {
			t.Fatal("two streams have one nonce")
		}
		if g.hello(); !isCode(list(g, good), CodeAccess) {
			t.Fatal("replayed after another nonce")
		}
		p = g.hello()
		bad := identity.Access{
			Op: identity.OpList, Fetch: pub(k.fetch), Delete: pub(k.delete),
			Holder: []byte(h.cfg.Self), Nonce: p.nonce, Time: time.Now().Unix(),
		}
		forge := func(change func(a *identity.Access)) []byte {
			a := bad
			change(&a)
			return identity.SignAccess(k.fetch, a)
		}
		signedBy := func(priv ed25519.PrivateKey) []byte {
			payload, err := wire.Marshal(bad)
			if err != nil {
				t.Fatal(err)
			}
			return identity.Sign(identity.ContextAccess, priv, payload)
		}
		for name, proof := range map[string][]byte{
			"other op":     forge(func(a *identity.Access) { a.Op = identity.OpGet }),
			"other holder": forge(func(a *identity.Access) { a.Holder = []byte("elsewhere") }),
			"old":          forge(func(a *identity.Access) { a.Time -= 2 * 24 * 3600 }),
			"other key":    signedBy(thief.fetch),
			"garbage":      []byte("garbage"),
			"empty":        {},
			"delete key":   signedBy(k.delete),
		} {
			if err := list(g, proof); !isCode(err, CodeAccess) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// A proof opens the inbox of its two keys and no other, whatever one knows of the other's keys.
		for name, own := range map[string]FetchKey{
			"two others":       thief.key(),
			"other fetch key":  {Key: thief.fetch, Delete: pub(k.delete)},
			"other delete key": {Key: k.fetch, Delete: pub(thief.delete)},
			"delete key twice": {Key: k.delete, Delete: pub(k.delete)},
			"keys swapped":     {Key: k.delete, Delete: pub(k.fetch)},
		} {
			var a listAnswer
			if err := g.ask(&request{List: &listRequest{Inboxes: []listInbox{{Proof: p.prove(identity.OpList, own, nil)}}}}, &a); err != nil || len(a.Inboxes[0].Items) != 0 {
				t.Fatalf("%s: listed %+v, %v", name, a, err)
			}
			var item getItem
			if err := g.ask(&request{Get: &getRequest{Proof: p.prove(identity.OpGet, own, []sealed.ID{m.Outer.ID()})}}, &item); err != nil || item.Outer != nil || len(item.Missing) != 1 {
				t.Fatalf("%s: got another's message: %+v, %v", name, item, err)
			}
		}
		// The stream survives all that.
		if err := list(g, p.prove(identity.OpList, mine, nil)); err != nil {
			t.Fatal(err)
		}
		if n := h.Status().Refused[CodeAccess]; n != 10 {
			t.Fatalf("%d refusals counted", n)
		}
	})
}

func TestForeignDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k, thief := newKeys(t), newKeys(t)
		m := k.letter(1, sealed.MinBody, month())
		if _, err := h.putLocal(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		g := visitT(t, h, "thief")
		del := func(blob []byte) (uint64, error) {
			var a deleteAnswer
			err := g.ask(&request{Delete: &deleteRequest{Tombstone: blob}}, &a)
			return a.Deleted, err
		}
		// A tombstone is for the inbox of its two keys, whatever one knows of the other's keys.
		for name, own := range map[string]keys{
			"two others":       thief,
			"other delete key": {k.fetch, thief.delete},
			"other fetch key":  {thief.fetch, k.delete},
			"fetch key twice":  {k.fetch, k.fetch},
			"keys swapped":     {k.delete, k.fetch},
		} {
			_, blob := own.tombstone(m)
			if n, err := del(blob); n != 0 || err != nil {
				t.Fatalf("%s: deleted %d, %v", name, n, err)
			}
		}
		_, good := k.tombstone(m)
		forged := bytes.Clone(good)
		forged[len(forged)-1] ^= 1
		if _, err := del(forged); !isCode(err, CodeTombstone) {
			t.Fatalf("forged: %v", err)
		}
		future, _ := k.tombstone(m)
		future.Time += 3 * 24 * 3600
		if _, err := del(identity.SignTombstone(k.delete, *future)); !isCode(err, CodeTombstone) {
			t.Fatalf("from the future: %v", err)
		}
		if !h.spool.has(m) {
			t.Fatal("the message is gone")
		}
		for i := range uint64(2) {
			if n, err := del(good); n != 1-i || err != nil {
				t.Fatalf("deleted %d, %v", n, err)
			}
		}
	})
}

// A stranger who names another delete key than the owner's names another inbox: what lies there is not listed to the
// owner and takes none of the room. What is listed to the owner, the owner can delete.
func TestForeignDeleteKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		h := holderT(t, Limits{InboxMessages: most, InboxBytes: most * (sealed.MinBody + overhead), PeerShare: 1})
		k := newKeys(t)
		odd := keys{k.fetch, newKeys(t).delete}
		g := visitT(t, h, "stranger")
		for _, in := range []keys{odd, k} { // each has the whole room
			for i := range most {
				if err := g.put(in.letter(i, sealed.MinBody, month()), false); err != nil {
					t.Fatal(err)
				}
			}
			want(t, g.put(in.letter(most, sealed.MinBody, month()), false), CodeInboxMessages, most)
		}
		owner := visitT(t, h, "owner")
		list := func() []listItem {
			var a listAnswer
			proof := owner.hello().prove(identity.OpList, k.key(), nil)
			if err := owner.ask(&request{List: &listRequest{Inboxes: []listInbox{{Proof: proof}}}}, &a); err != nil {
				t.Fatal(err)
			}
			return a.Inboxes[0].Items
		}
		listed := list()
		if len(listed) != most {
			t.Fatalf("%d messages are listed", len(listed))
		}
		tomb := identity.Tombstone{Fetch: pub(k.fetch), Time: time.Now().Unix()}
		for _, item := range listed {
			tomb.Items = append(tomb.Items, identity.TombstoneItem{ID: item.ID, Expiry: month()})
		}
		var a deleteAnswer
		if err := owner.ask(&request{Delete: &deleteRequest{Tombstone: identity.SignTombstone(k.delete, tomb)}}, &a); err != nil || a.Deleted != most {
			t.Fatalf("deleted %d, %v", a.Deleted, err)
		}
		if left := list(); len(left) != 0 {
			t.Fatalf("%d messages are listed still", len(left))
		}
		if n := h.spool.digest(odd.inbox()).Count; n != most {
			t.Fatalf("%d messages are left of the other inbox", n)
		}
	})
}

// A peer that puts too often is told so, whatever it puts; upkeep and the node itself are not counted.
func TestPutRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{PutBurst: 5, PutsPerMinute: 2})
		k := newKeys(t)
		g := visitT(t, h, "near")
		for i := range 5 {
			if err := g.put(k.letter(i, sealed.MinBody, month()), false); err != nil {
				t.Fatal(err)
			}
		}
		err := g.put(k.letter(5, sealed.MinBody, month()), false)
		want(t, err, CodeRate, 5)
		want(t, err, CodeRate, 2)
		var a deleteAnswer
		_, blob := k.tombstone(k.letter(0, sealed.MinBody, month()))
		if err := g.ask(&request{Delete: &deleteRequest{Tombstone: blob}}, &a); !isCode(err, CodeRate) {
			t.Fatalf("delete: %v", err)
		}
		// Upkeep is taken, but only what was asked for.
		m := k.letter(6, sealed.MinBody, month())
		if err := g.put(m, true); !isCode(err, CodeUnexpected) {
			t.Fatalf("unasked: %v", err)
		}
		offer := &offerRequest{Inbox: k.inbox(), Items: []offerItem{{ID: m.Outer.ID(), Expiry: m.Outer.Expiry}}}
		var lacks offerAnswer
		if err := g.ask(&request{Offer: offer}, &lacks); err != nil || len(lacks.Lacks) != 1 {
			t.Fatalf("%+v, %v", lacks, err)
		}
		if err := g.put(m, true); err != nil {
			t.Fatal(err)
		}
		if err := g.put(m, true); !isCode(err, CodeUnexpected) {
			t.Fatalf("asked for once, put twice: %v", err)
		}
		// Who is not near cannot claim upkeep.
		far := visitT(t, h, "far")
		if err := far.ask(&request{Offer: offer}, &lacks); !isCode(err, CodeNear) {
			t.Fatalf("offer from afar: %v", err)
		}
		var states digestAnswer
		if err := far.ask(&request{Digest: &digestRequest{Inboxes: []digest{{Inbox: k.inbox()}}}}, &states); err != nil || states.Results[0] != digestNotNear {
			t.Fatalf("digest from afar: %+v, %v", states, err)
		}
		if err := g.ask(&request{Digest: &digestRequest{Inboxes: []digest{h.spool.digest(k.inbox()), {Inbox: k.inbox()}}}}, &states); err != nil ||
			states.Results[0] != digestSame || states.Results[1] != digestDiffers {
			t.Fatalf("digest: %+v, %v", states, err)
		}
		g.c.abort()
		time.Sleep(time.Minute)
		g = visitT(t, h, "near")
		for i := range 3 {
			err = g.put(k.letter(10+i, sealed.MinBody, month()), false)
			if (err == nil) != (i < 2) {
				t.Fatalf("put %d after a minute: %v", i, err)
			}
		}
		for i := range 20 {
			if _, err := h.putLocal(t.Context(), k.letter(30+i, sealed.MinBody, month())); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Slow and silent peers are let go in bounded time, and leave nothing behind.
func TestSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		m := k.letter(1, sealed.MinBody, month())
		offer, err := wire.Marshal(&request{Put: &putRequest{Outer: m.Outer.Marshal()}})
		if err != nil {
			t.Fatal(err)
		}
		frame := append([]byte{byte(len(offer)) | 0x80, byte(len(offer) >> 7)}, offer...)
		for name, c := range map[string]struct {
			act  func(g *guest)
			most time.Duration
		}{
			"silent":                 {func(*guest) {}, IdleTime},
			"silent after a byte":    {func(g *guest) { g.c.s.Write(frame[:1]) }, AnswerTime},
			"silent in the request":  {func(g *guest) { g.c.s.Write(frame[:20]) }, AnswerTime},
			"does not read":          {func(g *guest) { g.c.s.Write(frame) }, AnswerTime},
			"silent before the body": {func(g *guest) { g.c.s.Write(frame); g.c.r.ReadByte() }, bodyTime(sealed.MinBody)},
			"silent before a large body": {func(g *guest) {
				large := k.letter(2, sealed.MinBody, month())
				large.Outer.Size = sealed.MaxBody
				wire.WriteFrame(g.c.s, &request{Put: &putRequest{Outer: large.Outer.Marshal()}})
				g.c.r.ReadByte()
			}, bodyTime(bodyStep)},
			"a byte a second": {func(g *guest) {
				g.c.s.Write(frame)
				go io.Copy(io.Discard, g.c.r)
				for range 1000 {
					if _, err := g.c.s.Write([]byte{1}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}, bodyTime(sealed.MinBody)},
		} {
			start := time.Now()
			g := visitT(t, h, "slow")
			acted := make(chan struct{})
			go func() { defer close(acted); c.act(g) }()
			<-g.ended
			took := time.Since(start)
			g.c.abort()
			<-acted
			if took > c.most+2*hangUpTime+time.Second {
				t.Errorf("%s: let go after %v, want %v", name, took, c.most)
			}
			if *g.server.memory != 0 {
				t.Errorf("%s: %d bytes are still reserved", name, *g.server.memory)
			}
		}
		synctest.Wait()
		if st := h.Status(); st.Messages != 0 || st.Bytes != 0 || st.Streams != 0 || h.memory.used != 0 {
			t.Fatalf("left behind: %+v", st)
		}
	})
}

// Memory is asked for before a body is read, from the stream and from the holder.
func TestMemoryIsReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{BodyMemory: 100_000})
		k := newKeys(t)
		g := visitT(t, h, "peer")
		m := k.letter(1, 50_000, month())
		err := g.put(m, false)
		synctest.Wait()
		if err != nil || *g.server.peak != 50_000 || *g.server.memory != 0 {
			t.Fatalf("peak %d, now %d, %v", *g.server.peak, *g.server.memory, err)
		}
		want(t, g.put(k.letter(2, 100_001, month()), false), CodeMemory, 100_000)
		poor := visitT(t, h, "poor")
		poor.c.abort()
		a, b := net.Pipe()
		defer a.Close()
		p := pipe{b, new(int), new(int), 10_000, new(sync.Mutex)}
		go h.Serve(t.Context(), p, "poor")
		c := &conn{s: pipe{a, new(int), new(int), 0, new(sync.Mutex)}, r: bufio.NewReader(a), peer: h.cfg.Self, stop: func() bool { return true }, ending: new(sync.WaitGroup)}
		if _, err := c.give(&m.Outer, m.Outer.ID(), false, bodyOf(m)); err != nil {
			t.Fatal(err) // it is here, so no memory is needed
		}
		big := k.letter(3, 10_001, month())
		_, err = c.give(&big.Outer, big.Outer.ID(), false, bodyOf(big))
		want(t, err, CodeMemory, 10_001)
	})
}

// Large bodies leave room for small ones.
func TestLargeBodiesLeaveMemory(t *testing.T) {
	m := memory{most: BodyMemory}
	s := pipe{nil, new(int), new(int), 0, new(sync.Mutex)}
	come := func(i, size int) error {
		a, err := m.admit(s, peer.ID(fmt.Sprint(i)), size)
		if err == nil {
			err = a.grow(size)
		}
		return err
	}
	large := 0
	for ; ; large++ {
		if err := come(large, sealed.MaxBody); err != nil {
			want(t, err, CodeMemory, BodyMemory*3/4)
			break
		}
	}
	if large != 2 {
		t.Fatalf("%d of the largest bodies at once", large)
	}
	small := 0
	for ; ; small++ {
		if err := come(10+small, largeBody); err != nil {
			want(t, err, CodeMemory, BodyMemory)
			break
		}
	}
	if (small+1)*largeBody < BodyMemory/4 || m.used > BodyMemory {
		t.Fatalf("%d smaller ones besides, %d bytes in all", small, m.used)
	}
}

// One peer has a sixteenth of the memory, or one body of any size.
func TestMemoryShare(t *testing.T) {
	m := memory{most: BodyMemory}
	s := pipe{nil, new(int), new(int), 0, new(sync.Mutex)}
	a, err := m.admit(s, "peer", sealed.MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.admit(s, "peer", 1)
	want(t, err, CodeMemory, BodyMemory/bodyShare)
	a.release()
	var all []*arrival
	for range BodyMemory / bodyShare >> 20 {
		a, err := m.admit(s, "peer", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	_, err = m.admit(s, "peer", 1)
	want(t, err, CodeMemory, BodyMemory/bodyShare)
	if b, err := m.admit(s, "other", 1<<20); err != nil {
		t.Fatal(err)
	} else {
		b.release()
	}
	for _, a := range all {
		if err := a.grow(1 << 20); err != nil {
			t.Fatal(err)
		}
		a.release()
	}
	if m.used != 0 || *s.memory != 0 || len(m.peers) != 0 {
		t.Fatalf("left behind: %+v", &m)
	}
}

// Bodies that are announced and do not come hold nothing that others need, however many peers announce them.
func TestAnnouncedBodiesHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		offer := func(from peer.ID, n int, size uint64) error {
			m := k.letter(n, 0, month())
			m.Outer.Size, m.Outer.Hash = size, [32]byte{byte(n), byte(n >> 8)}
			var a putAnswer
			return visitT(t, h, from).ask(&request{Put: &putRequest{Outer: m.Outer.Marshal()}}, &a)
		}
		for i := range 128 {
			if err := offer(peer.ID(fmt.Sprint("stranger", i/8)), i, largeBody); err != nil && !isCode(err, CodeMemory) {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			if err := offer(peer.ID(fmt.Sprint("honest", i)), 1000+i, 100<<10); err != nil {
				t.Fatalf("offer %d: %v", i, err)
			}
		}
	})
}

// A peer whose body did not come in time, or was another one, waits for a while before it may send the next.
func TestPauseAfterBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		m := k.letter(1, 100_000, month())
		silent := visitT(t, h, "peer")
		var a putAnswer
		if err := silent.ask(&request{Put: &putRequest{Outer: m.Outer.Marshal()}}, &a); err != nil {
			t.Fatal(err)
		}
		<-silent.ended
		other := visitT(t, h, "other")
		wrong := *m
		wrong.Body = k.letter(2, 100_000, month()).Body
		want(t, other.put(&wrong, false), CodeHash, "")
		for _, p := range []peer.ID{"peer", "other"} {
			want(t, visitT(t, h, p).put(m, false), CodeMemory, int(bodyPause/time.Second))
		}
		if err := visitT(t, h, "third").put(k.letter(3, 100_000, month()), false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(bodyPause)
		for i, p := range []peer.ID{"peer", "other"} {
			if err := visitT(t, h, p).put(k.letter(4+i, 100_000, month()), false); err != nil {
				t.Fatal(err)
			}
		}
		if synctest.Wait(); len(h.memory.peers) != 0 {
			t.Fatalf("peers remembered: %v", h.memory.peers)
		}
	})
}

// Who takes an offer back may send the next message at once. Whoever does so again and again holds nothing and has no
// more offers than others.
func TestOffersTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst = 8
		h := holderT(t, Limits{PutBurst: burst, PutsPerMinute: 1})
		k := newKeys(t)
		for i := range burst {
			m := k.letter(i, 300_000, month())
			g := visitT(t, h, "peer")
			var a putAnswer
			if err := g.ask(&request{Put: &putRequest{Outer: m.Outer.Marshal()}}, &a); err != nil || !a.Want {
				t.Fatalf("offer %d: %v", i, err)
			}
			if _, err := g.c.s.Write(m.Body[:i*bodyAhead/2]); err != nil {
				t.Fatal(err)
			}
			_ = g.c.s.Reset()
			<-g.ended
			if h.memory.used != 0 || *g.server.memory != 0 || len(h.memory.peers) != 0 {
				t.Fatalf("left behind: %+v", &h.memory)
			}
		}
		want(t, visitT(t, h, "peer").put(k.letter(burst, 300_000, month()), false), CodeRate, burst)
		time.Sleep(time.Minute)
		if err := visitT(t, h, "peer").put(k.letter(burst, 300_000, month()), false); err != nil {
			t.Fatal(err)
		}
		if st := h.Status(); st.Messages != 1 {
			t.Fatalf("%d messages", st.Messages)
		}
	})
}

// When the memory is used up while a body comes, its sender is told so and hung up on.
func TestMemoryEndsOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{BodyMemory: 100_000})
		m := newKeys(t).letter(1, 90_000, month())
		full, err := h.memory.admit(pipe{nil, new(int), new(int), 0, new(sync.Mutex)}, "other", 30_000)
		if err != nil {
			t.Fatal(err)
		}
		g := visitT(t, h, "peer")
		var a putAnswer
		if err := g.ask(&request{Put: &putRequest{Outer: m.Outer.Marshal()}}, &a); err != nil || !a.Want {
			t.Fatal(err)
		}
		if _, err := g.c.s.Write(m.Body[:bodyAhead]); err != nil {
			t.Fatal(err)
		}
		want(t, g.c.read(&a, AnswerTime), CodeMemory, 100_000)
		<-g.ended
		full.release()
		if h.memory.used != 0 {
			t.Fatalf("%d bytes left behind", h.memory.used)
		}
	})
}

func TestStreamLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		var all []*guest
		for range StreamsPerPeer {
			g := visitT(t, h, "peer")
			g.hello()
			all = append(all, g)
		}
		extra := visitT(t, h, "peer")
		_, err := extra.c.hello()
		want(t, err, CodeStreams, StreamsPerPeer)
		<-extra.ended
		visitT(t, h, "other").hello()
		// Those that watch are counted apart.
		watch := func(g *guest) error {
			var n watchNotice
			p := g.hello()
			return g.ask(&request{Watch: &watchRequest{Proofs: [][]byte{p.prove(identity.OpWatch, k.key(), nil)}}}, &n)
		}
		for i := range WatchesPerPeer {
			if i == len(all) {
				all = append(all, visitT(t, h, "peer"))
			}
			if err := watch(all[i]); err != nil {
				t.Fatal(err)
			}
		}
		g := visitT(t, h, "peer")
		want(t, watch(g), CodeStreams, WatchesPerPeer)
		for range RequestsPerStream - 3 {
			g.hello()
		}
		var a nonceAnswer
		g.hello()
		if err := g.c.read(&a, AnswerTime); !isCode(err, CodeRequests) {
			t.Fatalf("after %d requests: %v", RequestsPerStream, err)
		}
		<-g.ended
	})
	h := holderT(t, Limits{})
	if h.guests.most != Streams || h.watches.most != Streams || h.memory.most != BodyMemory {
		t.Fatal("defaults are not used")
	}
}

// Throw-away peers that watch all they can do not keep anybody else from watching, for themselves or as a node that has
// mail, for more than a moment.
func TestWatchesAreNotHoarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{Streams: 64, WatchesPerPeer: 8})
		watch := func(from peer.ID, k keys) (*guest, error) {
			g := visitT(t, h, from)
			p := g.hello()
			var n watchNotice
			err := g.ask(&request{Watch: &watchRequest{Proofs: [][]byte{p.prove(identity.OpWatch, k.key(), nil)}}}, &n)
			return g, err
		}
		for i := range 10 {
			k := newKeys(t)
			for range 8 {
				_, _ = watch(peer.ID(fmt.Sprint("stranger", i)), k)
			}
		}
		if st := h.Status(); st.Watches > 64-64/keptStreams {
			t.Fatalf("%d watches of strangers", st.Watches)
		}
		time.Sleep(time.Hour)
		if _, err := watch("honest", newKeys(t)); err != nil {
			t.Fatal(err)
		}
		k := newKeys(t)
		storeT(t, h.spool, k.letter(1, sealed.MinBody, month()), "sender")
		owner, err := watch("owner", k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch("near", newKeys(t)); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			_, _ = watch(peer.ID(fmt.Sprint("late", i)), newKeys(t))
		}
		if synctest.Wait(); owner.over() {
			t.Fatal("the watch of an inbox with mail was ended")
		}
	})
}

func TestBoundsOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		g := visitT(t, h, "near")
		var la listAnswer
		var oa offerAnswer
		var da digestAnswer
		for name, c := range map[string]struct {
			q *request
			a answer
		}{
			"nothing":     {&request{}, &la},
			"two things":  {&request{Nonce: &nonceRequest{}, Delete: &deleteRequest{}}, &la},
			"no inbox":    {&request{List: &listRequest{}}, &la},
			"17 inboxes":  {&request{List: &listRequest{Inboxes: make([]listInbox, MaxInboxes+1)}}, &la},
			"17 watches":  {&request{Watch: &watchRequest{Proofs: make([][]byte, MaxInboxes+1)}}, &la},
			"17 digests":  {&request{Digest: &digestRequest{Inboxes: make([]digest, MaxInboxes+1)}}, &da},
			"1001 offers": {&request{Offer: &offerRequest{Inbox: k.inbox(), Items: make([]offerItem, MaxIDs+1)}}, &oa},
			"bad outer":   {&request{Put: &putRequest{Outer: []byte{1, 2, 3}}}, &la},
		} {
			if err := g.ask(c.q, c.a); !isCode(err, CodeMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if g.over() {
			t.Fatal("the stream was ended")
		}
		// What is no frame, or too large a one, ends the stream with a word.
		for name, b := range map[string][]byte{
			"garbage":   bytes.Repeat([]byte{0x13, 0x77}, 100),
			"too large": {0xff, 0xff, 0xff, 0x7f},
		} {
			g := visitT(t, h, "peer")
			go g.c.s.Write(b)
			if err := g.c.read(&la, AnswerTime); !isCode(err, CodeMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			<-g.ended
		}
		frame, err := wire.Marshal(&request{Get: &getRequest{Proof: make([]byte, identity.MaxAccess)}})
		if err != nil || len(frame) > MaxRequest {
			t.Fatalf("the largest request has %d bytes, %v", len(frame), err)
		}
	})
}

// A body that is not the one of its outer part is not kept, and the stream goes on.
func TestWrongBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		g := visitT(t, h, "peer")
		m := k.letter(1, sealed.MinBody, month())
		bad := &sealed.Message{Outer: m.Outer, Body: bytes.Clone(m.Body)}
		bad.Body[0] ^= 1
		if err := g.put(bad, false); !isCode(err, CodeHash) {
			t.Fatalf("wrong body: %v", err)
		}
		if h.spool.messages != 0 {
			t.Fatal("a wrong body was kept")
		}
		time.Sleep(bodyPause)
		if err := g.put(m, false); err != nil {
			t.Fatal(err)
		}
	})
}

// Lists come in pages, in order, and get answers stop at so many bytes.
func TestPages(t *testing.T) {
	h := holderT(t, Limits{PeerShare: 1})
	k := newKeys(t)
	for i := range 60 {
		if _, err := h.putLocal(t.Context(), k.letter(i, 300_000, month())); err != nil {
			t.Fatal(err)
		}
	}
	g := visitT(t, h, "owner")
	p := g.hello()
	key := k.key()
	var ids []sealed.ID
	err := g.c.list(p, []FetchKey{key}, func(_ FetchKey, items []Listed) {
		for _, i := range items {
			ids = append(ids, i.ID)
		}
	})
	if err != nil || len(ids) != 60 {
		t.Fatalf("listed %d, %v", len(ids), err)
	}
	items, more := h.spool.list(k.inbox(), ids[9], 20)
	if len(items) != 20 || !more || items[0].ID != ids[10] {
		t.Fatalf("page of %d from %s, more %v", len(items), items[0].ID, more)
	}
	came := 0
	missing, err := g.c.get(p, key, append([]sealed.ID{{1}}, ids...), func(sealed.ID, uint64) func() { return func() {} }, func(sealed.ID, *sealed.Message) { came++ })
	if err != nil || came != GetBytes/300_000 || len(missing) != 1 {
		t.Fatalf("%d came, %d missing, %v", came, len(missing), err)
	}
}

// stranger is a stream that says what it was given and hears nothing.
type stranger struct {
	io.Reader
	written int
}

func (s *stranger) Write(b []byte) (int, error)         { s.written += len(b); return len(b), nil }
func (s *stranger) Close() error                        { return nil }
func (s *stranger) CloseWrite() error                   { return nil }
func (s *stranger) Reset() error                        { return nil }
func (s *stranger) SetDeadline(time.Time) error         { return nil }
func (s *stranger) ReserveMemory(n int) (func(), error) { return func() {}, nil }

func FuzzServe(f *testing.F) {
	key, id := hostOf(f)
	h, err := Open(HolderConfig{
		Dir: f.TempDir(), Self: id, HostKey: key, Near: neighbours{id, "near"}, Capacity: 1 << 20,
		Limits: Limits{StampDiscount: 64, BodyMemory: 1 << 20},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { h.Close() })
	k := newKeys(f)
	m := k.letter(1, sealed.MinBody, month())
	_, blob := k.tombstone(m)
	proof := prover{holder: id}.prove(identity.OpGet, k.key(), []sealed.ID{m.Outer.ID()})
	put := &request{Put: &putRequest{Outer: m.Outer.Marshal()}}
	offer := &request{Offer: &offerRequest{Inbox: k.inbox(), Items: []offerItem{{ID: m.Outer.ID(), Expiry: m.Outer.Expiry}}, Last: true}}
	for _, qs := range [][]*request{
		{put}, {{Nonce: &nonceRequest{}}, {List: &listRequest{Inboxes: []listInbox{{Proof: proof}}}}}, {{Get: &getRequest{Proof: proof}}},
		{{Watch: &watchRequest{Proofs: [][]byte{proof}}}}, {{Delete: &deleteRequest{Tombstone: blob}}},
		{{Digest: &digestRequest{Inboxes: []digest{{Inbox: k.inbox(), Count: 1}}}}, offer, put},
	} {
		var b bytes.Buffer
		for _, q := range qs {
			if err := wire.WriteFrame(&b, q); err != nil {
				f.Fatal(err)
			}
			if q.Put != nil {
				b.Write(m.Body)
			}
		}
		f.Add(b.Bytes())
	}
	var before runtime.MemStats
	f.Fuzz(func(t *testing.T, b []byte) {
		runtime.ReadMemStats(&before)
		s := &stranger{Reader: bytes.NewReader(b)}
		h.Serve(t.Context(), s, "near")
		var after runtime.MemStats
		runtime.ReadMemStats(&after)
		// Nothing is allocated on a stranger's word beyond what is reserved for bodies.
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20+64*uint64(len(b)) {
			t.Fatalf("%d bytes allocated for %d of input", used, len(b))
		}
		if st := h.Status(); st.Streams != 0 || h.memory.used != 0 {
			t.Fatalf("left behind: %+v, %d bytes", st, h.memory.used)
		}
	})
}

// fuzzFrame decodes into every kind of frame and demands the one encoding.
func fuzzFrame[T any](t *testing.T, b []byte, check func(*T) error) {
	var v T
	if wire.Unmarshal(b, &v) != nil {
		return
	}
	_ = check(&v)
	again, err := wire.Marshal(&v)
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("%T: another encoding of the same value", v)
	}
}

func FuzzFrames(f *testing.F) {
	refusal := refuse(CodeStamp, "more work")
	refusal.Bits = 20
	for _, v := range []any{
		&request{Put: &putRequest{Outer: []byte{1}, Upkeep: true}}, &request{List: &listRequest{Inboxes: []listInbox{{}}}},
		&request{Offer: &offerRequest{Items: []offerItem{{}}}}, &putAnswer{Want: true}, &putAnswer{Refused: refusal},
		&nonceAnswer{Nonce: make([]byte, 32)}, &listAnswer{Inboxes: []listedPage{{Items: []listItem{{}}, More: true}}},
		&getItem{Outer: []byte{1}}, &getItem{Missing: []sealed.ID{{}}, Last: true}, &watchNotice{Inbox: make([]byte, 32), IDs: []sealed.ID{{}}},
		&deleteAnswer{Deleted: 3}, &digestAnswer{Results: []digestState{digestSame}}, &offerAnswer{Lacks: []uint64{1}, Tombstones: [][]byte{{1}}},
		&meta{Outer: []byte{1}}, &graveMeta{Kept: []byte{1}},
	} {
		b, err := wire.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzFrame(t, b, (*request).check)
		fuzzFrame(t, b, (*putAnswer).check)
		fuzzFrame(t, b, (*nonceAnswer).check)
		fuzzFrame(t, b, (*listAnswer).check)
		fuzzFrame(t, b, (*getItem).check)
		fuzzFrame(t, b, (*watchNotice).check)
		fuzzFrame(t, b, (*deleteAnswer).check)
		fuzzFrame(t, b, (*digestAnswer).check)
		fuzzFrame(t, b, (*offerAnswer).check)
		fuzzFrame(t, b, func(*meta) error { return nil })
		fuzzFrame(t, b, func(*graveMeta) error { return nil })
		fuzzFrame(t, b, func(r *Refusal) error {
			if e := r.Error(); len(e) > maxRefusalText+30 || strings.ContainsAny(e, "\n\r\x1b") {
				t.Fatalf("a stranger's sentence: %q", e)
			}
			return nil
		})
	})
}

// FuzzCollect has a holder answer whatever it likes.
func FuzzCollect(f *testing.F) {
	key, id := hostOf(f)
	_ = key
	k := newKeys(f)
	m := k.letter(1, sealed.MinBody, month())
	var b bytes.Buffer
	nonce := make([]byte, 32)
	rand.Read(nonce)
	for _, v := range []any{
		&nonceAnswer{Nonce: nonce},
		&listAnswer{Inboxes: []listedPage{{Items: []listItem{{ID: m.Outer.ID(), Size: m.Outer.Size}}}}},
		&getItem{Outer: m.Outer.Marshal()},
	} {
		if err := wire.WriteFrame(&b, v); err != nil {
			f.Fatal(err)
		}
	}
	b.Write(m.Body)
	wire.WriteFrame(&b, &getItem{Last: true})
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:300])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewClient(ClientConfig{Self: "self", Near: neighbours{id}, Dial: answering(b)})
		got := 0
		report, err := c.Collect(t.Context(), []FetchKey{k.key()},
			func(sealed.ID) bool { return false },
			func(_ context.Context, m *sealed.Message, _ peer.ID) error {
				if !hashes(&m.Outer, m.Body) || m.Outer.Inbox != k.inbox() {
					t.Error("a message was taken that is not what it says")
				}
				got++
				return nil
			})
		if err == nil && report.Fetched != got {
			t.Fatalf("%d fetched, %d accepted", report.Fetched, got)
		}
	})
}

// answering is a transport to a peer that says the same to everybody.
type answering []byte

func (a answering) Open(context.Context, peer.ID, string) (Stream, error) {
	return &stranger{Reader: bytes.NewReader(a)}, nil
}

// Tombstones that answer one offer are bounded, and what does not fit comes the next time.
func TestOfferTombstones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		offer := &offerRequest{Inbox: k.inbox()}
		for i := range 12 {
			var ms []*sealed.Message
			for j := range 700 {
				m := k.letter(i, 0, month())
				m.Outer.Hash[0], m.Outer.Hash[1], m.Outer.Hash[2] = byte(j), byte(j>>8), byte(i)
				ms = append(ms, m)
			}
			if n := buryT(t, h.spool, k, "", ms...); n != 0 {
				t.Fatal(n)
			}
			offer.Items = append(offer.Items, offerItem{ID: ms[0].Outer.ID(), Expiry: month()})
		}
		g := visitT(t, h, "near")
		var a offerAnswer
		if err := g.ask(&request{Offer: offer}, &a); err != nil || len(a.Lacks) != 0 {
			t.Fatalf("%d lacking, %v", len(a.Lacks), err)
		}
		sum := 0
		for _, b := range a.Tombstones {
			sum += len(b)
		}
		if sum > OfferTombstones || len(a.Tombstones) < 8 || len(a.Tombstones) == 12 {
			t.Fatalf("%d tombstones of %d bytes", len(a.Tombstones), sum)
		}
	})
}

// All of an inbox is offered, in order, and the last page says that it is.
func TestOfferPages(t *testing.T) {
	h := holderT(t, Limits{})
	k := newKeys(t)
	if pages := h.spool.offers(k.inbox()); len(pages) != 0 {
		t.Fatalf("%d pages of nothing", len(pages))
	}
	b := h.spool.box(k.inbox())
	for i := range 2*MaxIDs + 1 {
		b.entries[sealed.ID{byte(i), byte(i >> 8)}] = &entry{inbox: b, expiry: month()}
	}
	pages := h.spool.offers(k.inbox())
	if len(pages) != 3 {
		t.Fatalf("%d pages", len(pages))
	}
	var last sealed.ID
	for i, page := range pages {
		if page.Inbox != k.inbox() || len(page.Items) != min(MaxIDs, 2*MaxIDs+1-i*MaxIDs) || page.Last != (i == 2) {
			t.Fatalf("page %d has %d items, last: %t", i, len(page.Items), page.Last)
		}
		for j, item := range page.Items {
			if i+j > 0 && !less(last, item.ID) || item.Expiry != month() {
				t.Fatalf("%v after %x", item, last)
			}
			last = item.ID
		}
	}
}

// Who answers an offer with the tombstone of another inbox is not listened to.
func TestOfferAnswerOfAnotherInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k, other := newKeys(t), newKeys(t)
		for _, in := range []keys{k, other} {
			storeT(t, h.spool, in.letter(1, sealed.MinBody, month()), "peer")
		}
		for _, in := range []keys{other, {k.fetch, other.delete}, k} {
			_, blob := in.tombstone(k.letter(1, sealed.MinBody, month()), other.letter(1, sealed.MinBody, month()))
			var answer bytes.Buffer
			if err := wire.WriteFrame(&answer, &offerAnswer{Tombstones: [][]byte{blob}}); err != nil {
				t.Fatal(err)
			}
			c, err := (&dialer{transport: answering(answer.Bytes())}).dial(t.Context(), "near", DropProtocol)
			if err != nil {
				t.Fatal(err)
			}
			mine := in.inbox() == k.inbox()
			if err := h.upkeep.exchange(t.Context(), c, k.inbox(), time.Now().Add(visitTime)); (err == nil) != mine {
				t.Errorf("the owner's: %t, %v", mine, err)
			}
		}
		if n, left := h.spool.digest(k.inbox()).Count, h.spool.digest(other.inbox()).Count; n != 0 || left != 1 {
			t.Errorf("%d and %d messages are left", n, left)
		}
	})
}

// What a visited holder refuses is passed over, left for the next visit or for the next turn.
func TestRefusalsInAVisit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		storeT(t, h.spool, k.letter(1, sealed.MinBody, month()), "peer")
		for code, want := range map[Code]int{CodeMemory: 1, CodeInboxBytes: 0, CodeStamp: 0, CodeCapacity: 0} {
			var answers bytes.Buffer
			for _, a := range []any{
				&digestAnswer{Results: []digestState{digestDiffers}}, &offerAnswer{Lacks: []uint64{0}}, &putAnswer{Refused: refuse(code, "no")},
			} {
				if err := wire.WriteFrame(&answers, a); err != nil {
					t.Fatal(err)
				}
			}
			h.out.transport = answering(answers.Bytes())
			left, err := h.upkeep.visit(t.Context(), "near", []identity.Inbox{k.inbox()})
			if err != nil || len(left) != want {
				t.Errorf("code %d: %d left, %v", code, len(left), err)
			}
		}
		h.out.ending.Wait()
	})
}

// What a holder expects on one stream is bounded.
func TestExpectedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		g := visitT(t, h, "near")
		lacks := 0
		for i := range maxExpected/MaxIDs + 3 {
			offer := &offerRequest{Inbox: k.inbox()}
			for j := range MaxIDs {
				offer.Items = append(offer.Items, offerItem{ID: sealed.ID{byte(i), byte(j), byte(j >> 8)}, Expiry: month()})
			}
			var a offerAnswer
			if err := g.ask(&request{Offer: offer}, &a); err != nil {
				t.Fatal(err)
			}
			lacks += len(a.Lacks)
		}
		if lacks != maxExpected {
			t.Fatalf("%d are expected", lacks)
		}
	})
}

// A holder that lists without end is believed as much as one may keep.
func TestEndlessList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, id := hostOf(t)
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			r := bufio.NewReader(b)
			for n := uint32(0); ; n++ {
				var q request
				if wire.ReadFrame(r, MaxRequest, &q) != nil {
					return
				}
				switch {
				case q.Nonce != nil:
					wire.WriteFrame(b, &nonceAnswer{Nonce: make([]byte, 32)})
				case q.List != nil:
					page := listedPage{More: true}
					for j := range MaxIDs {
						page.Items = append(page.Items, listItem{ID: sealed.ID{byte(n >> 8), byte(n), byte(j >> 8), byte(j)}, Size: 1 << 60})
					}
					wire.WriteFrame(b, &listAnswer{Inboxes: []listedPage{page}})
				case q.Get != nil:
					wire.WriteFrame(b, &getItem{Last: true})
				}
			}
		}()
		c := NewClient(ClientConfig{Self: "self", Near: neighbours{id}, Dial: one{pipe{a, new(int), new(int), 0, new(sync.Mutex)}}})
		k := newKeys(t)
		report, err := c.Collect(t.Context(), []FetchKey{k.key()}, func(sealed.ID) bool { return false }, nil)
		if err == nil || report.Failed+report.Missing != listMost || report.Fetched != 0 || report.Answered != 0 {
			t.Fatalf("%+v, %v", report, err)
		}
	})
}

// A frame that is announced longer than it may be is not waited for, by either side.
func TestBoundsOfFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		g := visitT(t, holderT(t, Limits{}), "peer")
		if _, err := g.c.s.Write(binary.AppendUvarint(nil, MaxRequest+1)); err != nil {
			t.Fatal(err)
		}
		var a putAnswer
		want(t, g.c.read(&a, AnswerTime), CodeMalformed, "cannot be read")
		if took := time.Since(start); took > 0 {
			t.Errorf("waited %v for a request", took)
		}
		us, them := net.Pipe()
		defer us.Close()
		defer them.Close()
		go them.Write(binary.AppendUvarint(nil, MaxAnswer+1))
		c := &conn{s: pipe{Conn: us}, r: bufio.NewReader(us)}
		if err := c.read(&a, AnswerTime); !errors.Is(err, wire.ErrFrameTooLarge) || time.Since(start) > 0 {
			t.Errorf("answer: %v after %v", err, time.Since(start))
		}
	})
}

func TestWatcherIsBounded(t *testing.T) {
	w := &watcher{news: make(map[identity.Inbox][]sealed.ID), ready: make(chan struct{}, 1)}
	for i := range 2 * MaxIDs {
		w.tell(identity.Inbox{byte(i % 2)}, sealed.ID{byte(i), byte(i >> 8)})
	}
	n := 0
	for _, ids := range w.take() {
		n += len(ids)
	}
	if n != MaxIDs {
		t.Errorf("%d messages wait to be told", n)
	}
}

// A holder that asks for far more work than the size costs does not get it.
func TestWorkIsBounded(t *testing.T) {
	us, them := net.Pipe()
	k := newKeys(t)
	m := k.letter(1, sealed.MinBody, month())
	r := refuse(CodeStamp, "more")
	r.Bits = uint8(sealed.StampBits(sealed.MinBody) + maxMore + 1)
	go func() {
		var q request
		_ = wire.ReadFrame(bufio.NewReader(them), MaxRequest, &q)
		_ = wire.WriteFrame(them, &refusedAnswer{r})
	}()
	_, id := hostOf(t)
	c := NewClient(ClientConfig{Self: "self", Near: neighbours{id}, Dial: one{pipe{us, new(int), new(int), 0, new(sync.Mutex)}}})
	defer c.Close()
	_, err := c.Put(t.Context(), m, nil, nil)
	want(t, err, CodeStamp, "more")
}

// one is a transport with one stream.
type one struct{ s Stream }

func (o one) Open(context.Context, peer.ID, string) (Stream, error) { return o.s, nil }

// Views of neighbourhoods are remembered for a while, and not without bound.
func TestViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := &counting{neighbours: neighbours{"a", "b"}}
		var v views
		v.init(near)
		look := func(in identity.Inbox, fresh time.Duration) {
			t.Helper()
			if p, err := v.get(t.Context(), in, fresh, v.own); err != nil || len(p) != 2 {
				t.Fatal(p, err)
			}
		}
		for range 5 {
			look(identity.Inbox{}, viewTime)
		}
		if near.n != 1 {
			t.Fatalf("%d lookups", near.n)
		}
		look(identity.Inbox{}, 0)
		time.Sleep(viewTime)
		look(identity.Inbox{}, viewTime)
		if near.n != 3 {
			t.Fatalf("%d lookups", near.n)
		}
		for i := range 2 * maxViews {
			look(identity.Inbox{1, byte(i), byte(i >> 8)}, viewTime)
		}
		if len(v.m) > maxViews {
			t.Fatalf("%d views", len(v.m))
		}
		time.Sleep(2 * viewTime)
		v.sweep(time.Now())
		if len(v.m) != 0 {
			t.Fatalf("%d views remain", len(v.m))
		}
		// Only so many lookups at once; the others wait, and not for ever.
		near.slow = make(chan struct{})
		var work sync.WaitGroup
		for i := range 3 * lookups {
			work.Go(func() {
				if _, err := v.get(t.Context(), identity.Inbox{2, byte(i)}, 0, v.others); i >= 0 && err == nil {
					t.Error("found somebody")
				}
			})
		}
		synctest.Wait()
		near.mu.Lock()
		if near.now != lookups {
			t.Errorf("%d lookups at once", near.now)
		}
		near.mu.Unlock()
		// Those of others are not in the way of one's own.
		work.Go(func() { _, _ = v.get(t.Context(), identity.Inbox{3}, 0, v.own) })
		synctest.Wait()
		near.mu.Lock()
		if near.now != lookups+1 {
			t.Errorf("%d lookups at once, with one of this holder's own", near.now)
		}
		near.mu.Unlock()
		start := time.Now()
		work.Wait()
		if took := time.Since(start); took > 2*lookTime {
			t.Errorf("took %v", took)
		}
	})
}

// One's own lookups wait for their turn, however many there are, and find somebody.
func TestOwnLookupsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := &counting{neighbours: neighbours{"a"}, takes: lookTime - time.Second}
		var v views
		v.init(near)
		start := time.Now()
		var work sync.WaitGroup
		for i := range 10 * ownLooks {
			work.Go(func() {
				if _, err := v.get(t.Context(), identity.Inbox{byte(i)}, 0, v.own); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if took := time.Since(start); took != 10*near.takes || near.most != ownLooks {
			t.Fatalf("%v, %d at once", took, near.most)
		}
	})
}

// For whoever has not solved the puzzle nothing is looked up, and others ask so often and no more.
func TestAskersAreMetered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		near := &counting{neighbours: neighbours{h.cfg.Self, "near"}}
		h.views.init(near)
		inbox := byte(0)
		digests := func(g *guest) (states digestAnswer, err error) {
			inbox++
			err = g.ask(&request{Digest: &digestRequest{Inboxes: []digest{{Inbox: identity.Inbox{inbox}}}}}, &states)
			return states, err
		}
		stranger := visitT(t, h, "stranger")
		for range PutBurst + 1 {
			if a, err := digests(stranger); err != nil || a.Results[0] != digestNotNear {
				t.Fatal(a, err)
			}
		}
		want(t, stranger.ask(&request{Offer: &offerRequest{}}, &offerAnswer{}), CodeNear, "")
		if near.n != 0 || len(h.asks.meters) != 0 {
			t.Fatalf("%d lookups for a stranger, %d meters", near.n, len(h.asks.meters))
		}
		g := visitT(t, h, "near")
		for i := range PutBurst / 2 {
			if a, err := digests(g); err != nil || a.Results[0] != digestSame {
				t.Fatal(a, err)
			}
			// An offer after a digest is free.
			if err := g.ask(&request{Offer: &offerRequest{Inbox: identity.Inbox{inbox}}}, &offerAnswer{}); err != nil {
				t.Fatal(i, err)
			}
		}
		for i := range PutBurst / 2 {
			o := &offerRequest{Inbox: identity.Inbox{1, byte(i), byte(i >> 8), 1}}
			if err := g.ask(&request{Offer: o}, &offerAnswer{}); err != nil {
				t.Fatal(i, err)
			}
		}
		_, err := digests(g)
		want(t, err, CodeRate, PutsPerMinute)
		want(t, g.ask(&request{Offer: &offerRequest{Inbox: identity.Inbox{2, 1}}}, &offerAnswer{}), CodeRate, PutBurst)
		if err := g.put(newKeys(t).letter(1, sealed.MinBody, month()), false); err != nil {
			t.Fatalf("a put is counted with the digests: %v", err)
		}
		time.Sleep(time.Minute / PutsPerMinute)
		if _, err := digests(visitT(t, h, "near")); err != nil {
			t.Fatal(err)
		}
	})
}

// A regular turn takes a view that is young enough; one after a change looks for itself.
func TestTurnsShareViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		near := &counting{neighbours: neighbours{h.cfg.Self, "a"}}
		h.views.init(near)
		look := func(moved bool, want int) {
			t.Helper()
			if got := h.upkeep.holders(t.Context(), job{moved: moved}); len(got) != 1 || near.n != want {
				t.Fatalf("visits %v after %d lookups, want %d", got, near.n, want)
			}
		}
		look(false, 1)
		look(false, 1)
		look(true, 2)
		time.Sleep(viewTime)
		look(false, 3)
	})
}

type counting struct {
	neighbours
	mu     sync.Mutex
	n, now int
	most   int           // at once
	takes  time.Duration // each
	slow   chan struct{}
}

func (c *counting) Nearest(ctx context.Context, _ []byte, _ int) ([]peer.ID, error) {
	c.mu.Lock()
	c.n++
	c.now++
	c.most = max(c.most, c.now)
	slow := c.slow
	c.mu.Unlock()
	time.Sleep(c.takes)
	if slow != nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	return c.neighbours, nil
}
