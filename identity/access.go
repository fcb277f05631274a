package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

// The operations that an Access may name.
const (
	OpList  = "list"
	OpGet   = "get"
	OpWatch = "watch"
)

const (
	// MaxAccess is the size of a signed access proof in bytes; one with all its ids has about 34,300.
	MaxAccess = 36 << 10
	// MaxAccessIDs is how many messages one proof may name.
	MaxAccessIDs = 1000

	maxOp = 16 // bytes
)

// ErrAccess reports a proof that is not for this holder, this nonce or this time.
var ErrAccess = errors.New("access proof is for another occasion")

// Access proves to one holder, on one occasion, that its maker has the fetch key of an inbox: that of the two keys it
// names.
type Access struct {
	Op     string     `cbor:"1,keyasint"`
	Fetch  Public     `cbor:"2,keyasint"` // by SignAccess: its private half signs
	Delete Public     `cbor:"3,keyasint"` // that goes with it
	Holder []byte     `cbor:"4,keyasint"` // peer id of the holder that is asked
	Nonce  [32]byte   `cbor:"5,keyasint"` // that the holder drew for this stream
	Time   int64      `cbor:"6,keyasint"` // Unix seconds
	IDs    [][32]byte `cbor:"7,keyasint"` // of the messages meant, or none for the whole inbox
}

// Inbox is the inbox that the proof opens.
func (a *Access) Inbox() Inbox { return InboxOf(a.Fetch, a.Delete) }

// SignAccess signs a with the fetch key. It panics when a exceeds the limits, which the caller keeps.
func SignAccess(priv ed25519.PrivateKey, a Access) []byte {
	a.Fetch = publicOf(priv)
	if err := a.check(); err != nil {
		panic("identity: sign access: " + err.Error())
	}
	return Sign(ContextAccess, priv, encode(a))
}

// VerifyAccess reads a proof and checks its signature by the fetch key it names, and that it was made for this holder,
// with the nonce that the holder drew, within a day of now. The operation, the inbox and the ids are the caller's to
// look at. Its errors are ErrSignature, ErrAccess, or say what is malformed.
func VerifyAccess(proof, holder []byte, nonce [32]byte, now time.Time) (*Access, error) {
	if len(proof) > MaxAccess {
		return nil, fmt.Errorf("access proof has %d bytes, limit %d", len(proof), MaxAccess)
	}
	var a Access
	if err := open(ContextAccess, proof, &a, func(a *Access) Public { return a.Fetch }); err != nil {
		return nil, fmt.Errorf("access proof: %w", err)
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	if !bytes.Equal(a.Holder, holder) {
		return nil, fmt.Errorf("%w: it names another holder", ErrAccess)
	}
	if a.Nonce != nonce {
		return nil, fmt.Errorf("%w: it names another nonce", ErrAccess)
	}
	if d := now.Unix() - a.Time; d > daySeconds || d < -daySeconds {
		return nil, fmt.Errorf("%w: it was made more than a day from now", ErrAccess)
	}
	return &a, nil
}

func (a *Access) check() error {
	if len(a.Op) == 0 || len(a.Op) > maxOp {
		return fmt.Errorf("access proof: the operation has %d bytes, and 1 to %d are allowed", len(a.Op), maxOp)
	}
	if len(a.Holder) == 0 || len(a.Holder) > MaxPeer {
		return fmt.Errorf("access proof: the holder has %d bytes, and 1 to %d are allowed", len(a.Holder), MaxPeer)
	}
	if !ValidTime(a.Time) {
		return errors.New("access proof: it is dated beyond all time")
	}
	if len(a.IDs) > MaxAccessIDs {
		return fmt.Errorf("access proof: it names %d messages, limit %d", len(a.IDs), MaxAccessIDs)
	}
	return nil
}
