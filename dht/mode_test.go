package dht

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// tell emits an event on a node's bus as libp2p's services would.
func (nd *testNode) tell(e any) {
	nd.net.t.Helper()
	var kind any
	switch e.(type) {
	case event.EvtLocalReachabilityChanged:
		kind = new(event.EvtLocalReachabilityChanged)
	case event.EvtHostReachableAddrsChanged:
		kind = new(event.EvtHostReachableAddrsChanged)
	}
	em, err := nd.host.EventBus().Emitter(kind, eventbus.Stateful)
	if err != nil {
		nd.net.t.Fatal(err)
	}
	defer em.Close()
	if err := em.Emit(e); err != nil {
		nd.net.t.Fatal(err)
	}
	time.Sleep(time.Second)
}

func (n *testNet) addPublic(ip string, opts ...with) *testNode {
	n.t.Helper()
	at, err := n.wire.NodeAt(addr(n.t, ip))
	if err != nil {
		n.t.Fatal(err)
	}
	return n.addAt(at, opts...)
}

// On a LAN everybody serves. AutoNAT's word is obeyed, both ways.
func TestModeFollowsReachability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(3)
		a, b := n.nodes[0], n.nodes[1]
		if !a.IsServer() || b.Peers() != 2 {
			t.Fatalf("on a LAN: server %v, the other has %d peers", a.IsServer(), b.Peers())
		}
		a.tell(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate})
		if a.IsServer() {
			t.Error("still a server behind NAT")
		}
		time.Sleep(time.Minute)
		if b.Peers() != 1 || slices.Contains(b.kad.RoutingTable().ListPeers(), a.self) {
			t.Error("the others take it for a server still")
		}
		if got, _ := a.Nearest(t.Context(), []byte("key"), 10); slices.Contains(got, a.self) || len(got) != 2 {
			t.Errorf("a client's neighbourhood: %v", got)
		}
		a.tell(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPublic})
		time.Sleep(time.Minute)
		if !a.IsServer() || b.Peers() != 2 || !slices.Contains(b.kad.RoutingTable().ListPeers(), a.self) {
			t.Error("no server although reachable")
		}
		a.tell(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate})
		a.tell(event.EvtHostReachableAddrsChanged{Reachable: []ma.Multiaddr{ma.StringCast("/ip4/5.1.1.1/tcp/1")}})
		if !a.IsServer() {
			t.Error("no server although an address was confirmed")
		}
	})
}

// A laptop that meets the open internet takes itself for a client until it is
// told better; a machine with a public address does not.
func TestModeOnTheInternet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		for i := range 4 {
			nd := n.addPublic(fmt.Sprintf("5.%d.0.1", i))
			if i > 0 {
				nd.join(n.nodes[0])
			}
		}
		laptop := n.add()
		laptop.at.Firewall(true)
		if !laptop.IsServer() {
			t.Error("no server before anything is known")
		}
		laptop.join(n.nodes[0])
		time.Sleep(time.Minute)
		if laptop.IsServer() {
			t.Error("a server behind NAT")
		}
		for _, nd := range n.nodes[:4] {
			if !nd.IsServer() {
				t.Error("a public node is no server")
			}
			if slices.Contains(nd.kad.RoutingTable().ListPeers(), laptop.self) {
				t.Error("the laptop is in the table of a public node")
			}
		}
		p := newPerson(t)
		if res, err := laptop.Publish(t.Context(), p.record(t)); err != nil || res.Acks != 4 {
			t.Errorf("publish: %+v, %v", res, err)
		}
	})
}

// A server with a private address is of no use on the internet: it is in no
// table and no neighbourhood there. Once no public peer has been seen for a
// while the LAN works like any.
func TestPublicNetworkIsFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		lan := n.add(func(c *Config) { c.Mode = Server })
		other := n.add(func(c *Config) { c.Mode = Server })
		other.join(lan)
		time.Sleep(time.Minute)
		if other.kad.RoutingTable().Size() != 1 {
			t.Fatal("the LAN does not work")
		}
		public := n.addPublic("5.1.0.1")
		other.join(public)
		time.Sleep(time.Minute)
		if got := other.kad.RoutingTable().ListPeers(); !slices.Equal(got, []peer.ID{public.self}) {
			t.Errorf("the table of a node on the internet has %d peers", len(got))
		}
		n.remove(public)
		time.Sleep(publicMemory + 5*time.Minute)
		if got := other.kad.RoutingTable().ListPeers(); !slices.Equal(got, []peer.ID{lan.self}) {
			t.Errorf("the table of a node that is on a LAN again has %d peers", len(got))
		}
	})
}

