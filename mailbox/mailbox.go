package mailbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// DefaultMaxMessage is the largest message in bytes that is stored when Config names no other: what the largest
// sealed message carries.
const DefaultMaxMessage = 40 << 20

// Config is what a mailbox is made of.
type Config struct {
	Dir        string            // made when missing; one process at a time
	Keys       *identity.Keyring // its at-rest key and page key
	MaxMessage int64             // bytes of the largest message Append takes; 0: DefaultMaxMessage
	Clock      *clock.Clock      // what is forgotten waits until the time for that is sure; nil: the machine's clock
	Log        *slog.Logger      // nil: silence
}

// Mailbox is one person's stored mail. All methods may be called at once from
// many goroutines, before, during and after Run.
type Mailbox struct {
	dir        string
	atRest     *identity.AtRest
	metaKey    []byte
	maxMessage int64
	clock      *clock.Clock
	log        *slog.Logger
	recovered  bool // Open has come to its end

	journal journalLog
	writer  *writer
	readers *readers
	flags   *flagSets
	text    textIndex
	pins    pins
	heads   headCache
	recent  recent
	names   contentNames
	reserve reserve
	buffers sync.Pool

	mu     sync.RWMutex
	rooms  map[int64]*room
	byName map[string]*room

	accepts  accepts
	backlog  backlog
	spooling chan struct{} // holds a token while somebody makes files
	spooled  int64         // contents up to this one are in files, or lost; of whoever makes files
	chores   chores

	closing chan struct{} // closed when Close begins
	closed  sync.Once
	cerr    error
	calls   sync.WaitGroup // goroutines of this package
}

// The files of a mailbox in its directory.
const (
	indexFile   = "index.db"
	reserveFile = "reserve"
	journalDir  = "journal"
	messagesDir = "messages"
)

// Open opens the mailbox in cfg.Dir, makes it when there is none, and
// recovers what a crash left half done. It starts nothing; see Run.
func Open(ctx context.Context, cfg Config) (*Mailbox, error) { return open(ctx, cfg, options{}) }

// options are what tests change.
type options struct {
	vfs     string                        // of the index
	journal func(*journal.Log) journalLog // wraps the journal
}

// journalLog is what is asked of the journal.
type journalLog interface {
	Append(ctx context.Context, header, body []byte) (journal.Ref, error)
	Read(ref journal.Ref) (header, body []byte, err error)
	Free(ref journal.Ref)
	Walk(yield func(journal.Ref, []byte) error) error
	Status() journal.Status
	Close() error
}

func open(ctx context.Context, cfg Config, o options) (_ *Mailbox, err error) {
	m := &Mailbox{
		dir: cfg.Dir, atRest: cfg.Keys.AtRest(), maxMessage: cfg.MaxMessage, clock: cfg.Clock, log: cfg.Log,
		flags: newFlagSets(), rooms: make(map[int64]*room), byName: make(map[string]*room),
		chores: newChores(), spooling: make(chan struct{}, 1), accepts: accepts{retry: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}, closing: make(chan struct{}),
	}
	if m.maxMessage == 0 {
		m.maxMessage = DefaultMaxMessage
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.reserve.path = filepath.Join(m.dir, reserveFile)
	key := cfg.Keys.PageKey()
	if m.metaKey, err = deriveMetaKey(key); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open mailbox: %w", err)
			_ = m.release()
		}
	}()
	for _, d := range []string{"", journalDir, messagesDir} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(m.dir, indexFile)
	conn, err := pages.Open(ctx, path, key, pages.Options{Cache: 4096, VFS: o.vfs})
	for pages.IsFull(err) && m.reserve.spend() {
		conn, err = pages.Open(ctx, path, key, pages.Options{Cache: 4096, VFS: o.vfs})
	}
	if err != nil {
		return nil, err
	}
	m.writer = &writer{mailbox: m, conn: conn, turn: make(chan struct{}, 1)}
	conn.OnCommit(m.logGrew)
	m.readers = newReaders(func(ctx context.Context) (*pages.Conn, error) {
		return pages.Open(ctx, path, key, pages.Options{VFS: o.vfs})
	})
	if err := migrate(conn, migrations); err != nil {
		return nil, err
	}
	log, err := journal.Open(filepath.Join(m.dir, journalDir), journal.Options{Log: m.log})
	if err != nil {
		return nil, err
	}
	m.journal = log
	if o.journal != nil {
		m.journal = o.journal(log)
	}
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	if err := m.recover(ctx); err != nil {
		return nil, err
	}
	m.recovered = true
	if err := m.reserve.fill(); err != nil {
		m.log.Warn("no room could be set aside for a full disk", "error", err)
	}
	return m, durable.SyncDir(m.dir)
}

