// Package dht finds things in the network: the identity record of a person,
// and the nodes nearest to a key. It runs libp2p's Kademlia under a protocol
// prefix and a record namespace of its own, and adds what that leaves to its
// users: acknowledgements are counted, lookups are cut off and use the best
// set so far, records are put again by whoever stores them, storage has a
// quota that prefers what is near, and places near a key cost a puzzle.
//
// Records go into the DHT, mail never does.
//
//	key of a record     "/peerpost/" ‖ base32(SHA-256("peerpost record" ‖ root key))
//	place of a record   SHA-256(key of the record)
//	place of a node     SHA-256(peer id)
//	place of a drop     SHA-256(the bytes given to Nearest)
//	protocol            /peerpost/kad/1.0.0
package dht

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/peerpost/peerpost/identity"
)

const (
	prefix    = "/peerpost"
	namespace = "peerpost"

	// Protocol is what a DHT server speaks. A host that announces it is one.
	Protocol protocol.ID = prefix + "/kad/1.0.0"

	// LookupDeadline cuts off a lookup; the best set so far is used. Longer
	// waits buy nothing: with a fifth of the nodes silently dead, all 10 nearest
	// live ones are known by then.
	LookupDeadline = 1500 * time.Millisecond
	// PeerTimeout bounds one request to one peer, the dial included.
	PeerTimeout = 4 * time.Second
	// MaxRecordAge is how long a node keeps a record that nobody puts again. The
	// library's default of 48 h would lose a holidaymaker.
	MaxRecordAge = 31 * 24 * time.Hour
	// DefaultRefresh is how often the routing table is refreshed. A dead peer
	// stays in it for about four times as long.
	DefaultRefresh = 3 * time.Minute

	// replication is the number of nodes that hold a record: Kademlia's k.
	replication = 20
)

// ErrNotFound says that no valid record was found. It may exist all the same
// where the network could not be reached.
var ErrNotFound = errors.New("no record found")

// Config is what a DHT is made from.
type Config struct {
	// Host is the libp2p host. Dials through it should give up after 3 s.
	Host host.Host
	// Datastore keeps the records of others; nil keeps them in memory. Closing
	// it, after the DHT, is the caller's.
	Datastore ds.Batching
	// Mode says whether this node serves others. Auto by default.
	Mode Mode
	// Bootstrap are peers to begin with; AddPeer adds more. Both ends of the list
	// are tried first, so that neither what was remembered nor what was configured
	// has to wait for the other to fail.
	Bootstrap []peer.AddrInfo
	// PuzzleBits is what the keys of other servers must satisfy:
	// identity.HostPuzzle on the open network, 0 in test networks.
	PuzzleBits int
	// Refresh is the period of the routing table's refresh; 0 means
	// DefaultRefresh. Simulated days want hours.
	Refresh time.Duration
	// MaxRecords and MaxBytes bound what is stored for others; 0 means the
	// defaults.
	MaxRecords int
	MaxBytes   int64
	// Log is where it reports; nil discards.
	Log *slog.Logger
}

// A DHT is one node's part in it. It is safe for concurrent use.
type DHT struct {
	cfg    Config
	log    *slog.Logger
	host   host.Host
	self   peer.ID
	kh     *kadHost
	kad    *kaddht.IpfsDHT
	msg    *pb.ProtocolMessenger
	values *records.ValueStore // the same records as kad's own, for local use
	store  *store
	scope  *scope
	live   *liveness
	near   *nearCache
	intake *intake

	reput     time.Duration // period of putting records again
	handsOver bool          // gives records to servers that join

	changed chan struct{} // one token: the neighbourhood changed
	joins   chan struct{} // one token: somebody entered or left the routing table
	emptied chan struct{} // one token: the routing table is empty
	heir    chan struct{} // one token: somebody joined who may have records to get

	mu      sync.Mutex
	boot    []peer.AddrInfo
	joined  map[peer.ID]struct{} // servers that joined since Run looked
	churn   time.Time            // of the last join or leave
	pending map[string][]byte    // own records that nobody has acknowledged yet, by key
	closed  bool

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
}

