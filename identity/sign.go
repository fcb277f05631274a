package identity

import (
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/peerpost/peerpost/internal/wire"
)

// Context names the kind of thing that a signature is for. It is the context of Ed25519ctx (RFC 8032, section 5.1),
// so a signature made for one kind is worthless for every other.
type Context string

// The contexts. There are no others, and no key signs without one.
const (
	ContextRoster         Context = "peerpost roster"
	ContextRecord         Context = "peerpost record"
	ContextMessage        Context = "peerpost message"
	ContextAccess         Context = "peerpost access"
	ContextDelete         Context = "peerpost delete"
	ContextStorageReceipt Context = "peerpost storage receipt"
)

// ErrSignature reports a signature that does not hold.
var ErrSignature = errors.New("signature does not hold")

// Public is an Ed25519 public key: of a device, or one that fetches or deletes mail.
type Public [32]byte

// String is the key in hexadecimal.
func (p Public) String() string { return hex.EncodeToString(p[:]) }

// IsZero tells whether p was never set.
func (p Public) IsZero() bool { return p == Public{} }

func publicOf(k ed25519.PrivateKey) Public { return Public(k.Public().(ed25519.PublicKey)) }

// Signature signs payload for the context and returns the bare signature of 64 bytes.
func Signature(c Context, priv ed25519.PrivateKey, payload []byte) []byte {
	sig, err := priv.Sign(nil, payload, &ed25519.Options{Hash: crypto.Hash(0), Context: string(c)})
	if err != nil {
		panic("identity: sign: " + err.Error()) // only for a context of more than 255 bytes
	}
	return sig
}

// smallOrder are the y coordinates (little-endian, without the sign of x) of the points whose order divides 8, in every
// encoding that the library takes: 0, 1, the two of order 8, p-1, p and p+1. Such a key has no secret: one signature
// that anybody can make holds for every payload, or for one payload of eight.
var smallOrder = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func isSmallOrder(pub Public) bool {
	pub[31] &= 0x7f
	return slices.Contains(smallOrder[:], pub.String())
}

// VerifySignature checks what Signature made. Keys of small order, for which anybody can sign, have signed nothing. Its
// errors are ErrSignature.
func VerifySignature(c Context, pub Public, payload, signature []byte) error {
	if isSmallOrder(pub) {
		return fmt.Errorf("%s: %w: the key is of small order", c, ErrSignature)
	}
	err := ed25519.VerifyWithOptions(pub[:], payload, signature, &ed25519.Options{Hash: crypto.Hash(0), Context: string(c)})
	if err != nil {
		return fmt.Errorf("%s: %w", c, ErrSignature)
	}
	return nil
}

// Sign signs payload and returns the encoding of [payload, signature].
func Sign(c Context, priv ed25519.PrivateKey, payload []byte) []byte {
	return wire.JoinSigned(payload, Signature(c, priv, payload))
}

// Verify takes [payload, signature] apart, checks the signature over the payload's bytes as they are, and returns
// them; they lie inside signed.
func Verify(c Context, pub Public, signed []byte) ([]byte, error) {
	payload, sig, err := wire.SplitSigned(signed)
	if err != nil {
		return nil, err
	}
	if err := VerifySignature(c, pub, payload, sig); err != nil {
		return nil, err
	}
	return payload, nil
}

// open decodes the payload of signed into v, asks v which key must have signed it, and checks that. Nothing may be
// done with v after an error.
func open[T any](c Context, signed []byte, v *T, signer func(*T) Public) error {
	payload, sig, err := wire.SplitSigned(signed)
	if err != nil {
		return err
	}
	if err := wire.Unmarshal(payload, v); err != nil {
		return err
	}
	return VerifySignature(c, signer(v), payload, sig)
}

// encode is wire.Marshal for types of this package, which all have an encoding.
func encode(v any) []byte {
	b, err := wire.Marshal(v)
	if err != nil {
		panic("identity: " + err.Error())
	}
	return b
}
