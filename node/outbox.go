package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/mailbox/dsn"
	"github.com/peerpost/peerpost/node/courier"
)

// outbox is what an unlocked account gives its courier.
type outbox struct {
	*account
	open *open
}

func (b *outbox) Seal(in *sealed.Inner, to identity.KeySet, e identity.Epoch) (*sealed.Message, error) {
	return sealed.Seal(b.open.keys, in, to, e)
}

func (b *outbox) OwnRecord() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.record
}

// KnowsUs says whether a person has confirmed a message of this week with our
// record in it: the record brings the keys of the weeks to come.
func (b *outbox) KnowsUs(root identity.Root) bool {
	now := identity.EpochAt(time.Now())
	b.open.mu.Lock()
	week, ok := b.open.told[root]
	b.open.mu.Unlock()
	if !ok {
		v, err := b.open.box.Setting(context.Background(), toldKey(root))
		if err == nil && len(v) == 4 {
			week = identity.Epoch(binary.BigEndian.Uint32(v))
		}
		b.open.mu.Lock()
		b.open.told[root] = week
		b.open.mu.Unlock()
	}
	return week >= now
}

func (b *outbox) Told(root identity.Root) {
	now := identity.EpochAt(time.Now())
	b.open.mu.Lock()
	b.open.told[root] = now
	b.open.mu.Unlock()
	if err := b.open.box.SetSetting(context.Background(), toldKey(root), binary.BigEndian.AppendUint32(nil, uint32(now))); err != nil {
		b.log.Warn("a setting could not be kept", "err", err)
	}
}

func toldKey(root identity.Root) string { return "told/" + root.Label() }

func (b *outbox) Pinned(ctx context.Context, root identity.Root) (*identity.Record, error) {
	return b.open.record(ctx, root)
}

func (b *outbox) Pin(ctx context.Context, root identity.Root, record []byte) error {
	return b.pin(ctx, b.open, root, record)
}

// pin notes a record, and raises the alarm when there is another of the same
// sequence: only the person's own device can sign one, and it never signs two.
func (a *account) pin(ctx context.Context, o *open, root identity.Root, record []byte) error {
	o.mu.Lock()
	same := o.records[root] != nil && bytes.Equal(o.records[root].Bytes(), record)
	o.mu.Unlock()
	if same {
		return nil
	}
	err := o.box.PinRecord(ctx, root, record)
	o.mu.Lock()
	delete(o.records, root)
	o.pins++
	o.mu.Unlock()
	if err == nil {
		if r, e := identity.ParseRecord(record); e == nil {
			a.courier.Heard(root, r.Roster.Generation)
		}
	}
	if errors.Is(err, identity.ErrFork) {
		a.forks.Add(1)
		a.log.Error("a person has two different records of the same sequence: a device of theirs may be in foreign hands", "of", root.Label())
	}
	return err
}

// maxRecords is how many records are kept read: reading one takes as long as
// everything else about a message.
const maxRecords = 1000

// record is the newest record seen of a person, nil when none.
func (o *open) record(ctx context.Context, root identity.Root) (*identity.Record, error) {
	o.mu.Lock()
	r, pins := o.records[root], o.pins
	o.mu.Unlock()
	if r != nil {
		return r, nil
	}
	raw, err := o.box.Record(ctx, root)
	if err != nil || raw == nil {
		return nil, err
	}
	if r, err = identity.ParseRecord(raw); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.records) >= maxRecords {
		clear(o.records)
	}
	if o.pins == pins { // else another may have been pinned meanwhile
		o.records[root] = r
	}
	return r, nil
}

func pinRefused(err error) bool {
	return errors.Is(err, identity.ErrRollback) || errors.Is(err, identity.ErrFork)
}

func (b *outbox) Unsettled(ctx context.Context) ([]mailbox.Outgoing, error) {
	return b.open.outgoing(ctx, mailbox.OutboxFilter{Unsettled: true})
}