// load reads what is kept in memory, and makes the first folders.
func (m *Mailbox) load(ctx context.Context) error {
	c := m.writer.conn
	var n counters
	for _, x := range []struct {
		sql string
		set func(int64)
	}{
		{"SELECT max(coalesce((SELECT max(modseq) FROM folder), 0), coalesce((SELECT value FROM meta WHERE key='modseq'), 0))",
			func(v int64) { n.modseq = mail.ModSeq(v) }},
		{"SELECT value FROM meta WHERE key='validity'", func(v int64) { n.validity = mail.UIDValidity(v) }},
		{"SELECT max(coalesce((SELECT max(id) FROM content), 0), coalesce((SELECT value FROM meta WHERE key='content'), 0))",
			func(v int64) { n.content = v; m.text.filed(v) }},
		{"SELECT value FROM meta WHERE key='indexed'", func(v int64) { m.text.start(v) }},
	} {
		v, err := c.Int(x.sql)
		if err != nil {
			return err
		}
		x.set(v)
	}
	m.writer.counters = n
	err := c.Query(`SELECT id, name, role, validity, next, modseq, messages, unseen, deleted, size, subscribed FROM folder`, nil,
		func(r *pages.Row) error {
			m.addRoom(&folder{
				id: r.ColumnInt64(0), name: r.ColumnText(1), role: mail.Role(r.ColumnText(2)),
				validity: mail.UIDValidity(r.ColumnInt64(3)), next: mail.UID(r.ColumnInt64(4)), modseq: mail.ModSeq(r.ColumnInt64(5)),
				messages: uint32(r.ColumnInt64(6)), unseen: uint32(r.ColumnInt64(7)), deleted: uint32(r.ColumnInt64(8)),
				size: r.ColumnInt64(9), subscribed: r.ColumnBool(10),
			})
			return nil
		})
	if err != nil || len(m.rooms) > 0 {
		return err
	}
	return m.write(ctx, func(t *tx) error {
		for _, f := range firstFolders {
			if _, err := t.create(f.name, f.role); err != nil {
				return err
			}
		}
		return nil
	})
}

// firstFolders is what an account has from its first day.
var firstFolders = []struct {
	name string
	role mail.Role
}{
	{inboxName, mail.Inbox}, {"Drafts", mail.Drafts}, {"Sent", mail.Sent},
	{"Archive", mail.Archive}, {"Junk", mail.Junk}, {"Trash", mail.Trash},
}

// begin lets a goroutine work until end, unless Close has begun.
func (m *Mailbox) begin() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	select {
	case <-m.closing:
		return false
	default:
		m.calls.Add(1)
		return true
	}
}

func (m *Mailbox) end() { m.calls.Done() }

// Close waits for what is being written and closes. Methods called after it
// fail. It may be called twice.
func (m *Mailbox) Close() error {
	m.closed.Do(func() {
		m.mu.Lock()
		close(m.closing)
		m.mu.Unlock()
		m.calls.Wait()
		m.cerr = m.release()
	})
	return m.cerr
}

