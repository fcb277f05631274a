package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// SignatureSize is the length of an Ed25519 signature in bytes.
const SignatureSize = 64

// Signed is the form in which everything signed travels. The signature covers Payload as it stands.
type Signed struct {
	_         struct{} `cbor:",toarray"`
	Payload   []byte
	Signature []byte
}

// SplitSigned takes the encoding of a Signed apart without copying: both results lie inside b. It accepts exactly
// what Marshal writes for a Signed with a signature of SignatureSize bytes.
func SplitSigned(b []byte) (payload, signature []byte, err error) {
	payload, signature, err = SplitPair(b)
	if err != nil {
		return nil, nil, fmt.Errorf("decode signed: %w", err)
	}
	if len(signature) != SignatureSize {
		return nil, nil, fmt.Errorf("decode signed: signature of %d bytes instead of %d", len(signature), SignatureSize)
	}
	return payload, signature, nil
}

// JoinSigned returns the encoding of Signed{payload, signature}.
func JoinSigned(payload, signature []byte) []byte { return JoinPair(payload, signature) }

// The first byte of an encoding holds the major type in its upper three bits (RFC 8949, section 3).
const (
	majorBytes = 2 << 5
	majorArray = 4 << 5
)

// SplitPair takes an array of two byte strings apart without copying: both results lie inside b. It accepts exactly
// what JoinPair writes.
func SplitPair(b []byte) (first, second []byte, err error) {
	if len(b) == 0 || b[0] != majorArray|2 {
		return nil, nil, errors.New("not an array of two")
	}
	first, rest, err := splitBytes(b[1:])
	if err != nil {
		return nil, nil, fmt.Errorf("first element: %w", err)
	}
	second, rest, err = splitBytes(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("second element: %w", err)
	}
	if len(rest) > 0 {
		return nil, nil, errors.New("trailing bytes")
	}
	return first, second, nil
}

// JoinPair returns the encoding of an array of two byte strings.
func JoinPair(first, second []byte) []byte {
	head, middle := PairParts(len(first), len(second))
	b := make([]byte, 0, len(head)+len(first)+len(middle)+len(second))
	b = append(b, head...)
	b = append(b, first...)
	b = append(b, middle...)
	return append(b, second...)
}

// PairParts returns what stands before and between two byte strings of these lengths in their JoinPair, so that large
// ones can be written out without being copied together.
func PairParts(first, second int) (head, middle []byte) {
	return appendBytesHead([]byte{majorArray | 2}, uint64(first)), appendBytesHead(nil, uint64(second))
}

// splitBytes cuts a byte string off the front of b. The length must be in its shortest form.
func splitBytes(b []byte) (content, rest []byte, err error) {
	if len(b) == 0 || b[0]&0xe0 != majorBytes {
		return nil, nil, errors.New("not a byte string")
	}
	var n uint64
	info, head := b[0]&0x1f, 1
	switch {
	case info < 24:
		n = uint64(info)
	case info <= 27:
		head += 1 << (info - 24)
		if len(b) < head {
			return nil, nil, errors.New("cut short")
		}
		for _, c := range b[1:head] {
			n = n<<8 | uint64(c)
		}
	default:
		return nil, nil, errors.New("indefinite or reserved length")
	}
	if len(appendBytesHead(nil, n)) != head {
		return nil, nil, ErrCanonical
	}
	if n > uint64(len(b)-head) {
		return nil, nil, errors.New("cut short")
	}
	end := head + int(n)
	return b[head:end:end], b[end:], nil
}

// appendBytesHead appends the head of a byte string of n bytes.
func appendBytesHead(b []byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, majorBytes|byte(n))
	case n < 1<<8:
		return append(b, majorBytes|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, majorBytes|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, majorBytes|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, majorBytes|27), n)
}