// A crowd of peers that are gone does not keep a node from the one that lives,
// wherever in the list that is.
func TestBootstrapAmongTheDead(t *testing.T) {
	for _, at := range []int{0, 200} {
		synctest.Test(t, func(t *testing.T) {
			n := newTestNet(t)
			n.grow(2)
			var list []peer.AddrInfo
			for i := range 200 {
				gone := seeded(t, 1000+i, 0)
				id, err := peer.IDFromPrivateKey(gone)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(fmt.Sprintf("/ip4/10.200.%d.1/tcp/4001", i))}})
			}
			list = slices.Insert(list, at, n.nodes[0].info())
			late := n.add(func(c *Config) { c.Bootstrap = list })
			time.Sleep(5 * time.Second)
			if late.Peers() == 0 {
				t.Error("still alone after 5 s")
			}
		})
	}
}

// Peers that are connected, but are no servers or may not be any, are not what a
// node looks for: it goes on until it has found the network.
func TestBootstrapAmongTheUseless(t *testing.T) {
	const bits = 3
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		var list []peer.AddrInfo
		for i := 0; len(list) < 3*bootstrapParallel; i++ {
			opts := []with{func(c *Config) { c.Mode = Server }}
			if i%2 == 0 {
				opts = []with{func(c *Config) { c.Mode = Client }}
			}
			if nd := n.add(opts...); i%2 == 0 || !Puzzled(nd.self, bits) {
				list = append(list, nd.info())
			}
		}
		n.bits = bits
		network := n.add(func(c *Config) { c.PuzzleBits = bits })
		list = slices.Insert(list, len(list)/2, network.info()) // both ends are tried first
		late := n.add(func(c *Config) { c.PuzzleBits, c.Bootstrap = bits, list })
		time.Sleep(4 * time.Second)
		if late.Peers() != 1 || late.kad.RoutingTable().Size() != 1 {
			t.Errorf("%d servers, %d in the table", late.Peers(), late.kad.RoutingTable().Size())
		}
	})
}

// What others name on a public network is asked only at a public address; on a
// LAN everything is.
func TestWhatOthersName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		lan, public, other := n.add(), n.addPublic("5.1.0.1"), n.addPublic("5.2.0.1")
		other.join(public)
		private, open := ma.StringCast("/ip4/192.168.1.1/tcp/1"), ma.StringCast("/ip4/5.3.0.1/tcp/1")
		for _, c := range []struct {
			at   *testNode
			addr ma.Multiaddr
			asks bool
		}{{lan, private, true}, {lan, open, true}, {other, private, false}, {other, open, true}} {
			if got := c.at.mayQuery(nil, peer.AddrInfo{ID: "somebody", Addrs: []ma.Multiaddr{c.addr}}); got != c.asks {
				t.Errorf("%v at %v: asks %v", c.addr, c.at.at.Addr(), got)
			}
			if got := c.at.scope.addresses([]ma.Multiaddr{c.addr}); (len(got) == 1) != c.asks {
				t.Errorf("%v at %v: keeps %v", c.addr, c.at.at.Addr(), got)
			}
		}
	})
}

// A node finds the network through any one bootstrap peer that lives, and again
// when it had lost everybody.
func TestBootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(6)
		dead := n.add()
		deadInfo := dead.info()
		dead.at.Kill()
		n.remove(dead)
		late := n.add(func(c *Config) { c.Bootstrap = []peer.AddrInfo{deadInfo, n.nodes[2].info()} })
		time.Sleep(10 * time.Second)
		if got := late.Peers(); got != 6 {
			t.Errorf("%d peers, want 6", got)
		}
		n.wire.Isolate(late.at)
		time.Sleep(2 * time.Hour)
		if got := late.kad.RoutingTable().Size(); got != 0 {
			t.Fatalf("%d peers in the table of an isolated node", got)
		}
		late.at.Firewall(true) // it has to come back by itself
		n.wire.Rejoin(late.at)
		time.Sleep(bootstrapRetryMax + 3*time.Minute)
		if got := late.Peers(); got == 0 {
			t.Error("a node that was isolated did not come back")
		}
	})
}

func TestCloseTwiceAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		a := n.nodes[0]
		a.stop()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if _, err := a.Nearest(t.Context(), []byte("key"), 10); err == nil {
			t.Error("a closed DHT answers")
		}
		if err := a.Run(t.Context()); err != nil {
			t.Errorf("Run after Close: %v", err)
		}
	})
}
