package mailbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// maxBatch is how many operations join one transaction.
const maxBatch = 256

// writer commits operations one after another, and those that wait at the
// same time in one transaction with one sync. Whoever finds nobody at it
// commits for all.
type writer struct {
	mailbox *Mailbox
	conn    *pages.Conn
	turn    chan struct{} // holds a token while somebody commits

	mu     sync.Mutex
	queue  []*operation
	closed bool

	// clean: the index says that there is nothing a crash left behind. The first change takes it back.
	clean atomic.Bool

	// Of whoever has the turn.
	counters       // the numbers given away last
	uncertain bool // a commit has failed
}

// counters are the numbers given away last.
type counters struct {
	modseq   mail.ModSeq
	validity mail.UIDValidity
	content  int64
}

// operation is one caller's part of a transaction.
type operation struct {
	ctx   context.Context
	run   func(*tx) error
	frees bool // it makes room: the reserve is there for it
	err   error
	done  chan struct{}
}

var (
	errClosed = errors.New("mailbox closed")
	// errUncertain is a commit that failed at the disk. It has not happened, but if the process dies before the
	// next commit it may be found to have: what it needs must stay until the next Open.
	errUncertain = errors.New("commit failed")
)

// write runs an operation in a transaction and returns when it is on the
// disk. When run fails, or panics, nothing of it remains, and the others that
// share the transaction do not notice. run must not touch anything but tx: it
// can be undone, and what it hands to tx.after is done once it cannot. A
// context that ends before the operation began takes it back.
func (m *Mailbox) write(ctx context.Context, run func(*tx) error) error {
	return m.writer.do(&operation{ctx: ctx, run: run, done: make(chan struct{})})
}

// writeFreeing is write for an operation that leads to more room on the disk. On a full one it gets what is set aside,
// and run is called again.
func (m *Mailbox) writeFreeing(ctx context.Context, run func(*tx) error) error {
	return m.writer.do(&operation{ctx: ctx, run: run, frees: true, done: make(chan struct{})})
}

// do has an operation committed.
func (w *writer) do(op *operation) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errClosed
	}
	w.queue = append(w.queue, op)
	w.mu.Unlock()
	stop := op.ctx.Done()
	for {
		select {
		case <-op.done:
			return op.err
		case w.turn <- struct{}{}:
			w.commit()
			<-w.turn
		case <-stop:
			if w.withdraw(op) {
				return op.ctx.Err()
			}
			stop = nil // it is being committed
		}
	}
}

