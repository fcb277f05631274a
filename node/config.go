package node

import (
	"log/slog"
	"time"

	libp2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/node/host"
)

// Config is what a node is made of. The zero value of each field but Home is
// the ordinary choice.
type Config struct {
	// Home is the directory of everything the node keeps.
	Home string

	// Listen is the multiaddrs to be reached at by other nodes.
	Listen []string
	// Bootstrap is multiaddrs with a peer id, or invites, of nodes to join by.
	Bootstrap []string
	// NoMDNS turns off looking for neighbours on the local network.
	NoMDNS bool

	// IMAP, SMTP, IMAPS, SMTPS and HTTP are the addresses (host:port) for mail
	// clients and the status page; empty means off. IMAP, SMTP and HTTP must be
	// loopback addresses.
	IMAP, SMTP, IMAPS, SMTPS, HTTP string

	// Holder is a node without accounts, which only keeps mail for others.
	Holder bool
	// Capacity is how many bytes of mail are kept for others; 0 means 10 GiB.
	Capacity int64

	// PuzzleBits and StampBits are the work that the network asks of a holder's
	// peer id and of a small message: 0 means the network's own (16 and 18),
	// a negative number none, as in test networks. All nodes must agree.
	PuzzleBits, StampBits int

	// PasswordWork is the cost of app passwords (log2 of scrypt's N); 0 means the
	// default, which takes a good part of a second.
	PasswordWork int
	// Refresh is the period of the routing table's refresh; 0 means the default.
	Refresh time.Duration

	// NoControl leaves out the control socket, HostHook makes the libp2p host
	// in another way, UpkeepOff leaves copies to themselves: for tests.
	NoControl bool
	HostHook  func(host.Parts) (libp2phost.Host, error)
	UpkeepOff bool

	// Log hears what happens; nil means silence. Metrics takes the node's
	// figures; nil means a registry of the node's own.
	Log     *slog.Logger
	Metrics *prometheus.Registry
}

// DefaultPort is where other nodes are listened for, TCP and QUIC.
const DefaultPort = 7678

// DefaultCapacity is how many bytes a node keeps for others unless told otherwise.
const DefaultCapacity = 10 << 30

func (c Config) capacity() int64 {
	if c.Capacity > 0 {
		return c.Capacity
	}
	return DefaultCapacity
}

// stampBits is the work asked for a body of the size.
func (c Config) stampBits(size int64) int {
	if c.StampBits < 0 {
		return 0
	}
	bits := sealed.StampBits(int(size))
	if c.StampBits > 0 {
		bits += c.StampBits - sealed.StampBits(0)
	}
	return bits
}

// stampDiscount is how much less is asked than on the open network.
func (c Config) stampDiscount() int {
	switch {
	case c.StampBits < 0:
		return 64 // nothing is left of any size
	case c.StampBits == 0:
		return 0
	}
	return sealed.StampBits(0) - c.StampBits
}

func (c Config) puzzleBits() int {
	switch {
	case c.PuzzleBits < 0:
		return 0
	case c.PuzzleBits == 0:
		return identity.HostPuzzle
	}
	return c.PuzzleBits
}
