package courier

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/store"
)

// The times of a transit (design 7 and 11.7).
const (
	Lifetime   = 30 * 24 * time.Hour // from acceptance to the expiry of a message
	Grace      = 3 * 24 * time.Hour  // from expiry to "failed", for receipts under way
	DelayAfter = 4 * time.Hour       // until the sender is told that the recipient has not got it yet
	DropAfter  = 2 * time.Second     // for a receipt after direct delivery, until copies go to the holders
	refuseTime = 30 * time.Second    // for a refusal to come after a tombstone was seen
	graveTime  = 24 * time.Hour      // of an unlocked account, for the own drop to be drained after that
	GiveUp     = 7 * 24 * time.Hour  // after Grace and the unlock, when the own drop cannot be drained to the end
	nudgeAfter = 10 * time.Second    // an attempt is not made again sooner for a change in the network
	joinEvery  = 10                  // sweeps between looks for rows that came late to the outbox
	sweepEvery = time.Minute         // between looks for what is delayed or over
	tellAgain  = time.Minute         // after the end of a transit could not be written down
)

// The bounds of one courier's work.
const (
	workers     = 24       // attempts at once, of small messages
	memory      = 24 << 20 // bytes that these have in memory at once
	large       = 1 << 20  // bytes above which a message is large
	largeWork   = 4        // attempts at once, of large messages
	largeMemory = 96 << 20 // bytes that these have in memory at once: room to seal one of the largest
	receiptWork = 8        // attempts at once, of receipts
	receiptRoom = 8 << 20  // bytes that these have in memory at once
	resting     = 32 << 20 // bytes of sealed mail that stay in memory between two attempts
	directHosts = 3        // hosts of a recipient that are tried
	tries       = 6        // attempts of a receipt that may be lost, or that holders have, or whose recipient is not found
	maxRefusals = 1000     // receipts that are carried until somebody has them
	refusalsTo  = 10       // of these, to one person
)

// Network is what the courier asks of the network.
type Network interface {
	// Resolve finds the newest record of a person, ResolveKey that of a record
	// key hash; store of what was found is the network's affair.
	Resolve(ctx context.Context, root identity.Root) (*identity.Record, []byte, error)
	ResolveKey(ctx context.Context, hash [32]byte) (*identity.Record, []byte, error)
	// Deliver hands a message to one host of the recipient; it is on that
	// host's disk when Deliver returns nil.
	Deliver(ctx context.Context, host identity.Host, m *sealed.Message) error
	// Put leaves a message with the holders; see store.Client.
	Put(ctx context.Context, m *sealed.Message, keepers []identity.Host, progress func(store.PutState)) (store.PutResult, error)
	// StampBits is the work that holders ask for a body of the size.
	StampBits(size int64) int
}

// Account is what an unlocked account gives the courier.
type Account interface {
	// Seal fills in the sender's side of the inner and seals it.
	Seal(in *sealed.Inner, to identity.KeySet, e identity.Epoch) (*sealed.Message, error)
	// OwnRecord is the account's current record, nil when there is none yet.
	OwnRecord() []byte
	// KnowsUs says whether a person has had our present record; Told notes it.
	KnowsUs(root identity.Root) bool
	Told(root identity.Root)
	// Pinned is the newest record that the account has seen of a person, nil
	// when none. Pin notes a newer one; it refuses older and forked ones.
	Pinned(ctx context.Context, root identity.Root) (*identity.Record, error)
	Pin(ctx context.Context, root identity.Root, record []byte) error

	// Unsettled lists the outbox rows that are neither delivered nor failed.
	Unsettled(ctx context.Context) ([]mailbox.Outgoing, error)
	// Text is the RFC 5322 message of a row as its recipient is to get it.
	Text(ctx context.Context, id MessageID) ([]byte, error)
	// Update changes a row.
	Update(ctx context.Context, id MessageID, f func(*mailbox.Outgoing)) error
	// Report tells the sender about a row by a DSN.
	Report(ctx context.Context, id MessageID, kind mail.Notify, why Reason) error
	// Drained says whether all that waited for the account at the time has
	// been collected and opened since.
	Drained(since time.Time) bool
}

// Reason is why a message is late or has failed.
type Reason struct {
	Status string // of a failure: enhanced status code (RFC 3463)
	Text   string
}

