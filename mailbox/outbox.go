package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// State is how far an outgoing message has come. It only moves forward.
type State uint8

// The states, in order. Delivered moves to Displayed and nothing else; Displayed and Failed are final.
const (
	Accepted State = iota + 1
	Replicated
	Delivered
	Displayed
	Failed
)

// Settled reports whether the courier has nothing left to do.
func (s State) Settled() bool { return s >= Delivered }

// String is "accepted" and so on.
func (s State) String() string {
	switch s {
	case Accepted:
		return "accepted"
	case Replicated:
		return "replicated"
	case Delivered:
		return "delivered"
	case Displayed:
		return "displayed"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// follows reports whether a state may come after another.
func (s State) follows(old State) bool {
	switch {
	case s == old:
		return true
	case old.Settled():
		return old == Delivered && s == Displayed
	}
	return s > old && s <= Failed
}

// ErrState answers an update that would move a state backward.
var ErrState = errors.New("the state of an outgoing message only moves forward")

// Outgoing is an accepted message on its way to one recipient.
type Outgoing struct {
	MessageID  [16]byte // inner message id: unique, one a recipient
	Submission int64    // what it was submitted with; see SubmissionOf
	To         identity.Address
	Original   string // ORCPT
	Notify     mail.Notify
	Accepted   time.Time
	Expires    time.Time

	State       State
	Replicas    int // storage receipts held
	Wanted      int // holders there should be
	Attempts    int
	NextAttempt time.Time // zero: none planned
	LastError   string
	DelayTold   bool      // the delay DSN was made
	FailureTold bool      // the failure DSN was made
	SealedID    [32]byte  // of the sealed message; zero: not sealed yet
	Generation  uint64    // of the roster it was sealed to
	Settled     time.Time // when it was delivered or failed; zero before; set by UpdateOutgoing

	Subject string // of the message, decoded; read only
	Size    int64  // bytes of the message; read only
}

// maxLastError is how much of LastError is kept, in bytes.
const maxLastError = 1000

const outgoingColumns = `outgoing.id, submission, local, root, original, notify, outgoing.accepted, expires, state, replicas, wanted,
	attempts, next, last_error, delay_told, failure_told, sealed, generation, settled, subject, size`

const fromOutgoing = " FROM outgoing JOIN submission ON submission.id=outgoing.submission "

func scanOutgoing(r *pages.Row) (o Outgoing, err error) {
	id, root, sealed := r.ColumnRawBlob(0), r.ColumnRawBlob(3), r.ColumnRawBlob(16)
	if len(id) != len(o.MessageID) || len(root) != len(o.To.Root) || len(sealed) != len(o.SealedID) {
		return o, errors.New("damaged row in the index")
	}
	return Outgoing{
		MessageID: [16]byte(id), Submission: r.ColumnInt64(1), To: identity.Address{Local: r.ColumnText(2), Root: identity.Root(root)},
		Original: r.ColumnText(4), Notify: mail.Notify(r.ColumnInt64(5)), Accepted: timeOf(r, 6), Expires: timeOf(r, 7),
		State: State(r.ColumnInt64(8)), Replicas: int(r.ColumnInt64(9)), Wanted: int(r.ColumnInt64(10)), Attempts: int(r.ColumnInt64(11)),
		NextAttempt: timeOf(r, 12), LastError: r.ColumnText(13), DelayTold: r.ColumnBool(14), FailureTold: r.ColumnBool(15),
		SealedID: [32]byte(sealed), Generation: uint64(r.ColumnInt64(17)), Settled: timeOf(r, 18),
		Subject: r.ColumnText(19), Size: r.ColumnInt64(20),
	}, nil
}

// timeOf reads a time that may be missing.
func timeOf(r *pages.Row, column int) time.Time {
	if ms := r.ColumnInt64(column); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// millis is how a time is stored; NULL when it is zero.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// insertOutgoing adds a row. place orders the recipients of a submission.
func (t *tx) insertOutgoing(o *Outgoing, place int) error {
	return t.c.Exec(`INSERT INTO outgoing(id, submission, place, local, root, original, notify, accepted, expires, state, replicas, wanted,
		attempts, next, last_error, delay_told, failure_told, sealed, generation, settled)
		VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		o.MessageID[:], o.Submission, place, o.To.Local, o.To.Root[:], o.Original, int(o.Notify), millis(o.Accepted), millis(o.Expires),
		int(o.State), o.Replicas, o.Wanted, o.Attempts, millis(o.NextAttempt), o.LastError, o.DelayTold, o.FailureTold,
		o.SealedID[:], o.Generation, millis(o.Settled))
}

// OutboxFilter says which rows of the outbox are wanted; the zero filter wants all.
type OutboxFilter struct {
	Unsettled  bool      // neither delivered nor failed
	Due        time.Time // NextAttempt is set and not after it
	Submission int64
	Limit      int
}

// Outbox lists rows of the outbox, oldest first.
func (m *Mailbox) Outbox(ctx context.Context, f OutboxFilter) ([]Outgoing, error) {
	where, args := []string{"1"}, []any{}
	if f.Unsettled {
		where = append(where, "state < 3")
	}
	if !f.Due.IsZero() {
		where, args = append(where, "next <= ?"), append(args, f.Due.UnixMilli())
	}
	if f.Submission != 0 {
		where, args = append(where, "submission = ?"), append(args, f.Submission)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = -1
	}
	args = append(args, limit)
	return m.outgoing(ctx, strings.Join(where, " AND "), args)
}

func (m *Mailbox) outgoing(ctx context.Context, where string, args []any) (all []Outgoing, err error) {
	if err := m.settleAccepts(ctx); err != nil {
		return nil, err
	}
	err = m.read(ctx, func(c *pages.Conn) error {
		return c.Query("SELECT "+outgoingColumns+fromOutgoing+"WHERE "+where+" ORDER BY submission, place LIMIT ?", args,
			func(r *pages.Row) error {
				o, err := scanOutgoing(r)
				all = append(all, o)
				return err
			})
	})
	return all, err
}

// Outgoing returns one row; mail.ErrNoMessage.
func (m *Mailbox) Outgoing(ctx context.Context, id [16]byte) (Outgoing, error) {
	all, err := m.outgoing(ctx, "outgoing.id = ?", []any{id[:], 1})
	switch {
	case err != nil:
		return Outgoing{}, err
	case len(all) == 0:
		return Outgoing{}, m.missing(id)
	}
	return all[0], nil
}

// OutgoingMessage returns the message as it was accepted, Bcc included. It can
// be had until all recipients are settled, whatever happens to the Sent copy;
// mail.ErrNoMessage after that, unless a copy is there still.
func (m *Mailbox) OutgoingMessage(ctx context.Context, id [16]byte) ([]byte, error) {
	if name, ok := m.accepts.contentName(id); ok { // it need not wait for the index
		if b := m.recent.get(name); b != nil {
			return bytes.Clone(b), nil
		}
	}
	if err := m.settleAccepts(ctx); err != nil {
		return nil, err
	}
	var c content
	err := m.read(ctx, func(conn *pages.Conn) error {
		of, err := conn.Int("SELECT content FROM submission WHERE id=(SELECT submission FROM outgoing WHERE id=?)", id[:])
		if err == nil {
			c, err = contentOf(conn, of)
		}
		return err
	})
	if errors.Is(err, mail.ErrNoMessage) {
		return nil, m.missing(id)
	}
	if err != nil {
		return nil, err
	}
	s, err := m.open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	b := make([]byte, c.size)
	if _, err := io.ReadFull(io.NewSectionReader(s, 0, c.size), b); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

// SubmissionOf returns what a message was submitted with; mail.ErrNoMessage.
func (m *Mailbox) SubmissionOf(ctx context.Context, id int64) (s mail.Submission, err error) {
	err = m.read(ctx, func(c *pages.Conn) error {
		var uerr error
		found, err := c.Get("SELECT envelope FROM submission WHERE id=?", []any{id}, func(r *pages.Row) {
			s, uerr = unmarshalSubmission(r.ColumnRawBlob(0))
		})
		if err == nil && !found {
			return mail.ErrNoMessage
		}
		return errors.Join(err, uerr)
	})
	return s, err
}

// UpdateOutgoing changes a row; it is on disk when it returns. f may change
// the fields from State to Generation, and is called once. ErrState when it
// moved the state backward, mail.ErrNoMessage when there is no such row.
func (m *Mailbox) UpdateOutgoing(ctx context.Context, id [16]byte, f func(*Outgoing)) error {
	return m.UpdateOutgoings(ctx, [][16]byte{id}, f)
}

// UpdateOutgoings changes several rows, all or none.
func (m *Mailbox) UpdateOutgoings(ctx context.Context, ids [][16]byte, f func(*Outgoing)) error {
	if err := m.settleAccepts(ctx); err != nil {
		return err
	}
	return m.write(ctx, func(t *tx) error {
		for _, id := range ids {
			if err := t.updateOutgoing(id, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) updateOutgoing(id [16]byte, f func(*Outgoing)) error {
	var o Outgoing
	var serr error
	found, err := t.c.Get("SELECT "+outgoingColumns+fromOutgoing+"WHERE outgoing.id=?", []any{id[:]},
		func(r *pages.Row) { o, serr = scanOutgoing(r) })
	if err = errors.Join(err, serr); err != nil {
		return err
	}
	if !found {
		return t.m.missing(id)
	}
	old := o
	f(&o)
	if !o.State.follows(old.State) {
		return fmt.Errorf("%w: from %s to %s", ErrState, old.State, o.State)
	}
	if len(o.LastError) > maxLastError {
		o.LastError = o.LastError[:maxLastError]
	}
	o.Settled = old.Settled
	settles := o.State.Settled() && !old.State.Settled()
	if settles {
		o.Settled, o.NextAttempt = time.Now(), time.Time{}
	}
	if err := t.c.Exec(`UPDATE outgoing SET state=?, replicas=?, wanted=?, attempts=?, next=?, last_error=?, delay_told=?, failure_told=?,
		sealed=?, generation=?, settled=? WHERE id=?`, int(o.State), o.Replicas, o.Wanted, o.Attempts, millis(o.NextAttempt), o.LastError,
		o.DelayTold, o.FailureTold, o.SealedID[:], o.Generation, millis(o.Settled), id[:]); err != nil {
		return err
	}
	if !settles {
		return nil
	}
	var open, content int64
	if _, err := t.c.Get("UPDATE submission SET open=open-1 WHERE id=? RETURNING open, content", []any{old.Submission},
		func(r *pages.Row) { open, content = r.ColumnInt64(0), r.ColumnInt64(1) }); err != nil {
		return err
	}
	if open == 0 {
		return t.release([]int64{content})
	}
	return nil
}

// OutboxCounts counts the rows of the outbox by state.
func (m *Mailbox) OutboxCounts(ctx context.Context) (map[State]int, error) {
	counts := make(map[State]int)
	err := m.read(ctx, func(c *pages.Conn) error {
		return c.Query("SELECT state, count(*) FROM outgoing GROUP BY state", nil, func(r *pages.Row) error {
			counts[State(r.ColumnInt64(0))] = int(r.ColumnInt64(1))
			return nil
		})
	})
	return counts, err
}
