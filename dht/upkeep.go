package dht

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

const (
	// reputPeriod is how often a stored record is put again by somebody. Each
	// node waits between 3/4 and 5/4 of it after it last heard of the record,
	// depending on node and record, so that the first one spares the others the
	// work.
	reputPeriod = 24 * time.Hour
	// reputAnyway is how many periods a node lets others do it, before it looks
	// for itself.
	reputAnyway = 3
	// reputTick is how often it is looked which records are due.
	reputTick = 10 * time.Minute
	// reputParallel is how many records are put again at once.
	reputParallel = 4

	// changeQuiet is how long the routing table must be still before a change is
	// announced, changePatience how long that is waited for.
	changeQuiet    = time.Second
	changePatience = 10 * time.Second

	// bootstrapParallel is how many bootstrap peers are dialled at once, and
	// bootstrapEnough with how many servers it is content.
	bootstrapParallel = 16
	bootstrapEnough   = 8
	// bootstrapRetry is the first pause before an empty routing table is filled
	// again; it doubles up to bootstrapRetryMax.
	bootstrapRetry    = 5 * time.Second
	bootstrapRetryMax = 2 * time.Minute
)

// Run keeps the node's part of the network in order until ctx ends: it finds
// first peers, decides whether to serve, announces changes, hands records to
// servers that join, and puts stored records again once a day.
func (d *DHT) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(d.ctx, cancel)
	defer stop()
	events, err := d.host.EventBus().Subscribe([]any{
		new(event.EvtPeerConnectednessChanged),
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtLocalReachabilityChanged),
		new(event.EvtHostReachableAddrsChanged),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.BufSize(256))
	if err != nil {
		return err
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer events.Close()
	parts.Go(func() { d.bootstrap(ctx) })
	parts.Go(func() { d.watchTable(ctx) })
	parts.Go(func() { d.handOverLoop(ctx) })
	parts.Go(func() { d.reputLoop(ctx) })
	for _, p := range d.host.Network().Peers() {
		d.scope.observe(p)
	}
	d.decideMode()
	for {
		select {
		case e := <-events.Out():
			d.handle(e)
		case <-ctx.Done():
			return nil
		}
	}
}

// handle takes note of an event of the host.
func (d *DHT) handle(e any) {
	before := d.scope.isPublic()
	switch e := e.(type) {
	case event.EvtPeerConnectednessChanged:
		if e.Connectedness == network.Connected {
			d.live.alive(e.Peer)
		}
		d.scope.observe(e.Peer)
	case event.EvtPeerIdentificationCompleted:
		d.scope.observe(e.Peer)
	case event.EvtLocalReachabilityChanged:
		d.scope.setReachability(e.Reachability)
	case event.EvtHostReachableAddrsChanged:
		d.scope.setConfirmed(len(e.Reachable) > 0)
	}
	if !before && d.scope.isPublic() {
		d.purgeTable()
	}
	d.decideMode()
}

// decideMode begins or ends serving as the circumstances demand.
func (d *DHT) decideMode() {
	if on := d.scope.server(); d.kh.serve(on) {
		d.log.Info("changed the part that this node plays in the network", "server", on)
		d.near.forget()
	}
}

// purgeTable removes what a public network has no use for.
func (d *DHT) purgeTable() {
	table := d.kad.RoutingTable()
	for _, p := range table.ListPeers() {
		if !d.mayEnterTable(nil, p) {
			table.RemovePeer(p)
		}
	}
}

// bootstrap dials known peers until the routing table has some, whenever it is
// empty.
func (d *DHT) bootstrap(ctx context.Context) {
	for retry := bootstrapRetry; ; {
		if d.kad.RoutingTable().Size() == 0 {
			d.dialKnown(ctx)
			if !sleep(ctx, retry) {
				return
			}
			retry = min(2*retry, bootstrapRetryMax)
			continue
		}
		retry = bootstrapRetry
		select {
		case <-d.emptied:
		case <-ctx.Done():
			return
		}
	}
}

func (d *DHT) dialKnown(ctx context.Context) {
	var connected atomic.Int32
	slots := make(chan struct{}, bootstrapParallel)
	var dials sync.WaitGroup
	defer dials.Wait()
	for _, info := range d.bootstrapPeers() {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if connected.Load() >= bootstrapEnough {
			return
		}
		dials.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, PeerTimeout)
			defer cancel()
			if err := d.host.Connect(ctx, info); err != nil {
				d.log.Debug("bootstrap peer cannot be reached", "peer", info.ID, "err", err)
				return
			}
			if d.isServer(info.ID) { // others lead nowhere
				connected.Add(1)
			}
		})
	}
}

