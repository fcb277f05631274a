package node

import (
	"context"
	"fmt"

	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/node/host"
	"github.com/peerpost/peerpost/store"
)

// openHost opens the libp2p host.
func (n *Node) openHost(ctx context.Context) error {
	cfg := host.Config{
		Key: n.key, Listen: n.cfg.Listen, MDNS: !n.cfg.NoMDNS, PeersFile: n.home.peers(),
		PuzzleBits: n.cfg.puzzleBits(), Build: n.cfg.HostHook, Log: n.log,
	}
	if n.cfg.HostHook == nil && len(cfg.Listen) == 0 {
		cfg.Listen = host.DefaultListen(DefaultPort)
	}
	h, err := host.New(ctx, cfg)
	if err != nil {
		return err
	}
	n.host = h
	n.opened(h.Close)
	return nil
}

// openNetwork opens the DHT and what keeps and brings mail over it.
func (n *Node) openNetwork(context.Context) error {
	boot := n.host.Remembered()
	var named []peer.AddrInfo
	for _, text := range n.cfg.Bootstrap {
		peers, err := bootstrap(text)
		if err != nil {
			return err
		}
		named = append(named, peers...)
	}
	boot = append(boot, named...)
	if len(named) > 0 {
		n.host.Name(named...)
	}
	records, err := leveldb.NewDatastore(n.home.records(), nil)
	if err != nil {
		return fmt.Errorf("open the store of records: %w", err)
	}
	n.opened(records.Close)
	n.dht, err = dht.New(dht.Config{
		Host: n.host, Datastore: records, Bootstrap: boot, PuzzleBits: n.cfg.puzzleBits(), Refresh: n.cfg.Refresh, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.opened(n.dht.Close)
	n.network = &network{
		self: n.host.ID(), host: n.host, dht: n.dht, bits: n.cfg.stampBits, local: n.local, door: &door{n.owner}, clock: n.clock,
		found: make(map[[32]byte]found), subs: make(map[chan struct{}]bool),
	}
	n.network.near = &neighbourhood{n.dht, n.cfg.puzzleBits(), n.network.changed(context.Background())}
	limits := store.Limits{StampDiscount: n.cfg.stampDiscount()}
	n.holder, err = store.Open(store.HolderConfig{
		Dir: n.home.holding(), Capacity: n.cfg.capacity(), Self: n.host.ID(), HostKey: n.key,
		Near: n.network.near, Dial: transport{n.host}, Clock: n.clock, Log: n.log, Limits: limits,
	})
	if err != nil {
		return err
	}
	n.opened(n.holder.Close)
	n.receiver = store.NewReceiver(store.ReceiverConfig{HostKey: n.key, Accept: n.network.door, Log: n.log, Limits: limits})
	n.network.drop = store.NewClient(store.ClientConfig{
		Self: n.host.ID(), Local: n.holder, Near: n.network.near, Dial: transport{n.host}, Clock: n.clock, Log: n.log,
	})
	n.opened(n.network.drop.Close)
	return nil
}

// bootstrap reads a multiaddr with a peer id, or an invite.
func bootstrap(text string) ([]peer.AddrInfo, error) {
	if inv, err := host.ParseInvite(text); err == nil {
		return inv.Peers, nil
	}
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %q is neither a multiaddr nor an invite", text)
	}
	info, err := peer.AddrInfoFromP2pAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %q: %w", text, err)
	}
	return []peer.AddrInfo{*info}, nil
}

// transport is the host as the store sees it.
type transport struct{ host *host.Host }

func (t transport) Open(ctx context.Context, p peer.ID, protocol string) (store.Stream, error) {
	return t.host.Open(ctx, p, protocol)
}

// neighbourhood is the DHT as the store sees it, with a share of its own in
// the news of changes.
type neighbourhood struct {
	*dht.DHT
	bits    int // of the host puzzle
	changed <-chan struct{}
}

// Solved tells whether a node's key satisfies the host puzzle.
func (n *neighbourhood) Solved(p peer.ID) bool { return dht.Puzzled(p, n.bits) }

func (n *neighbourhood) Changed() <-chan struct{} { return n.changed }

// serveStreams answers the protocols of the drop and of direct delivery.
func (n *Node) serveStreams() {
	n.host.Handle(store.DropProtocol, func(ctx context.Context, s host.Stream, remote peer.ID) {
		n.holder.Serve(ctx, s, remote)
	})
	n.host.Handle(store.DeliverProtocol, func(ctx context.Context, s host.Stream, remote peer.ID) {
		n.receiver.ServeDeliver(ctx, s, remote)
	})
}
