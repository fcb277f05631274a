package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/courier"
	"github.com/peerpost/peerpost/store"
)

var (
	errFull     = &store.Refusal{Code: store.CodeCapacity, Text: "too much mail waits for this account to be unlocked"}
	errNotOurs  = &store.Refusal{Code: store.CodeUnknownInbox, Text: "no account here has this inbox"}
	errNoRecord = errors.New("the account has not signed a record yet")
)

// account is one person on this node. It is locked from the start of the node
// until the first login: it collects, keeps and delivers what is sealed.
// Unlocked, it has keys and mailbox too.
type account struct {
	home     home
	dir      string
	address  identity.Address
	vault    *identity.Vault
	network  *network
	incoming *incoming
	courier  *courier.Courier
	clock    *clock.Clock
	log      *slog.Logger

	collectNow chan struct{} // asks the collector for a round
	publishNow chan struct{} // asks the publisher for a new record

	unlocking sync.Mutex // one unlock at a time
	logins    logins

	forks atomic.Int64 // alarms: persons with two records of one sequence

	mu        sync.Mutex
	open      *open // nil while locked
	life      context.Context
	group     *sync.WaitGroup
	unlocked  chan struct{} // closed by unlock
	record    []byte        // as last published
	problem   string        // what the owner has to mend; "" for none
	keys      map[identity.Inbox]inbox
	keysOf    identity.Epoch // the week of keys
	collected time.Time      // start of the last whole round of collection
	lacking   error          // why the last round had no room for what waits; nil when it had
	tombs     map[identity.Inbox][]identity.TombstoneItem
	withheld  map[sealed.ID]bool // not to be deleted yet; whether it is to be
}

// open is what an unlocked account has.
type open struct {
	keys     *identity.Keyring
	box      *mailbox.Mailbox
	receipts *receipts
	unsaved  bool // keys were destroyed and are still on the disk; the collector's

	mu      sync.Mutex
	told    map[identity.Root]identity.Epoch   // who has had our record of which week
	records map[identity.Root]*identity.Record // read lately
	pins    uint64                             // how often one was pinned
}

func openAccount(h home, root identity.Root, n *network, work int, log *slog.Logger) (*account, error) {
	dir := h.account(root)
	vault, err := identity.OpenVault(dir, vaultOptions(work)...)
	if err != nil {
		return nil, fmt.Errorf("open the keys of an account: %w", err)
	}
	a := &account{
		home: h, dir: dir, vault: vault, network: n,
		address:    identity.Address{Local: vault.Local(), Root: root},
		log:        log.With("account", root.Label()[:8]),
		collectNow: make(chan struct{}, 1), publishNow: make(chan struct{}, 1),
		unlocked: make(chan struct{}),
		tombs:    make(map[identity.Inbox][]identity.TombstoneItem),
		withheld: make(map[sealed.ID]bool),
	}
	if a.incoming, err = openIncoming(dir+"/incoming", a.log); err != nil {
		return nil, err
	}
	if n != nil {
		a.clock = n.clock
	}
	a.courier, err = courier.New(courier.Config{Dir: dir + "/outgoing", Network: n, Clock: a.clock, Log: a.log})
	if err != nil {
		return nil, errors.Join(err, a.incoming.close())
	}
	return a, nil
}

// run lives the account's life until ctx ends.
func (a *account) run(ctx context.Context) {
	var group sync.WaitGroup
	a.mu.Lock()
	a.life, a.group = ctx, &group
	if o := a.open; o != nil { // it was made unlocked, before the node ran
		a.start(ctx, o)
	}
	a.mu.Unlock()
	for _, part := range []func(context.Context){
		func(ctx context.Context) { _ = a.courier.Run(ctx) }, a.collect, a.publish, a.bury,
	} {
		group.Go(func() { part(ctx) })
	}
	<-ctx.Done()
	a.unlocking.Lock() // an unlock that is under way adds its goroutines first
	a.mu.Lock()
	a.life = nil
	a.mu.Unlock()
	a.unlocking.Unlock()
	group.Wait()
}

// start runs the parts that an unlocked account has. The mutex is held.
func (a *account) start(ctx context.Context, o *open) {
	a.group.Go(func() {
		if err := o.box.Run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("the mailbox stopped", "err", err)
		}
	})
	a.group.Go(func() { a.openAll(ctx, o) })
	a.group.Go(func() { o.receipts.run(ctx) })
}

// close closes what run used, after it has returned.
func (a *account) close() error {
	a.mu.Lock()
	o := a.open
	a.open = nil
	a.mu.Unlock()
	err := errors.Join(a.courier.Close(), a.incoming.close())
	if o != nil {
		err = errors.Join(err, o.box.Close())
	}
	a.vault.Lock()
	return err
}

