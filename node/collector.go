package node

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/node/host"
	"github.com/peerpost/peerpost/store"
)

// The times of collection (design 7).
const (
	CollectEvery = 30 * time.Minute // a round over all inboxes, ±10 %
	collectSoon  = 5 * time.Second  // at least this between two rounds that were asked for
	collectFresh = 5 * time.Minute  // after a whole round a change among the neighbours is no reason for another
	collectTime  = 10 * time.Minute // for one round
	rewatch      = 20 * time.Second // before a watch that ended is begun again
	rechoose     = 10 * time.Minute // before other holders are looked for, should nothing have changed
	buryEvery    = 2 * time.Second  // tombstones are gathered for that long
)

// watchers is how many holders of an inbox are watched at once. Each of them
// names new mail at once, so that one that stays silent does not matter.
const watchers = 4

// collect asks the holders for what waits, at the start, every half hour, and
// when something gives reason to; between the rounds it watches.
func (a *account) collect(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	a.network.joined(ctx) // else the first round finds nobody, and the next is a while after
	group.Go(func() { a.watch(ctx) })
	a.rounds(ctx, a.network.drop.Collect)
}

// collector is store.Client.Collect.
type collector func(
	ctx context.Context, keys []store.FetchKey,
	have func(sealed.ID) bool, accept func(context.Context, *sealed.Message, peer.ID) error,
) (store.CollectReport, error)

// rounds makes one round of collection after the other.
func (a *account) rounds(ctx context.Context, collect collector) {
	pause, shortages := time.Duration(0), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-a.collectNow:
			select { // what asks once will ask again soon
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
		started := time.Now()
		whole, lacking := a.round(ctx, collect)
		pause = CollectEvery - CollectEvery/10 + rand.N(CollectEvery/5)
		if whole {
			a.mu.Lock()
			a.collected = started
			a.mu.Unlock()
			shortages = 0
		} else if lacking {
			pause = min(pause, time.Minute<<min(shortages, 5))
			shortages++
		} else if ctx.Err() == nil {
			pause = time.Minute // nobody was there to be asked
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(collectSoon):
		}
	}
}

// round collects everything once. It reports whether enough holders answered,
// and whether there is no room for what they have. Then the round ends at once,
// for whatever else came would be thrown away. An unlocked account looks a last
// time into the inboxes whose keys no message can need any more, and then
// destroys those keys.
func (a *account) round(ctx context.Context, collect collector) (whole, lacking bool) {
	ctx, cancel := context.WithTimeout(ctx, collectTime)
	defer cancel()
	now := time.Now()
	live := a.inboxes(now)
	asked := maps.Clone(live)
	o := a.opened()
	if o != nil {
		for _, in := range o.expired(now) {
			asked[in.key.Inbox] = in
		}
	}
	keepers := a.network.met(a.vault.Keepers())
	var keys []store.FetchKey
	for _, k := range asked {
		k.key.Keepers = keepers
		keys = append(keys, k.key)
	}
	var mu sync.Mutex
	var lack error
	short := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if lack == nil {
			lack = err
		}
		cancel()
	}
	known := func(id sealed.ID) bool {
		if a.known(id) {
			return true
		}
		if a.incoming.crowded() {
			short(errFull)
			return true
		}
		return false
	}
	report, err := collect(ctx, keys, known, func(ctx context.Context, m *sealed.Message, from peer.ID) error {
		err := a.take(ctx, m, from)
		if noRoom(err) {
			short(err)
		}
		return err
	})
	a.mu.Lock()
	before := a.lacking
	a.lacking = lack
	a.mu.Unlock()
	if lack != nil && before == nil {
		a.log.Warn("there is no room for the mail that waits with holders", "err", lack)
	}
	if err != nil { // one slow holder does not spoil what the others answered
		a.log.Debug("collecting came to no end", "err", err)
	}
	if report.Fetched > 0 {
		a.log.Info("mail collected", "messages", report.Fetched, "holders", report.Answered)
	}
	if lack != nil {
		return false, true
	}
	if o != nil {
		a.destroyKeys(o, now, report)
	}
	for _, r := range report.Inboxes {
		if _, ok := live[r.Inbox]; ok && !r.Complete() {
			return false, false
		}
	}
	return report.Holders > 1, false // asking oneself alone is not asking
}

func noRoom(err error) bool { return errors.Is(err, errFull) || journal.IsFull(err) }

// lacks says whether the last round had no room.
func (a *account) lacks() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lacking != nil
}

// roomAgain asks for a round when opened mail has made the room that was lacking.
func (a *account) roomAgain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(a.lacking, errFull) && !a.incoming.crowded() {
		a.lacking = nil
		wakeUp(a.collectNow)
	}
}