// outgoing lists rows of the outbox, and accepted mail that has none yet as if it
// had: it is carried like the rest.
func (o *open) outgoing(ctx context.Context, f mailbox.OutboxFilter) ([]mailbox.Outgoing, error) {
	backlog, err := o.box.Backlog(ctx) // first: what has got its rows meanwhile is among those
	if err != nil {
		return nil, err
	}
	rows, err := o.box.Outbox(ctx, f)
	if err != nil || len(backlog) == 0 {
		return rows, err
	}
	listed := make(map[courier.MessageID]bool, len(rows))
	for _, row := range rows {
		listed[row.MessageID] = true
	}
	for _, row := range backlog {
		if !listed[row.MessageID] {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (b *outbox) Text(ctx context.Context, id [16]byte) ([]byte, error) {
	msg, err := b.open.box.OutgoingMessage(ctx, id)
	if err != nil {
		return nil, err
	}
	return mime.Rewrite(msg, func(header []byte) []byte { return mime.Remove(header, "Bcc") }), nil
}

func (b *outbox) Update(ctx context.Context, id [16]byte, f func(*mailbox.Outgoing)) error {
	return b.open.box.UpdateOutgoing(ctx, id, f)
}

// Drained says whether everything that waited at the time has been opened, and
// asks for a round of collection when there was none since.
func (b *outbox) Drained(since time.Time) bool {
	b.mu.Lock()
	round, lacking := b.collected, b.lacking != nil
	b.mu.Unlock()
	if !round.After(since) {
		if !lacking {
			wakeUp(b.collectNow)
		}
		return false
	}
	return b.incoming.waiting() == 0
}

// Report files a DSN, if the sender wants one. The same report about the same
// row is filed once, whatever happens in between.
func (b *outbox) Report(ctx context.Context, id [16]byte, kind mail.Notify, why courier.Reason) error {
	row, err := b.open.box.Outgoing(ctx, id)
	if err != nil {
		return err
	}
	arrived := row.State == mailbox.Delivered || row.State == mailbox.Displayed
	if kind == mail.NotifyDelay && (row.DelayTold || row.State.Settled()) || kind == mail.NotifyFailure && (row.FailureTold || arrived) {
		return nil
	}
	sub, err := b.open.box.SubmissionOf(ctx, row.Submission)
	if err != nil {
		return err
	}
	if sub.From != "" && row.Notify.Wants(kind) { // a report is never answered with a report (RFC 3464, 2)
		if err := b.report(ctx, sub, row, kind, why); err != nil {
			return fmt.Errorf("file a delivery status notification: %w", err)
		}
	}
	if kind == mail.NotifySuccess {
		return nil
	}
	return b.Update(ctx, id, func(row *mailbox.Outgoing) {
		row.DelayTold = row.DelayTold || kind == mail.NotifyDelay
		row.FailureTold = row.FailureTold || kind == mail.NotifyFailure
	})
}

func (b *outbox) report(ctx context.Context, sub mail.Submission, row mailbox.Outgoing, kind mail.Notify, why courier.Reason) error {
	original, err := b.open.box.OutgoingMessage(ctx, row.MessageID)
	if err != nil && !errors.Is(err, mail.ErrNoMessage) {
		return err
	}
	now := time.Now()
	r := dsn.Recipient{
		Address: row.To.String(), Original: row.Original, Diagnostic: why.Text, LastAttempt: now,
	}
	report := dsn.Report{
		From: "Mail Delivery <postmaster@" + b.address.Domain() + ">", To: sub.From, ReportingMTA: b.address.Domain(),
		EnvelopeID: sub.EnvelopeID, ArrivalDate: row.Accepted, Original: original, HeadersOnly: sub.HeadersOnly, Now: now,
	}
	switch kind {
	case mail.NotifyFailure:
		report.Kind, r.Action, r.Status = dsn.Failure, dsn.Failed, why.Status
		switch why.Status {
		case courier.StatusExpired:
			r.Remedy = "Ask the recipient another way whether the message arrived, and send it again if it did not."
		case courier.StatusRefused:
			r.Remedy = "Send the message again after removing the cause."
		}
	case mail.NotifyDelay:
		report.Kind, r.Action, r.Status = dsn.Delay, dsn.Delayed, "4.4.1"
		r.WillRetryUntil = row.Expires
		r.Remedy = "You need not do anything: it is delivered as soon as the recipient's machine is on."
	default:
		report.Kind, r.Action, r.Status = dsn.Success, dsn.Delivered, "2.1.5"
	}
	report.Recipients = []dsn.Recipient{r}
	mark := sha256.Sum256(append([]byte{'d', 's', 'n', byte(kind)}, row.MessageID[:]...))
	_, _, err = b.open.box.File(ctx, mailbox.Delivery{
		Role: mail.Inbox, Message: dsn.Compose(report), Internal: now,
		Sender: b.address.Root, MessageID: [16]byte(mark[:16]), Expiry: identity.DayAt(row.Expires.AddDate(0, 0, 7)),
	})
	return err
}

// idString is a message id as the command shows it.
func idString(id [16]byte) string { return hex.EncodeToString(id[:]) }
