package sealed

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/wire"
)

var (
	// ErrNoKey reports a message to an inbox whose keys are not held: it is for somebody else, or too old.
	ErrNoKey = errors.New("no key for this inbox")
	// ErrMalformed reports a message that its sender cannot have made with honest software, or that is damaged.
	ErrMalformed = errors.New("malformed message")
	// ErrBinding reports a message whose signed part was made for another recipient, key, inbox, epoch or expiry.
	ErrBinding = errors.New("message was made for another place")
	// ErrForged reports a message whose sender is not proven: the signature or the roster does not hold.
	ErrForged = errors.New("sender is not proven")
	// ErrFuture reports a message that is dated more than a day in the future.
	ErrFuture = errors.New("message is dated in the future")
	// ErrTooLarge reports a message above MaxMessage.
	ErrTooLarge = errors.New("message is too large")
)

// lengthSize is the size of the length that a plaintext begins with, in bytes.
const lengthSize = 4

// Message is a sealed message as it travels.
type Message struct {
	Outer Outer
	Body  []byte // an age file
}

// Seal signs in with the account's device and seals it to the keys of a recipient, which KeysAt of their record
// chose together with the epoch. It sets the fields of in that bind it (see Inner), and, where they are zero,
// MessageID to a random one, Time to now and Expiry to 30 days from Time. The caller sets Kind, To, Recipient and
// Body. The message has no stamp.
func Seal(kr *identity.Keyring, in *Inner, to identity.KeySet, e identity.Epoch) (*Message, error) {
	if in.MessageID == [16]byte{} {
		rand.Read(in.MessageID[:])
	}
	if in.Time == 0 {
		in.Time = time.Now().Unix()
	}
	if in.Expiry == 0 {
		in.Expiry = identity.DayAt(time.Unix(in.Time, 0).Add(identity.MessageLife - 24*time.Hour))
	}
	in.From, in.Device, in.Roster = kr.Root(), kr.Device(), kr.Roster().Bytes()
	in.SealingHash, in.Inbox, in.Epoch = to.SealingHash(), to.Inbox(), e
	in.BodyHash = sha256.Sum256(in.Body)
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	recipient, err := kr.Recipient(to)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	fields, err := wire.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	signed := wire.JoinSigned(fields, kr.Sign(identity.ContextMessage, fields))
	body, err := encrypt(recipient, signed, in.Body)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Message{
		Outer: Outer{
			Version: outerVersion,
			Suite:   suite,
			Inbox:   in.Inbox,
			Epoch:   e,
			Expiry:  in.Expiry,
			Hash:    sha256.Sum256(body),
			Size:    uint64(len(body)),
		},
		Body: body,
	}, nil
}

