package dht

import (
	"context"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// newPerMinute is how many records that are not stored here yet one address
	// block may put in a minute, newBurst how many at once. To a server that has
	// just joined its neighbours bring everything that they have for it.
	newPerMinute = 600
	newBurst     = 2048
	// maxIntake bounds how many blocks are told apart.
	maxIntake = 4096
)

// intake counts the new records that each address block puts.
type intake struct {
	mu     sync.Mutex
	blocks map[string]*allowance
}

// allowance is a bucket of tokens.
type allowance struct {
	left float64
	at   time.Time
}

func newIntake() *intake { return &intake{blocks: make(map[string]*allowance)} }

// allow tells whether a block may put another new record now.
func (i *intake) allow(from string, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	a := i.blocks[from]
	if a == nil && len(i.blocks) >= maxIntake {
		for from, a := range i.blocks {
			if a.fill(now); a.left == newBurst {
				delete(i.blocks, from)
			}
		}
		if len(i.blocks) >= maxIntake {
			from = "" // the rest share one
			a = i.blocks[from]
		}
	}
	if a == nil {
		a = &allowance{left: newBurst, at: now}
		i.blocks[from] = a
	}
	if a.fill(now); a.left < 1 {
		return false
	}
	a.left--
	return true
}

func (a *allowance) fill(now time.Time) {
	a.left = min(newBurst, a.left+max(0, now.Sub(a.at).Minutes())*newPerMinute)
	a.at = now
}

// screen sees every request before the library does. It bounds the new records
// of a block, and tells the store who brings a record. The library refuses a put
// without a record.
func (d *DHT) screen(_ context.Context, s network.Stream, req *pb.Message) {
	rec := req.GetRecord()
	if rec == nil {
		return
	}
	from := cameFrom(s.Conn())
	if req.GetType() == pb.Message_PUT_VALUE && !d.store.has(string(rec.GetKey())) && !d.intake.allow(from, time.Now()) {
		d.log.Debug("too many new records are put from one place", "peer", s.Conn().RemotePeer())
		req.Record = nil
		return
	}
	rec.ProtoReflect().SetUnknown(markFrom(from))
}

// cameFrom names where a connection comes from: the address block of the peer,
// or of its relay; on a private network, where all are of one block, the peer.
func cameFrom(c network.Conn) string {
	if a := c.RemoteMultiaddr(); manet.IsPublicAddr(a) {
		if block, ok := blockOf(a); ok {
			return block
		}
	}
	return string(c.RemotePeer())
}
