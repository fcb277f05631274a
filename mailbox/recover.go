package mailbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// recover brings journal, files and index together again. Three things can be
// left by a crash: a record that no row points to (the message was not
// acknowledged, or its row was deleted and the record not freed yet), an
// accepted message that is not indexed yet, and a file without a row.
func (m *Mailbox) recover(ctx context.Context) error {
	c := m.writer.conn
	clean, err := c.Int("SELECT value FROM meta WHERE key='clean'")
	if err != nil {
		return err
	}
	m.writer.clean.Store(clean != 0)
	live := make(map[journal.Ref]*content)
	err = c.Query("SELECT "+contentColumns+" FROM content WHERE ref IS NOT NULL", nil, func(r *pages.Row) error {
		x, err := scanContent(r)
		if err == nil {
			live[x.ref] = &x
			m.backlog.add(x.sealed)
		}
		return err
	})
	if err != nil {
		return err
	}
	type record struct {
		ref    journal.Ref
		header []byte
	}
	var records []record
	// An accepted message may be in the journal alone, and its file is swept when nothing names it. So all of the
	// journal must be seen.
	err = m.journal.Walk(func(ref journal.Ref, header []byte) error {
		records = append(records, record{ref, header})
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w; nothing is lost: try again when the files in %s can be read", err, filepath.Join(m.dir, journalDir))
	}
	var lost []*accepted
	for _, r := range records {
		ref, header := r.ref, r.header
		kind, name, ok := parseRecordHeader(header)
		if x := live[ref]; ok && x != nil && x.name == name {
			delete(live, ref)
			continue
		}
		if ok && kind == recordAccepted {
			known, err := c.Int("SELECT count(*) FROM submission WHERE token=?", name[:])
			if err != nil {
				return err
			}
			if known == 0 {
				a, err := m.readAccepted(ref, header)
				if err == nil {
					lost = append(lost, a)
					continue
				}
				if !errors.Is(err, journal.ErrDamaged) {
					return err
				}
				m.log.Error("accepted message lost from the journal", "error", err)
				continue
			}
		}
		m.journal.Free(ref)
	}
	for _, x := range live {
		m.log.Error("message missing from the journal", "content", x.id)
	}
	if len(lost) > 0 {
		m.log.Info("accepted messages recovered", "count", len(lost))
		m.accepts.waiting = lost
		for m.indexWaiting(ctx) {
		}
	}
	if clean == 0 {
		return m.sweep()
	}
	return nil
}

// markClean notes that there are no left-overs, when the index is about to be closed. On a full disk it does not, and
// the next Open looks for them.
func (m *Mailbox) markClean() error {
	w := m.writer
	if !m.recovered || !m.accepts.empty() || w.uncertain || w.clean.Load() {
		return nil
	}
	err := w.conn.Exec("INSERT INTO meta(key, value) VALUES('clean', 1) ON CONFLICT(key) DO UPDATE SET value=1")
	if pages.IsFull(err) {
		return nil
	}
	return err
}

// soil takes back what markClean noted, before there is a file that a crash would leave behind. Each
// transaction that changes something does so too.
func (m *Mailbox) soil(ctx context.Context) error {
	if !m.writer.clean.Load() {
		return nil
	}
	return m.write(ctx, func(t *tx) error { return t.setMeta("clean", 0) })
}

// sweep removes the message files that no row points to, nor an accepted message that waits for its rows.
func (m *Mailbox) sweep() error {
	known := make(map[contentName]bool)
	m.accepts.mu.Lock()
	for _, a := range m.accepts.waiting {
		known[a.in.name] = true
	}
	m.accepts.mu.Unlock()
	err := m.writer.conn.Query("SELECT name FROM content WHERE ref IS NULL", nil, func(r *pages.Row) error {
		if b := r.ColumnRawBlob(0); len(b) == len(contentName{}) {
			known[contentName(b)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	top := filepath.Join(m.dir, messagesDir)
	if err := durable.SyncDir(top); err != nil { // a directory may have been made just before the crash
		return err
	}
	dirs, err := os.ReadDir(top)
	if err != nil {
		return err
	}
	swept := 0
	for _, d := range dirs {
		files, err := os.ReadDir(filepath.Join(top, d.Name()))
		if err != nil {
			return err
		}
		for _, f := range files {
			if n, ok := parseContentName(d.Name(), f.Name()); ok && !known[n] {
				m.unlink(n)
				swept++
			}
		}
	}
	if swept > 0 {
		m.log.Info("message files without a message removed", "count", swept)
	}
	return nil
}
