package dht

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/memnet"
)

// latency is one way: a round trip takes 50 ms.
const latency = 25 * time.Millisecond

// testNet is a network of nodes in a bubble of virtual time.
type testNet struct {
	t     *testing.T
	wire  *memnet.Network
	nodes []*testNode
	made  int // nodes so far
	bits  int // of the puzzle that the next nodes solve

	configure func(*testNode) // before they run
}

type testNode struct {
	*DHT
	net  *testNet
	at   *memnet.Node
	host host.Host
	stop func()
}

func newTestNet(t *testing.T) *testNet {
	n := &testNet{t: t, wire: memnet.New(memnet.Config{Latency: latency})}
	t.Cleanup(func() {
		for _, nd := range n.nodes {
			nd.stop()
		}
	})
	return n
}

// with changes the configuration of a node.
type with func(*Config)

func (n *testNet) add(opts ...with) *testNode { return n.addAt(n.wire.Node(), opts...) }

func (n *testNet) addAt(at *memnet.Node, opts ...with) *testNode {
	n.t.Helper()
	n.made++
	h, err := at.Host(memnet.HostConfig{Key: seeded(n.t, n.made, n.bits)})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.addHost(at, h, opts...)
}

func (n *testNet) addHost(at *memnet.Node, h host.Host, opts ...with) *testNode {
	n.t.Helper()
	cfg := Config{Host: h, Refresh: 24 * time.Hour}
	for _, o := range opts {
		o(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	nd := &testNode{DHT: d, net: n, at: at, host: h}
	if n.configure != nil {
		n.configure(nd)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			n.t.Error(err)
		}
	}()
	nd.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		h.Close()
		d.Close()
	})
	n.nodes = append(n.nodes, nd)
	return nd
}

// remove ends a node: it says goodbye to its peers.
func (n *testNet) remove(nd *testNode) {
	nd.stop()
	n.nodes = slices.DeleteFunc(n.nodes, func(o *testNode) bool { return o == nd })
}

// grow adds nodes that know the first one, and lets the tables fill.
func (n *testNet) grow(count int, opts ...with) {
	n.t.Helper()
	for range count {
		nd := n.add(opts...)
		if len(n.nodes) > 1 {
			nd.join(n.nodes[0])
		}
	}
	time.Sleep(15 * time.Second)
	synctest.Wait()
}

func (nd *testNode) info() peer.AddrInfo {
	return peer.AddrInfo{ID: nd.host.ID(), Addrs: nd.host.Addrs()}
}

// join connects to a node and fills the routing table.
func (nd *testNode) join(other *testNode) {
	nd.net.t.Helper()
	if err := nd.AddPeer(nd.net.t.Context(), other.info()); err != nil {
		nd.net.t.Fatal(err)
	}
	time.Sleep(time.Second)
	<-nd.kad.ForceRefresh()
}

// truth returns the ids of the n running servers nearest to a key.
func (n *testNet) truth(key string, count int) []peer.ID {
	var ids []peer.ID
	for _, nd := range n.nodes {
		if nd.IsServer() {
			ids = append(ids, nd.self)
		}
	}
	byDistance(ids, placeOf(key))
	return ids[:min(count, len(ids))]
}

func (n *testNet) byID(id peer.ID) *testNode {
	for _, nd := range n.nodes {
		if nd.self == id {
			return nd
		}
	}
	return nil
}

// has tells whether the node stores a record.
func (nd *testNode) has(root identity.Root) bool {
	key := identity.RecordKey(root)
	return slices.ContainsFunc(nd.store.list(), func(e entry) bool { return e.key == key })
}

// person is somebody with a record.
type person struct {
	keys *identity.Keyring
	seq  uint64
}

func newPerson(t testing.TB) *person {
	t.Helper()
	keys, err := identity.NewKeyring(identity.NewSeed(), 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &person{keys: keys}
}

func (p *person) root() identity.Root { return p.keys.Root() }

// record signs the person's next record.
func (p *person) record(t testing.TB) []byte {
	t.Helper()
	p.seq++
	rec, err := p.keys.SignRecord(identity.RecordParams{Now: time.Now(), Sequence: p.seq})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// sequence is a record's number, 0 where there is none.
func sequence(r *identity.Record) uint64 {
	if r == nil {
		return 0
	}
	return r.Sequence
}

// seeded returns a reproducible host key, the i-th that satisfies the puzzle.
func seeded(t testing.TB, i, bits int) crypto.PrivKey {
	t.Helper()
	for try := 0; ; try++ {
		seed := make([]byte, ed25519.SeedSize)
		copy(seed, fmt.Sprintf("peerpost test %d %d", i, try))
		key := ed25519.NewKeyFromSeed(seed)
		if identity.PuzzleBits(key.Public().(ed25519.PublicKey)) < bits {
			continue
		}
		priv, err := crypto.UnmarshalEd25519PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return priv
	}
}

func addr(t testing.TB, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var _ ds.Batching = (*store)(nil)

// TestMain lets memory grow: a network makes garbage that is not worth the time
// of collecting it often.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}
