package mailbox

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// View tells what is in a folder now, from memory.
func (m *Mailbox) View(ctx context.Context, id int64) (mail.View, error) {
	_, f, err := m.state(ctx, id)
	if err != nil {
		return mail.View{}, err
	}
	return mail.View{UIDs: slices.Clip(f.roll.uids), ModSeq: f.modseq}, nil
}

// Entries gives flags and mod-sequences of the UIDs that exist, ascending, from memory.
func (m *Mailbox) Entries(ctx context.Context, id int64, uids []mail.UID) ([]mail.Entry, error) {
	_, f, err := m.state(ctx, id)
	if err != nil {
		return nil, err
	}
	entries := make([]mail.Entry, 0, min(len(uids), len(f.roll.uids)))
	f.roll.some(uids, func(x *message) bool {
		entries = append(entries, x.entry())
		return true
	})
	return entries, nil
}

// Changes tells what happened since a mod-sequence that View or Changes gave.
func (m *Mailbox) Changes(ctx context.Context, id int64, since mail.ModSeq) (mail.Changes, error) {
	r := m.room(id)
	if r == nil {
		return mail.Changes{}, mail.ErrNoFolder
	}
	r.touch()
	if c, ok := r.changes(since); ok {
		return c, nil
	}
	_, f, err := m.state(ctx, id)
	if err != nil {
		return mail.Changes{}, err
	}
	if c, ok := r.changes(since); ok {
		return c, nil
	}
	return m.longChanges(ctx, r, f, since)
}

// longChanges is Changes for longer ago than the log of the room reaches.
func (m *Mailbox) longChanges(ctx context.Context, r *room, f *folder, since mail.ModSeq) (mail.Changes, error) {
	c := mail.Changes{ModSeq: f.modseq}
	f.roll.all(func(x *message) bool {
		if x.modseq > since {
			c.Entries = append(c.Entries, x.entry())
		}
		return true
	})
	err := m.read(ctx, func(conn *pages.Conn) error {
		return conn.Query("SELECT uids FROM expunged WHERE folder=? AND modseq>? AND modseq<=?",
			[]any{f.id, uint64(since), uint64(f.modseq)}, func(row *pages.Row) error {
				uids, err := parseRanges(row.ColumnRawBlob(0))
				c.Expunged = append(c.Expunged, uids...)
				return err
			})
	})
	if err != nil {
		return mail.Changes{}, err
	}
	slices.Sort(c.Expunged)
	c.Expunged = slices.Compact(c.Expunged)
	r.remember(since, c)
	return c, nil
}

// Notify returns a channel that gets a value after each commit that touched
// the folder; values coalesce. It is closed when the folder is deleted. stop
// must be called once.
func (m *Mailbox) Notify(id int64) (c <-chan struct{}, stop func()) {
	r := m.room(id)
	if r == nil {
		closed := make(chan struct{})
		close(closed)
		return closed, func() {}
	}
	return r.watch()
}

// readBatch is how many messages are read from the index at a time. While the caller works on them, which may
// mean to wait for a slow client, no connection is held.
const readBatch = 256