// The status codes of failures.
const (
	StatusTooLarge = "5.3.4" // for its recipient
	StatusExpired  = "5.4.7" // and was not confirmed
	StatusRefused  = "5.7.1" // by the recipient
)

// Config is what a courier is made of.
type Config struct {
	Dir     string // of the parcels
	Network Network
	Clock   *clock.Clock // what is sure of the time; nil believes the machine
	Log     *slog.Logger
}

// Courier carries the outgoing mail of one account.
type Courier struct {
	net     Network
	clock   *clock.Clock
	log     *slog.Logger
	parcels *journal.Log
	sealing chan struct{} // one place for each that may seal
	wake    chan struct{}

	mu       sync.Mutex
	account  Account   // nil while locked
	unlocked time.Time // when account was set, by the clock that only counts running time
	transits map[MessageID]*transit
	doubted  map[identity.Root]bool // whose hosts could not be reached
	ended    [2]map[MessageID]bool  // mail taken off the books since the last look for rows, and before that
	lanes    [3]lane                // of the small messages, of the large ones, and of receipts
	lasting  int                    // receipts that are carried until somebody has them
	refusals map[identity.Root]int  // of these, to each person
	resting  int64                  // bytes of sealed mail that transits have in memory
}

// New opens the parcels. Run carries them.
func New(cfg Config) (*Courier, error) {
	log, err := journal.Open(cfg.Dir, journal.Options{Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	c := &Courier{
		net: cfg.Network, clock: cfg.Clock, log: cfg.Log, parcels: log,
		wake:     make(chan struct{}, 1),
		lanes:    [3]lane{newLane(workers, memory), newLane(largeWork, largeMemory), newLane(receiptWork, receiptRoom)},
		sealing:  make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		transits: make(map[MessageID]*transit), doubted: make(map[identity.Root]bool), refusals: make(map[identity.Root]int),
		ended: [2]map[MessageID]bool{make(map[MessageID]bool)},
	}
	c.load(time.Now())
	return c, nil
}

// Close closes the parcels, after Run has returned.
func (c *Courier) Close() error { return c.parcels.Close() }

// Unlock gives the courier its account: the rows of the outbox join the
// transits, and the outcomes that were seen while locked reach the rows.
func (c *Courier) Unlock(ctx context.Context, a Account) error {
	rows, err := a.Unsettled(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	c.mu.Lock()
	known := make(map[MessageID]bool, len(rows))
	for _, row := range rows {
		known[row.MessageID] = true
		t := c.transits[row.MessageID]
		if t == nil {
			t = newMail(row)
			c.transits[row.MessageID] = t
		}
		c.adopt(t, row)
		if t.running { // without the account; it is tried again with it
			t.again = true
		} else {
			c.plan(t, now)
		}
	}
	for id, t := range c.transits {
		switch {
		case t.kind != sealed.KindMail || known[id]:
		case t.running: // settled before its parcel was freed; finish forgets it
			t.state = max(t.state, mailbox.Delivered)
			t.told = t.state
		default:
			c.forget(t)
		}
	}
	c.account, c.unlocked = a, now
	c.mu.Unlock()
	c.kick()
	return nil
}

// adopt fills t from its row. The mutex is held.
func (c *Courier) adopt(t *transit, row mailbox.Outgoing) {
	t.to, t.notify, t.accepted, t.expires, t.size = row.To, row.Notify, row.Accepted, row.Expires, row.Size
	if now := time.Now(); t.accepted.After(now.Add(identity.ClockTolerance)) { // by a clock that was wrong: nobody takes such a date
		t.accepted, t.expires = now, now.Add(Lifetime)
	}
	t.attempts = max(t.attempts, row.Attempts)
	t.begun = max(t.begun, row.Attempts)
	if row.State > t.state || row.State == t.state && t.replicas == 0 {
		t.state, t.replicas, t.wanted = row.State, row.Replicas, row.Wanted
	}
	if t.lastError == "" {
		t.lastError = row.LastError
	}
}

// Send takes up rows that were just accepted. What has ended since it was read
// from the outbox is left alone.
func (c *Courier) Send(rows ...mailbox.Outgoing) {
	now := time.Now()
	c.mu.Lock()
	for _, row := range rows {
		if c.transits[row.MessageID] != nil || c.ended[0][row.MessageID] || c.ended[1][row.MessageID] {
			continue
		}
		t := newMail(row)
		c.adopt(t, row)
		c.transits[row.MessageID] = t
		c.plan(t, now)
	}
	c.mu.Unlock()
	c.kick()
}

// SendReceipt sends a receipt. It is on disk only when it has to wait: a receipt
// that is lost is asked for again by the message that comes again, and the
// tombstone says most of it.
func (c *Courier) SendReceipt(id MessageID, to identity.Root, body []byte) {
	c.sendReceipt(id, to, body, nil)
}

// SendRefusal sends a receipt that says what no tombstone does. It is put on the
// disk before it goes, and carried until somebody else has it, or its recipient
// cannot be found. Then, or once it is on the disk, safe is called, which must
// not call the courier. When too many are carried it may be lost like another.
func (c *Courier) SendRefusal(id MessageID, to identity.Root, body []byte, safe func()) {
	c.sendReceipt(id, to, body, safe)
}

func (c *Courier) sendReceipt(id MessageID, to identity.Root, body []byte, safe func()) {
	now := time.Now()
	t := &transit{
		id: id, kind: sealed.KindReceipt, to: identity.Address{Root: to}, receipt: body,
		accepted: now, expires: now.Add(Lifetime), index: -1, lasting: safe != nil, safe: safe,
	}
	c.mu.Lock()
	c.book(t)
	c.plan(t, now)
	c.mu.Unlock()
	c.kick()
}

func (c *Courier) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Nudge tries at once what nobody has yet: the neighbourhood has changed.
func (c *Courier) Nudge() {
	c.advance(func(t *transit) bool { return t.state == mailbox.Accepted && t.attempts > 0 })
}

// PeerUp tries at once what waits for a recipient with that host.
func (c *Courier) PeerUp(p peer.ID) {
	c.advance(func(t *transit) bool {
		for _, h := range t.hosts {
			if peer.ID(h.Peer) == p {
				return t.attempts > 0 && t.handed.IsZero()
			}
		}
		return false
	})
}

// Heard tells that a person's roster of that generation was seen: what is
// sealed to older keys of theirs is sealed again.
func (c *Courier) Heard(root identity.Root, generation uint64) {
	c.advance(func(t *transit) bool {
		return t.to.Root == root && t.generation > 0 && t.generation < generation
	})
}

// advance brings the next attempt of some forward, but not to sooner than a
// while after the last one. One that is running is tried again after that too:
// it may have begun before the news.
func (c *Courier) advance(which func(*transit) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, t := range c.transits {
		if t.over() || !which(t) {
			continue
		}
		at := t.tried.Add(nudgeAfter)
		if at.Before(now) {
			at = now
		}
		switch {
		case t.running:
			t.again = true
		case t.index >= 0 && t.next.After(at):
			c.plan(t, at)
		}
	}
	c.kick()
}

// Waiting is a transit as the outbox shows it while it is under way.
type Waiting struct {
	State            mailbox.State
	Replicas, Wanted int
	Attempts         int // begun
	Next             time.Time
	LastError        string
	Accepted         time.Time
	Expires          time.Time
	Size             int64 // bytes sealed, 0 when not sealed yet
}

// Waiting tells what is under way, by message id.
func (c *Courier) Waiting() map[MessageID]Waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[MessageID]Waiting, len(c.transits))
	for id, t := range c.transits {
		if t.kind == sealed.KindMail {
			all[id] = Waiting{t.state, t.replicas, t.wanted, t.begun, t.next, t.lastError, t.accepted, t.expires, int64(t.outer.Size)}
		}
	}
	return all
}

// Run carries mail until ctx ends, and then makes parcels of what is sealed.
func (c *Courier) Run(ctx context.Context) error {
	var group sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	sweeps := 0
	for ctx.Err() == nil {
		t, wait := c.due(time.Now())
		if t == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
			case <-c.wake:
			case <-timer.C:
			case <-sweep.C:
				c.sweep(ctx)
				if sweeps++; sweeps%joinEvery == 0 {
					c.join(ctx)
				}
			}
			continue
		}
		group.Go(func() {
			defer c.leave(t)
			c.work(ctx, t)
		})
	}
	group.Wait()
	c.mu.Lock()
	left := make([]*transit, 0, len(c.transits))
	for _, t := range c.transits {
		if t.kind == sealed.KindMail && t.msg != nil {
			left = append(left, t)
		}
	}
	c.mu.Unlock()
	for _, t := range left {
		if err := c.keep(context.WithoutCancel(ctx), t); err != nil {
			c.log.Warn("a sealed message could not be kept", "err", err)
		}
	}
	return nil
}

