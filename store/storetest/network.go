// Package storetest is a network in memory for whatever stores mail: nodes that know each other, streams with
// deadlines between them, and cables that can be cut. All of it waits on channels, so it runs in virtual time
// (testing/synctest) as well as in real time.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/store"
)

// ErrUnreachable answers an Open towards a node that is down, cut off or does not speak the protocol.
var ErrUnreachable = errors.New("node is not reachable")

// Network is a set of nodes. Its methods may be called at any time.
type Network struct {
	// Latency is how long it takes to open a stream.
	Latency time.Duration
	// Silent makes nodes that are down or cut off say nothing, so that whoever opens a stream waits for its own
	// deadline, instead of refusing at once.
	Silent bool

	mu    sync.Mutex
	nodes map[peer.ID]*Node
	cuts  map[[2]peer.ID]bool
	pairs map[*Stream]bool // one end of each open stream
}

// Node is one machine: it is the Transport and the Neighbourhood of what runs on it.
type Node struct {
	ID  peer.ID
	Key *identity.HostKey
	// Memory is how many bytes the streams of this node may reserve; 0 means no limit.
	Memory int

	net      *Network
	place    [32]byte // SHA-256 of the id
	server   bool
	up       bool
	handlers map[string]func(context.Context, store.Stream, peer.ID)
	changed  chan struct{}
	serving  sync.WaitGroup
	stop     context.Context

	memory   sync.Mutex
	reserved int
	peak     int
}

// New makes a network without nodes.
func New() *Network {
	return &Network{nodes: make(map[peer.ID]*Node), cuts: make(map[[2]peer.ID]bool), pairs: make(map[*Stream]bool)}
}

// PeerID is the id of the node with that key.
func PeerID(h *identity.HostKey) peer.ID {
	pub, err := crypto.UnmarshalEd25519PublicKey(h.Public())
	if err != nil {
		panic("storetest: " + err.Error())
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		panic("storetest: " + err.Error())
	}
	return id
}

// Add makes a node, which is up. A server is found by Nearest, others only open streams. Whatever serves on the node
// has ended when the test ends.
func (n *Network) Add(t testing.TB, server bool) *Node {
	key, err := identity.GenerateHostKey(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	stop, cancel := context.WithCancel(context.Background())
	node := &Node{
		ID: PeerID(key), Key: key, net: n, place: sha256.Sum256([]byte(PeerID(key))), server: server, up: true, stop: stop,
		handlers: make(map[string]func(context.Context, store.Stream, peer.ID)),
		changed:  make(chan struct{}, 1),
	}
	t.Cleanup(func() { cancel(); node.serving.Wait() })
	n.mu.Lock()
	n.nodes[node.ID] = node
	n.mu.Unlock()
	n.tell()
	return node
}

// Handle serves a protocol on the node; nil stops that for new streams.
func (n *Node) Handle(protocol string, serve func(ctx context.Context, s store.Stream, remote peer.ID)) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.handlers[protocol] = serve
}

// Down takes a node off the network: its streams break, and nobody finds it.
func (n *Node) Down() { n.set(false) }

// Up brings it back.
func (n *Node) Up() { n.set(true) }

func (n *Node) set(up bool) {
	n.net.mu.Lock()
	n.up = up
	n.net.breakStreams()
	n.net.mu.Unlock()
	n.net.tell()
}

// Cut separates two nodes from each other, without anybody being told.
func (n *Network) Cut(a, b *Node) { n.cable(a, b, true) }

// Heal undoes a Cut.
func (n *Network) Heal(a, b *Node) { n.cable(a, b, false) }

func (n *Network) cable(a, b *Node, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[[2]peer.ID{a.ID, b.ID}], n.cuts[[2]peer.ID{b.ID, a.ID}] = cut, cut
	n.breakStreams()
}

// reach tells whether two nodes can talk. It is called with the lock held.
func (n *Network) reach(a, b *Node) bool {
	return a != nil && b != nil && a.up && b.up && !n.cuts[[2]peer.ID{a.ID, b.ID}]
}

// breakStreams resets the streams that cannot be any more. It is called with the lock held.
func (n *Network) breakStreams() {
	for s := range n.pairs {
		if !n.reach(s.node, s.other.node) {
			delete(n.pairs, s)
			s.reset()
		}
	}
}

// tell tells all nodes that the neighbours have changed.
func (n *Network) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range n.nodes {
		select {
		case node.changed <- struct{}{}:
		default:
		}
	}
}

// Nearest implements store.Neighbourhood. Every node knows all servers that are up, but for itself when it is down.
func (n *Node) Nearest(ctx context.Context, key []byte, k int) ([]peer.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if !n.up {
		return nil, ErrUnreachable
	}
	return n.net.nearest(key, k), nil
}

// Nearest is what the nodes know: the servers that are up, nearest first.
func (n *Network) Nearest(key []byte, k int) []peer.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nearest(key, k)
}

func (n *Network) nearest(key []byte, k int) []peer.ID {
	type far struct {
		id       peer.ID
		distance [32]byte
	}
	to := sha256.Sum256(key)
	var all []far
	for id, node := range n.nodes {
		if !node.up || !node.server {
			continue
		}
		d := node.place
		for i := range d {
			d[i] ^= to[i]
		}
		all = append(all, far{id, d})
	}
	slices.SortFunc(all, func(a, b far) int { return bytes.Compare(a.distance[:], b.distance[:]) })
	var ids []peer.ID
	for _, f := range all[:min(k, len(all))] {
		ids = append(ids, f.id)
	}
	return ids
}

// Solved implements store.Neighbourhood. Servers have.
func (n *Node) Solved(p peer.ID) bool {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	node := n.net.nodes[p]
	return node != nil && node.server
}

// Changed implements store.Neighbourhood.
func (n *Node) Changed() <-chan struct{} { return n.changed }

// Open implements store.Transport.
func (n *Node) Open(ctx context.Context, p peer.ID, protocol string) (store.Stream, error) {
	if n.net.Latency > 0 {
		t := time.NewTimer(n.net.Latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.net.mu.Lock()
	to := n.net.nodes[p]
	ok := n.net.reach(n, to)
	var serve func(context.Context, store.Stream, peer.ID)
	if ok {
		serve = to.handlers[protocol]
	}
	if serve == nil {
		n.net.mu.Unlock()
		if n.net.Silent && !ok {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, p)
	}
	near, far := newPair(n, to)
	n.net.pairs[near] = true
	to.serving.Go(func() {
		serve(to.stop, far, n.ID)
		_ = far.Close()
		n.net.mu.Lock()
		delete(n.net.pairs, near)
		n.net.mu.Unlock()
	})
	n.net.mu.Unlock()
	return near, nil
}

// reserve counts memory of the node's streams.
func (n *Node) reserve(bytes int) (release func(), err error) {
	n.memory.Lock()
	defer n.memory.Unlock()
	if n.Memory > 0 && n.reserved+bytes > n.Memory {
		return nil, errors.New("no memory left for this node's streams")
	}
	n.reserved += bytes
	n.peak = max(n.peak, n.reserved)
	return sync.OnceFunc(func() {
		n.memory.Lock()
		defer n.memory.Unlock()
		n.reserved -= bytes
	}), nil
}

// Reserved tells how many bytes the node's streams have reserved now, and had at most.
func (n *Node) Reserved() (now, peak int) {
	n.memory.Lock()
	defer n.memory.Unlock()
	return n.reserved, n.peak
}
