package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/internal/wire"
)

const (
	// maxAccepts is how many accepted messages may wait for the index before Accept waits too.
	maxAccepts = 512
	// acceptGather is how long accepted messages wait for others to be indexed with.
	acceptGather = 10 * time.Millisecond
	// acceptRetry is how long to wait when they cannot be indexed.
	acceptRetry = time.Second
)

// accepted is an accepted message: on the disk in the journal, not yet in the
// index. Its encoding is the meta of the record.
type accepted struct {
	Envelope []byte        `cbor:"1,keyasint"` // see submission
	Outs     []acceptedOut `cbor:"2,keyasint"`
	Time     int64         `cbor:"3,keyasint"` // Unix milliseconds
	Key      []byte        `cbor:"4,keyasint"` // of the age file
	Sealed   int64         `cbor:"5,keyasint"` // bytes of it
	Size     int64         `cbor:"6,keyasint"` // bytes of the message
	File     bool          `cbor:"7,keyasint"` // the age file is in its place, not in the record

	in      incoming
	ref     journal.Ref   // of the record
	message []byte        // nil after a recovery
	tried   chan struct{} // closed after the first attempt to index it
	err     error         // of the last attempt; the queue's mutex guards it
}

// acceptedOut is one recipient.
type acceptedOut struct {
	MessageID []byte `cbor:"1,keyasint"`
	Local     []byte `cbor:"2,keyasint"`
	Root      []byte `cbor:"3,keyasint"`
	Original  []byte `cbor:"4,keyasint"`
	Notify    uint8  `cbor:"5,keyasint"`
	Expires   int64  `cbor:"6,keyasint"` // Unix milliseconds
}

// submission is how a mail.Submission is stored. Its texts are bytes, since nobody promised that they are UTF-8.
type submission struct {
	From        []byte      `cbor:"1,keyasint"`
	Recipients  []recipient `cbor:"2,keyasint"`
	EnvelopeID  []byte      `cbor:"3,keyasint"`
	HeadersOnly bool        `cbor:"4,keyasint"`
	UTF8        bool        `cbor:"5,keyasint"`
}

type recipient struct {
	Address  []byte `cbor:"1,keyasint"`
	Original []byte `cbor:"2,keyasint"`
	Notify   uint8  `cbor:"3,keyasint"`
}

func marshalSubmission(s mail.Submission) ([]byte, error) {
	x := submission{From: []byte(s.From), EnvelopeID: []byte(s.EnvelopeID), HeadersOnly: s.HeadersOnly, UTF8: s.UTF8, Recipients: []recipient{}}
	for _, r := range s.Recipients {
		x.Recipients = append(x.Recipients, recipient{[]byte(r.Address), []byte(r.Original), uint8(r.Notify)})
	}
	return wire.Marshal(x)
}

func unmarshalSubmission(b []byte) (s mail.Submission, err error) {
	var x submission
	if err := wire.Unmarshal(b, &x); err != nil {
		return s, err
	}
	s = mail.Submission{From: string(x.From), EnvelopeID: string(x.EnvelopeID), HeadersOnly: x.HeadersOnly, UTF8: x.UTF8}
	for _, r := range x.Recipients {
		s.Recipients = append(s.Recipients, mail.Recipient{Address: string(r.Address), Original: string(r.Original), Notify: mail.Notify(r.Notify)})
	}
	return s, nil
}