// release closes what is open. When all went well the next Open need not look for left-overs.
func (m *Mailbox) release() error {
	var errs []error
	if m.writer != nil {
		w := m.writer
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		w.turn <- struct{}{}
		for w.commit() {
		}
		if m.journal != nil {
			errs = append(errs, m.markClean())
		}
		errs = append(errs, m.readers.close(), w.conn.Close())
	}
	if m.journal != nil {
		errs = append(errs, m.journal.Close())
	}
	return errors.Join(errs...)
}

// room returns a folder in memory; nil when there is none of that id.
func (m *Mailbox) room(id int64) *room {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.rooms[id]
}

// roomOf returns the folder of a canonical name; nil when there is none.
func (m *Mailbox) roomOf(name string) *room {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.byName[name]
}

func (m *Mailbox) addRoom(f *folder) {
	r := newRoom(f)
	m.rooms[f.id], m.byName[f.name] = r, r
}

// publish makes visible what a transaction did, after its commit.
func (m *Mailbox) publish(t *tx) {
	if len(t.drafts) > 0 {
		m.mu.Lock()
		for id, d := range t.drafts {
			r := m.rooms[id]
			switch {
			case r == nil && d.state != nil:
				m.addRoom(d.state)
			case r == nil:
			case d.state == nil:
				if m.byName[r.now().name] == r {
					delete(m.byName, r.now().name)
				}
				delete(m.rooms, id)
				r.remove()
			default:
				if old := r.now().name; old != d.state.name {
					if m.byName[old] == r {
						delete(m.byName, old)
					}
					m.byName[d.state.name] = r
				}
				r.publish(d.state, d.changes)
			}
		}
		m.mu.Unlock()
	}
	for _, f := range t.after {
		f()
	}
}

// state returns the state of a folder with its messages in memory; mail.ErrNoFolder.
func (m *Mailbox) state(ctx context.Context, id int64) (*room, *folder, error) {
	r := m.room(id)
	if r == nil {
		return nil, nil, mail.ErrNoFolder
	}
	r.touch()
	f := r.now()
	if f == nil {
		return nil, nil, mail.ErrNoFolder
	}
	if f.roll != nil {
		return r, f, nil
	}
	err := m.write(ctx, func(t *tx) error {
		g, err := t.loaded(id)
		f = g
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return r, f, nil
}

// forgetAfter is how long the messages of a folder stay in memory after the last look at them.
const forgetAfter = 10 * time.Minute

// forget lets go of the messages of folders that nobody looked at for a while.
func (m *Mailbox) forget(ctx context.Context, now time.Time) error {
	var idle []int64
	m.mu.RLock()
	for id, r := range m.rooms {
		r.mu.Lock()
		if r.state != nil && r.state.roll != nil && len(r.watchers) == 0 && now.UnixNano()-r.used.Load() > int64(forgetAfter) {
			idle = append(idle, id)
		}
		r.mu.Unlock()
	}
	m.mu.RUnlock()
	if len(idle) == 0 {
		return nil
	}
	return m.write(ctx, func(t *tx) error {
		for _, id := range idle {
			if f, err := t.folder(id); err == nil && t.drafts[id] == nil {
				g := *f
				g.roll = nil
				t.drafts[id] = &draft{state: &g}
			}
		}
		return nil
	})
}

// MaxMessage is the size in bytes of the largest message that is stored.
func (m *Mailbox) MaxMessage() int64 { return m.maxMessage }

// Counts counts the messages of all folders, from memory.
func (m *Mailbox) Counts() (messages, unseen int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, r := range m.rooms {
		if f := r.now(); f != nil {
			messages += int(f.messages)
			unseen += int(f.unseen)
		}
	}
	return messages, unseen
}

// guard calls f and turns a panic into an error: one bad message must not end the node.
func (m *Mailbox) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("mailbox panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("mailbox panicked: %v", p)
		}
	}()
	return f()
}

// poke puts a value into a channel of size one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
