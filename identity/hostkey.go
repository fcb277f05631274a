package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"

	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/wire"
)

// HostPuzzle is how many zero bits the puzzle of a holder's key begins with on the open network. Finding such a key
// takes a second or so, once; finding twenty near a chosen place takes an attacker twenty times the luck besides.
const HostPuzzle = 16

// ErrPuzzle reports a host key that does not solve the puzzle asked for.
var ErrPuzzle = errors.New("host key does not solve the puzzle")

// ErrHostKey reports a file that is there and holds no host key.
var ErrHostKey = errors.New("not a host key")

const hostKeyVersion = 1

// HostKey is the key of a machine in the network. It has nothing to do with the persons on that machine. It prints as
// "hostkey(redacted)".
type HostKey struct {
	private ed25519.PrivateKey
}

type hostKeyFile struct {
	Version uint8    `cbor:"1,keyasint"`
	Seed    [32]byte `cbor:"2,keyasint"`
}

// GenerateHostKey draws keys until one has a puzzle of at least the given number of zero bits, or ctx ends.
func GenerateHostKey(ctx context.Context, bits int) (*HostKey, error) {
	var seed [32]byte
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("generate host key: %w", err)
		}
		rand.Read(seed[:])
		h := &HostKey{private: ed25519.NewKeyFromSeed(seed[:])}
		if PuzzleBits(h.Public()) >= bits {
			return h, nil
		}
	}
}

// LoadOrCreateHostKey reads the key at path, or makes one and writes it there (mode 0600, its directory must exist).
// A key that is there but has fewer bits than asked for gives ErrPuzzle: another key would be another machine to
// everybody else, so that is for a person to decide. So it is with a damaged one, which gives ErrHostKey.
func LoadOrCreateHostKey(ctx context.Context, path string, bits int) (*HostKey, error) {
	b, err := readFile(path, 1024)
	if errors.Is(err, fs.ErrNotExist) {
		h, err := GenerateHostKey(ctx, bits)
		if err != nil {
			return nil, err
		}
		if err := durable.WriteFile(path, encode(hostKeyFile{hostKeyVersion, [32]byte(h.private.Seed())})); err != nil {
			return nil, fmt.Errorf("write host key: %w", err)
		}
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read host key: %w", err)
	}
	h, err := parseHostKey(b)
	if err != nil {
		return nil, fmt.Errorf("read host key %s: %w: %w", path, ErrHostKey, err)
	}
	if have := PuzzleBits(h.Public()); have < bits {
		return nil, fmt.Errorf("%s: %w: %d bits of %d", path, ErrPuzzle, have, bits)
	}
	return h, nil
}

func parseHostKey(b []byte) (*HostKey, error) {
	var f hostKeyFile
	if err := wire.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if f.Version != hostKeyVersion {
		return nil, fmt.Errorf("version %d is not known", f.Version)
	}
	return &HostKey{private: ed25519.NewKeyFromSeed(f.Seed[:])}, nil
}

// Private is the key as the network library wants it.
func (h *HostKey) Private() ed25519.PrivateKey { return h.private }

// Public is the public half.
func (h *HostKey) Public() ed25519.PublicKey { return h.private.Public().(ed25519.PublicKey) }

// Format keeps the key out of every verb of fmt.
func (h *HostKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "hostkey(redacted)") }

// PuzzleBits counts the zero bits that SHA-256("peerpost host" ‖ public key) begins with.
func PuzzleBits(pub ed25519.PublicKey) int {
	sum := sha256.Sum256(append([]byte("peerpost host"), pub...))
	n := 0
	for _, b := range sum {
		if b != 0 {
			return n + bits.LeadingZeros8(b)
		}
		n += 8
	}
	return n
}
