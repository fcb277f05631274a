package submission

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/peerpost/peerpost/internal/mail"
)

// Lengths of what a client wants to read in a DSN, in bytes (RFC 3461, 4.2 and 4.4).
const (
	maxOriginal   = 500
	maxEnvelopeID = 100
)

// session is what go-smtp calls for one connection. Data of a chunked message
// (RFC 3030) runs beside the other methods, so mu guards what both see.
type session struct {
	srv      *Server
	conn     *conn
	failures int // wrong passwords

	mu      sync.Mutex
	box     Submitter       // nil before the login
	granted context.Context // nil, or ends with the password of the login
	keep    func() bool     // nil, or keeps that from ending a session that has ended
	tx      *transaction    // nil before MAIL
}

// transaction is a message on its way. Reset drops it; whoever still holds it
// finds that it is no longer the session's.
type transaction struct {
	envelope mail.Submission
	size     int64 // as declared, 0 when not
	reading  bool  // Data is at work
	aborted  bool  // it broke off in the middle of a message in chunks, before Reset was told
	read     bool  // Data has ended
}

func (s *session) log() *slog.Logger {
	return s.srv.cfg.Log.With("remote", s.conn.RemoteAddr().String())
}

// state returns what the session is at, or the answer that it is not ready.
func (s *session) state() (Submitter, *transaction, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.box == nil {
		return nil, nil, answerLogin
	}
	if s.granted != nil && s.granted.Err() != nil {
		return nil, nil, answerRemoved
	}
	return s.box, s.tx, nil
}

// refuse makes the answer to a client and logs what is for the owner.
func (s *session) refuse(at stage, err error) error {
	a, told := refusal(at, err)
	if !told {
		s.log().Error("a submission failed", "error", err)
	} else if cause := errors.Unwrap(err); cause != nil {
		s.log().Info("a submission was refused", "code", a.Code, "error", cause)
	}
	return a
}

