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

const (
	majorBytes = 2 << 5
	majorArray = 4 << 5
)

// SplitSigned takes the encoding of a Signed apart without copying: both results lie inside b. It accepts exactly
// what Marshal writes for a Signed with a signature of SignatureSize bytes.
func SplitSigned(b []byte) (payload, signature []byte, err error) {
	if len(b) == 0 || b[0] != majorArray|2 {
		return nil, nil, errors.New("decode signed: not an array of two")
	}
	payload, rest, err := splitBytes(b[1:])
	if err != nil {
		return nil, nil, fmt.Errorf("decode signed payload: %w", err)
	}
	signature, rest, err = splitBytes(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("decode signature: %w", err)
	}
	if len(signature) != SignatureSize {
		return nil, nil, fmt.Errorf("decode signature: %d bytes instead of %d", len(signature), SignatureSize)
	}
	if len(rest) > 0 {
		return nil, nil, errors.New("decode signed: trailing bytes")
	}
	return payload, signature, nil
}

// SignedParts returns what stands before, between and after the payload and the signature of a Signed: its encoding
// is head, payload, middle, signature. So a large payload can be written out without being copied together.
func SignedParts(payload int) (head, middle []byte) {
	head = appendBytesHead([]byte{majorArray | 2}, uint64(payload))
	return head, appendBytesHead(nil, SignatureSize)
}

// JoinSigned returns the encoding of Signed{payload, signature}.
func JoinSigned(payload, signature []byte) []byte {
	head, middle := SignedParts(len(payload))
	b := make([]byte, 0, len(head)+len(payload)+len(middle)+len(signature))
	b = append(b, head...)
	b = append(b, payload...)
	b = append(b, middle...)
	return append(b, signature...)
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