// Accept takes responsibility for a submitted message: it is on disk, with its
// recipients, when Accept returns nil. The rows of the outbox and the copy in
// the Sent folder (seen, with its Bcc field) follow at once; a crash does not
// lose them. Of outs MessageID, To, Expires, Notify and Original are read.
func (m *Mailbox) Accept(ctx context.Context, s mail.Submission, message []byte, outs []Outgoing) error {
	if int64(len(message)) > m.maxMessage {
		return mail.ErrTooLarge
	}
	if err := m.accepts.room(ctx); err != nil {
		return err
	}
	now := time.Now()
	a := &accepted{Time: now.UnixMilli(), message: message, tried: make(chan struct{})}
	var err error
	if a.Envelope, err = marshalSubmission(s); err != nil {
		return err
	}
	if a.Outs, err = acceptedOuts(outs); err != nil {
		return err
	}
	sealed := new(bytes.Buffer)
	if err := m.seal(sealed, &a.in.content, message); err != nil {
		return err
	}
	a.Key, a.Sealed, a.Size, a.File = a.in.key[:], a.in.sealed, a.in.size, len(message) > smallMessage
	if a.File {
		if err := m.placeFile(ctx, &a.in.content, sealed.Bytes()); err != nil {
			return storeError(err)
		}
		sealed.Reset()
	}
	if err := m.journalAccepted(ctx, a, sealed); err != nil {
		if a.File {
			m.unlink(a.in.name)
		}
		return err
	}
	// From here the message is accepted, whatever happens.
	m.recent.add(a.in.name, message)
	m.enqueue(a)
	return nil
}

func acceptedOuts(outs []Outgoing) ([]acceptedOut, error) {
	if len(outs) == 0 {
		return nil, errors.New("accepted message without recipients")
	}
	seen := make(map[[16]byte]bool, len(outs))
	all := make([]acceptedOut, len(outs))
	for i, o := range outs {
		if o.MessageID == [16]byte{} || seen[o.MessageID] {
			return nil, errors.New("accepted message with a message id that is missing or used twice")
		}
		seen[o.MessageID] = true
		all[i] = acceptedOut{
			MessageID: o.MessageID[:], Local: []byte(o.To.Local), Root: o.To.Root[:], Original: []byte(o.Original),
			Notify: uint8(o.Notify), Expires: o.Expires.UnixMilli(),
		}
	}
	return all, nil
}

// journalAccepted makes an accepted message last.
func (m *Mailbox) journalAccepted(ctx context.Context, a *accepted, sealed *bytes.Buffer) error {
	plain, err := wire.Marshal(a)
	if err != nil {
		return err
	}
	meta, err := m.sealMeta(recordHeader(recordAccepted, a.in.name), plain)
	if err != nil {
		return err
	}
	if err := m.logContent(ctx, &a.in.content, recordAccepted, sealed, meta); err != nil {
		return err
	}
	a.ref = a.in.ref
	if a.File {
		a.in.ref = journal.Ref{}
	}
	return nil
}

// placeFile writes the file of a message, which lasts when it returns.
func (m *Mailbox) placeFile(ctx context.Context, c *content, sealed []byte) error {
	path := c.name.path(m.dir)
	if err := m.makeMessageDir(ctx, path); err != nil {
		return err
	}
	f, err := createFile(path)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err == nil {
		err = finishFile(f, path)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDirOf(path)
	}
	if err != nil {
		m.unlink(c.name)
	}
	return err
}

// readAccepted reads a record of the journal whose message the index does not know.
func (m *Mailbox) readAccepted(ref journal.Ref, header []byte) (*accepted, error) {
	_, body, err := m.journal.Read(ref)
	if err != nil {
		return nil, err
	}
	_, meta, err := splitRecord(body)
	if err != nil {
		return nil, err
	}
	plain, err := m.openMeta(header, meta)
	if err != nil {
		return nil, fmt.Errorf("accepted message: %w", err)
	}
	a := &accepted{}
	if err := wire.Unmarshal(plain, a); err != nil {
		return nil, fmt.Errorf("accepted message: %w", err)
	}
	a.ref, a.tried = ref, make(chan struct{})
	_, name, _ := parseRecordHeader(header)
	if len(a.Key) != len(identity.FileKey{}) {
		return nil, errors.New("accepted message: key of another size")
	}
	for _, o := range a.Outs {
		if len(o.MessageID) != len(Outgoing{}.MessageID) || len(o.Root) != len(identity.Root{}) {
			return nil, errors.New("accepted message: id or key of another size")
		}
	}
	a.in.content = content{name: name, key: identity.FileKey(a.Key), sealed: a.Sealed, size: a.Size}
	if !a.File {
		a.in.ref = ref
	}
	return a, nil
}

