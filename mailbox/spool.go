package mailbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

const (
	// spoolQuiet is how long nothing must have been filed before files are made of what is in the journal: making
	// them is slow (1 to 4 ms each on some disks) and would be in the way.
	spoolQuiet = 2 * time.Second
	// spoolBytes and spoolCount are how much may wait in the journal regardless.
	spoolBytes = 256 << 20
	spoolCount = 16384
	// spoolBatch is how many files share the syncs of their directory and of the index.
	spoolBatch = 64
	// spoolWriters is how many files are written at once.
	spoolWriters = 2
)

// backlog is what waits in the journal to become files.
type backlog struct {
	mu    sync.Mutex
	count int
	bytes int64
	last  time.Time
}

func (b *backlog) add(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	b.bytes += bytes
	b.last = time.Now()
}

// take takes off what was counted up to now.
func (b *backlog) take(count int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count = max(0, b.count-count)
	b.bytes = max(0, b.bytes-bytes)
}

func (b *backlog) counted() (count int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count, b.bytes
}

// wait tells how long to leave the journal alone; false when it is empty.
func (b *backlog) wait(now time.Time) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.count <= 0:
		return 0, false
	case b.bytes >= spoolBytes || b.count >= spoolCount:
		return 0, true
	}
	return max(0, b.last.Add(spoolQuiet).Sub(now)), true
}

// runSpool makes files of what is in the journal.
func (m *Mailbox) runSpool(ctx context.Context) {
	for {
		d, some := m.backlog.wait(time.Now())
		switch {
		case !some:
			select {
			case <-ctx.Done():
				return
			case <-m.chores.spool:
			}
		case d > 0:
			t := time.NewTimer(d)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
		default:
			if !m.chore(ctx, "spool", func() error { return m.spool(ctx) }) {
				// The disk may be full: runUpkeep tries again.
				select {
				case <-ctx.Done():
					return
				case <-m.chores.spool:
				}
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// spool makes files of the oldest contents in the journal. A file is on the
// disk under its name before the index points to it, and the index does before
// the record is freed, so the bytes are in one place at least at any instant.
func (m *Mailbox) spool(ctx context.Context) error {
	select { // one at a time
	case m.spooling <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.spooling }()
	count, bytes := m.backlog.counted()
	var batch []content
	upto := int64(0)
	err := m.read(ctx, func(c *pages.Conn) error {
		return c.Query("SELECT "+contentColumns+" FROM content WHERE ref IS NOT NULL AND id>? ORDER BY id LIMIT ?",
			[]any{m.spooled, spoolBatch}, func(r *pages.Row) error {
				x, err := scanContent(r)
				batch, upto = append(batch, x), x.id
				return err
			})
	})
	if err != nil {
		return err
	}
	if upto == 0 { // what was counted has been deleted
		m.backlog.take(count, bytes)
		return nil
	}
	written, err := m.writeFiles(ctx, batch)
	if err != nil {
		return err
	}
	moved, gone := make([]bool, len(batch)), make([]bool, len(batch))
	err = m.write(ctx, func(t *tx) error {
		for i, x := range batch {
			if !written[i] {
				continue
			}
			if err := t.c.Exec("UPDATE content SET ref=NULL WHERE id=? AND ref=?", x.id, refBytes(x.ref)); err != nil {
				return err
			}
			if moved[i] = t.c.Changes() > 0; moved[i] {
				continue
			}
			n, err := t.c.Int("SELECT count(*) FROM content WHERE id=?", x.id)
			if err != nil {
				return err
			}
			gone[i] = n == 0 // collected meanwhile
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.spooled, bytes = upto, 0
	for i, x := range batch {
		bytes += x.sealed
		switch {
		case moved[i]:
			m.journal.Free(x.ref)
		case gone[i]:
			m.unlink(x.name)
		}
	}
	m.backlog.take(len(batch), bytes)
	return nil
}

// writeFiles makes the files of a batch last. What the journal has lost is not written; that has been logged.
func (m *Mailbox) writeFiles(ctx context.Context, batch []content) (written []bool, err error) {
	written = make([]bool, len(batch))
	errs := make([]error, len(batch))
	dirs := make(map[string]bool)
	for _, x := range batch {
		path := x.name.path(m.dir)
		if dir := filepath.Dir(path); !dirs[dir] {
			dirs[dir] = true
			if err := m.makeMessageDir(ctx, path); err != nil {
				return nil, err
			}
		}
	}
	var wg sync.WaitGroup
	for k := range spoolWriters {
		wg.Go(func() {
			for i := k; i < len(batch) && ctx.Err() == nil; i += spoolWriters {
				errs[i] = m.guard(func() (err error) {
					written[i], err = m.writeFile(&batch[i])
					return err
				})
			}
		})
	}
	wg.Wait()
	err = errors.Join(errs...)
	if err == nil {
		err = ctx.Err()
	}
	for dir := range dirs {
		if err == nil {
			err = durable.SyncDir(dir)
		}
	}
	if err != nil {
		// The bytes are in the journal still; what was written would only take room.
		for i, x := range batch {
			if written[i] || errs[i] != nil {
				m.unlink(x.name)
			}
		}
		return nil, err
	}
	return written, nil
}

// writeFile makes the file of a content in the journal; false when the journal has lost it.
func (m *Mailbox) writeFile(c *content) (bool, error) {
	_, body, err := m.journal.Read(c.ref)
	if errors.Is(err, journal.ErrDamaged) || errors.Is(err, journal.ErrNotFound) {
		m.log.Error("message lost from the journal", "content", c.id, "error", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sealed, _, err := splitRecord(body)
	if err != nil {
		return false, err
	}
	path := c.name.path(m.dir)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	_, err = f.Write(sealed)
	if err == nil {
		err = finishFile(f, path)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err == nil, err
}
