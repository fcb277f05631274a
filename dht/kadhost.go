package dht

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// kadHost is the host as the Kademlia library sees it. It keeps two things in
// our hands: whether requests are served (the library would be a client on
// every LAN), and notice of who enters and leaves the routing table.
type kadHost struct {
	host.Host
	conns tap

	mu      sync.Mutex
	handler network.StreamHandler
	on      bool
}

func newKadHost(h host.Host, table func(p peer.ID, joined bool)) *kadHost {
	return &kadHost{Host: h, conns: tap{h.ConnManager(), table}}
}

// SetStreamHandler is called once, by the library's constructor.
func (h *kadHost) SetStreamHandler(_ protocol.ID, handler network.StreamHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handler = handler
}

// RemoveStreamHandler does nothing: serve decides.
func (h *kadHost) RemoveStreamHandler(protocol.ID) {}

// ConnManager is the host's, with notice of the routing table's marks.
func (h *kadHost) ConnManager() connmgr.ConnManager { return h.conns }

func (h *kadHost) serving() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on
}

// serve begins or ends answering others, and reports whether that is news. To
// announce the protocol is to be a server.
func (h *kadHost) serve(on bool) bool {
	h.mu.Lock()
	news := on != h.on
	h.on = on
	handler := h.handler
	h.mu.Unlock()
	switch {
	case !news:
	case on:
		h.Host.SetStreamHandler(Protocol, handler)
	default:
		h.Host.RemoveStreamHandler(Protocol)
		for _, c := range h.Network().Conns() {
			for _, s := range c.GetStreams() {
				if s.Protocol() == Protocol && s.Stat().Direction == network.DirInbound {
					s.Reset()
				}
			}
		}
	}
	return news
}

// tableTag is how the library marks the peers of its routing table for the
// connection manager: it protects or tags those that enter, and untags those
// that leave.
const tableTag = "kbucket"

// tap is a connection manager that passes those marks on.
type tap struct {
	connmgr.ConnManager
	table func(p peer.ID, joined bool)
}

func (t tap) Protect(p peer.ID, tag string) {
	t.ConnManager.Protect(p, tag)
	if tag == tableTag {
		t.table(p, true)
	}
}

func (t tap) TagPeer(p peer.ID, tag string, weight int) {
	t.ConnManager.TagPeer(p, tag, weight)
	if tag == tableTag {
		t.table(p, true)
	}
}

func (t tap) UntagPeer(p peer.ID, tag string) {
	t.ConnManager.UntagPeer(p, tag)
	if tag == tableTag {
		t.table(p, false)
	}
}
