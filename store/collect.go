package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/semaphore"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

const (
	// batchBytes is how many bytes of bodies one get asks for, by the sizes that the list told.
	batchBytes = 4 << 20
	// collectMemory is how many bytes of bodies of up to batchBytes a collection has in memory at once. Larger ones that
	// several holders have listed have collectVouched bytes of their own, and those on the word of fewer
	// collectDoubtful. So holders that send what they made up, as slowly as they may, are in the way of each other
	// only.
	collectMemory   = 32 << 20
	collectVouched  = 48 << 20
	collectDoubtful = sealed.MaxBody
	// vouchers is how many holders have listed a message that is not doubtful.
	vouchers = 3
	// collectHolders is how many holders are asked at once, collectLookups how many neighbourhoods are looked up.
	collectHolders = 32
	collectLookups = 4
	// accepting is how many messages are given to the caller at once, so that they can share a sync.
	accepting = 8
	// stealAfter is how long a holder may take with what it was asked for before another is asked for the same.
	stealAfter = 3 * time.Second
)

// CollectReport is what came of a Collect.
type CollectReport struct {
	Inboxes  []InboxReport // in the order of the keys
	Holders  int           // asked
	Answered int           // of these
	Fetched  int           // messages accepted
	Failed   int           // messages that were listed and did not come, or that accept refused
	Missing  int           // messages that were listed by holders who then said that they do not have them
}

// InboxReport is what came of one inbox.
type InboxReport struct {
	Inbox       identity.Inbox
	Ten         int   // the nearest known, at most ten
	AnsweredTen int   // of these; one that broke off before it had sent what it listed has not answered
	Asked       int   // all, with those a bit further and the keepers
	Answered    int   // of these
	Failed      int   // messages that accept refused
	Err         error // of the lookup
}

// Complete tells whether nobody can have hidden mail: seven of the ten nearest have answered (of fewer, as large a
// part), and what they listed got through. What only others listed, who then did not send it, counts no more than
// what those who are silent may have: else one of them could keep every collection incomplete.
func (r InboxReport) Complete() bool {
	return r.Ten > 0 && r.AnsweredTen >= (7*r.Ten+Copies-1)/Copies && r.Failed == 0
}

// Collect asks all reachable nodes near each inbox what they have for it, takes the union, and fetches each message
// once, from another holder when one fails or sends something else. have tells which messages need not be fetched; it
// is asked once for each. accept takes a message whose hash was checked; it may be called from several goroutines at
// once, so that their syncs can be joined. A message whose accept fails is not tried again in this call.
//
// Messages come as soon as the first holder has answered, while others are still being asked. The error is that of
// ctx, or of the holders when none of them answered; the report is right in any case.
func (c *Client) Collect(
	ctx context.Context, keys []FetchKey,
	have func(sealed.ID) bool, accept func(ctx context.Context, m *sealed.Message, from peer.ID) error,
) (CollectReport, error) {
	g := &gathering{
		client: c, have: have, accept: accept, ctx: ctx,
		sought:  make(map[sealed.ID]*sought),
		memory:  semaphore.NewWeighted(collectMemory),
		vouched: semaphore.NewWeighted(collectVouched), doubtful: semaphore.NewWeighted(collectDoubtful),
		accepts: semaphore.NewWeighted(accepting),
		changed: make(chan struct{}),
		answers: make(map[peer.ID]bool),
	}
	began := time.Now()
	report := CollectReport{Inboxes: make([]InboxReport, len(keys))}
	near := c.whereabouts(ctx, keys, report.Inboxes)
	asks := make(map[peer.ID][]FetchKey)
	var order []peer.ID
	for i, k := range keys {
		for _, p := range near[i] {
			if asks[p] == nil {
				order = append(order, p)
			}
			asks[p] = append(asks[p], k)
		}
	}
	var work sync.WaitGroup
	slots := make(chan struct{}, collectHolders)
	errs := make([]error, len(order))
	for i, p := range order {
		work.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				errs[i] = ctx.Err()
				return
			}
			if errs[i] = g.from(p, asks[p]); errs[i] != nil {
				c.log.Debug("holder failed", "peer", p, "error", errs[i])
			}
		})
	}
	work.Wait()

	report.Holders, report.Fetched = len(order), g.fetched
	for _, p := range order {
		if g.answers[p] {
			report.Answered++
		}
	}
	if g.believed(order, errs) {
		c.cfg.Clock.Agree(began)
	}
	failed := make(map[identity.Inbox]int)
	for _, s := range g.sought {
		switch {
		case s.state == stateDone || s.state == stateHad:
		case s.state == stateOpen && !s.cut:
			report.Missing++
		case s.state == stateOpen || s.state == stateClaimed:
			report.Failed++ // those who listed it have not answered, or would have sent it
		default:
			failed[s.key.Inbox]++
			report.Failed++
		}
	}
	for i := range report.Inboxes {
		r := &report.Inboxes[i]
		r.Failed = failed[r.Inbox]
		for j, p := range near[i] {
			if g.answers[p] {
				r.Answered++
				if j < r.Ten {
					r.AnsweredTen++
				}
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return report, fmt.Errorf("collect: %w", err)
	}
	if report.Answered == 0 && len(keys) > 0 {
		for _, r := range report.Inboxes {
			errs = append(errs, r.Err)
		}
		return report, fmt.Errorf("collect: nobody answered: %w", errors.Join(errs...))
	}
	return report, nil
}

// believed tells whether more of the others have taken our proofs, which are dated, than refused them.
func (g *gathering) believed(order []peer.ID, errs []error) bool {
	took := 0
	for i, p := range order {
		refusal := new(Refusal)
		switch {
		case p == g.client.cfg.Self:
		case g.answers[p]:
			took++
		case errors.As(errs[i], &refusal) && refusal.Code == CodeAccess:
			took--
		}
	}
	return took > 0
}

// whereabouts looks up whom to ask for each inbox, nearest first, keepers last.
func (c *Client) whereabouts(ctx context.Context, keys []FetchKey, reports []InboxReport) [][]peer.ID {
	near := make([][]peer.ID, len(keys))
	var work sync.WaitGroup
	slots := make(chan struct{}, collectLookups)
	for i, k := range keys {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			peers, err := c.nearest(ctx, k.Inbox, collectFrom)
			ten := min(len(peers), Copies)
			peers = with(peers, k.Keepers)
			near[i] = peers
			reports[i] = InboxReport{Inbox: k.Inbox, Ten: ten, Asked: len(peers), Err: err}
		})
	}
	work.Wait()
	return near
}

