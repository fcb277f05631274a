package sealed

import (
	"errors"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
)

// MaxInner is how much the inner part may hold besides the message itself, in bytes: a roster, a record, and what
// else it says about the message.
const MaxInner = identity.MaxRoster + identity.MaxRecord + 1024

// Kind says what the body of a message is.
type Kind uint8

// The kinds.
const (
	KindMail    Kind = 1 // an RFC 5322 message
	KindReceipt Kind = 2 // a Receipt
)

// Inner is what the sender signs. Seal fills in the fields that bind it to its sender, its keys and its outer part;
// Open has checked all of them.
type Inner struct {
	Kind         Kind            `cbor:"1,keyasint"`
	From         identity.Root   `cbor:"2,keyasint"` // by Seal
	Device       identity.Public `cbor:"3,keyasint"` // by Seal
	Roster       []byte          `cbor:"4,keyasint"` // by Seal: signed by From, names Device
	To           identity.Root   `cbor:"5,keyasint"`
	SealingHash  [32]byte        `cbor:"6,keyasint"`            // by Seal: SHA-256 of the sealing key used
	Inbox        identity.Inbox  `cbor:"7,keyasint"`            // by Seal: as in the outer part
	Epoch        identity.Epoch  `cbor:"8,keyasint"`            // by Seal: as in the outer part
	MessageID    [16]byte        `cbor:"9,keyasint"`            // random; stays when the message is sealed again
	Time         int64           `cbor:"10,keyasint"`           // Unix seconds
	Expiry       identity.Day    `cbor:"11,keyasint"`           // as in the outer part
	Recipient    string          `cbor:"12,keyasint"`           // local part of the envelope recipient; empty but for mail
	BodyHash     [32]byte        `cbor:"13,keyasint"`           // by Seal: SHA-256 of Body
	SenderRecord []byte          `cbor:"14,keyasint,omitempty"` // the sender's record, when it may be new to the recipient

	Body []byte `cbor:"-"` // what Kind says
}

// SenderRoster is the roster that the message is signed under. Whether a newer one is known is the caller's to check
// (identity.Pin.AcceptRoster).
func (in *Inner) SenderRoster() (*identity.Roster, error) { return identity.ParseRoster(in.Roster) }

// Record is the sender's record, when the message carries one, and otherwise nil. Open does not look at it: a bad
// record is no reason to lose a message.
func (in *Inner) Record() (*identity.Record, error) {
	if len(in.SenderRecord) == 0 {
		return nil, nil
	}
	r, err := identity.ParseRecord(in.SenderRecord)
	if err != nil {
		return nil, err
	}
	if r.Root() != in.From {
		return nil, errors.New("the record with the message is of another person")
	}
	return r, nil
}

// check looks at the limits, which hold for both ends.
func (in *Inner) check() error {
	if in.Kind != KindMail && in.Kind != KindReceipt {
		return fmt.Errorf("kind %d is not known", in.Kind)
	}
	if in.Recipient != "" && !identity.ValidLocal(in.Recipient) {
		return errors.New("the recipient is not a local part")
	}
	if in.To.IsZero() || in.MessageID == [16]byte{} {
		return errors.New("there is no recipient or no message id")
	}
	if len(in.SenderRecord) > identity.MaxRecord {
		return fmt.Errorf("the sender's record has %d bytes, limit %d", len(in.SenderRecord), identity.MaxRecord)
	}
	limit := MaxMessage
	if in.Kind == KindReceipt {
		limit = MaxReceipt
	}
	if len(in.Body) > limit {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(in.Body), limit)
	}
	if !identity.ValidTime(in.Time) {
		return errors.New("it is dated beyond all time")
	}
	if in.Expiry > identity.DayAt(time.Unix(in.Time, 0).Add(identity.MessageLife)) {
		return errors.New("it expires too long after its date")
	}
	return nil
}
