package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"filippo.io/age"
	"github.com/btcsuite/btcd/btcutil/bech32"
)

// SealingSize is the length of a public sealing key in bytes: ML-KEM-768 (1,184) and X25519 (32), the raw form of an
// age hybrid recipient.
const SealingSize = 1216

const (
	recipientPrefix = "age1pq"
	identityPrefix  = "AGE-SECRET-KEY-PQ-"
)

// KeySet is the public half of what one inbox takes: to seal mail for it, to find it, to recognise its deletion.
type KeySet struct {
	_       struct{} `cbor:",toarray"`
	Sealing []byte   // raw hybrid public key, SealingSize bytes
	Fetch   Public   // its private half lists and gets
	Delete  Public   // its private half deletes
}

// Inbox is what the mail sealed to this set waits under.
func (k KeySet) Inbox() Inbox { return InboxOf(k.Fetch, k.Delete) }

// SealingHash is the SHA-256 of the raw sealing key. A message names it, so that it cannot be sealed again to
// another.
func (k KeySet) SealingHash() [32]byte { return sha256.Sum256(k.Sealing) }

// Recipient is the sealing key as age wants it. It fails when the bytes are no such key.
func (k KeySet) Recipient() (*age.HybridRecipient, error) { return recipientFromRaw(k.Sealing) }

// Equal tells whether both sets have the same keys.
func (k KeySet) Equal(o KeySet) bool {
	return k.Fetch == o.Fetch && k.Delete == o.Delete && bytes.Equal(k.Sealing, o.Sealing)
}

func (k KeySet) check() error {
	if len(k.Sealing) != SealingSize {
		return fmt.Errorf("sealing key has %d bytes instead of %d", len(k.Sealing), SealingSize)
	}
	return nil
}

// secretSeeds is what a set of secrets is made of, and the form in which it is kept.
type secretSeeds struct {
	_       struct{} `cbor:",toarray"`
	Sealing [32]byte
	Fetch   [32]byte
	Delete  [32]byte
}

func randomSeeds() (s secretSeeds) {
	rand.Read(s.Sealing[:])
	rand.Read(s.Fetch[:])
	rand.Read(s.Delete[:])
	return s
}

// Secrets is the private half of a KeySet. It prints as "secrets(redacted)".
type Secrets struct {
	Fetch  ed25519.PrivateKey // lists, gets and watches
	Delete ed25519.PrivateKey // deletes

	seeds   secretSeeds
	sealing func() *age.HybridIdentity
	public  func() KeySet
}

func newSecrets(seeds secretSeeds) *Secrets {
	s := &Secrets{
		Fetch:  ed25519.NewKeyFromSeed(seeds.Fetch[:]),
		Delete: ed25519.NewKeyFromSeed(seeds.Delete[:]),
		seeds:  seeds,
	}
	s.sealing = sync.OnceValue(func() *age.HybridIdentity { return identityFromSeed(seeds.Sealing) })
	s.public = sync.OnceValue(func() KeySet {
		return KeySet{Sealing: rawRecipient(s.sealing().Recipient()), Fetch: publicOf(s.Fetch), Delete: publicOf(s.Delete)}
	})
	return s
}

// Sealing is the age identity that opens what was sealed to this set.
func (s *Secrets) Sealing() *age.HybridIdentity { return s.sealing() }

// Public is the public half. Its bytes are shared: do not change them.
func (s *Secrets) Public() KeySet { return s.public() }

// Inbox is what the mail for these secrets waits under.
func (s *Secrets) Inbox() Inbox { return InboxOf(publicOf(s.Fetch), publicOf(s.Delete)) }

// Format keeps the secrets out of every verb of fmt.
func (s *Secrets) Format(f fmt.State, _ rune) { fmt.Fprint(f, "secrets(redacted)") }

// identityFromSeed makes the age identity whose raw private key is seed. age takes such keys as text only.
func identityFromSeed(seed [32]byte) *age.HybridIdentity {
	id, err := age.ParseHybridIdentity(identityString(seed))
	if err != nil {
		panic("identity: every seed is a hybrid private key: " + err.Error())
	}
	return id
}

func identityString(seed [32]byte) string {
	s, err := bech32.EncodeFromBase256(identityPrefix, seed[:])
	if err != nil {
		panic("identity: bech32: " + err.Error())
	}
	return strings.ToUpper(s)
}

func recipientFromRaw(raw []byte) (*age.HybridRecipient, error) {
	if len(raw) != SealingSize {
		return nil, fmt.Errorf("sealing key has %d bytes instead of %d", len(raw), SealingSize)
	}
	s, err := bech32.EncodeFromBase256(recipientPrefix, raw)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	r, err := age.ParseHybridRecipient(s)
	if err != nil {
		return nil, errors.New("sealing key is not a hybrid public key") // age's text repeats the whole key
	}
	return r, nil
}

func rawRecipient(r *age.HybridRecipient) []byte {
	// DecodeNoLimit, because a recipient is far longer than the 90 characters of BIP 173.
	_, five, err := bech32.DecodeNoLimit(r.String())
	if err != nil {
		panic("identity: age wrote a recipient that is not bech32: " + err.Error())
	}
	raw, err := bech32.ConvertBits(five, 5, 8, false)
	if err != nil || len(raw) != SealingSize {
		panic("identity: age wrote a recipient of another size")
	}
	return raw
}
