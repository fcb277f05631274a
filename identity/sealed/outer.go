package sealed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/wire"
)

const (
	// MaxOuter is the size of an outer part in bytes; one has about 100.
	MaxOuter = 512
	// MaxMessage is the size of the largest RFC 5322 message in bytes.
	MaxMessage = 40 << 20
	// MaxBody is the size of the largest body in bytes: the largest message with what is said about it (MaxInner),
	// padded to 41 MiB, and age's header and 16 bytes for each 64 KiB.
	MaxBody = 42 << 20
	// MinBody is the size of the smallest body in bytes: 4 KiB of plaintext sealed by age.
	MinBody = minPlaintext + ageOverhead

	outerVersion = 1
	suite        = 1 // Ed25519ctx, age with mlkem768x25519, SHA-256
)

// ID names a sealed message. It covers everything about it but the stamp.
type ID [32]byte

// String is the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Outer is what holders see of a message.
type Outer struct {
	Version uint8          `cbor:"1,keyasint"`
	Suite   uint8          `cbor:"2,keyasint"`
	Inbox   identity.Inbox `cbor:"3,keyasint"` // under which it waits
	Epoch   identity.Epoch `cbor:"4,keyasint"` // identity.FallbackEpoch: sealed to the fallback set
	Expiry  identity.Day   `cbor:"5,keyasint"` // the last day on which it is kept
	Hash    [32]byte       `cbor:"6,keyasint"` // SHA-256 of the body
	Size    uint64         `cbor:"7,keyasint"` // of the body in bytes
	Stamp   *Stamp         `cbor:"8,keyasint,omitempty"`
}

// ID is SHA-256("peerpost message" ‖ encoding of the outer part without its stamp).
func (o *Outer) ID() ID {
	bare := *o
	bare.Stamp = nil
	return sha256.Sum256(append([]byte("peerpost message"), bare.Marshal()...))
}

// Marshal is the encoding of the outer part.
func (o *Outer) Marshal() []byte {
	b, err := wire.Marshal(o)
	if err != nil {
		panic("sealed: " + err.Error())
	}
	return b
}

// ParseOuter reads an outer part. It checks what needs no clock: version, suite and size.
func ParseOuter(b []byte) (Outer, error) {
	if len(b) > MaxOuter {
		return Outer{}, fmt.Errorf("outer part has %d bytes, limit %d", len(b), MaxOuter)
	}
	var o Outer
	if err := wire.Unmarshal(b, &o); err != nil {
		return Outer{}, fmt.Errorf("outer part: %w", err)
	}
	if err := o.check(); err != nil {
		return Outer{}, err
	}
	return o, nil
}

func (o *Outer) check() error {
	if o.Version != outerVersion || o.Suite != suite {
		return fmt.Errorf("outer part: version %d, suite %d is not known", o.Version, o.Suite)
	}
	if o.Size < MinBody || o.Size > MaxBody {
		return fmt.Errorf("outer part: body of %d bytes, and %d to %d are allowed", o.Size, MinBody, MaxBody)
	}
	return nil
}

// ErrExpired reports a message whose last day is over.
var ErrExpired = errors.New("message has expired")

// Check tells whether a holder should take the message at now. Clocks may be a day off: it is refused with
// ErrExpired from a day after its last day, and also when it wants to be kept for more than identity.MessageLife, or
// names an epoch after the next.
func (o *Outer) Check(now time.Time) error {
	if err := o.check(); err != nil {
		return err
	}
	if !now.Before(o.Expiry.End().Add(identity.ClockTolerance)) {
		return fmt.Errorf("%w on %s", ErrExpired, o.Expiry.End().AddDate(0, 0, -1).Format(time.DateOnly))
	}
	if o.Expiry > identity.DayAt(now.Add(identity.MessageLife)) {
		return errors.New("message expires too far in the future")
	}
	if o.Epoch > identity.EpochAt(now)+1 {
		return errors.New("message names an epoch in the future")
	}
	return nil
}

// DeletedBy tells whether the tombstone deletes this message: same inbox, and its id and expiry in the list.
func (o *Outer) DeletedBy(t *identity.Tombstone) bool {
	if t.Inbox() != o.Inbox {
		return false
	}
	id := o.ID()
	for _, i := range t.Items {
		if i.ID == id && i.Expiry == o.Expiry {
			return true
		}
	}
	return false
}

// Stamped tells whether the stamp is worth what a body of this size costs, and extra bits more.
func (o *Outer) Stamped(extra int) bool {
	return o.Stamp != nil && o.Stamp.Valid(o.ID(), StampBits(int(o.Size))+extra)
}
