package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	mafmt "github.com/multiformats/go-multiaddr-fmt"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A Transport is a libp2p transport whose sockets are those of one node. It
// takes the place of TCP.
type Transport struct {
	node     *Node
	upgrader transport.Upgrader
	rcmgr    network.ResourceManager
}

// Transport makes the node's transport; the method value is what
// libp2p.Transport expects.
func (nd *Node) Transport(u transport.Upgrader, rcmgr network.ResourceManager) (*Transport, error) {
	if rcmgr == nil {
		rcmgr = &network.NullResourceManager{}
	}
	return &Transport{node: nd, upgrader: u, rcmgr: rcmgr}, nil
}

// Dial takes one round trip, plus what the upgrader's handshakes need.
func (t *Transport) Dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	scope, err := t.rcmgr.OpenConnection(network.DirOutbound, false, raddr)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(p); err != nil {
		scope.Done()
		return nil, err
	}
	c, err := t.dial(ctx, raddr)
	if err != nil {
		scope.Done()
		return nil, err
	}
	return t.upgrader.Upgrade(ctx, t, c, network.DirOutbound, p, scope)
}

func (t *Transport) dial(ctx context.Context, raddr ma.Multiaddr) (*conn, error) {
	to, err := addrPort(raddr)
	if err != nil {
		return nil, err
	}
	n := t.node.net
	if err := pause(ctx, n.cfg.Latency); err != nil {
		return nil, err
	}
	l, local, silent := t.node.open(to)
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		if err := pause(ctx, n.cfg.Latency); err != nil {
			return nil, err
		}
		return nil, errUnreachable
	}
	near, far := n.connect(local, to)
	select {
	case l.queue <- far:
	default: // the backlog is full
		near.fail(errUnreachable)
		return nil, errUnreachable
	}
	if err := pause(ctx, n.cfg.Latency); err != nil {
		near.Close()
		return nil, err
	}
	return near, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Listen listens on a port of the node. The IP of laddr must be the node's own
// or the unspecified one, which stands for it.
func (t *Transport) Listen(laddr ma.Multiaddr) (transport.Listener, error) {
	at, err := addrPort(laddr)
	if err != nil {
		return nil, err
	}
	if at.Addr() != t.node.addr && !at.Addr().IsUnspecified() {
		return nil, fmt.Errorf("memnet: %s is not an address of this node", at.Addr())
	}
	l, err := t.node.listen(at.Port())
	if err != nil {
		return nil, err
	}
	return t.upgrader.UpgradeGatedMaListener(t, t.upgrader.GateMaListener(&maListener{l})), nil
}

// CanDial accepts what TCP accepts.
func (t *Transport) CanDial(addr ma.Multiaddr) bool {
	return mafmt.And(mafmt.IP, mafmt.Base(ma.P_TCP)).Matches(addr)
}

// Protocols says that the transport is TCP to everybody else.
func (t *Transport) Protocols() []int { return []int{ma.P_TCP} }

// Proxy is false.
func (t *Transport) Proxy() bool { return false }

func addrPort(a ma.Multiaddr) (netip.AddrPort, error) {
	na, err := manet.ToNetAddr(a)
	if err != nil {
		return netip.AddrPort{}, err
	}
	tcp, ok := na.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("memnet: %s is not a TCP address", a)
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// maListener is a listener as multiaddr code sees it.
type maListener struct{ l *listener }

func (m *maListener) Accept() (manet.Conn, error) {
	c, err := m.l.accept()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (m *maListener) Close() error            { m.l.close(); return nil }
func (m *maListener) Addr() net.Addr          { return net.TCPAddrFromAddrPort(m.l.addr) }
func (m *maListener) Multiaddr() ma.Multiaddr { return multiaddr(m.l.addr) }
