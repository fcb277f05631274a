// Package host builds the machine's presence in the peer-to-peer network: a
// libp2p host with our transports and limits, and around it what helps to find
// the first peers: those of the last run, invites, and mDNS on a LAN.
//
// On the open internet the host asks the router for a port, finds out whether
// it can be reached, punches holes, and is reachable through relays while it
// cannot. When every listener is on loopback none of that runs.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	libp2pconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/identity"
)

const (
	// DefaultUserAgent is how the host introduces itself to its peers.
	DefaultUserAgent = "peerpost"
	// DialTimeout is how long one address of a peer is tried.
	DialTimeout = 3 * time.Second

	// relayBackoff is the pause after a relay refused us; the library's hour is
	// too long where there are few.
	relayBackoff = 5 * time.Minute
	// relayInterval is how soon more relays are looked for while there are too
	// few. It costs a look at the connected peers.
	relayInterval = 5 * time.Second
	// relayCount is how many relays a host that cannot be reached keeps.
	relayCount = 2
)

// Connections are kept between these bounds, by default and on a machine that
// was declared reachable. The DHT protects up to 40 of them, so a bound below 50
// would not be honoured.
const (
	lowWater, highWater             = 100, 160
	publicLowWater, publicHighWater = 600, 900
	// connGrace is how long a new connection is left alone.
	connGrace = time.Minute
)

// Config is what a host is made from.
type Config struct {
	// Key is the machine's key. Required.
	Key *identity.HostKey
	// Listen are the multiaddrs to listen on; see DefaultListen. Port 0 picks one.
	Listen []string
	// Announce are multiaddrs under which the machine can be reached besides
	// those that it finds out itself, for example a forwarded port.
	Announce []string
	// Reachability is Unknown, so that the host finds out, or what the operator
	// knows better.
	Reachability network.Reachability
	// MDNS looks for peers on the LAN, and lets them find us.
	MDNS bool
	// PeersFile keeps the peers of this run for the next one; "" keeps none.
	PeersFile string
	// PuzzleBits is what the keys of servers must satisfy to be remembered: that of
	// the DHT.
	PuzzleBits int
	// UserAgent is told to peers; "" means DefaultUserAgent.
	UserAgent string
	// Registerer takes libp2p's metrics; nil makes none.
	Registerer prometheus.Registerer
	// Build makes the libp2p host from its parts on another network than the
	// machine's own, such as one in memory. nil makes the real one.
	Build func(Parts) (host.Host, error)
	// Log is where it reports; nil discards.
	Log *slog.Logger
}

// Parts are what any libp2p host of ours consists of.
type Parts struct {
	Key             crypto.PrivKey
	Listen          []ma.Multiaddr
	UserAgent       string
	ConnManager     connmgr.ConnManager
	ResourceManager network.ResourceManager
}

// DefaultListen are the listeners of an ordinary node: QUIC and TCP on every
// interface. Port 0 picks one for each.
func DefaultListen(port int) []string {
	return []string{
		fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", port),
		fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", port),
		fmt.Sprintf("/ip6/::/udp/%d/quic-v1", port),
		fmt.Sprintf("/ip6/::/tcp/%d", port),
	}
}

// A Host is the machine's libp2p host and what belongs to it. It is safe for
// concurrent use.
type Host struct {
	host.Host
	cfg      Config
	log      *slog.Logger
	local    bool // every listener is on loopback
	announce []ma.Multiaddr
	book     *book
	slots    *slots

	newMDNS func(*Host) service
	ready   chan struct{} // closed when Host is set

	ctx      context.Context // of the handlers; ends with Close
	cancel   context.CancelFunc
	handlers sync.WaitGroup
	mu       sync.Mutex
	closed   bool
}

