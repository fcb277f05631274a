package dht

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/peerpost/peerpost/identity"
)

const (
	// A search may end early when searchHolders nodes have shown a record and
	// searchAnswers have answered at all: a few that are behind, or that lie
	// together, cannot hide a newer one. On a full table that is one round trip.
	searchHolders = 4
	searchAnswers = 8
	// searchParallel is how many nodes are asked at once, Kademlia's alpha, and
	// searchMax how many in all.
	searchParallel = 10
	searchMax      = 64
	// searchTimeout is how long a search goes on that has found nothing at all.
	searchTimeout = PeerTimeout
)

// Resolve finds the identity record of a person: the newest of what the nodes
// nearest to it show, and of what is stored here. It ends when enough of them
// have answered, which takes about a round trip; otherwise when the whole
// neighbourhood has, or LookupDeadline after it began. Only while nothing has
// been found does it go on longer, up to 4 s. The bytes are those that were
// signed.
func (d *DHT) Resolve(ctx context.Context, root identity.Root) (*identity.Record, []byte, error) {
	return d.ResolveKey(ctx, identity.RecordKeyHash(root))
}

// ResolveKey is Resolve where only the hash of the root key is known.
func (d *DHT) ResolveKey(ctx context.Context, hash [32]byte) (*identity.Record, []byte, error) {
	key := recordKey(hash)
	s := d.newSearch(ctx, key)
	d.run(ctx, s)
	if s.best == nil {
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("resolve: %w", err)
		}
		return nil, nil, ErrNotFound
	}
	if outdated := s.outdated(); len(outdated) > 0 {
		d.spawn(func() { d.putTo(d.ctx, outdated, key, s.best.Bytes()) })
	}
	return s.best, s.best.Bytes(), nil
}

// search is the state of one search for a record.
type search struct {
	key    string
	target place
	peers  map[peer.ID]*asked
	order  []peer.ID // of peers, the nearest first
	best   *identity.Record

	inFlight, answers, holders, total int
}

// asked is what is known of one peer in a search.
type asked struct {
	stage stage
	shown *identity.Record // what it has
}

type stage int

const (
	heard stage = iota
	waiting
	answered
	unreachable
)

// reply is what became of one question.
type reply struct {
	from   peer.ID
	value  []byte
	closer []*peer.AddrInfo
	err    error
}

func (d *DHT) newSearch(ctx context.Context, key string) *search {
	s := &search{key: key, target: placeOf(key), peers: make(map[peer.ID]*asked)}
	if rec, err := d.values.Get(ctx, key); err == nil && rec != nil {
		s.best, _ = checkRecord(key, rec.GetValue(), time.Now())
	}
	for _, p := range d.kad.RoutingTable().NearestPeers(kbucket.ID(s.target[:]), replication) {
		s.hear(p)
	}
	s.sort()
	return s
}

// run carries a search to its end.
func (d *DHT) run(ctx context.Context, s *search) {
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	enough := time.NewTimer(LookupDeadline)
	defer enough.Stop()
	replies := make(chan reply, searchParallel) // with room for all that is under way
	late := false
	for !s.finished(late) {
		for p, ok := s.next(d.live.dead); ok; p, ok = s.next(d.live.dead) {
			if !d.spawn(func() { replies <- d.ask(ctx, p, s.key) }) {
				return
			}
		}
		if s.inFlight == 0 {
			return
		}
		select {
		case r := <-replies:
			if ctx.Err() == nil {
				d.learn(s, r)
			}
		case <-enough.C:
			late = true
		case <-ctx.Done():
			return
		}
	}
}

// ask asks one peer for a record.
func (d *DHT) ask(ctx context.Context, p peer.ID, key string) reply {
	rec, closer, err := d.msg.GetValue(ctx, p, key)
	return reply{p, rec.GetValue(), closer, err}
}

// learn takes note of a reply.
func (d *DHT) learn(s *search, r reply) {
	s.inFlight--
	a := s.peers[r.from]
	if r.err != nil {
		a.stage = unreachable
		d.noteFailure(r.from)
		return
	}
	a.stage = answered
	s.answers++
	if rec, err := checkRecord(s.key, r.value, time.Now()); err == nil {
		a.shown = rec
		s.holders++
		if s.best == nil || rec.Compare(s.best) > 0 {
			s.best = rec
		}
	}
	for _, info := range r.closer[:min(len(r.closer), 2*replication)] {
		if info.ID == d.self || s.peers[info.ID] != nil || !d.mayQuery(nil, *info) {
			continue
		}
		if d.host.Network().Connectedness(info.ID) != network.Connected {
			d.host.Peerstore().AddAddrs(info.ID, d.scope.addresses(info.Addrs), peerstore.TempAddrTTL)
		}
		s.hear(info.ID)
	}
	s.sort()
}

func (s *search) hear(p peer.ID) {
	s.peers[p] = &asked{}
	s.order = append(s.order, p)
}

func (s *search) sort() { byDistance(s.order, s.target) }

// next chooses whom to ask next: the nearest that was not asked, among the
// nearest 20 that are not known to be unreachable.
func (s *search) next(dead func(peer.ID) bool) (peer.ID, bool) {
	if s.inFlight == searchParallel || s.total == searchMax {
		return "", false
	}
	near := 0
	for _, p := range s.order {
		if near == replication {
			break
		}
		a := s.peers[p]
		if a.stage == heard && dead(p) {
			a.stage = unreachable
		}
		switch a.stage {
		case unreachable:
			continue
		case heard:
			a.stage = waiting
			s.inFlight++
			s.total++
			return p, true
		}
		near++
	}
	return "", false
}

// finished tells whether the search may end although there is more to ask.
func (s *search) finished(late bool) bool {
	return s.best != nil && (late || s.holders >= searchHolders && s.answers >= searchAnswers)
}

// outdated returns those of the nearest 20 who answered without the newest
// record, where all that could be asked have answered: their copies are worth
// correcting.
func (s *search) outdated() []peer.ID {
	var out []peer.ID
	near := 0
	for _, p := range s.order {
		if near == replication {
			break
		}
		switch a := s.peers[p]; a.stage {
		case unreachable:
			continue
		case answered:
			if a.shown == nil || a.shown.Compare(s.best) < 0 {
				out = append(out, p)
			}
		default:
			return nil // the search was cut short
		}
		near++
	}
	return slices.Clip(out)
}
