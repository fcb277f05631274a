package dht

import (
	"net"
	"slices"
	"sync"
	"time"

	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kbucket/peerdiversity"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Mode is whether a node serves others.
type Mode int

const (
	// Auto serves unless there is a sign of NAT: AutoNAT says that nobody can
	// reach us, or nothing is known yet, the network is a public one, and we have
	// no public address.
	Auto Mode = iota
	// Server always serves.
	Server
	// Client never serves: it looks up, sends and collects.
	Client
)

// publicMemory is how long the network counts as public after the last public
// peer was seen.
const publicMemory = 10 * time.Minute

const (
	// maxPerBucket and maxPerTable bound how many peers of one address group (an
	// IPv4 /16, or an autonomous system) enter the routing table of a public
	// network.
	maxPerBucket = 2
	maxPerTable  = 3
)

// scope knows what kind of network this is. A public one, that is one with a
// peer at a public address, is filtered: private addresses mean nothing to
// others there, and addresses must be diverse. On a LAN and on loopback nothing
// is filtered.
type scope struct {
	host host.Host
	mode Mode

	mu         sync.Mutex
	reach      network.Reachability // what AutoNAT says
	confirmed  bool                 // some address of ours is known to be reachable
	public     map[peer.ID]struct{} // connected peers at public addresses
	lastPublic time.Time
}

func newScope(h host.Host, mode Mode) *scope {
	s := &scope{host: h, mode: mode, public: make(map[peer.ID]struct{})}
	for _, p := range h.Network().Peers() {
		s.observe(p)
	}
	return s
}

// observe looks at the connections of a peer again.
func (s *scope) observe(p peer.ID) {
	at := false
	for _, c := range s.host.Network().ConnsToPeer(p) {
		at = at || isPublic(c.RemoteMultiaddr())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, was := s.public[p]; {
	case at:
		s.public[p] = struct{}{}
	case was:
		delete(s.public, p)
		s.lastPublic = time.Now()
	}
}

func (s *scope) setReachability(r network.Reachability) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reach = r
}

func (s *scope) setConfirmed(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confirmed = yes
}

// isPublic tells whether the network is a public one.
func (s *scope) isPublic() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.public) > 0 || !s.lastPublic.IsZero() && time.Since(s.lastPublic) < publicMemory
}

// server tells whether this node should serve.
func (s *scope) server() bool {
	if s.mode != Auto {
		return s.mode == Server
	}
	s.mu.Lock()
	reach, confirmed := s.reach, s.confirmed
	s.mu.Unlock()
	switch {
	case confirmed || reach == network.ReachabilityPublic:
		return true
	case reach == network.ReachabilityPrivate:
		return false
	}
	return !s.isPublic() || slices.ContainsFunc(s.host.Addrs(), isPublic)
}

// mayQuery tells whether a lookup may ask a peer.
func (s *scope) mayQuery(info peer.AddrInfo) bool {
	return !s.isPublic() || kaddht.PublicQueryFilter(nil, info)
}

// mayEnterTable tells whether a connected peer may enter the routing table.
func (s *scope) mayEnterTable(p peer.ID) bool {
	if !s.isPublic() {
		return true
	}
	return kaddht.PublicQueryFilter(nil, s.host.Peerstore().PeerInfo(p))
}

// addresses filters the addresses that others tell us.
func (s *scope) addresses(addrs []ma.Multiaddr) []ma.Multiaddr {
	if !s.isPublic() {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return !manet.IsPublicAddr(a) })
}

// isPublic tells whether an address is a direct one on the open internet.
func isPublic(a ma.Multiaddr) bool {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return false
	}
	return manet.IsPublicAddr(a)
}

// diversity is the library's filter of the routing table, in force only while
// the network is public.
type diversity struct {
	peerdiversity.PeerIPGroupFilter
	scope *scope
}

func newDiversity(h host.Host, s *scope) diversity {
	return diversity{kaddht.NewRTPeerDiversityFilter(h, maxPerBucket, maxPerTable), s}
}

func (f diversity) Allow(g peerdiversity.PeerGroupInfo) bool {
	return !f.scope.isPublic() || f.PeerIPGroupFilter.Allow(g)
}

// addressGroup names the block that an address lies in: its IPv4 /16 or IPv6
// /32. Private, loopback and relayed addresses are in no group.
func addressGroup(a ma.Multiaddr) (string, bool) {
	if !isPublic(a) {
		return "", false
	}
	return blockOf(a)
}

// blockOf is addressGroup for any address.
func blockOf(a ma.Multiaddr) (string, bool) {
	ip, err := manet.ToIP(a)
	if err != nil {
		return "", false
	}
	if four := ip.To4(); four != nil {
		return four.Mask(net.CIDRMask(16, 32)).String(), true
	}
	return ip.Mask(net.CIDRMask(32, 128)).String(), true
}