// expired lists the inboxes whose keys may be destroyed after a look into them.
func (o *open) expired(now time.Time) []inbox {
	var list []inbox
	for _, in := range o.keys.Expired(now) {
		if s, e, ok := o.keys.SecretsByInbox(in); ok {
			key := store.FetchKey{Inbox: in, Key: s.Fetch, Delete: s.Public().Delete}
			list = append(list, inbox{e, e == identity.FallbackEpoch, key})
		}
	}
	return list
}

// destroyKeys destroys the keys that had expired when a round began and into
// whose inboxes it had a whole look, unless a message that is not opened yet
// names them. That others answered shows that our clock does not run ahead:
// they take no proof that is dated a day from now.
func (a *account) destroyKeys(o *open, began time.Time, report store.CollectReport) {
	for _, in := range o.expired(began) {
		i := slices.IndexFunc(report.Inboxes, func(r store.InboxReport) bool { return r.Inbox == in.key.Inbox })
		if i < 0 || !report.Inboxes[i].Complete() || report.Inboxes[i].Answered < 2 || a.incoming.names(in.key.Inbox) {
			continue
		}
		if o.keys.Destroy(in.key.Inbox) {
			o.unsaved = true
			a.log.Info("old keys destroyed", "epoch", in.epoch)
		}
	}
	if !o.unsaved {
		return
	}
	if err := a.save(o.keys); err != nil { // they are still on the disk; the next round tries again
		a.log.Error("the destruction of old keys could not be made durable", "err", err)
		return
	}
	o.unsaved = false
}

// neighboursChanged asks for a round when the last whole one was some time ago:
// who is here now may hold what nobody had before.
func (a *account) neighboursChanged() {
	a.mu.Lock()
	recent, lacking := time.Since(a.collected) < collectFresh, a.lacking != nil
	a.mu.Unlock()
	if !recent && !lacking {
		wakeUp(a.collectNow)
	}
}

// take puts a collected message on the disk.
func (a *account) take(ctx context.Context, m *sealed.Message, _ peer.ID) error {
	return a.incoming.accept(ctx, m, "")
}

// known says whether a message that a holder names is here already. One that
// was opened has no reason to wait with a holder any longer.
func (a *account) known(id sealed.ID) bool {
	if outer, ok := a.incoming.opened(id); ok {
		a.entomb(outer)
		return true
	}
	return a.incoming.has(id)
}

// watch keeps streams open on which holders name new mail.
func (a *account) watch(ctx context.Context) {
	w := &watches{of: make(map[peer.ID]watching), ended: make(chan struct{}, 1), lasting: a.hasKeeper}
	defer w.group.Wait()
	changed := a.network.changed(ctx)
	for {
		chosen, whole := a.toWatch(ctx)
		w.choose(ctx, chosen, whole, func(ctx context.Context, p peer.ID, keys []store.FetchKey) {
			err := a.network.drop.Watch(host.Standing(ctx), p, keys, func(inbox identity.Inbox, ids []sealed.ID) {
				a.fetch(ctx, p, keys, inbox, ids)
			})
			if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				a.log.Debug("a watch ended", "holder", p, "err", err)
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(rechoose):
			continue
		case <-changed:
		case <-w.ended:
		}
		select { // changes come in swarms
		case <-ctx.Done():
			return
		case <-time.After(rewatch):
		}
	}
}

// watches is the holders that are watched.
type watches struct {
	group sync.WaitGroup
	ended chan struct{} // one of them, whose place another may take

	lasting func(peer.ID) bool // no other takes its place, and it may be off for long

	mu sync.Mutex
	of map[peer.ID]watching
}

type watching struct {
	keys []store.FetchKey
	end  context.CancelFunc
	vain bool // choose ended it, to choose again
}

// choose begins to watch holders, by run, and ends what is watched in vain: a
// holder with other inboxes than those wanted now, which begins again when it
// has ended, and, when the choice is whole, one that is not among the chosen.
func (w *watches) choose(ctx context.Context, chosen map[peer.ID][]store.FetchKey, whole bool, run func(context.Context, peer.ID, []store.FetchKey)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, old := range w.of {
		if keys, ok := chosen[p]; ok && !covers(old.keys, keys) || !ok && whole {
			old.vain = true
			w.of[p] = old
			old.end()
		}
	}
	for p, keys := range chosen {
		if _, busy := w.of[p]; busy {
			continue
		}
		ctx, end := context.WithCancel(ctx)
		w.of[p] = watching{keys: keys, end: end}
		w.group.Go(func() {
			defer func() {
				end()
				w.mu.Lock()
				vain := w.of[p].vain
				delete(w.of, p)
				w.mu.Unlock()
				if vain || !w.lasting(p) {
					wakeUp(w.ended)
				}
			}()
			run(ctx, p, keys)
		})
	}
}

// covers says whether all inboxes of want are among those of have.
func covers(have, want []store.FetchKey) bool {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(h store.FetchKey) bool { return h.Inbox == w.Inbox }) {
			return false
		}
	}
	return true
}