// encrypt writes length, inner part and padding as an age file.
func encrypt(to age.Recipient, signed, mail []byte) ([]byte, error) {
	head, middle := wire.PairParts(len(signed), len(mail))
	size := len(head) + len(signed) + len(middle) + len(mail)
	padded := Padme(lengthSize + size)
	var length [lengthSize]byte
	binary.BigEndian.PutUint32(length[:], uint32(size))

	var out bytes.Buffer
	out.Grow(padded + padded>>12 + maxHeader) // age adds 16 bytes to each 64 KiB
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, padded-lengthSize-size)
	for _, part := range [][]byte{length[:], head, signed, middle, mail, zeros} {
		if _, err := w.Write(part); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Open opens a message now. See OpenAt.
func Open(kr *identity.Keyring, m *Message) (*Inner, error) { return OpenAt(kr, m, time.Now()) }

// OpenAt opens a message and checks all of it: the body against the outer part, the age file to its end, the
// padding, the roster and the signature, and that the inner part is meant for this person, this key, this inbox,
// this epoch and this expiry. It does not refuse a message for having expired, nor for a roster older than one that
// the caller may know (identity.Pin).
//
// Its errors are ErrNoKey, ErrMalformed, ErrForged, ErrBinding and ErrFuture. All but ErrNoKey are for ever, except
// that ErrFuture passes with time.
func OpenAt(kr *identity.Keyring, m *Message, now time.Time) (*Inner, error) {
	o := &m.Outer
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if uint64(len(m.Body)) != o.Size || sha256.Sum256(m.Body) != o.Hash {
		return nil, fmt.Errorf("%w: the body is not the one that the outer part names", ErrMalformed)
	}
	secrets, epoch, ok := kr.SecretsByInbox(o.Inbox)
	if !ok {
		return nil, fmt.Errorf("%w: %s, epoch %d", ErrNoKey, o.Inbox, o.Epoch)
	}
	keys := secrets.Public()
	if o.Epoch != epoch {
		return nil, fmt.Errorf("%w: the outer part names another epoch than the inbox has", ErrBinding)
	}
	plain, err := decrypt(secrets.Sealing(), m.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	in, fields, signature, err := parsePlaintext(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := in.proven(kr, fields, signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForged, err)
	}
	switch {
	case in.To != kr.Root():
		return nil, fmt.Errorf("%w: it is addressed to somebody else", ErrBinding)
	case in.SealingHash != keys.SealingHash():
		return nil, fmt.Errorf("%w: it was signed for another sealing key", ErrBinding)
	case in.Inbox != o.Inbox:
		return nil, fmt.Errorf("%w: it was signed for another inbox", ErrBinding)
	case in.Epoch != o.Epoch:
		return nil, fmt.Errorf("%w: it was signed for another epoch", ErrBinding)
	case in.Expiry != o.Expiry:
		return nil, fmt.Errorf("%w: it was signed for another expiry", ErrBinding)
	case in.Time > now.Add(identity.ClockTolerance).Unix():
		return nil, ErrFuture
	}
	return in, nil
}

// parsePlaintext reads a plaintext and checks all that needs no key: padding, encoding, limits, the hash of the mail.
// The mail is not copied, it lies inside plain. The signature over the fields is still to be verified.
func parsePlaintext(plain []byte) (in *Inner, fields, signature []byte, err error) {
	inner, err := unpad(plain)
	if err != nil {
		return nil, nil, nil, err
	}
	signed, mail, err := wire.SplitPair(inner)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("inner part: %w", err)
	}
	if len(signed) > MaxInner {
		return nil, nil, nil, fmt.Errorf("inner part: %d bytes beside the mail, limit %d", len(signed), MaxInner)
	}
	fields, signature, err = wire.SplitSigned(signed)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("inner part: %w", err)
	}
	in = new(Inner)
	if err := wire.Unmarshal(fields, in); err != nil {
		return nil, nil, nil, fmt.Errorf("inner part: %w", err)
	}
	if sha256.Sum256(mail) != in.BodyHash {
		return nil, nil, nil, errors.New("inner part: the mail is not the one that was signed")
	}
	in.Body = mail
	if err := in.check(); err != nil {
		return nil, nil, nil, fmt.Errorf("inner part: %w", err)
	}
	return in, fields, signature, nil
}

// proven checks that the roster is signed by the sender's root, that it names the device, and that the device has
// signed the fields.
func (in *Inner) proven(kr *identity.Keyring, fields, signature []byte) error {
	roster, err := kr.ParseRoster(in.Roster)
	if err != nil {
		return err
	}
	if roster.Root != in.From {
		return errors.New("the roster is of another person")
	}
	if !roster.Allows(in.Device, time.Unix(in.Time, 0)) {
		return errors.New("the device is not in the roster")
	}
	return identity.VerifySignature(identity.ContextMessage, in.Device, fields, signature)
}

// decrypt opens the age file, all of it: nothing is released before its last byte is authenticated.
func decrypt(id age.Identity, body []byte) ([]byte, error) {
	if err := checkHeader(body); err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(body), id)
	if err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	var plain bytes.Buffer
	plain.Grow(len(body))
	if _, err := plain.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	return plain.Bytes(), nil
}

// unpad takes the inner part out of a plaintext.
func unpad(plain []byte) ([]byte, error) {
	if len(plain) < minPlaintext {
		return nil, errors.New("plaintext is shorter than any that was padded")
	}
	n := uint64(binary.BigEndian.Uint32(plain))
	if n > uint64(len(plain)-lengthSize) {
		return nil, errors.New("plaintext is shorter than it says")
	}
	inner, padding := plain[lengthSize:lengthSize+n], plain[lengthSize+n:]
	if len(plain) != Padme(lengthSize+len(inner)) {
		return nil, errors.New("padding has another length than it must")
	}
	for _, b := range padding {
		if b != 0 {
			return nil, errors.New("padding is not zero")
		}
	}
	return inner, nil
}