// gathering is one Collect.
type gathering struct {
	client  *Client
	ctx     context.Context
	have    func(sealed.ID) bool
	accept  func(context.Context, *sealed.Message, peer.ID) error
	accepts *semaphore.Weighted
	// Bytes of bodies: of those up to batchBytes, and of the larger ones.
	memory, vouched, doubtful *semaphore.Weighted

	mu      sync.Mutex
	sought  map[sealed.ID]*sought
	answers map[peer.ID]bool
	fetched int
	changed chan struct{} // closed and made anew when something in sought changes
}

// sought is one message that somebody listed.
type sought struct {
	key   *FetchKey
	size  uint64 // by the word of the first
	lists int    // how many have listed it
	state seekState
	by    peer.ID   // who was asked last
	at    time.Time // and when
	tried []peer.ID // who did not have it after all
	cut   bool      // one of these broke off
}

type seekState uint8

const (
	stateAsked seekState = iota // the caller is asked whether it has it
	stateOpen
	stateClaimed // somebody is asked for it
	stateHere    // it came and is being accepted
	stateDone
	stateFailed // accept refused it
	stateHad    // the caller has it
)

// source is a holder that messages are fetched from.
type source interface {
	list(keys []FetchKey, page func(k FetchKey, items []Listed)) error
	get(k FetchKey, ids []sealed.ID, room func(sealed.ID, uint64) func(), item func(sealed.ID, *sealed.Message)) (missing []sealed.ID, err error)
	end(err error)
}

// remoteSource is a holder at the other end of a stream.
type remoteSource struct {
	*conn
	prover prover
}

func (r remoteSource) list(keys []FetchKey, page func(FetchKey, []Listed)) error {
	return r.conn.list(r.prover, keys, page)
}

func (r remoteSource) get(k FetchKey, ids []sealed.ID, room func(sealed.ID, uint64) func(), item func(sealed.ID, *sealed.Message)) ([]sealed.ID, error) {
	return r.conn.get(r.prover, k, ids, room, item)
}

// localSource is this node's own holder. It needs no proofs.
type localSource struct{ h *Holder }

func (l localSource) list(keys []FetchKey, page func(FetchKey, []Listed)) error {
	for _, k := range keys {
		items, _ := l.h.spool.list(k.Inbox, sealed.ID{}, listMost)
		var listed []Listed
		for _, i := range items {
			listed = append(listed, Listed{i.ID, i.Size})
		}
		page(k, listed)
	}
	return nil
}

