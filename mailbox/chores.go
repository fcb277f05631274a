package mailbox

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

const (
	// checkpointPages is how many pages the write-ahead log may hold before they are copied into the database.
	checkpointPages = 2000
	// checkpointAlonePages is the same when nobody runs the chores and a writer has to stop for it.
	checkpointAlonePages = 6000

	lookEvery  = 10 * time.Minute // for folders to forget and for what failed before
	pruneEvery = 24 * time.Hour

	// markKeep is how much longer than its expiry a message that came in is remembered: a sender tries until
	// three days after it, and clocks differ.
	markKeep = 40 // days
	// historyKeep is how long the outbox shows what is settled.
	historyKeep = 60 * 24 * time.Hour

	collectBatch = 64 // dead contents in one transaction
)

// chores is the work that nobody waits for.
type chores struct {
	running atomic.Int32 // Runs that are under way
	wal     atomic.Int64 // pages in the write-ahead log

	// Each has a value when there is something to do.
	spool, index, collect, checkpoint chan struct{}
}

func newChores() chores {
	c := func() chan struct{} { return make(chan struct{}, 1) }
	return chores{spool: c(), index: c(), collect: c(), checkpoint: c()}
}

// Run does the work that nobody waits for, until ctx ends: it makes files of
// what the journal holds, indexes text for search, removes what nothing
// refers to. A mailbox without Run is whole, but its journal grows.
func (m *Mailbox) Run(ctx context.Context) error {
	if !m.begin() {
		return errClosed
	}
	defer m.end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.chores.running.Add(1)
	defer m.chores.running.Add(-1)
	var wg sync.WaitGroup
	for _, f := range []func(context.Context){m.runSpool, m.runIndex, m.runUpkeep} {
		wg.Go(func() { f(ctx) })
	}
	select {
	case <-ctx.Done():
	case <-m.closing:
		cancel()
	}
	wg.Wait()
	return nil
}

// chore runs one piece of work and logs why it failed.
func (m *Mailbox) chore(ctx context.Context, what string, f func() error) bool {
	err := m.guard(f)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errClosed) {
		m.log.Error("mailbox chore failed", "chore", what, "error", err)
	}
	return err == nil
}

// runUpkeep keeps the log short and removes what is no longer needed.
func (m *Mailbox) runUpkeep(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	poke(m.chores.collect) // what the last run left
	m.retryAccepts()
	pruned := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.chores.collect:
			m.chore(ctx, "collect", func() error { return m.collect(ctx) })
		case <-m.chores.checkpoint:
			m.chore(ctx, "checkpoint", func() error {
				return m.read(ctx, func(c *pages.Conn) error { return c.Checkpoint() })
			})
		case now := <-look.C:
			m.chore(ctx, "forget", func() error { return errors.Join(m.forget(ctx, now), m.readers.trim()) })
			if now.Sub(pruned) >= pruneEvery {
				if m.chore(ctx, "prune", func() error { return m.prune(ctx, m.clock.Sure()) }) {
					pruned = now
				}
			}
			m.chore(ctx, "set room aside", m.reserve.fill)
			m.retryAccepts()
			poke(m.chores.collect)
			poke(m.chores.spool)
			poke(m.chores.index)
		}
	}
}

// logGrew is told after each commit how many pages the write-ahead log holds.
func (m *Mailbox) logGrew(pages int) {
	m.chores.wal.Store(int64(pages))
	if pages >= checkpointPages {
		poke(m.chores.checkpoint)
	}
}

// checkpointAlone bounds the write-ahead log when nobody runs the chores. The caller has the turn.
func (m *Mailbox) checkpointAlone() {
	if m.chores.running.Load() == 0 && m.chores.wal.Load() >= checkpointAlonePages {
		if err := m.writer.conn.Checkpoint(); err != nil {
			m.log.Warn("checkpoint failed", "error", err)
		}
	}
}

// filed is told of each content that the index knows since the last commit.
func (m *Mailbox) filed(c *content) {
	if c.inJournal() {
		m.backlog.add(c.sealed)
		poke(m.chores.spool)
	}
	m.text.filed(c.id)
	poke(m.chores.index)
}

// collect removes contents that nothing refers to, with their files.
func (m *Mailbox) collect(ctx context.Context) error {
	after := int64(0)
	for {
		var dead []content
		err := m.read(ctx, func(c *pages.Conn) error {
			dead = dead[:0]
			return c.Query("SELECT "+contentColumns+" FROM content WHERE refs=0 AND id>? ORDER BY id LIMIT ?", []any{after, collectBatch},
				func(r *pages.Row) error {
					x, err := scanContent(r)
					if err != nil {
						return err
					}
					dead = append(dead, x)
					return nil
				})
		})
		if err != nil || len(dead) == 0 {
			return err
		}
		after = dead[len(dead)-1].id
		var gone []content
		err = m.writeFreeing(ctx, func(t *tx) error {
			gone = gone[:0]
			for _, x := range dead {
				if m.pins.has(x.id) {
					continue
				}
				// The row may have changed since: what was read is only a hint.
				var now content
				var serr error
				found, err := t.c.Get("SELECT "+contentColumns+" FROM content WHERE id=? AND refs=0", []any{x.id},
					func(r *pages.Row) { now, serr = scanContent(r) })
				if err = errors.Join(err, serr); err != nil {
					return err
				}
				if !found {
					continue
				}
				for _, table := range []string{"DELETE FROM content WHERE id=?", "DELETE FROM heading WHERE content=?", "DELETE FROM header WHERE content=?"} {
					if err := t.c.Exec(table, x.id); err != nil {
						return err
					}
				}
				gone = append(gone, now)
			}
			// The numbers they had are not given again.
			return t.setMeta("content", t.content)
		})
		if err != nil {
			return err
		}
		for i := range gone {
			m.heads.forget(gone[i].id)
			m.recent.forget(gone[i].name)
			m.drop(&gone[i])
		}
	}
}

// prune forgets what has been remembered long enough. What was seen once is filed again when it is forgotten too soon,
// so now is a time that is sure to have come.
func (m *Mailbox) prune(ctx context.Context, now time.Time) error {
	err := m.write(ctx, func(t *tx) error {
		return t.c.Exec("DELETE FROM mark WHERE expiry<?", int64(identity.DayAt(now))-markKeep)
	})
	if err != nil {
		return err
	}
	err = m.write(ctx, func(t *tx) error {
		old := now.Add(-historyKeep).UnixMilli()
		if err := t.c.Exec(`DELETE FROM outgoing WHERE submission IN (SELECT id FROM submission WHERE open=0 AND accepted<?)
			AND submission NOT IN (SELECT submission FROM outgoing WHERE settled>=?)`, old, old); err != nil {
			return err
		}
		return t.c.Exec("DELETE FROM submission WHERE open=0 AND accepted<? AND id NOT IN (SELECT submission FROM outgoing)", old)
	})
	if err != nil {
		return err
	}
	return m.tidyText(ctx)
}

// pins are the contents that somebody has open: they are not collected.
type pins struct {
	mu   sync.Mutex
	open map[int64]int
}

func (p *pins) add(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[int64]int)
	}
	p.open[id]++
}

func (p *pins) remove(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[id]--; p.open[id] == 0 {
		delete(p.open, id)
	}
}

func (p *pins) has(id int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[id] > 0
}