// toWatch chooses holders for the inboxes of this week and the next, and the
// fallback: some of the nearest, and the keepers. It is whole when the nearest
// could be looked up for all of these.
func (a *account) toWatch(ctx context.Context) (chosen map[peer.ID][]store.FetchKey, whole bool) {
	now := identity.EpochAt(time.Now())
	keepers := a.network.met(a.vault.Keepers())
	chosen, whole = make(map[peer.ID][]store.FetchKey), true
	for _, k := range a.inboxes(time.Now()) {
		if !k.fallback && (k.epoch+1 < now || k.epoch > now+1) {
			continue
		}
		near, err := a.network.near.Nearest(ctx, store.DropKey(k.key.Inbox), store.Copies)
		if err != nil || len(near) == 0 {
			near, whole = nil, false
		}
		near = slices.Clip(near[:min(len(near), watchers)])
		for _, p := range keepers {
			if !slices.Contains(near, p) {
				near = append(near, p)
			}
		}
		for _, p := range near {
			chosen[p] = append(chosen[p], k.key)
		}
	}
	return chosen, whole
}

// fetch gets what one holder has just named; the rounds find whatever this misses.
func (a *account) fetch(ctx context.Context, holder peer.ID, keys []store.FetchKey, inbox identity.Inbox, ids []sealed.ID) {
	ids = slices.DeleteFunc(ids, a.known)
	i := slices.IndexFunc(keys, func(k store.FetchKey) bool { return k.Inbox == inbox })
	if len(ids) == 0 || i < 0 || a.lacks() {
		return
	}
	if a.incoming.crowded() { // a round notes it
		wakeUp(a.collectNow)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, collectTime)
	defer cancel()
	if _, err := a.network.drop.Get(ctx, holder, keys[i], ids, a.take); err != nil && ctx.Err() == nil {
		a.log.Debug("fetching failed", "holder", holder, "err", err)
		wakeUp(a.collectNow)
	}
}

// entomb plans the deletion of an opened message at the holders.
func (a *account) entomb(outer sealed.Outer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := outer.ID()
	if _, yes := a.withheld[id]; yes {
		a.withheld[id] = true
		return
	}
	items := a.tombs[outer.Inbox]
	for _, it := range items {
		if it.ID == [32]byte(id) {
			return
		}
	}
	a.tombs[outer.Inbox] = append(items, identity.TombstoneItem{ID: id, Expiry: outer.Expiry})
}

// withhold puts the deletion of a message off until release.
func (a *account) withhold(outer sealed.Outer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id := outer.ID(); !a.withheld[id] {
		a.withheld[id] = false
	}
}

// release lets a message be deleted, and plans it when it was put off.
func (a *account) release(outer sealed.Outer) {
	a.mu.Lock()
	planned := a.withheld[outer.ID()]
	delete(a.withheld, outer.ID())
	a.mu.Unlock()
	if planned {
		a.entomb(outer)
	}
}

// bury signs tombstones and hands them to the holders. Only an unlocked
// account can; and only what was opened and filed is ever planned.
func (a *account) bury(ctx context.Context) {
	tick := time.NewTicker(buryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		o := a.opened()
		if o == nil {
			continue
		}
		a.mu.Lock()
		tombs := a.tombs
		a.tombs = make(map[identity.Inbox][]identity.TombstoneItem)
		a.mu.Unlock()
		for inbox, items := range tombs {
			secrets, _, ok := o.keys.SecretsByInbox(inbox)
			if !ok {
				continue
			}
			for len(items) > 0 {
				n := min(len(items), identity.MaxTombstoneItems)
				a.delete(ctx, secrets, items[:n])
				items = items[n:]
			}
		}
	}
}

func (a *account) delete(ctx context.Context, secrets *identity.Secrets, items []identity.TombstoneItem) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tomb := identity.SignTombstone(secrets.Delete, identity.Tombstone{
		Fetch: secrets.Public().Fetch, Time: time.Now().Unix(), Items: items,
	})
	if _, err := a.network.drop.Delete(ctx, tomb, a.network.met(a.vault.Keepers())...); err != nil && ctx.Err() == nil { // the next round lists them again
		a.log.Debug("deleting at the holders failed", "err", err)
	}
}