func (l localSource) get(k FetchKey, ids []sealed.ID, room func(sealed.ID, uint64) func(), item func(sealed.ID, *sealed.Message)) (missing []sealed.ID, err error) {
	for _, id := range ids {
		m, err := l.h.spool.read(k.Inbox, id, func(size uint64) func() { return room(id, size) })
		if errors.Is(err, errMissing) {
			missing = append(missing, id)
			continue
		}
		if err != nil {
			return missing, err
		}
		item(id, m.message)
		m.release()
	}
	return missing, nil
}

func (l localSource) end(error) {}

// source opens a conversation with a holder.
func (c *Client) source(ctx context.Context, p peer.ID) (source, error) {
	if p == c.cfg.Self && c.cfg.Local != nil {
		return localSource{c.cfg.Local}, nil
	}
	conn, err := c.out.dial(ctx, p, DropProtocol)
	if err != nil {
		return nil, err
	}
	prover, err := conn.hello()
	if err != nil {
		conn.abort()
		return nil, err
	}
	return remoteSource{conn, prover}, nil
}

// from lists what one holder has and fetches of it what nobody else does.
func (g *gathering) from(p peer.ID, keys []FetchKey) (err error) {
	src, err := g.client.source(g.ctx, p)
	if err != nil {
		return err
	}
	defer func() { src.end(err) }()
	var mine []sealed.ID
	if err := src.list(keys, func(k FetchKey, items []Listed) { mine = append(mine, g.note(k, items)...) }); err != nil {
		return err
	}
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.answers[p] = err == nil
	}()
	for {
		batch, key, wait := g.claim(p, mine)
		if len(batch) > 0 {
			if err := g.fetch(src, p, key, batch); err != nil {
				return err
			}
			continue
		}
		if wait == nil {
			return nil
		}
		// Somebody else is at what is left; it may come to nothing, or take too long.
		t := time.NewTimer(stealAfter)
		select {
		case <-wait:
		case <-t.C:
		case <-g.ctx.Done():
		}
		t.Stop()
		if err := g.ctx.Err(); err != nil {
			return err
		}
	}
}

// note takes in what a holder lists and returns what of it may be fetched.
func (g *gathering) note(k FetchKey, items []Listed) (ids []sealed.ID) {
	for _, item := range items {
		g.mu.Lock()
		s := g.sought[item.ID]
		first := s == nil
		if first {
			s = &sought{key: &k, size: item.Size, state: stateAsked}
			g.sought[item.ID] = s
		}
		// The same id in two inboxes is a lie of one of the holders.
		if s.key.Inbox == k.Inbox {
			s.lists++
			ids = append(ids, item.ID)
		}
		g.mu.Unlock()
		if !first {
			continue
		}
		had := g.have(item.ID) // outside the lock, since the caller may look on its disk
		g.mu.Lock()
		s.state = stateOpen
		if had {
			s.state = stateHad
		}
		g.change()
		g.mu.Unlock()
	}
	return ids
}

// claim takes the next messages to ask a holder for, all of one inbox. With none to take, wait is closed when that
// may have changed, or is nil when it will not.
func (g *gathering) claim(p peer.ID, mine []sealed.ID) (batch []sealed.ID, key *FetchKey, wait <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	size := uint64(0)
	busy := false
	for _, id := range mine {
		s := g.sought[id]
		switch s.state {
		case stateAsked:
			busy = true
			continue
		case stateClaimed:
			if slices.Contains(s.tried, p) {
				continue
			}
			if now.Sub(s.at) < stealAfter {
				busy = true
				continue
			}
		case stateOpen:
			if slices.Contains(s.tried, p) {
				continue
			}
		default:
			continue
		}
		if key == nil {
			key = s.key
		}
		if s.key.Inbox != key.Inbox || len(batch) > 0 && size+s.size > batchBytes || len(batch) == MaxIDs {
			continue
		}
		s.state, s.by, s.at = stateClaimed, p, now
		size += min(s.size, batchBytes)
		batch = append(batch, id)
	}
	if len(batch) == 0 && busy {
		wait = g.changed
	}
	return batch, key, wait
}

