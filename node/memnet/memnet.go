// Package memnet is a network of machines inside one process: a libp2p
// transport whose wires are buffered pipes with a latency. Everything above
// the wire (security handshake, multiplexer, swarm, identify, DHT) is the code
// that runs in production; only the socket is replaced. Nothing in here blocks
// on anything but channels and timers, so a whole network can live in a
// testing/synctest bubble, where days pass in seconds.
//
// A Network holds Nodes, each with an IP address of its own. The addresses are
// ordinary /ip4/…/tcp/… ones, so rules about private and public networks and
// about address diversity see what they would see outside.
//
//	net := memnet.New(memnet.Config{Latency: 25 * time.Millisecond})
//	a, b := net.Node(), net.Node()
//	ha, err := a.Host(memnet.HostConfig{})     // a bare libp2p host
//	net.Cut(a, b)                              // silence between the two
//	net.Heal(a, b)                             // …and what was in flight arrives
//	b.Kill()                                   // power failure
//	b.Revive()                                 // may be built again
//
// What it costs: 60 bare hosts with a DHT each join in 8 s of CPU and 450 MB. An
// idle virtual day then takes 40 s of CPU when routing tables are refreshed every
// hour, 17 s at 3 hours, 4 s at 12. (At the 3 minutes of production it would be a
// quarter of an hour.) Tables of 10 peers or fewer are refreshed every 2 minutes
// whatever is set.
//
// Rules for a bubble: build every host inside it, close every host before it
// ends, and hold no mutex while waiting for a peer.
package memnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultGiveUp is how long a connection survives while nothing gets through.
// Then both ends see it fail, as a multiplexer's keep-alive would notice
// (30 s between keep-alives in yamux).
const DefaultGiveUp = 30 * time.Second

// acceptBacklog is how many connections may wait at a listener.
const acceptBacklog = 256

// Config describes the whole network. The zero value has no latency.
type Config struct {
	Latency time.Duration // one way, between any two nodes
	GiveUp  time.Duration // 0 means DefaultGiveUp
}

// A Network is a set of nodes that can reach one another.
type Network struct {
	cfg Config

	mu    sync.Mutex
	nodes map[netip.Addr]*Node
	count int
	links map[linkKey]*link
}

// A Node is one machine: an address, its listeners, and whether it runs.
type Node struct {
	net  *Network
	addr netip.Addr

	// guarded by net.mu
	dead       bool
	firewalled bool
	nextPort   uint16
	listeners  map[uint16]*listener
}

// linkKey names an unordered pair of nodes.
type linkKey struct{ low, high netip.Addr }

// A link is what lies between two nodes.
type link struct {
	cut atomic.Bool

	// guarded by net.mu
	cuts  int // so far: tells an old give-up timer from the present one
	conns map[*conn]struct{}
}

var (
	errUnreachable = errors.New("memnet: connection refused")
	errTimedOut    = errors.New("memnet: connection timed out")
)

// New returns an empty network.
func New(cfg Config) *Network {
	if cfg.GiveUp == 0 {
		cfg.GiveUp = DefaultGiveUp
	}
	return &Network{
		cfg:   cfg,
		nodes: make(map[netip.Addr]*Node),
		links: make(map[linkKey]*link),
	}
}

// Node adds a machine with a private address. Every one lies in a /24 of its
// own, because libp2p counts some things per /24.
func (n *Network) Node() *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		n.count++
		addr := netip.AddrFrom4([4]byte{10, byte(n.count >> 8), byte(n.count), 1})
		if _, taken := n.nodes[addr]; !taken {
			return n.add(addr)
		}
	}
}

// NodeAt adds a machine with the given address.
func (n *Network) NodeAt(addr netip.Addr) (*Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, taken := n.nodes[addr]; taken {
		return nil, fmt.Errorf("memnet: address %s is taken", addr)
	}
	return n.add(addr), nil
}

func (n *Network) add(addr netip.Addr) *Node {
	node := &Node{net: n, addr: addr, nextPort: 40000, listeners: make(map[uint16]*listener)}
	n.nodes[addr] = node
	return node
}

// Addr is the node's IP address.
func (nd *Node) Addr() netip.Addr { return nd.addr }

// Listen is the multiaddr on which a host of this node should listen.
func (nd *Node) Listen() string {
	if nd.addr.Is4() {
		return fmt.Sprintf("/ip4/%s/tcp/4001", nd.addr)
	}
	return fmt.Sprintf("/ip6/%s/tcp/4001", nd.addr)
}

// Cut silences the wire between two nodes. Connections stall; if the cut lasts
// longer than GiveUp they fail at both ends. New dials hang until the dialler
// loses patience.
func (n *Network) Cut(a, b *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(a.addr, b.addr)
	if l.cut.Swap(true) {
		return
	}
	l.cuts++
	cut := l.cuts
	time.AfterFunc(n.cfg.GiveUp, func() {
		n.mu.Lock()
		var lost []*conn
		if l.cut.Load() && l.cuts == cut {
			for c := range l.conns {
				lost = append(lost, c)
			}
		}
		n.mu.Unlock()
		for _, c := range lost {
			c.fail(errTimedOut)
		}
	})
}

