package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/node/host"
	"github.com/peerpost/peerpost/store"
)

// freshFor is how long a record found in the DHT serves before it is looked
// for again, so that a thousand messages to one person make one lookup.
const freshFor = 2 * time.Minute

// network is the outside world as the accounts of this node see it.
type network struct {
	self  peer.ID
	host  *host.Host
	dht   *dht.DHT
	near  store.Neighbourhood
	drop  *store.Client
	bits  func(size int64) int
	door  *door
	clock *clock.Clock
	local func(root identity.Root) *account // accounts of this node

	mu    sync.Mutex
	found map[[32]byte]found
	subs  map[chan struct{}]bool
}

type found struct {
	record *identity.Record
	raw    []byte
	at     time.Time
}

func (n *network) Resolve(ctx context.Context, root identity.Root) (*identity.Record, []byte, error) {
	if a := n.local(root); a != nil {
		a.mu.Lock()
		raw := a.record
		a.mu.Unlock()
		if raw == nil {
			return nil, nil, errNoRecord
		}
		r, err := identity.ParseRecord(raw)
		return r, raw, err
	}
	return n.ResolveKey(ctx, identity.RecordKeyHash(root))
}

func (n *network) ResolveKey(ctx context.Context, hash [32]byte) (*identity.Record, []byte, error) {
	now := time.Now()
	n.mu.Lock()
	f, ok := n.found[hash]
	n.mu.Unlock()
	if ok && now.Sub(f.at) < freshFor {
		return f.record, f.raw, nil
	}
	r, raw, err := n.dht.ResolveKey(ctx, hash)
	if errors.Is(err, dht.ErrNotFound) && n.dht.Peers() == 0 { // nobody was asked
		err = fmt.Errorf("%w: %w", err, store.ErrNoHolders)
	}
	if err != nil {
		return nil, nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.found) > 1000 {
		clear(n.found)
	}
	if len(r.Hosts) > 0 { // one without hosts is an account's first, and the next is on its way
		n.found[hash] = found{r, raw, now}
	}
	return r, raw, nil
}

// joinTime is how long a node that was just started is given to find a neighbour
// before it does what needs one.
const joinTime = 5 * time.Second

// joined waits until this node has a neighbour, but not for long.
func (n *network) joined(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	tick := time.NewTicker(joinTime / 50)
	defer tick.Stop()
	for n.dht.Peers() == 0 {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// Deliver hands a message to one of the recipient's hosts, which may be this node.
func (n *network) Deliver(ctx context.Context, h identity.Host, m *sealed.Message) error {
	info, err := addrInfo(h)
	if err != nil {
		return err
	}
	if info.ID == n.self { // from one account of this node to another
		return n.door.Accept(ctx, m, n.self)
	}
	n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	_, err = n.drop.Deliver(ctx, info.ID, m)
	return err
}

func (n *network) Put(ctx context.Context, m *sealed.Message, keepers []identity.Host, progress func(store.PutState)) (store.PutResult, error) {
	r, err := n.drop.Put(ctx, m, n.met(keepers), progress)
	if _, ours := r.Receipts[n.self]; err == nil && ours && len(r.Receipts) == 1 && r.Tombstone == nil {
		// being one's own holder is no replica: when this machine is off, nobody has it
		return r, fmt.Errorf("no other node could be reached: %w", store.ErrNoHolders)
	}
	return r, err
}

// met makes some nodes known to the host, and gives their ids.
func (n *network) met(hosts []identity.Host) []peer.ID {
	var ids []peer.ID
	for _, h := range hosts {
		info, err := addrInfo(h)
		if err != nil {
			continue
		}
		n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
		ids = append(ids, info.ID)
	}
	return ids
}

func (n *network) StampBits(size int64) int { return n.bits(size) }

// hostEntry is this node as a record names it.
func (n *network) hostEntry() identity.Host {
	e := identity.Host{Peer: []byte(n.self)}
	for _, addr := range n.host.Addrs() {
		if b := addr.Bytes(); len(b) <= identity.MaxAddr && len(e.Addrs) < identity.MaxAddrs {
			e.Addrs = append(e.Addrs, b)
		}
	}
	return e
}

func addrInfo(h identity.Host) (peer.AddrInfo, error) {
	id, err := peer.IDFromBytes(h.Peer)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("a host has no valid peer id: %w", err)
	}
	info := peer.AddrInfo{ID: id}
	for _, b := range h.Addrs {
		if addr, err := multiaddr.NewMultiaddrBytes(b); err == nil {
			info.Addrs = append(info.Addrs, addr)
		}
	}
	return info, nil
}

// changed gets a value when the neighbourhood has changed.
func (n *network) changed(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subs[c] = true
	context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, c)
	})
	return c
}

// tell wakes whoever waits for a change.
func (n *network) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.subs {
		wakeUp(c)
	}
}
