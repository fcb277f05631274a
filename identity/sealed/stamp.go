package sealed

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

const (
	// baseStampBits is the work for a body of up to stampStep bytes: 2^18 hashes, some 25 ms of one core.
	baseStampBits = 18
	stampStep     = 64 << 10

	// maxStampBits is the most work that is ever begun: 2^40 hashes take more than a day.
	maxStampBits = 40
	// stampBatch is how many hashes are tried between two looks at the context, a millisecond's worth.
	stampBatch = 1 << 13
)

// Stamp is a proof of work: SHA-256(message id ‖ nonce as 8 bytes, big-endian) begins with zero bits. It pays for the
// storage of one message, with all its holders.
type Stamp struct {
	_     struct{} `cbor:",toarray"`
	Nonce uint64
}

// StampBits is the work asked for a body of that many bytes: 18 bits up to 64 KiB, and one more per doubling.
func StampBits(size int) int {
	if size <= stampStep {
		return baseStampBits
	}
	return baseStampBits + bits.Len64(uint64(size-1)/stampStep)
}

// MakeStamp does the work, on the calling goroutine, until it is done or ctx ends. bits is StampBits of the body's
// size, and whatever a full inbox or the recipient's policy asks besides.
func MakeStamp(ctx context.Context, id ID, bits int) (Stamp, error) {
	if bits > maxStampBits {
		return Stamp{}, fmt.Errorf("make stamp: %d bits, limit %d", bits, maxStampBits)
	}
	for nonce := uint64(0); ; nonce++ {
		if nonce%stampBatch == 0 && ctx.Err() != nil {
			return Stamp{}, fmt.Errorf("make stamp: %w", ctx.Err())
		}
		if s := (Stamp{Nonce: nonce}); s.Valid(id, bits) {
			return s, nil
		}
	}
}

// Valid tells whether the stamp shows at least that many bits of work for the message.
func (s Stamp) Valid(id ID, bits int) bool { return s.work(id) >= bits }

func (s Stamp) work(id ID) int {
	var b [40]byte
	copy(b[:], id[:])
	binary.BigEndian.PutUint64(b[32:], s.Nonce)
	sum := sha256.Sum256(b[:])
	n := bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:]))
	if n == 64 {
		n += bits.LeadingZeros64(binary.BigEndian.Uint64(sum[8:]))
	}
	return n
}