// accepts are the accepted messages that the index does not know yet.
type accepts struct {
	mu      sync.Mutex
	waiting []*accepted
	busy    bool          // a goroutine indexes them
	moved   chan struct{} // closed when some were indexed
	retry   chan struct{} // has a value when it should try again at once
	hurry   chan struct{} // has a value when somebody waits for the index
}

func (q *accepts) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0
}

// room waits until there is room for one more.
func (q *accepts) room(ctx context.Context) error {
	for {
		q.mu.Lock()
		if len(q.waiting) < maxAccepts {
			q.mu.Unlock()
			return nil
		}
		if q.moved == nil {
			q.moved = make(chan struct{})
		}
		moved := q.moved
		q.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enqueue has an accepted message indexed.
func (m *Mailbox) enqueue(a *accepted) {
	q := &m.accepts
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, a)
	m.startAccepts()
}

// startAccepts starts the goroutine that indexes what waits, if it is not at it. The mutex is held. When the mailbox
// is closing, the next Open finds them in the journal.
func (m *Mailbox) startAccepts() {
	if q := &m.accepts; !q.busy && len(q.waiting) > 0 && m.begin() {
		q.busy = true
		go m.indexAccepts()
	}
}

// retryAccepts has another go at what could not be indexed.
func (m *Mailbox) retryAccepts() {
	poke(m.accepts.retry)
	m.accepts.mu.Lock()
	defer m.accepts.mu.Unlock()
	m.startAccepts()
}

// indexAccepts indexes accepted messages until none waits.
func (m *Mailbox) indexAccepts() {
	defer m.end()
	q := &m.accepts
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		m.gather()
		if m.indexWaiting(context.Background()) {
			continue
		}
		t := time.NewTimer(acceptRetry)
		select {
		case <-t.C:
		case <-q.retry:
			t.Stop()
		case <-m.closing:
			t.Stop()
			q.mu.Lock()
			q.busy = false
			q.mu.Unlock()
			return
		}
	}
}

// gather waits for more accepted messages, so that they share a commit, unless somebody waits for those that are there.
func (m *Mailbox) gather() {
	t := time.NewTimer(acceptGather)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.accepts.hurry:
	case <-m.closing:
	}
}