// opened gives the unlocked part, nil while locked.
func (a *account) opened() *open {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// enter checks an app password. Its errors are mail.ErrCredentials,
// mail.ErrThrottled and those of the disk.
func (a *account) enter(ctx context.Context, password string) (keys *identity.Keyring, name string, err error) {
	keys, name, err = a.vault.Unlock(ctx, password)
	switch {
	case errors.Is(err, identity.ErrPassword):
		return nil, "", mail.ErrCredentials
	case errors.Is(err, identity.ErrBusy):
		return nil, "", mail.ErrThrottled
	case err != nil:
		return nil, "", fmt.Errorf("open the keys: %w", err)
	}
	return keys, name, nil
}

// unlock checks an app password, and opens the account if it is not open yet.
// It returns the name of the password too. Its errors are those of enter.
func (a *account) unlock(ctx context.Context, password string) (*open, string, error) {
	keys, name, err := a.enter(ctx, password)
	if err != nil {
		return nil, "", err
	}
	if o := a.opened(); o != nil {
		return o, name, nil
	}
	o, err := a.unlockWith(ctx, keys)
	return o, name, err
}

func (a *account) unlockWith(ctx context.Context, keys *identity.Keyring) (*open, error) {
	a.unlocking.Lock()
	defer a.unlocking.Unlock()
	if o := a.opened(); o != nil {
		return o, nil
	}
	_ = a.roll(keys, time.Now()) // a full disk is no reason to keep the owner from the mail; the publisher tries again
	box, err := mailbox.Open(ctx, mailbox.Config{
		Dir: a.dir + "/mailbox", Keys: keys, MaxMessage: sealed.MaxMessage + maxHeading, Clock: a.clock, Log: a.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the mailbox: %w", err)
	}
	o := &open{keys: keys, box: box, told: make(map[identity.Root]identity.Epoch), records: make(map[identity.Root]*identity.Record)}
	o.receipts = newReceipts(a)
	if err := a.courier.Unlock(ctx, &outbox{a, o}); err != nil {
		return nil, errors.Join(fmt.Errorf("open the outbox: %w", err), box.Close())
	}
	a.mu.Lock()
	a.open = o
	if a.life != nil {
		a.start(a.life, o)
	}
	close(a.unlocked)
	a.mu.Unlock()
	a.log.Info("account unlocked")
	wakeUp(a.publishNow)
	wakeUp(a.collectNow)
	return o, nil
}

// inbox is one inbox of the account with the key to fetch from it.
type inbox struct {
	epoch    identity.Epoch
	fallback bool
	key      store.FetchKey
}

// inboxes lists the inboxes of the account around now. Making the keys costs a
// third of a millisecond, so they are kept for the week.
func (a *account) inboxes(now time.Time) map[identity.Inbox]inbox {
	week := identity.EpochAt(now)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys == nil || a.keysOf != week {
		a.keys, a.keysOf = make(map[identity.Inbox]inbox), week
		for _, k := range a.vault.FetchKeys(now) {
			a.keys[k.Inbox()] = inbox{k.Epoch, k.Fallback, store.FetchKey{Inbox: k.Inbox(), Key: k.Key, Delete: k.Delete}}
		}
	}
	return a.keys
}

// roll brings the keys up to date, and the disk to what they are: what could
// not be written, or was written by a clock that was wrong, is written now.
// While it fails no record is signed, so that none names keys that a crash
// would take.
func (a *account) roll(keys *identity.Keyring, now time.Time) error {
	keys.Roll(now)
	if a.vault.Saved(keys, now) {
		return nil
	}
	err := a.save(keys)
	if err != nil {
		a.log.Error("the keys could not be saved, it will be tried again", "err", err)
	}
	return err
}

// save writes the keys, which may have brought new inboxes.
func (a *account) save(keys *identity.Keyring) error {
	a.relist()
	if err := a.vault.Save(keys); err != nil {
		return fmt.Errorf("save the keys: %w", err)
	}
	return nil
}

// relist has the inboxes listed anew.
func (a *account) relist() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = nil
}

// owns says whether a message is for an inbox of the account.
func (a *account) owns(o sealed.Outer, now time.Time) bool {
	_, ok := a.inboxes(now)[o.Inbox]
	return ok
}

func (a *account) status() (locked bool, messages, unseen, waiting int) {
	waiting = a.incoming.waiting()
	o := a.opened()
	if o == nil {
		return true, 0, 0, waiting
	}
	messages, unseen = o.box.Counts()
	return false, messages, unseen, waiting
}

func wakeUp(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