// watchTable waits for changes of the routing table to settle and acts on them.
func (d *DHT) watchTable(ctx context.Context) {
	for {
		select {
		case <-d.joins:
		case <-ctx.Done():
			return
		}
		for since := time.Now(); time.Since(since) < changePatience; {
			if !sleep(ctx, changeQuiet) {
				return
			}
			if d.sinceChurn() >= changeQuiet {
				break
			}
		}
		d.near.forget()
		poke(d.changed)
		poke(d.heir)
		if d.kad.RoutingTable().Size() == 0 {
			poke(d.emptied)
		}
	}
}

func (d *DHT) sinceChurn() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.churn)
}

func (d *DHT) takeJoined() []peer.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	joined := make([]peer.ID, 0, len(d.joined))
	for p := range d.joined {
		joined = append(joined, p)
	}
	clear(d.joined)
	slices.SortFunc(joined, compareIDs)
	return joined
}

func (d *DHT) handOverLoop(ctx context.Context) {
	for {
		select {
		case <-d.heir:
			d.handOver(ctx, d.takeJoined())
		case <-ctx.Done():
			return
		}
	}
}

// handOver gives records to servers that joined near them. To each record one
// node attends: the nearest of those that were there before. What this node has
// published without success goes through the whole network once more.
func (d *DHT) handOver(ctx context.Context, joined []peer.ID) {
	if len(joined) == 0 {
		return
	}
	for key, rec := range d.unacknowledged() {
		if d.spread(ctx, key, rec).Acks > 0 {
			d.clearPending(key, rec)
		}
	}
	if !d.IsServer() || !d.handsOver {
		return
	}
	for _, e := range d.store.list() {
		if ctx.Err() != nil {
			return
		}
		if to := d.heirs(e.key, joined); len(to) > 0 {
			if value := d.load(ctx, e); value != nil {
				d.putTo(ctx, to, e.key, value)
			}
		}
	}
}

// heirs returns which of the joined are among the nearest to key, if it is this
// node that has to give them the record.
func (d *DHT) heirs(key string, joined []peer.ID) []peer.ID {
	target := placeOf(key)
	own := placeOfPeer(d.self).distance(target)
	var to []peer.ID
	for _, p := range d.kad.RoutingTable().NearestPeers(kbucket.ID(target[:]), replication) {
		if slices.Contains(joined, p) {
			to = append(to, p)
		} else if placeOfPeer(p).distance(target).compare(own) < 0 {
			return nil // a nearer one was there before
		}
	}
	return to
}

// load returns a stored record that is still valid, and drops it otherwise.
func (d *DHT) load(ctx context.Context, e entry) []byte {
	rec, err := d.values.Get(ctx, e.key)
	if err != nil || rec == nil {
		return nil
	}
	if _, err := checkRecord(e.key, rec.GetValue(), time.Now()); err != nil {
		if err := d.store.Delete(ctx, e.at); err != nil {
			d.log.Warn("cannot delete an expired record", "err", err)
		}
		return nil
	}
	return rec.GetValue()
}

// reputLoop puts stored records again, each when it is due.
func (d *DHT) reputLoop(ctx context.Context) {
	last := make(map[string]time.Time) // when this node put a record itself
	start := time.Now()
	for sleep(ctx, reputTick) {
		if !d.IsServer() || d.kad.RoutingTable().Size() == 0 {
			continue
		}
		d.reputDue(ctx, last, start)
	}
}

func (d *DHT) reputDue(ctx context.Context, last map[string]time.Time, start time.Time) {
	now := time.Now()
	slots := make(chan struct{}, reputParallel)
	var puts sync.WaitGroup
	defer puts.Wait()
	stored := make(map[string]struct{})
	for _, e := range d.store.list() {
		stored[e.key] = struct{}{}
		began := start
		if at, ok := last[e.key]; ok {
			began = at
		}
		if now.Sub(e.received) < d.reputAfter(e.key) && now.Sub(began) < reputAnyway*d.reput {
			continue
		}
		last[e.key] = now
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		puts.Go(func() {
			defer func() { <-slots }()
			d.putAgain(ctx, e)
		})
	}
	for key := range last {
		if _, ok := stored[key]; !ok {
			delete(last, key)
		}
	}
}

// reputAfter is how long after the last put of a record this node puts it again.
func (d *DHT) reputAfter(key string) time.Duration {
	h := sha256.Sum256([]byte(string(d.self) + key))
	share := float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)
	return time.Duration(float64(d.reput) * (0.75 + 0.5*share))
}

// putAgain puts a stored record to the nodes nearest to it now, and renews its
// age here.
func (d *DHT) putAgain(ctx context.Context, e entry) {
	value := d.load(ctx, e)
	if value == nil || d.spread(ctx, e.key, value).Acks == 0 {
		return
	}
	if err := d.values.Put(ctx, e.key, record.MakePutRecord(e.key, value)); err != nil {
		d.log.Debug("a stored record was replaced meanwhile", "err", err)
	}
}

// poke leaves a token in a channel with room for one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep waits and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
