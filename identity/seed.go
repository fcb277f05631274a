package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39"
)

// ErrWords reports recovery words that are not 24, not of the list, or not in the order that was shown.
var ErrWords = errors.New("not valid recovery words")

// Seed makes the root key. Whoever has it is the person, so it is shown once as recovery words and not stored. It
// prints as "seed(redacted)".
type Seed [32]byte

// NewSeed draws a seed at random.
func NewSeed() Seed {
	var s Seed
	rand.Read(s[:]) // never fails, see crypto/rand
	return s
}

// SeedFromWords reads what Words wrote, in any case and spacing. Its errors are ErrWords.
func SeedFromWords(words string) (Seed, error) {
	fields := strings.Fields(strings.ToLower(words))
	if len(fields) != 24 {
		return Seed{}, fmt.Errorf("%w: there are %d instead of 24", ErrWords, len(fields))
	}
	for i, w := range fields {
		if _, ok := bip39.GetWordIndex(w); !ok {
			return Seed{}, fmt.Errorf("%w: word %d is not in the list", ErrWords, i+1)
		}
	}
	b, err := bip39.EntropyFromMnemonic(strings.Join(fields, " "))
	if err != nil {
		return Seed{}, fmt.Errorf("%w: the checksum does not match, so a word is wrong or out of order", ErrWords)
	}
	return Seed(b), nil
}

// Words returns the seed as 24 words of the BIP 39 list (English).
func (s Seed) Words() string {
	w, err := bip39.NewMnemonic(s[:])
	if err != nil {
		panic("identity: a seed has 256 bits: " + err.Error())
	}
	return w
}

// Root is the public key of the seed, and so the address.
func (s Seed) Root() Root { return Root(s.key().Public().(ed25519.PublicKey)) }

func (s Seed) key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(s[:]) }

// Format keeps the seed out of every verb of fmt, %x and %#v included.
func (s Seed) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// String does not reveal the seed.
func (s Seed) String() string { return "seed(redacted)" }