// withdraw takes an operation out of the queue; false when somebody took it up.
func (w *writer) withdraw(op *operation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, x := range w.queue {
		if x == op {
			w.queue = append(w.queue[:i:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

// commit commits what waits; false when nothing did. The caller has the turn.
func (w *writer) commit() bool {
	w.mu.Lock()
	batch := w.queue
	if len(batch) > maxBatch {
		batch, w.queue = batch[:maxBatch:maxBatch], batch[maxBatch:]
	} else {
		w.queue = nil
	}
	w.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	w.transact(batch)
	w.transactAgain(batch)
	w.mailbox.checkpointAlone()
	for _, op := range batch {
		close(op.done)
	}
	return true
}

// transactAgain has another try, with the room that was set aside, at operations that make some.
func (w *writer) transactAgain(batch []*operation) {
	for {
		var again []*operation
		for _, op := range batch {
			if op.frees && errors.Is(op.err, mail.ErrNoSpace) {
				again = append(again, op)
			}
		}
		if len(again) == 0 || !w.mailbox.reserve.spend() {
			return
		}
		for _, op := range again {
			op.err = nil
		}
		w.transact(again)
	}
}

// transact runs a batch of operations in one transaction.
func (w *writer) transact(batch []*operation) {
	fail := func(err error) {
		for _, op := range batch {
			if op.err == nil {
				op.err = storeError(err)
			}
		}
	}
	if err := w.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		fail(err)
		return
	}
	t := &tx{m: w.mailbox, c: w.conn, drafts: make(map[int64]*draft), counters: w.counters}
	before := w.conn.TotalChanges()
	for _, op := range batch {
		if op.err = op.ctx.Err(); op.err != nil {
			continue
		}
		if op.err = t.try(op.run); op.err != nil && !w.conn.InTransaction() {
			// SQLite gave up the whole transaction, as it does when the disk is full.
			fail(op.err)
			return
		}
	}
	soils := w.clean.Load() && w.conn.TotalChanges() != before
	if soils {
		if err := t.setMeta("clean", 0); err != nil {
			w.rollback()
			fail(err)
			return
		}
	}
	if err := w.conn.Exec("COMMIT"); err != nil {
		w.rollback()
		w.uncertain = true
		fail(fmt.Errorf("%w: %w", errUncertain, err))
		return
	}
	if soils {
		w.clean.Store(false)
	}
	w.counters = t.counters
	w.mailbox.publish(t)
}

func (w *writer) rollback() {
	if w.conn.InTransaction() {
		_ = w.conn.Script("ROLLBACK")
	}
}

// tx is a transaction, as an operation sees it: the database, and the states
// of folders that it and the operations before it in the batch have made.
type tx struct {
	m *Mailbox
	c *pages.Conn
	counters

	drafts map[int64]*draft
	after  []func()
}

// draft is the state of a folder in a transaction. It is replaced, not changed.
type draft struct {
	state   *folder // nil: deleted
	changes []change
}

// try runs an operation so that it can be undone by itself.
func (t *tx) try(run func(*tx) error) (err error) {
	if err := t.c.Exec("SAVEPOINT operation"); err != nil {
		return storeError(err)
	}
	counters, drafts, after := t.counters, maps.Clone(t.drafts), len(t.after)
	defer func() {
		if p := recover(); p != nil {
			t.m.log.Error("operation on the mailbox panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("operation on the mailbox panicked: %v", p)
		}
		end := "RELEASE operation"
		if err != nil {
			t.counters, t.drafts, t.after = counters, drafts, t.after[:after]
			end = "ROLLBACK TO operation; RELEASE operation"
		}
		if t.c.InTransaction() {
			if eerr := t.c.Script(end); err == nil {
				err = eerr
			}
		}
		err = storeError(err)
	}()
	return run(t)
}

// then has f called once the transaction is on the disk, by whoever commits: it must be quick.
func (t *tx) then(f func()) { t.after = append(t.after, f) }

// folder returns the state of a folder; mail.ErrNoFolder.
func (t *tx) folder(id int64) (*folder, error) {
	if d := t.drafts[id]; d != nil {
		if d.state == nil {
			return nil, mail.ErrNoFolder
		}
		return d.state, nil
	}
	r := t.m.room(id)
	if r == nil {
		return nil, mail.ErrNoFolder
	}
	if f := r.now(); f != nil {
		return f, nil
	}
	return nil, mail.ErrNoFolder
}

// byName returns the state of the folder of a name; mail.ErrNoFolder.
func (t *tx) byName(name string) (*folder, error) {
	id, err := t.c.Int("SELECT id FROM folder WHERE name=?", name)
	if err != nil {
		return nil, err
	}
	if id == 0 {
		return nil, mail.ErrNoFolder
	}
	return t.folder(id)
}

// byRole returns the state of the folder of a role, INBOX when there is none.
func (t *tx) byRole(role mail.Role) (*folder, error) {
	if role == mail.NoRole {
		role = mail.Inbox
	}
	id, err := t.c.Int("SELECT id FROM folder WHERE role=? ORDER BY id LIMIT 1", string(role))
	if err != nil {
		return nil, err
	}
	if id == 0 && role != mail.Inbox {
		return t.byRole(mail.Inbox)
	}
	return t.folder(id)
}

// loaded is folder, with its messages in memory.
func (t *tx) loaded(id int64) (*folder, error) {
	f, err := t.folder(id)
	if err != nil || f.roll != nil {
		return f, err
	}
	g := *f
	if g.roll, err = t.m.readRoll(t.c, id); err != nil {
		return nil, err
	}
	d := &draft{state: &g}
	if old := t.drafts[id]; old != nil {
		d.changes = old.changes
	}
	t.drafts[id] = d
	return &g, nil
}

// put makes a state of a folder current and stores its row. The change, if any, leads to it.
func (t *tx) put(f *folder, changes ...change) error {
	d := &draft{state: f}
	if old := t.drafts[f.id]; old != nil {
		d.changes = old.changes
	}
	d.changes = append(d.changes[:len(d.changes):len(d.changes)], changes...)
	t.drafts[f.id] = d
	return t.c.Exec(`UPDATE folder SET name=?, role=?, next=?, modseq=?, messages=?, unseen=?, deleted=?, size=?, subscribed=?
		WHERE id=?`, f.name, string(f.role), uint32(f.next), uint64(f.modseq), f.messages, f.unseen, f.deleted, f.size,
		f.subscribed, f.id)
}

// nextModSeq gives a mod-sequence that no other change has.
func (t *tx) nextModSeq() mail.ModSeq {
	t.modseq++
	return t.modseq
}

// nextValidity gives a UIDVALIDITY that no folder ever had: it follows the clock, and the last one.
func (t *tx) nextValidity() (mail.UIDValidity, error) {
	t.validity = max(t.validity+1, mail.UIDValidity(time.Now().Unix()))
	return t.validity, t.setMeta("validity", int64(t.validity))
}

func (t *tx) setMeta(key string, value int64) error {
	return t.c.Exec("INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value=excluded.value", key, value)
}

// readRoll reads the messages of a folder.
func (m *Mailbox) readRoll(c *pages.Conn, id int64) (*roll, error) {
	e := emptyRoll.edit()
	err := c.Query("SELECT uid, modseq, flags, content, internal, size, sent FROM message WHERE folder=? ORDER BY uid",
		[]any{id}, func(r *pages.Row) error {
			e.add(message{
				uid: mail.UID(r.ColumnInt64(0)), modseq: mail.ModSeq(r.ColumnInt64(1)), flags: m.flags.parse(r.ColumnRawText(2)),
				content: r.ColumnInt64(3), internal: r.ColumnInt64(4), size: r.ColumnInt64(5), sent: int32(r.ColumnInt64(6)),
			})
			return nil
		})
	return e.done(), err
}

// storeError says in the words of package mail what a storage error means.
func storeError(err error) error {
	if err != nil && pages.IsFull(err) && !errors.Is(err, mail.ErrNoSpace) {
		return fmt.Errorf("%w: %w", mail.ErrNoSpace, err)
	}
	return err
}