// New builds the host and begins to listen. Run does the rest.
func New(ctx context.Context, cfg Config) (_ *Host, err error) {
	if cfg.Key == nil {
		return nil, errors.New("host: no key")
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host{cfg: cfg, log: cfg.Log, newMDNS: startMDNS, ready: make(chan struct{}), slots: newSlots()}
	parts := Parts{UserAgent: cfg.UserAgent}
	if parts.Key, err = crypto.UnmarshalEd25519PrivateKey(cfg.Key.Private()); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	if parts.Listen, err = parseAddrs(cfg.Listen); err != nil {
		return nil, fmt.Errorf("host: listen: %w", err)
	}
	if h.announce, err = parseAddrs(cfg.Announce); err != nil {
		return nil, fmt.Errorf("host: announce: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.local = !slices.ContainsFunc(parts.Listen, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
	if h.book, err = openBook(cfg.PeersFile); err != nil {
		// It only helps to find peers. Begin a new one.
		h.log.Warn("cannot read the remembered peers", "file", cfg.PeersFile, "err", err)
	}
	h.book.dropUnpuzzled(cfg.PuzzleBits)
	if parts.ResourceManager, err = newResourceManager(cfg.Registerer != nil); err != nil {
		return nil, fmt.Errorf("host: limits: %w", err)
	}
	low, high := lowWater, highWater
	if cfg.Reachability == network.ReachabilityPublic {
		low, high = publicLowWater, publicHighWater
	}
	if parts.ConnManager, err = libp2pconnmgr.NewConnManager(low, high, libp2pconnmgr.WithGracePeriod(connGrace)); err != nil {
		parts.ResourceManager.Close()
		return nil, fmt.Errorf("host: %w", err)
	}
	build := cfg.Build
	if build == nil {
		build = h.build
	}
	if h.Host, err = build(parts); err != nil {
		parts.ConnManager.Close()
		parts.ResourceManager.Close()
		return nil, fmt.Errorf("host: %w", err)
	}
	close(h.ready)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	listening := slices.DeleteFunc(slices.Clone(h.Network().ListenAddresses()), func(a ma.Multiaddr) bool {
		_, err := a.ValueForProtocol(ma.P_CIRCUIT) // that of the relays
		return err == nil
	})
	if len(listening) < len(parts.Listen) {
		h.log.Warn("not every address could be listened on", "wanted", parts.Listen, "listening", listening)
	}
	return h, nil
}

// build makes a libp2p host with sockets.
func (h *Host) build(p Parts) (host.Host, error) { return libp2p.New(h.options(p)...) }

func (h *Host) options(p Parts) []libp2p.Option {
	opts := []libp2p.Option{
		libp2p.Identity(p.Key),
		libp2p.ListenAddrs(p.Listen...),
		libp2p.UserAgent(p.UserAgent),
		libp2p.ConnectionManager(p.ConnManager),
		libp2p.ResourceManager(p.ResourceManager),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.WithDialTimeout(DialTimeout),
		// With these detectors a fresh server refuses to test the UDP addresses of
		// others, and hole punches cost seconds.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.AddrsFactory(h.announced),
	}
	if h.cfg.Registerer != nil {
		opts = append(opts, libp2p.PrometheusRegisterer(h.cfg.Registerer))
	} else {
		opts = append(opts, libp2p.DisableMetrics())
	}
	if h.local {
		return append(opts, libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery())
	}
	opts = append(opts,
		libp2p.NATPortMap(),
		libp2p.EnableNATService(),
		libp2p.EnableAutoNATv2(),
		libp2p.EnableRelay(),
		libp2p.EnableRelayService(),
		libp2p.EnableHolePunching(),
		libp2p.EnableAutoRelayWithPeerSource(h.relays,
			autorelay.WithMinCandidates(1),
			autorelay.WithBootDelay(0),
			autorelay.WithMinInterval(relayInterval),
			autorelay.WithBackoff(relayBackoff),
			autorelay.WithNumRelays(relayCount),
		),
	)
	switch h.cfg.Reachability {
	case network.ReachabilityPublic:
		opts = append(opts, libp2p.ForceReachabilityPublic())
	case network.ReachabilityPrivate:
		opts = append(opts, libp2p.ForceReachabilityPrivate())
	}
	return opts
}

// announced chooses which addresses others are told. Whoever has a public one
// keeps those of the LAN to himself; mDNS tells them there.
func (h *Host) announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	all := ma.Unique(slices.Concat(h.announce, addrs))
	for _, worth := range []func(ma.Multiaddr) bool{
		manet.IsPublicAddr,
		func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) },
	} {
		if slices.ContainsFunc(all, worth) {
			return slices.DeleteFunc(all, func(a ma.Multiaddr) bool { return !worth(a) })
		}
	}
	return all
}

// relays offers connected DHT servers that relay for others.
func (h *Host) relays(_ context.Context, n int) <-chan peer.AddrInfo {
	offers := make(chan peer.AddrInfo, n)
	defer close(offers)
	select {
	case <-h.ready:
	default:
		return offers // it will be asked again
	}
	for _, p := range h.Network().Peers() {
		if len(offers) == n {
			break
		}
		spoken, err := h.Peerstore().SupportsProtocols(p, dht.Protocol, circuit.ProtoIDv2Hop)
		if err == nil && len(spoken) == 2 && h.Network().Connectedness(p) == network.Connected {
			offers <- h.Peerstore().PeerInfo(p)
		}
	}
	return offers
}

// Run looks for peers on the LAN and remembers those that were met, until ctx
// ends.
func (h *Host) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(h.ctx, cancel)
	defer stop()
	var parts sync.WaitGroup
	defer parts.Wait()
	if h.cfg.MDNS && !h.local {
		parts.Go(func() { h.runMDNS(ctx) })
	}
	parts.Go(func() { h.runBook(ctx) })
	<-ctx.Done()
	return nil
}

// Close ends the host. It remembers its peers, closes all connections, and
// waits for the handlers of streams.
func (h *Host) Close() error {
	h.mu.Lock()
	was := h.closed
	h.closed = true
	h.mu.Unlock()
	if was {
		return nil
	}
	h.remember()
	h.cancel()
	err := h.Host.Close()
	h.handlers.Wait()
	return err
}

func parseAddrs(texts []string) ([]ma.Multiaddr, error) {
	addrs := make([]ma.Multiaddr, 0, len(texts))
	for _, text := range texts {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}