// Heal undoes Cut. What was written meanwhile arrives.
func (n *Network) Heal(a, b *Node) {
	n.mu.Lock()
	l := n.link(a.addr, b.addr)
	l.cut.Store(false)
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, c := range conns {
		c.in.nudge()
	}
}

// Isolate cuts a node from every other one; Rejoin heals those cuts.
func (n *Network) Isolate(nd *Node) {
	for _, other := range n.others(nd) {
		n.Cut(nd, other)
	}
}

// Rejoin heals every cut of the node.
func (n *Network) Rejoin(nd *Node) {
	for _, other := range n.others(nd) {
		n.Heal(nd, other)
	}
}

func (n *Network) others(nd *Node) []*Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	var others []*Node
	for _, o := range n.nodes {
		if o != nd {
			others = append(others, o)
		}
	}
	return others
}

// Kill is a power failure: nothing the node sends from now on leaves it,
// nothing reaches it, and its peers find out only by waiting. The host that ran
// on it must still be closed by the test.
func (nd *Node) Kill() {
	n := nd.net
	n.mu.Lock()
	nd.dead = true
	var severed []*conn
	for key, l := range n.links {
		if key.low != nd.addr && key.high != nd.addr {
			continue
		}
		for c := range l.conns {
			severed = append(severed, c)
		}
	}
	n.mu.Unlock()
	for _, c := range severed {
		c.sever()
	}
	time.AfterFunc(n.cfg.GiveUp, func() {
		for _, c := range severed {
			c.fail(errTimedOut)
		}
	})
}

// Revive lets a killed node be used again, by a new host, once the one that was
// killed is closed.
func (nd *Node) Revive() {
	nd.net.mu.Lock()
	nd.dead = false
	nd.net.mu.Unlock()
}

// Firewall drops, or admits again, every connection that others open to the
// node: a machine behind NAT. What the node opens itself works.
func (nd *Node) Firewall(on bool) {
	nd.net.mu.Lock()
	nd.firewalled = on
	nd.net.mu.Unlock()
}

// link returns the state of a pair; n.mu is held.
func (n *Network) link(a, b netip.Addr) *link {
	key := linkKey{a, b}
	if b.Less(a) {
		key = linkKey{b, a}
	}
	l := n.links[key]
	if l == nil {
		l = &link{conns: make(map[*conn]struct{})}
		n.links[key] = l
	}
	return l
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(c.link.conns, c)
}

// open finds the listener at an address as seen from nd. silent means that no
// answer comes, not even a refusal.
func (nd *Node) open(to netip.AddrPort) (l *listener, local netip.AddrPort, silent bool) {
	n := nd.net
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.nodes[to.Addr()]
	if nd.dead || target == nil || target.dead || target.firewalled && target != nd || n.link(nd.addr, to.Addr()).cut.Load() {
		return nil, netip.AddrPort{}, true
	}
	nd.nextPort++
	if nd.nextPort < 40000 {
		nd.nextPort = 40000
	}
	return target.listeners[to.Port()], netip.AddrPortFrom(nd.addr, nd.nextPort), false
}

// connect makes the two ends of a wire.
func (n *Network) connect(a, b netip.AddrPort) (near, far *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(a.Addr(), b.Addr())
	toFar, toNear := newHalf(), newHalf()
	near = &conn{net: n, link: l, local: a, remote: b, in: toNear, out: toFar}
	far = &conn{net: n, link: l, local: b, remote: a, in: toFar, out: toNear}
	near.peer, far.peer = far, near
	l.conns[near] = struct{}{}
	l.conns[far] = struct{}{}
	return near, far
}

// A listener hands out the far ends of dialled wires.
type listener struct {
	node  *Node
	addr  netip.AddrPort
	queue chan *conn
	gone  chan struct{}
	once  sync.Once
}

func (nd *Node) listen(port uint16) (*listener, error) {
	n := nd.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if nd.dead {
		return nil, errors.New("memnet: the node is dead")
	}
	if port == 0 {
		for port = 4001; nd.listeners[port] != nil; port++ {
		}
	}
	if nd.listeners[port] != nil {
		return nil, fmt.Errorf("memnet: port %d is taken", port)
	}
	l := &listener{
		node:  nd,
		addr:  netip.AddrPortFrom(nd.addr, port),
		queue: make(chan *conn, acceptBacklog),
		gone:  make(chan struct{}),
	}
	nd.listeners[port] = l
	return l, nil
}

func (l *listener) accept() (*conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

func (l *listener) close() {
	n := l.node.net
	n.mu.Lock()
	if l.node.listeners[l.addr.Port()] == l {
		delete(l.node.listeners, l.addr.Port())
	}
	n.mu.Unlock()
	l.once.Do(func() { close(l.gone) })
}
