package mailbox

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
	"github.com/peerpost/peerpost/mailbox/internal/words"
)

const (
	// maxText is how much of the text of a message is searched, in bytes, and the same of its header.
	maxText = 4 << 20
	// segmentDocs and segmentBytes are how many new messages are held in memory before their words become a segment.
	segmentDocs  = 512
	segmentBytes = 8 << 20
	// mergeSegments is how many segments of a level make one of the next.
	mergeSegments = 8
	// mergeBytes is how much of a new segment is written in one transaction.
	mergeBytes = 256 << 10
	// tidyShare is the part of a segment's messages, as 1 in so many, that must be gone before it is written anew.
	tidyShare = 4
	// indexDelay is how long new messages wait for others to be indexed with. A search does not wait.
	indexDelay = 200 * time.Millisecond
	// textBatch is how many messages are looked up at a time.
	textBatch = 64
	// blockBits is how many bits number the blocks of a segment.
	blockBits = 24
)

// textIndex is the word index: segments in the database, and the newest
// messages in memory. Messages are indexed in the order of their contents.
type textIndex struct {
	step    chan struct{} // holds a token while somebody advances it
	last    atomic.Int64  // the newest content
	flushed atomic.Bool   // there is a new segment

	mu    sync.RWMutex
	fresh *words.Builder
	upto  int64 // contents up to this one are in a segment or in fresh

	flushAt int // documents; of whoever has the step
}

func (x *textIndex) start(upto int64) {
	x.step = make(chan struct{}, 1)
	x.fresh, x.upto, x.flushAt = words.NewBuilder(), upto, segmentDocs
	x.flushed.Store(true)
}

// filed is told of a content that is in the index.
func (x *textIndex) filed(id int64) {
	for {
		last := x.last.Load()
		if id <= last || x.last.CompareAndSwap(last, id) {
			return
		}
	}
}

func (x *textIndex) done() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.upto
}

// runIndex indexes what is filed.
func (m *Mailbox) runIndex(ctx context.Context) {
	m.chore(ctx, "remove blocks", func() error {
		select {
		case m.text.step <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-m.text.step }()
		return m.removeBlocks(ctx)
	})
	poke(m.chores.index)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.chores.index:
		}
		t := time.NewTimer(indexDelay)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		m.chore(ctx, "index", func() error {
			if err := m.indexText(ctx); err != nil || !m.text.flushed.Swap(false) {
				return err
			}
			return m.mergeText(ctx)
		})
	}
}

// indexText indexes everything that has been filed.
func (m *Mailbox) indexText(ctx context.Context) error {
	x := &m.text
	upto := x.last.Load()
	for x.done() < upto {
		select {
		case x.step <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := m.guard(func() error { return m.indexBatch(ctx) })
		<-x.step
		if err != nil {
			return err
		}
	}
	return nil
}

// unindexed is a content to be indexed.
type unindexed struct {
	content
	structure []byte
	header    []byte
}

// indexBatch indexes the next contents. The caller has the step.
func (m *Mailbox) indexBatch(ctx context.Context) error {
	x := &m.text
	upto := x.last.Load()
	var batch []unindexed
	err := m.read(ctx, func(c *pages.Conn) error {
		return c.Query(`SELECT id, name, key, ref, sealed, size, structure, (SELECT bytes FROM header WHERE content=id)
			FROM content JOIN heading ON heading.content=id WHERE id>? ORDER BY id LIMIT ?`,
			[]any{x.done(), textBatch}, func(r *pages.Row) error {
				c, err := scanContent(r)
				batch = append(batch, unindexed{c, r.ColumnBlob(6, nil), r.ColumnBlob(7, nil)})
				return err
			})
	})
	if err != nil {
		return err
	}
	for i := range batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		u := &batch[i]
		header, body, err := m.textOf(ctx, u)
		m.recent.forget(u.name)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errClosed) {
			return err
		}
		if err != nil && !errors.Is(err, mail.ErrNoMessage) {
			m.log.Warn("message not indexed for search", "content", u.id, "error", err)
		}
		x.mu.Lock()
		x.fresh.Add(u.id, header, body, err != nil)
		x.upto = u.id
		x.mu.Unlock()
		if x.fresh.Len() >= x.flushAt || x.fresh.Size() >= segmentBytes && x.flushAt == segmentDocs {
			if err := m.flushText(ctx); err != nil {
				// The disk may be full. Searching works from memory; a later message tries again.
				x.flushAt = x.fresh.Len() + segmentDocs
				return err
			}
		}
	}
	if len(batch) < textBatch { // the rest is gone
		x.mu.Lock()
		x.upto = max(x.upto, upto)
		x.mu.Unlock()
	}
	return nil
}

// textOf returns the folded texts of a message.
func (m *Mailbox) textOf(ctx context.Context, u *unindexed) (header, body string, err error) {
	root, err := mime.UnmarshalStructure(u.structure)
	if err != nil {
		return "", "", err
	}
	s, err := m.open(ctx, u.content)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = s.Close() }()
	head := u.header
	if len(head) == 0 && root.Body > root.Header {
		if head, err = readRange(s, root.Header, root.Body); err != nil {
			return "", "", err
		}
	}
	text, err := mime.BodyText(s, root, maxText)
	if err != nil {
		return "", "", err
	}
	return words.Fold(mime.HeaderText(head, maxText)), words.Fold(text), nil
}