// join takes up rows that came late to the outbox, as they do after a full disk.
func (c *Courier) join(ctx context.Context) {
	c.mu.Lock()
	a := c.account
	c.ended = [2]map[MessageID]bool{make(map[MessageID]bool), c.ended[0]}
	c.mu.Unlock()
	if a == nil {
		return
	}
	rows, err := a.Unsettled(ctx)
	if err != nil {
		c.log.Warn("the outbox could not be read", "err", err)
		return
	}
	c.Send(rows...)
}

// due takes the next transit whose time has come and for which there is a
// place, or says how long to wait unless a place gets free.
func (c *Courier) due(now time.Time) (*transit, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	soonest := time.Hour
	for i := range c.lanes {
		l := &c.lanes[i]
		if len(l.queue) == 0 || l.busy == l.places {
			continue
		}
		t := l.queue[0]
		if wait := t.next.Sub(now); wait > 0 {
			soonest = min(soonest, wait)
			continue
		}
		l.queue.drop(t)
		l.busy++
		t.running, t.tried = true, now
		return t, 0
	}
	return nil, soonest
}

// leave frees the place of an attempt.
func (c *Courier) leave(t *transit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lane(t).busy--
	c.kick()
}

// finish ends an attempt and plans the next.
func (c *Courier) finish(t *transit, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.running = false
	switch {
	case t.over() && (t.told == t.state || t.kind != sealed.KindMail):
		c.forget(t)
	case t.over() && c.account == nil: // the parcel stays until the outbox can be told
	case t.kind == sealed.KindReceipt && t.attempts >= tries && (!t.lasting || t.state == mailbox.Replicated):
		c.forget(t)
	case t.kind == sealed.KindReceipt && t.unfound >= tries: // there may be no such person
		c.forget(t)
	default:
		if soon := time.Now().Add(nudgeAfter); t.again && next.After(soon) {
			next = soon
		}
		t.again = false
		c.plan(t, next)
		c.kick()
	}
}