// New makes a DHT on a host. Only the library's own upkeep of the routing table
// starts here; Run does the rest.
func New(cfg Config) (*DHT, error) {
	if cfg.Host == nil {
		return nil, errors.New("dht: no host")
	}
	if cfg.Datastore == nil {
		cfg.Datastore = dssync.MutexWrap(ds.NewMapDatastore())
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = DefaultRefresh
	}
	if cfg.MaxRecords == 0 {
		cfg.MaxRecords = DefaultMaxRecords
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &DHT{
		cfg:       cfg,
		log:       cfg.Log,
		host:      cfg.Host,
		self:      cfg.Host.ID(),
		reput:     reputPeriod,
		handsOver: true,
		changed:   make(chan struct{}, 1),
		emptied:   make(chan struct{}, 1),
		heir:      make(chan struct{}, 1),
		joins:     make(chan struct{}, 1),
		joined:    make(map[peer.ID]struct{}),
		pending:   make(map[string][]byte),
		live:      newLiveness(),
		near:      newNearCache(),
		intake:    newIntake(),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	for _, info := range cfg.Bootstrap {
		d.remember(info)
	}
	var err error
	if d.store, err = openStore(d.ctx, cfg.Datastore, d.self, cfg.MaxRecords, cfg.MaxBytes); err != nil {
		d.cancel()
		return nil, fmt.Errorf("dht: open the records: %w", err)
	}
	d.scope = newScope(cfg.Host, cfg.Mode)
	d.kh = newKadHost(cfg.Host, d.tableChanged)
	validator := record.NamespacedValidator{namespace: recordValidator{}}
	d.values = records.NewValueStore(d.store, validator, MaxRecordAge)
	d.kad, err = kaddht.New(d.kh,
		kaddht.ProtocolPrefix(prefix),
		kaddht.Mode(kaddht.ModeServer), // whether it serves is decided by kadHost
		kaddht.Datastore(d.store),
		kaddht.Validator(validator),
		kaddht.MaxRecordAge(MaxRecordAge),
		kaddht.DisableProviders(),
		kaddht.WithCustomMessageSender(newSender),
		kaddht.BucketSize(replication),
		kaddht.RoutingTableRefreshPeriod(cfg.Refresh),
		kaddht.QueryFilter(d.mayQuery),
		kaddht.RoutingTableFilter(d.mayEnterTable),
		kaddht.RoutingTablePeerDiversityFilter(newDiversity(cfg.Host, d.scope)),
		kaddht.AddressFilter(d.scope.addresses),
		kaddht.OnRequestHook(d.screen),
	)
	if err != nil {
		d.cancel()
		return nil, fmt.Errorf("dht: %w", err)
	}
	if d.msg, err = pb.NewProtocolMessenger(d.kad.MessageSender()); err != nil {
		d.cancel()
		return nil, errors.Join(fmt.Errorf("dht: %w", err), d.kad.Close())
	}
	d.kh.serve(d.scope.server())
	return d, nil
}

// Close ends the DHT. Close the host first, or at least soon after: requests of
// others may still be read from the datastore.
func (d *DHT) Close() error {
	var err error
	d.once.Do(func() {
		d.mu.Lock()
		d.closed = true
		d.mu.Unlock()
		d.cancel()
		d.kh.serve(false)
		err = d.kad.Close()
		d.wg.Wait()
	})
	return err
}

// spawn runs f, which ends with d.ctx, unless the DHT is closed.
func (d *DHT) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

// IsServer tells whether this node serves others now.
func (d *DHT) IsServer() bool { return d.kh.serving() }

// Peers counts the connected DHT servers.
func (d *DHT) Peers() int {
	n := 0
	for _, p := range d.host.Network().Peers() {
		if d.isServer(p) && d.host.Network().Connectedness(p) == network.Connected {
			n++
		}
	}
	return n
}

// isServer tells whether a peer has announced that it is a DHT server, and may be
// one.
func (d *DHT) isServer(p peer.ID) bool {
	spoken, err := d.host.Peerstore().SupportsProtocols(p, Protocol)
	return err == nil && len(spoken) > 0 && d.puzzled(p)
}

// Changed receives a token some seconds after servers joined or left this
// node's part of the network. Tokens do not pile up. It has one reader.
func (d *DHT) Changed() <-chan struct{} { return d.changed }

// AddPeer connects to a peer and keeps its address for when the routing table
// is empty.
func (d *DHT) AddPeer(ctx context.Context, info peer.AddrInfo) error {
	if info.ID == d.self {
		return nil
	}
	d.remember(info)
	if err := d.host.Connect(ctx, info); err != nil {
		return fmt.Errorf("connect to %s: %w", info.ID, err)
	}
	return nil
}

// maxBootstrap bounds the addresses kept for an empty routing table.
const maxBootstrap = 512

func (d *DHT) remember(info peer.AddrInfo) {
	if info.ID == d.self || len(info.Addrs) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.boot {
		if d.boot[i].ID == info.ID {
			d.boot[i] = info
			return
		}
	}
	if len(d.boot) < maxBootstrap {
		d.boot = append(d.boot, info)
	}
}

// bootstrapPeers returns the known peers in the order in which to try them.
func (d *DHT) bootstrapPeers() []peer.AddrInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	infos := make([]peer.AddrInfo, 0, len(d.boot))
	for i, j := 0, len(d.boot)-1; i <= j; i, j = i+1, j-1 {
		infos = append(infos, d.boot[i])
		if i < j {
			infos = append(infos, d.boot[j])
		}
	}
	return infos
}

// puzzled tells whether a peer's key satisfies the puzzle.
func (d *DHT) puzzled(p peer.ID) bool { return Puzzled(p, d.cfg.PuzzleBits) }

// Puzzled tells whether a peer's key satisfies a puzzle of so many bits: whether
// it may be a server.
func Puzzled(p peer.ID, bits int) bool {
	if bits == 0 {
		return true
	}
	pub, err := p.ExtractPublicKey()
	if err != nil || pub.Type() != crypto.Ed25519 {
		return false
	}
	raw, err := pub.Raw()
	return err == nil && identity.PuzzleBits(ed25519.PublicKey(raw)) >= bits
}

// mayQuery filters whom a lookup asks and returns.
func (d *DHT) mayQuery(_ any, info peer.AddrInfo) bool {
	return d.puzzled(info.ID) && d.scope.mayQuery(info)
}

// mayEnterTable filters who enters the routing table.
func (d *DHT) mayEnterTable(_ any, p peer.ID) bool {
	return d.puzzled(p) && d.scope.mayEnterTable(p)
}

// tableChanged is called while the routing table is locked.
func (d *DHT) tableChanged(p peer.ID, joined bool) {
	d.mu.Lock()
	if joined {
		d.joined[p] = struct{}{}
	} else {
		delete(d.joined, p)
	}
	d.churn = time.Now()
	d.mu.Unlock()
	poke(d.joins)
}