// change tells those that wait. It is called with the lock held.
func (g *gathering) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// fetch asks a holder for messages and gives them to the caller.
func (g *gathering) fetch(src source, p peer.ID, key *FetchKey, batch []sealed.ID) error {
	var work sync.WaitGroup
	came := 0
	var release func()
	room := func(id sealed.ID, size uint64) func() {
		memory, n := g.budget(id, size), int64(size)
		// The context's end also ends the read that follows.
		if memory.Acquire(g.ctx, n) != nil {
			release = func() {}
		} else {
			release = sync.OnceFunc(func() { memory.Release(n) })
		}
		return func() {
			if release != nil { // the message did not come
				release()
			}
		}
	}
	item := func(id sealed.ID, m *sealed.Message) {
		came++
		done := release
		release = nil
		if !g.arrived(id) || g.accepts.Acquire(g.ctx, 1) != nil {
			done()
			return
		}
		work.Go(func() {
			defer done()
			defer g.accepts.Release(1)
			g.settle(id, g.accept(g.ctx, m, p))
		})
	}
	missing, err := src.get(*key, batch, room, item)
	work.Wait()
	if err == nil && came == 0 && len(missing) == 0 {
		err = errors.New("holder sends nothing of what it listed")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range batch {
		s := g.sought[id]
		if err != nil || slices.Contains(missing, id) {
			s.tried = append(s.tried, p)
			s.cut = s.cut || err != nil
		}
		if s.state == stateClaimed && s.by == p {
			s.state = stateOpen
		}
	}
	g.change()
	return err
}

// budget tells which memory a body comes from.
func (g *gathering) budget(id sealed.ID, size uint64) *semaphore.Weighted {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case size <= batchBytes:
		return g.memory
	case g.sought[id].lists >= vouchers:
		return g.vouched
	}
	return g.doubtful
}

// arrived tells whether a message that came is the first of its kind.
func (g *gathering) arrived(id sealed.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sought[id]
	if s.state != stateClaimed && s.state != stateOpen {
		return false
	}
	s.state = stateHere
	return true
}

// settle notes what the caller made of a message.
func (g *gathering) settle(id sealed.ID, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sought[id]
	if err != nil {
		s.state = stateFailed
		g.client.log.Warn("collected message not accepted", "message", id, "error", err)
	} else {
		s.state = stateDone
		g.fetched++
	}
	g.change()
}

// List asks one holder what it has for some inboxes.
func (c *Client) List(ctx context.Context, holder peer.ID, keys []FetchKey) (map[identity.Inbox][]Listed, error) {
	src, err := c.source(ctx, holder)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	all := make(map[identity.Inbox][]Listed)
	err = src.list(keys, func(k FetchKey, items []Listed) { all[k.Inbox] = append(all[k.Inbox], items...) })
	src.end(err)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return all, nil
}

// Get fetches messages of one inbox from one holder, as a notice or a list named them, and hands each to accept, one
// after the other, after its hash was checked. It returns those that the holder does not have. An error of accept
// ends it.
func (c *Client) Get(
	ctx context.Context, holder peer.ID, key FetchKey, ids []sealed.ID,
	accept func(ctx context.Context, m *sealed.Message, from peer.ID) error,
) (missing []sealed.ID, err error) {
	src, err := c.source(ctx, holder)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	defer func() { src.end(err) }()
	left := make(map[sealed.ID]bool, len(ids))
	for _, id := range ids {
		left[id] = true
	}
	for len(left) > 0 {
		var batch []sealed.ID
		for _, id := range ids {
			if left[id] && len(batch) < MaxIDs && !slices.Contains(batch, id) {
				batch = append(batch, id)
			}
		}
		before := len(left)
		var refused error
		gone, err := src.get(key, batch, func(sealed.ID, uint64) func() { return func() {} }, func(id sealed.ID, m *sealed.Message) {
			delete(left, id)
			if refused == nil {
				refused = accept(ctx, m, holder)
			}
		})
		if err = errors.Join(err, refused); err != nil {
			return missing, fmt.Errorf("get: %w", err)
		}
		for _, id := range gone {
			if left[id] {
				delete(left, id)
				missing = append(missing, id)
			}
		}
		if len(left) == before {
			return missing, errors.New("get: holder sends nothing of what it was asked for")
		}
	}
	return missing, nil
}

// readMessage is a message read from the own spool, and what gives its memory back.
type readMessage struct {
	message *sealed.Message
	release func()
}

// read reads a whole message into memory.
func (s *spool) read(inbox identity.Inbox, id sealed.ID, room func(uint64) func()) (*readMessage, error) {
	h, err := s.open(inbox, id)
	if err != nil {
		return nil, err
	}
	defer h.body.Close()
	o, err := sealed.ParseOuter(h.outer)
	if err != nil {
		return nil, err
	}
	release := room(o.Size)
	body, err := s.readBody(id, h, &o)
	if err != nil {
		release()
		return nil, err
	}
	return &readMessage{&sealed.Message{Outer: o, Body: body}, release}, nil
}