// Messages calls f for each of the UIDs that exists, ascending, until f fails.
func (m *Mailbox) Messages(ctx context.Context, id int64, uids []mail.UID, want mail.Want, f func(*mail.Message) error) error {
	_, state, err := m.state(ctx, id)
	if err != nil {
		return err
	}
	var batch []*message
	flush := func() error {
		err := m.deliver(ctx, batch, want, f)
		batch = batch[:0]
		return err
	}
	state.roll.some(uids, func(x *message) bool {
		if batch = append(batch, x); len(batch) == readBatch {
			err = flush()
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// deliver calls f for messages whose contents are there still.
func (m *Mailbox) deliver(ctx context.Context, batch []*message, want mail.Want, f func(*mail.Message) error) error {
	if len(batch) == 0 {
		return nil
	}
	var headings map[int64]heading
	if want.Envelope || want.Structure {
		var err error
		if headings, err = m.headings(ctx, batch, want); err != nil {
			return err
		}
	}
	for _, x := range batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		out := &mail.Message{Entry: x.entry(), Internal: time.Unix(x.internal, 0), Size: x.size}
		if headings != nil {
			h, ok := headings[x.content]
			if !ok {
				continue // expunged and collected meanwhile
			}
			out.Envelope, out.Structure = h.envelope, h.structure
		}
		if err := f(out); err != nil {
			return err
		}
	}
	return nil
}

type heading struct {
	envelope  *mail.Envelope
	structure *mail.Part
}

// headings reads envelopes and structures.
func (m *Mailbox) headings(ctx context.Context, batch []*message, want mail.Want) (map[int64]heading, error) {
	found := make(map[int64]heading, len(batch))
	columns := "content, envelope, structure"
	switch {
	case !want.Structure:
		columns = "content, envelope, NULL"
	case !want.Envelope:
		columns = "content, NULL, structure"
	}
	err := m.read(ctx, func(c *pages.Conn) error {
		return eachContent(c, batch, columns, "heading", "content", func(r *pages.Row) error {
			var h heading
			var err error
			if want.Envelope {
				if h.envelope, err = mime.UnmarshalEnvelope(r.ColumnRawBlob(1)); err != nil {
					return err
				}
			}
			if want.Structure {
				if h.structure, err = mime.UnmarshalStructure(r.ColumnRawBlob(2)); err != nil {
					return err
				}
			}
			found[r.ColumnInt64(0)] = h
			return nil
		})
	})
	return found, err
}

// eachContent calls f for the rows of the contents of messages in a table. Where they lie close together, as they do
// when they came one after another, it reads them in one scan.
func eachContent(c *pages.Conn, batch []*message, columns, table, key string, f func(*pages.Row) error) error {
	ids := make([]int64, len(batch))
	for i, x := range batch {
		ids[i] = x.content
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	scan := "SELECT " + columns + " FROM " + table + " WHERE " + key + " BETWEEN ? AND ? ORDER BY " + key
	one := "SELECT " + columns + " FROM " + table + " WHERE " + key + "=?"
	for len(ids) > 0 {
		// A look-up costs about as much as three rows of a scan.
		n := 1
		for n < len(ids) && ids[n]-ids[n-1] <= 3 {
			n++
		}
		var err error
		if n == 1 {
			err = c.Query(one, []any{ids[0]}, f)
		} else {
			k := 0
			err = c.Query(scan, []any{ids[0], ids[n-1]}, func(r *pages.Row) error {
				id := r.ColumnInt64(0)
				for k < n && ids[k] < id {
					k++
				}
				if k == n || ids[k] != id {
					return nil
				}
				return f(r)
			})
		}
		if err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// Body opens the bytes of a message; mail.ErrNoMessage. What the index keeps
// of the header is read from there; the rest is opened when it is asked for.
func (m *Mailbox) Body(ctx context.Context, id int64, uid mail.UID) (mail.Body, error) {
	_, f, err := m.state(ctx, id)
	if err != nil {
		return nil, err
	}
	x := f.roll.get(uid)
	if x == nil {
		return nil, mail.ErrNoMessage
	}
	m.pins.add(x.content)
	b := &body{m: m, id: x.content, size: x.size}
	header, ok := m.heads.get(x.content)
	if !ok {
		if header, err = m.readHeads(ctx, f, x); err != nil {
			_ = b.Close()
			return nil, err
		}
	}
	b.header = header
	return b, nil
}

// body is a mail.Body.
type body struct {
	m      *Mailbox
	id     int64 // of the content, which is pinned
	size   int64
	header []byte // the first bytes

	mu     sync.Mutex
	source source
	err    error
	closed bool
}

// Size is the number of bytes of the message.
func (b *body) Size() int64 { return b.size }

// ReadAt reads from the header that is at hand, or from the message.
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the message")
	}
	if off+int64(len(p)) <= int64(len(b.header)) {
		return copy(p, b.header[off:]), nil
	}
	if off >= b.size {
		return 0, io.EOF
	}
	r, err := b.open()
	if err != nil {
		return 0, err
	}
	return r.ReadAt(p, off)
}

func (b *body) open() (io.ReaderAt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.New("message closed")
	}
	if b.source.ReaderAt == nil && b.err == nil {
		ctx := context.Background() // reading is short, and a Body outlives the call that opened it
		var c content
		b.err = b.m.read(ctx, func(conn *pages.Conn) (err error) {
			c, err = contentOf(conn, b.id)
			return err
		})
		if b.err == nil {
			b.source, b.err = b.m.open(ctx, c)
		}
	}
	return b.source.ReaderAt, b.err
}

// Close lets go of the message. It may be called twice.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.m.pins.remove(b.id)
	if b.source.Closer != nil {
		return b.source.Close()
	}
	return nil
}

// headCache keeps the headers read ahead: a client that asks for fields of the
// header of one message asks for those of the next ones too.
type headCache struct {
	mu    sync.Mutex
	heads map[int64][]byte // by content
	size  int
	last  [2]int64 // folder and UID asked for last
}

const (
	readAhead     = 64      // headers
	headCacheSize = 1 << 20 // bytes
)

func (h *headCache) get(content int64) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.heads[content]
	if ok { // each is asked for once
		delete(h.heads, content)
		h.size -= len(b)
	}
	return b, ok
}

func (h *headCache) put(heads map[int64][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heads == nil || h.size > headCacheSize {
		h.heads, h.size = make(map[int64][]byte), 0
	}
	for id, b := range heads {
		h.size += len(b) - len(h.heads[id])
		h.heads[id] = b
	}
}

func (h *headCache) forget(content int64) { h.get(content) }

// follows reports whether a message is the one asked for last, or soon after it.
func (h *headCache) follows(folder int64, uid mail.UID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.last
	h.last = [2]int64{folder, int64(uid)}
	return last[0] == folder && last[1] < int64(uid) && int64(uid) <= last[1]+2*readAhead
}

// readHeads reads the header of a message, and those of the next ones when messages are read in order.
func (m *Mailbox) readHeads(ctx context.Context, f *folder, x *message) ([]byte, error) {
	batch := []*message{x}
	if m.heads.follows(f.id, x.uid) {
		i, _ := slices.BinarySearch(f.roll.uids, x.uid)
		for _, uid := range f.roll.uids[i+1 : min(i+readAhead, len(f.roll.uids))] {
			batch = append(batch, f.roll.get(uid))
		}
	}
	heads := make(map[int64][]byte, len(batch))
	err := m.read(ctx, func(c *pages.Conn) error {
		err := eachContent(c, batch, "content, bytes", "header", "content", func(r *pages.Row) error {
			heads[r.ColumnInt64(0)] = r.ColumnBlob(1, nil)
			return nil
		})
		if err != nil || heads[x.content] != nil {
			return err
		}
		_, err = contentOf(c, x.content) // its header is large, or it is gone
		return err
	})
	if err != nil {
		return nil, err
	}
	header := heads[x.content]
	delete(heads, x.content)
	m.heads.put(heads)
	return header, nil
}
