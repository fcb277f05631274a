package host

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// mdnsService is the name under which nodes look for one another on a LAN.
	mdnsService = "_peerpost._udp"
	// mdnsRetry is the pause before mDNS is tried again where there was no
	// network.
	mdnsRetry = time.Minute
	// mdnsDials bounds how many peers that were found are dialled at once.
	mdnsDials = 8
	// addrsQuiet is how long the addresses must be still before mDNS is started
	// anew with them.
	addrsQuiet = 2 * time.Second
)

// A service is mDNS as this package needs it.
type service interface {
	Start() error
	io.Closer
}

// startMDNS makes the real service.
func startMDNS(h *Host) service {
	return mdns.NewMdnsService(h.Host, mdnsService, &finder{h: h, slots: make(chan struct{}, mdnsDials)})
}

// runMDNS keeps the service running. It announces the addresses that the host
// has when it starts, so it is started anew when they change.
func (h *Host) runMDNS(ctx context.Context) {
	changes, err := h.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		h.log.Warn("mDNS cannot follow the machine's addresses", "err", err)
		return
	}
	defer changes.Close()
	for ctx.Err() == nil {
		s := h.newMDNS(h)
		retry := make(<-chan time.Time)
		if err := s.Start(); err != nil {
			h.log.Debug("mDNS cannot start", "err", err)
			retry = time.After(mdnsRetry)
		}
		select {
		case <-changes.Out():
			settle(ctx, changes.Out())
		case <-retry:
		case <-ctx.Done():
		}
		s.Close()
	}
}

// settle waits until nothing has come for a moment.
func settle(ctx context.Context, changes <-chan any) {
	for {
		select {
		case <-changes:
		case <-time.After(addrsQuiet):
			return
		case <-ctx.Done():
			return
		}
	}
}

// A finder connects to the peers that mDNS finds.
type finder struct {
	h     *Host
	slots chan struct{}
}

// HandlePeerFound connects to a peer of the LAN. Anybody there can say anything,
// so only addresses of the LAN are taken, and only so many at a time.
func (f *finder) HandlePeerFound(info peer.AddrInfo) {
	h := f.h
	info.Addrs = slices.DeleteFunc(slices.Clone(info.Addrs), func(a ma.Multiaddr) bool { return manet.IsPublicAddr(a) })
	if info.ID == h.ID() || len(info.Addrs) == 0 || h.Network().Connectedness(info.ID) == network.Connected {
		return
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return // it will be found again
	}
	ctx, cancel := context.WithTimeout(h.ctx, openTimeout)
	defer cancel()
	if err := h.Connect(ctx, info); err != nil {
		h.log.Debug("a peer on the LAN cannot be reached", "peer", info.ID, "err", err)
		return
	}
	h.log.Info("found a peer on the LAN", "peer", info.ID)
}