// Mail begins a message.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	box, tx, err := s.state()
	if err != nil {
		return err
	}
	if tx != nil {
		return answerNested
	}
	if from != "" { // <> is the return path of receipts
		if from, err = checkAddress(from, opts.UTF8); err != nil {
			return badAddress(err, smtp.EnhancedCode{5, 1, 7})
		}
	}
	if len(opts.EnvelopeID) > maxEnvelopeID {
		return answerEnvelopeID
	}
	if opts.Size > s.srv.maxMessage(box) {
		return answerTooLarge
	}
	ctx, cancel := context.WithTimeout(s.srv.base, lookupTime)
	defer cancel()
	if err := box.CheckSender(ctx, from); err != nil {
		return s.refuse(atMail, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = &transaction{
		envelope: mail.Submission{
			From:        from,
			EnvelopeID:  opts.EnvelopeID,
			HeadersOnly: opts.Return == smtp.DSNReturnHeaders,
			UTF8:        opts.UTF8,
		},
		size: opts.Size,
	}
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	box, tx, err := s.state()
	if err != nil {
		return err
	}
	if tx == nil {
		return answerNoMail
	}
	if to, err = checkAddress(to, tx.envelope.UTF8); err != nil {
		return badAddress(err, smtp.EnhancedCode{5, 1, 3})
	}
	recipient := mail.Recipient{Address: to}
	if opts.OriginalRecipient != "" {
		recipient.Original = strings.ToLower(string(opts.OriginalRecipientType)) + ";" + opts.OriginalRecipient
		if len(recipient.Original) > maxOriginal || hasControl(recipient.Original) {
			return answerOriginal
		}
	}
	for _, n := range opts.Notify {
		recipient.Notify |= notifyBits[n]
	}
	// The second mention of an address gets no second copy.
	known := func(r mail.Recipient) bool { return r.Address == to }
	if slices.ContainsFunc(tx.envelope.Recipients, known) {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.srv.base, lookupTime)
	defer cancel()
	if err := box.CheckRecipient(ctx, to, tx.size); err != nil {
		return s.refuse(atRcpt, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	tx.envelope.Recipients = append(tx.envelope.Recipients, recipient)
	return nil
}

var notifyBits = map[smtp.DSNNotify]mail.Notify{
	smtp.DSNNotifyNever:   mail.NotifyNever,
	smtp.DSNNotifySuccess: mail.NotifySuccess,
	smtp.DSNNotifyFailure: mail.NotifyFailure,
	smtp.DSNNotifyDelayed: mail.NotifyDelay,
}

// Data reads the message and submits it.
func (s *session) Data(r io.Reader) error {
	if !s.srv.beginReading() {
		return answerLost
	}
	defer s.srv.readers.Done()
	defer s.conn.work()()
	box, tx, err := s.state()
	if err != nil {
		return err
	}
	if tx == nil {
		return answerNoMail
	}
	s.mu.Lock()
	tx.reading = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		tx.read = true
		s.mu.Unlock()
	}()
	b := body{budget: &s.srv.budget}
	defer b.release()
	params := bodyParams{declared: tx.size, max: s.srv.maxMessage(box)}
	direct := false
	if _, chunked := r.(*io.PipeReader); !chunked {
		params.stuffed = true
		if d, ok := s.conn.direct(); ok {
			r, direct = d, true
		}
	}
	if err := b.read(r, params); err != nil {
		if errors.Is(err, smtp.ErrDataReset) {
			s.mu.Lock()
			tx.aborted = true
			s.mu.Unlock()
		}
		answer := s.broken(err)
		if direct { // else the library reads on to the end
			b.release()
			io.Copy(io.Discard, r)
		}
		return answer
	}
	// Of a chunked message, this runs beside the commands until LAST has come,
	// and Reset may have been one of them. And a password may be removed at any
	// time.
	_, now, err := s.state()
	if err != nil {
		return err
	}
	if now != tx {
		return answerLost
	}
	s.mu.Lock()
	envelope := tx.envelope
	s.mu.Unlock()
	s.conn.flush(writeTime)
	ctx, cancel := context.WithTimeout(s.srv.base, submitTime)
	defer cancel()
	if err := box.Submit(ctx, envelope, b.buf); err != nil {
		return s.refuse(atData, err)
	}
	return nil
}

// broken makes the answer to a message that could not be read.
func (s *session) broken(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return answerTooLarge
	case errors.Is(err, errNoMemory):
		return answerNoMemory
	case errors.Is(err, errNUL):
		return answerNUL
	case errors.Is(err, errAmbiguous):
		s.conn.cutOff()
		return answerAmbiguous
	case errors.Is(err, smtp.ErrTooLongLine):
		s.conn.cutOff()
		return answerLongLine
	case errors.Is(err, smtp.ErrDataReset):
		return answerLost
	}
	// What comes after a body that broke off must never be read as commands.
	s.conn.cutOff()
	return answerLost
}

// Reset drops the message. When the client takes a message in chunks back, the
// library's reader of the chunks ends some time later, and what it found may
// become the answer to the next message. So there is no next message then.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.tx
	s.tx = nil
	if tx == nil {
		return
	}
	chunks := s.conn.chunked()
	if tx.aborted || !tx.read && (tx.reading || chunks.begun) || chunks.last {
		s.conn.hangUp(sayTakenBack)
	}
}

// Logout is called when the connection ends.
func (s *session) Logout() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx = nil
	if s.keep != nil {
		s.keep()
	}
	return nil
}

// badAddress makes the answer to an address that checkAddress refused.
func badAddress(err error, syntax smtp.EnhancedCode) error {
	switch {
	case errors.Is(err, errAddressUTF8):
		return answer(553, smtp.EnhancedCode{5, 6, 7}, "The address has characters beyond ASCII, which needs SMTPUTF8")
	case errors.Is(err, errAddressLong):
		return answer(553, syntax, "The address is too long: 64 bytes before the @ and 254 in all")
	}
	return answer(553, syntax, "This is not a mail address")
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || 0x7F <= r && r < 0xA0 || r == '\uFFFD' })
}