// book takes t onto the books. A receipt that should last does so while there are
// not too many: whoever has mail refused decides how many there are. The mutex is
// held, or nobody else has c yet.
func (c *Courier) book(t *transit) {
	c.transits[t.id] = t
	if t.kind != sealed.KindReceipt || !t.lasting {
		return
	}
	root := t.to.Root // zero from before a restart
	if c.lasting >= maxRefusals || !root.IsZero() && c.refusals[root] >= refusalsTo {
		t.lasting = false
		return
	}
	c.lasting++
	c.refusals[root]++
}

// unbook undoes book. The mutex is held, or nobody else has c yet.
func (c *Courier) unbook(t *transit) {
	c.drop(t)
	c.discard(t)
	delete(c.transits, t.id)
	if t.kind != sealed.KindReceipt || !t.lasting {
		return
	}
	c.lasting--
	if c.refusals[t.to.Root]--; c.refusals[t.to.Root] == 0 {
		delete(c.refusals, t.to.Root)
	}
}

// forget takes t off the books for good. The mutex is held.
func (c *Courier) forget(t *transit) {
	c.unbook(t)
	if t.kind == sealed.KindMail {
		c.ended[0][t.id] = true
	}
	if t.safe != nil { // nobody waits for it in vain
		t.safe()
		t.safe = nil
	}
}

// work makes one attempt, and survives a defect of its own.
func (c *Courier) work(ctx context.Context, t *transit) {
	next := time.Now().Add(backoff(4, false))
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("an attempt panicked", "panic", p)
		}
		c.rest(ctx, t)
		c.assure(t)
		c.finish(t, next)
	}()
	wait, err := c.attempt(ctx, t)
	if err != nil && !errors.Is(err, context.Canceled) {
		c.log.Debug("an attempt failed", "err", err)
	}
	next = time.Now().Add(wait)
}