// indexWaiting tries once to index some of the accepted messages that wait; false when none could be.
// One that cannot be, for whatever reason, waits behind the others. Only the goroutine of startAccepts, and Open, call it.
func (m *Mailbox) indexWaiting(ctx context.Context) bool {
	q := &m.accepts
	q.mu.Lock()
	batch := slices.Clone(q.waiting[:min(len(q.waiting), maxBatch)])
	q.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	errs := make([]error, len(batch))
	if err := m.guard(func() error { return m.index(ctx, batch) }); err != nil {
		for i := range batch {
			errs[i] = err
			if len(batch) > 1 {
				errs[i] = m.guard(func() error { return m.index(ctx, batch[i:i+1]) })
			}
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = q.waiting[len(batch):len(q.waiting):len(q.waiting)]
	moved := false
	for i, a := range batch {
		if errs[i] != nil {
			m.log.Error("accepted message not indexed yet", "error", errs[i])
			q.waiting = append(q.waiting, a)
		} else {
			moved = true
		}
		a.err = errs[i]
		select {
		case <-a.tried:
		default:
			close(a.tried)
		}
	}
	if moved && q.moved != nil {
		close(q.moved)
		q.moved = nil
	}
	return moved
}

// settleAccepts waits until what was accepted before is in the outbox, or could
// not be put there for now, the disk being full say: the rest goes on.
func (m *Mailbox) settleAccepts(ctx context.Context) error {
	q := &m.accepts
	q.mu.Lock()
	waiting := q.waiting[:len(q.waiting):len(q.waiting)]
	q.mu.Unlock()
	if len(waiting) > 0 {
		poke(q.hurry)
	}
	for _, a := range waiting {
		select {
		case <-a.tried:
		case <-ctx.Done():
			return ctx.Err()
		case <-m.closing:
			return errClosed
		}
	}
	return nil
}

// Backlog lists what was accepted and has no rows in the outbox yet, since they
// could not be written, the disk being full say. Subjects are not known.
func (m *Mailbox) Backlog(ctx context.Context) (all []Outgoing, err error) {
	if err := m.settleAccepts(ctx); err != nil {
		return nil, err
	}
	q := &m.accepts
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.waiting {
		if a.err == nil { // it has just come
			continue
		}
		for _, o := range a.Outs {
			row := o.row(time.UnixMilli(a.Time))
			row.Size, row.LastError = a.Size, a.err.Error()
			all = append(all, row)
		}
	}
	return all, nil
}

// row is the row of a recipient before any attempt.
func (o *acceptedOut) row(at time.Time) Outgoing {
	return Outgoing{
		MessageID: [16]byte(o.MessageID), To: identity.Address{Local: string(o.Local), Root: identity.Root(o.Root)},
		Original: string(o.Original), Notify: mail.Notify(o.Notify),
		Accepted: at, Expires: time.UnixMilli(o.Expires), State: Accepted, NextAttempt: at,
	}
}

// missing says why there is no row of an id: mail.ErrNoMessage, unless it belongs to a message that waits still.
func (m *Mailbox) missing(id [16]byte) error {
	q := &m.accepts
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.waiting {
		for _, o := range a.Outs {
			if [16]byte(o.MessageID) == id && a.err != nil {
				return fmt.Errorf("accepted message is not in the outbox yet: %w", a.err)
			}
		}
	}
	return mail.ErrNoMessage
}

// contentName finds the bytes of a message that waits.
func (q *accepts) contentName(id [16]byte) (contentName, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range slices.Backward(q.waiting) { // it is asked for when it has just come
		for _, o := range a.Outs {
			if [16]byte(o.MessageID) == id {
				return a.in.name, true
			}
		}
	}
	return contentName{}, false
}

// index puts accepted messages into the index: outbox and Sent folder.
func (m *Mailbox) index(ctx context.Context, batch []*accepted) error {
	for _, a := range batch {
		if a.in.envelope != nil {
			continue
		}
		message := a.message
		if message == nil {
			s, err := m.openAt(&a.in.content)
			if err != nil {
				return err
			}
			message = make([]byte, a.Size)
			_, err = io.ReadFull(io.NewSectionReader(s, 0, a.Size), message)
			if cerr := s.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return err
			}
		}
		a.in.parse(message)
		a.message = nil
	}
	err := m.write(ctx, func(t *tx) error {
		for _, a := range batch {
			if err := t.accept(a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range batch {
		if a.File { // the record has done its work
			m.journal.Free(a.ref)
		}
	}
	return nil
}

// accept puts one accepted message into the index.
func (t *tx) accept(a *accepted) error {
	// One reference is the Sent copy's, one the outbox's.
	if err := t.insert(&a.in, 2); err != nil {
		return err
	}
	f, err := t.byRole(mail.Sent)
	if err != nil {
		return err
	}
	seen, err := t.m.flags.make([]mail.Flag{mail.Seen})
	if err != nil {
		return err
	}
	uid, err := t.add(f, &a.in, seen, time.UnixMilli(a.Time))
	if err != nil {
		return err
	}
	if err := t.c.Exec(`INSERT INTO submission(token, content, envelope, message_id, subject, size, accepted, open, folder, uid)
		VALUES(?,?,?,?,?,?,?,?,?,?)`, a.in.name[:], a.in.id, a.Envelope, a.in.messageID, mime.DecodeHeader(a.in.subject), a.Size,
		a.Time, len(a.Outs), f.id, uint32(uid)); err != nil {
		return err
	}
	id := t.c.LastID()
	for i, o := range a.Outs {
		row := o.row(time.UnixMilli(a.Time))
		row.Submission = id
		if err := t.insertOutgoing(&row, i); err != nil {
			return err
		}
	}
	return nil
}
