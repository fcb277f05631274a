package memnet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	libp2pyamux "github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/security/insecure"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-yamux/v5"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

const (
	// dialTimeout is what the production host allows for a dial.
	dialTimeout = 3 * time.Second
	// negotiationTimeout bounds the choice of a protocol on a new stream, as in
	// libp2p's own host.
	negotiationTimeout = 10 * time.Second
	// quiet is longer than any test: how often a connection without keep-alive
	// measures its round trip.
	quiet = 100 * 365 * 24 * time.Hour
)

// HostConfig describes a bare host. The zero value is a fresh key, an
// unencrypted wire and no keep-alive: the cheapest there is.
type HostConfig struct {
	Key       crypto.PrivKey // nil: a random one
	Noise     bool           // encrypt; otherwise the keys are only exchanged
	KeepAlive bool           // yamux's own: a ping every 30 s on every connection

	ConnManager     connmgr.ConnManager     // nil: none
	ResourceManager network.ResourceManager // nil: none
	UserAgent       string
}

// Host builds a libp2p host on the node from swarm, identify and one listener,
// leaving out what wants real interfaces or wakes up often: NAT traversal,
// relays, address discovery. It may be called again after the former host of
// the node was closed, or the node was killed and revived.
func (nd *Node) Host(cfg HostConfig) (host.Host, error) {
	if cfg.Key == nil {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return nil, err
		}
		cfg.Key = key
	}
	id, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(store.AddPrivKey(id, cfg.Key), store.AddPubKey(id, cfg.Key.GetPublic())); err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	// Identify must learn of protocols that are set before it listens for them.
	sticky, err := bus.Emitter(new(event.EvtLocalProtocolsUpdated), eventbus.Stateful)
	if err != nil {
		return nil, err
	}
	opts := []swarm.Option{
		swarm.WithDialTimeout(dialTimeout),
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
	}
	if cfg.ResourceManager != nil {
		opts = append(opts, swarm.WithResourceManager(cfg.ResourceManager))
	}
	sw, err := swarm.NewSwarm(id, store, bus, opts...)
	if err != nil {
		return nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: libp2pyamux.ID, Muxer: muxer(cfg.KeepAlive)}}
	var security sec.SecureTransport = insecure.NewWithIdentity(insecure.ID, id, cfg.Key)
	if cfg.Noise {
		if security, err = noise.New(noise.ID, cfg.Key, muxers); err != nil {
			return nil, err
		}
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, cfg.ResourceManager, nil)
	if err != nil {
		return nil, err
	}
	tr, err := nd.Transport(up, cfg.ResourceManager)
	if err != nil {
		return nil, err
	}
	if err := sw.AddTransport(tr); err != nil {
		return nil, err
	}
	laddr, err := ma.NewMultiaddr(nd.Listen())
	if err != nil {
		return nil, err
	}
	if err := sw.Listen(laddr); err != nil {
		sw.Close()
		return nil, err
	}
	blankOpts := []blankhost.Option{blankhost.WithEventBus(bus)}
	if cfg.ConnManager != nil {
		blankOpts = append(blankOpts, blankhost.WithConnectionManager(cfg.ConnManager))
	}
	h := &bareHost{BlankHost: blankhost.NewBlankHost(sw, blankOpts...), sticky: sticky, rcmgr: cfg.ResourceManager}
	sw.SetStreamHandler(h.handle)
	var idOpts []identify.Option
	if cfg.UserAgent != "" {
		idOpts = append(idOpts, identify.UserAgent(cfg.UserAgent))
	}
	if h.identify, err = identify.NewIDService(h, idOpts...); err != nil {
		sw.Close()
		return nil, err
	}
	h.identify.Start()
	return h, nil
}

func muxer(keepAlive bool) *libp2pyamux.Transport {
	c := *libp2pyamux.DefaultTransport.Config()
	c.EnableKeepAlive = keepAlive
	if !keepAlive {
		c.MeasureRTTInterval = quiet
	}
	c.MaxIncomingStreams = math.MaxUint32
	return (*libp2pyamux.Transport)((*yamux.Config)(&c))
}