// readRange reads bytes of a message; the header is bounded by mime.MaxHeader.
func readRange(r io.ReaderAt, from, to int64) ([]byte, error) {
	b := make([]byte, to-from)
	n, err := r.ReadAt(b, from)
	if n == len(b) {
		err = nil
	}
	return b, noEOF(err)
}

// flushText makes a segment of what is in memory. The caller has the step.
func (m *Mailbox) flushText(ctx context.Context) error {
	x := &m.text
	fresh := x.fresh // only whoever has the step changes it
	err := m.write(ctx, func(t *tx) error {
		if err := t.c.Exec("INSERT INTO segment(level, last, docs) VALUES(0, 0, x'')"); err != nil {
			return err
		}
		id, block := t.c.LastID(), 0
		docs, err := fresh.Segment(func(dict, posts []byte) error {
			block++
			return t.putBlock(id, block, dict, posts)
		})
		if err != nil {
			return err
		}
		if err := t.c.Exec("UPDATE segment SET docs=?, last=? WHERE id=?", docs, fresh.Last(), id); err != nil {
			return err
		}
		return t.setMeta("indexed", fresh.Last())
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.fresh, x.flushAt = words.NewBuilder(), segmentDocs
	x.mu.Unlock()
	x.flushed.Store(true)
	return nil
}

func (t *tx) putBlock(segment int64, block int, dict, posts []byte) error {
	id := segment<<blockBits | int64(block)
	if err := t.c.Exec("INSERT INTO dict(id, words) VALUES(?,?)", id, dict); err != nil {
		return err
	}
	return t.c.Exec("INSERT INTO posts(id, lists) VALUES(?,?)", id, posts)
}

// segment is one of the index's segments.
type segment struct {
	id    int64
	level int64
	docs  words.Docs
}

// segments reads the list of segments in the order of their contents.
func segments(c *pages.Conn) ([]segment, error) {
	var all []segment
	err := c.Query("SELECT id, level, docs FROM segment ORDER BY last", nil, func(r *pages.Row) error {
		docs, err := words.ParseDocs(r.ColumnRawBlob(2))
		all = append(all, segment{r.ColumnInt64(0), r.ColumnInt64(1), docs})
		return err
	})
	return all, err
}

// find looks for a needle in an area of all messages.
func (m *Mailbox) find(ctx context.Context, n words.Needle, in words.Area) (found words.Found, err error) {
	x := &m.text
	upto := x.last.Load()
	for x.done() < upto {
		if before, err := x.done(), m.indexText(ctx); err != nil && x.done() == before {
			return found, err
		}
	}
	// What is in memory first: it may become a segment meanwhile, and is found twice then.
	x.mu.RLock()
	found = x.fresh.Find(n, in)
	x.mu.RUnlock()
	err = m.read(ctx, func(c *pages.Conn) error {
		if err := c.Exec("BEGIN"); err != nil { // one state of the segments and their blocks
			return err
		}
		all, err := segments(c)
		if err != nil {
			return err
		}
		for _, s := range all {
			search := words.NewSearch(s.docs, n)
			err := c.Query("SELECT id, words FROM dict WHERE id>? AND id<? ORDER BY id",
				[]any{s.id << blockBits, (s.id + 1) << blockBits}, func(r *pages.Row) error {
					id := r.ColumnInt64(0)
					return search.Block(r.ColumnRawBlob(1), func() (lists []byte, err error) {
						_, err = c.Get("SELECT lists FROM posts WHERE id=?", []any{id}, func(r *pages.Row) { lists = r.ColumnBlob(0, []byte{}) })
						return lists, err
					})
				})
			if err != nil {
				return err
			}
			f := search.Result(in)
			found.Sure, found.Maybe = append(found.Sure, f.Sure...), append(found.Maybe, f.Maybe...)
		}
		return c.Exec("COMMIT")
	})
	return found, err
}

// mergeText joins segments where there are enough of a level.
func (m *Mailbox) mergeText(ctx context.Context) error {
	for {
		var all []segment
		if err := m.read(ctx, func(c *pages.Conn) (err error) {
			all, err = segments(c)
			return err
		}); err != nil {
			return err
		}
		// Only neighbours are joined, so that documents ascend. Levels fall from old to new.
		from := len(all) - 1
		for from > 0 && all[from-1].level == all[len(all)-1].level {
			from--
		}
		if len(all)-from < mergeSegments {
			return nil
		}
		if err := m.joinSegments(ctx, all[from:], all[from].level+1); err != nil {
			return err
		}
	}
}

// tidyText writes segments anew in which many messages are gone, so that their words go too.
func (m *Mailbox) tidyText(ctx context.Context) error {
	var all []segment
	live := make(map[int64]bool)
	err := m.read(ctx, func(c *pages.Conn) (err error) {
		if all, err = segments(c); err != nil {
			return err
		}
		return c.Query("SELECT id FROM content", nil, func(r *pages.Row) error {
			live[r.ColumnInt64(0)] = true
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, s := range all {
		gone := 0
		s.docs.IDs(func(id int64) {
			if !live[id] {
				gone++
			}
		})
		if gone*tidyShare > s.docs.Len() {
			if err := m.joinSegments(ctx, []segment{s}, s.level); err != nil {
				return err
			}
		}
	}
	return nil
}

// joinSegments replaces segments by one, without the messages that are gone.
// The new one is written in pieces, so that nobody waits long for the
// database, and counts once it is whole.
func (m *Mailbox) joinSegments(ctx context.Context, old []segment, level int64) error {
	x := &m.text
	select { // one at a time
	case x.step <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-x.step }()
	return m.guard(func() error { return m.join(ctx, old, level) })
}

func (m *Mailbox) join(ctx context.Context, old []segment, level int64) error {
	live := make(map[int64]bool)
	var id int64
	err := m.write(ctx, func(t *tx) error {
		// The row is made and removed, so that no other segment gets the number.
		if err := t.c.Exec("INSERT INTO segment(level, last, docs) VALUES(0, 0, x'')"); err != nil {
			return err
		}
		id = t.c.LastID()
		if err := t.c.Exec("DELETE FROM segment WHERE id=?", id); err != nil {
			return err
		}
		for _, s := range old { // all may be replaced or none
			n, err := t.c.Int("SELECT count(*) FROM segment WHERE id=?", s.id)
			if err != nil {
				return err
			}
			if n == 0 {
				return errSegmentGone
			}
		}
		return nil
	})
	if errors.Is(err, errSegmentGone) {
		return nil
	}
	if err != nil {
		return err
	}
	sources := make([]words.Source, len(old))
	for i, s := range old {
		if err := m.liveOf(ctx, s, live); err != nil {
			return err
		}
		next := s.id << blockBits
		sources[i] = words.Source{Docs: s.docs, Next: func() (dict, posts []byte, ok bool, err error) {
			err = m.read(ctx, func(c *pages.Conn) error {
				_, err := c.Get("SELECT dict.id, words, lists FROM dict JOIN posts ON posts.id=dict.id WHERE dict.id>? AND dict.id<? ORDER BY dict.id LIMIT 1",
					[]any{next, (s.id + 1) << blockBits}, func(r *pages.Row) {
						next, ok = r.ColumnInt64(0), true
						dict, posts = r.ColumnBlob(1, nil), r.ColumnBlob(2, nil)
					})
				return err
			})
			return dict, posts, ok, err
		}}
	}
	type block struct{ dict, posts []byte }
	var waiting []block
	written, size := 0, 0
	flush := func() error {
		err := m.write(ctx, func(t *tx) error {
			for i, b := range waiting {
				if err := t.putBlock(id, written+i+1, b.dict, b.posts); err != nil {
					return err
				}
			}
			return nil
		})
		written += len(waiting)
		waiting, size = waiting[:0], 0
		return err
	}
	docs, err := words.Merge(sources, func(id int64) bool { return live[id] }, func(dict, posts []byte) error {
		waiting = append(waiting, block{slices.Clone(dict), slices.Clone(posts)})
		if size += len(dict) + len(posts); size < mergeBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	last := int64(0)
	for _, s := range old {
		s.docs.IDs(func(id int64) { last = max(last, id) })
	}
	err = m.write(ctx, func(t *tx) error {
		for _, s := range old {
			if err := t.c.Exec("DELETE FROM segment WHERE id=?", s.id); err != nil {
				return err
			}
		}
		return t.c.Exec("INSERT INTO segment(id, level, last, docs) VALUES(?,?,?,?)", id, level, last, docs)
	})
	if err != nil {
		return err
	}
	return m.removeBlocks(ctx)
}

var errSegmentGone = errors.New("segment was replaced")

// liveOf adds the documents of a segment that exist to a set.
func (m *Mailbox) liveOf(ctx context.Context, s segment, live map[int64]bool) error {
	var ids []int64
	s.docs.IDs(func(id int64) { ids = append(ids, id) })
	if len(ids) == 0 {
		return nil
	}
	return m.read(ctx, func(c *pages.Conn) error {
		return c.Query("SELECT id FROM content WHERE id BETWEEN ? AND ?", []any{ids[0], ids[len(ids)-1]}, func(r *pages.Row) error {
			live[r.ColumnInt64(0)] = true
			return nil
		})
	})
}

// removeBlocks removes blocks whose segment is gone, or was never finished. The caller has the step, or is alone.
func (m *Mailbox) removeBlocks(ctx context.Context) error {
	for _, table := range []string{"dict", "posts"} {
		for {
			removed := int64(0)
			err := m.write(ctx, func(t *tx) error {
				err := t.c.Exec("DELETE FROM "+table+" WHERE id IN (SELECT id FROM "+table+
					" WHERE (id>>?) NOT IN (SELECT id FROM segment) ORDER BY id LIMIT 32)", blockBits)
				removed = t.c.Changes()
				return err
			})
			if err != nil {
				return err
			}
			if removed == 0 {
				break
			}
		}
	}
	return nil
}
