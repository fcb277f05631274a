package host

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// The protocols of mail.
const (
	dropProtocol    protocol.ID = "/peerpost/drop/1"
	deliverProtocol protocol.ID = "/peerpost/deliver/1"
)

const (
	// maxConnsPerIP is how many connections one IPv4 address, or one IPv6 /56,
	// may have with us. The library's 8 shuts out offices and container networks.
	maxConnsPerIP = 64
	// maxConnsPerNet is the same for an IPv4 /24 and an IPv6 /48.
	maxConnsPerNet = 256
	// connsPerSecond and connsBurst are how fast new connections may come from,
	// or go to, one of the former.
	connsPerSecond = 5
	connsBurst     = 64

	// maxStreamsPerPeer is how many streams of one mail protocol a peer may have
	// open to us: 8 at work, 32 that watch, and some that are ending.
	maxStreamsPerPeer = 44
	// maxMemoryPerPeer is what these may reserve, for bodies of up to 40 MiB.
	maxMemoryPerPeer = 64 << 20
	// maxStreamsOut bounds our own streams of one mail protocol to one peer. Open
	// keeps to less.
	maxStreamsOut = 64
	// peerMemory is what all protocols together may reserve for one peer: bodies,
	// and the windows of the multiplexer.
	peerMemory = 192 << 20
)

// newResourceManager makes libp2p's resource manager with our limits. Those of
// the whole system grow with the machine.
func newResourceManager(metrics bool) (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	limits.SystemBaseLimit = rcmgr.BaseLimit{
		Conns: 1024, ConnsInbound: 768, ConnsOutbound: 768,
		Streams: 16384, StreamsInbound: 8192, StreamsOutbound: 8192,
		Memory: 256 << 20, FD: 512,
	}
	limits.TransientBaseLimit = rcmgr.BaseLimit{
		Conns: 256, ConnsInbound: 128, ConnsOutbound: 192,
		Streams: 1024, StreamsInbound: 512, StreamsOutbound: 512,
		Memory: 64 << 20, FD: 128,
	}
	limits.PeerBaseLimit.Memory = peerMemory
	limits.PeerLimitIncrease.Memory = 0 // a larger machine is no reason to let one peer have more
	limits.StreamBaseLimit.Memory = maxMemoryPerPeer
	for _, p := range []protocol.ID{dropProtocol, deliverProtocol} {
		limits.AddProtocolLimit(p, rcmgr.BaseLimit{
			Streams: 4096, StreamsInbound: 2048, StreamsOutbound: 2048, Memory: 192 << 20,
		}, rcmgr.BaseLimitIncrease{
			Streams: 1024, StreamsInbound: 512, StreamsOutbound: 512, Memory: 512 << 20,
		})
		limits.AddProtocolPeerLimit(p, rcmgr.BaseLimit{
			Streams: maxStreamsPerPeer + maxStreamsOut, StreamsInbound: maxStreamsPerPeer, StreamsOutbound: maxStreamsOut,
			Memory: maxMemoryPerPeer,
		}, rcmgr.BaseLimitIncrease{})
	}
	perSecond := rate.Limit{RPS: connsPerSecond, Burst: connsBurst}
	opts := []rcmgr.Option{
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxConnsPerIP}, {PrefixLength: 24, ConnCount: maxConnsPerNet}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxConnsPerIP}, {PrefixLength: 48, ConnCount: maxConnsPerNet}},
		),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, // no limit
				{Prefix: netip.MustParsePrefix("::1/128")},
			},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perSecond}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perSecond}},
				GracePeriod:      time.Minute,
			},
		}),
	}
	if !metrics {
		opts = append(opts, rcmgr.WithMetricsDisabled())
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()), opts...)
}