// bareHost adds to libp2p's blank host what ours cannot do without: identify
// before the first stream, deadlines on negotiation, and contexts that are
// obeyed.
type bareHost struct {
	*blankhost.BlankHost
	identify identify.IDService
	sticky   io.Closer
	rcmgr    network.ResourceManager
	once     sync.Once
}

// Connect dials unless connected, and waits until the peer is identified.
func (h *bareHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	h.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	if direct, _ := network.GetForceDirectDial(ctx); !direct && h.Network().Connectedness(info.ID) == network.Connected {
		return nil
	}
	c, err := h.Network().DialPeer(ctx, info.ID)
	if err != nil {
		return fmt.Errorf("failed to dial: %w", err)
	}
	return h.identified(ctx, c)
}

func (h *bareHost) identified(ctx context.Context, c network.Conn) error {
	select {
	case <-h.identify.IdentifyWait(c):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("identify: %w", ctx.Err())
	}
}

// NewStream opens a stream, dialling first if it must. When identify has told
// that the peer speaks the protocol, negotiation costs no round trip.
func (h *bareHost) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, negotiationTimeout)
		defer cancel()
	}
	if err := h.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
		return nil, err
	}
	s, err := h.Network().NewStream(network.WithNoDial(ctx, "dialled already"), p)
	if err != nil {
		return nil, fmt.Errorf("failed to open stream: %w", err)
	}
	if err := h.identified(ctx, s.Conn()); err != nil {
		s.Reset()
		return nil, err
	}
	if known, err := h.Peerstore().FirstSupportedProtocol(p, protos...); err == nil && known != "" {
		if err := s.SetProtocol(known); err != nil {
			s.Reset()
			return nil, err
		}
		return &lazyStream{Stream: s, rw: multistream.NewMSSelect(s, known)}, nil
	}
	type choice struct {
		proto protocol.ID
		err   error
	}
	chosen := make(chan choice, 1)
	go func() {
		proto, err := multistream.SelectOneOf(protos, s)
		chosen <- choice{proto, err}
	}()
	var c choice
	select {
	case c = <-chosen:
	case <-ctx.Done():
		s.Reset()
		<-chosen
		c.err = ctx.Err()
	}
	if c.err == nil {
		c.err = s.SetProtocol(c.proto)
	}
	if c.err != nil {
		s.Reset()
		return nil, fmt.Errorf("failed to negotiate protocol: %w", c.err)
	}
	return s, nil
}

// handle gives an incoming stream to its protocol's handler.
func (h *bareHost) handle(s network.Stream) {
	s.SetDeadline(time.Now().Add(negotiationTimeout))
	proto, handler, err := h.Mux().Negotiate(s)
	if err != nil || s.SetProtocol(proto) != nil {
		s.Reset()
		return
	}
	s.SetDeadline(time.Time{})
	handler(proto, s)
}

// Close ends the host and everything it started.
func (h *bareHost) Close() error {
	h.once.Do(func() {
		h.ConnManager().Close()
		h.identify.Close()
		h.sticky.Close()
		h.Network().Close()
		h.Peerstore().Close()
		if h.rcmgr != nil {
			h.rcmgr.Close()
		}
	})
	return nil
}

// lazyStream is a stream whose protocol is agreed on with the first bytes.
type lazyStream struct {
	network.Stream
	rw io.ReadWriteCloser
}

func (s *lazyStream) Read(b []byte) (int, error)  { return s.rw.Read(b) }
func (s *lazyStream) Write(b []byte) (int, error) { return s.rw.Write(b) }

func (s *lazyStream) Close() error {
	s.SetReadDeadline(time.Now().Add(negotiationTimeout))
	return s.rw.Close()
}

func (s *lazyStream) CloseWrite() error {
	if f, ok := s.rw.(interface{ Flush() error }); ok {
		f.Flush()
	}
	return s.Stream.CloseWrite()
}
