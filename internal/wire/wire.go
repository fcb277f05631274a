// Package wire is the one encoding of everything that Peerpost signs, sends or stores.
//
// A value is deterministic CBOR (RFC 8949, section 4.2.1): definite lengths, shortest integers, map keys in
// bytewise order. Structs are maps with small integer keys, tagged `cbor:"1,keyasint"`, or arrays where they occur
// often. Each meaning has exactly one encoding, and Unmarshal enforces it: what it accepted is, byte for byte, what
// Marshal would have written.
//
// On a stream a value travels in a frame:
//
//	frame  = length value
//	length = unsigned LEB128 (base 128, least significant group first), shortest form
//	value  = deterministic CBOR, length bytes
//
// What is signed travels as a two-element array; the signature covers the payload's bytes as they were received,
// never a re-encoding of them:
//
//	signed = [payload: bytes, signature: bytes]
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

const (
	// maxDepth is how deep arrays and maps may nest. Our deepest value, an identity record, has 5 levels.
	maxDepth = 8
	// maxElements is how many elements one array may have, and how many pairs one map. The longest list of the
	// protocol names 10,000 messages.
	maxElements = 16384
)

// ErrCanonical reports bytes that are valid CBOR but not what Marshal writes for the value they hold.
var ErrCanonical = errors.New("not the canonical encoding")

var (
	encoder = newEncoder()
	decoder = newDecoder()
)

func newEncoder() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	// A nil slice and an empty one mean the same, so they are written the same.
	o.NilContainers = cbor.NilContainerAsEmpty
	o.IndefLength = cbor.IndefLengthForbidden
	o.TagsMd = cbor.TagsForbidden
	m, err := o.EncMode()
	if err != nil {
		panic("wire: " + err.Error())
	}
	return m
}

func newDecoder() cbor.DecMode {
	o := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   maxDepth,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxElements,
	}
	m, err := o.DecMode()
	if err != nil {
		panic("wire: " + err.Error())
	}
	return m
}

// Marshal returns the encoding of v. It fails only for a type that has none (a channel, say), never for a value.
func Marshal(v any) ([]byte, error) {
	b, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b, nil
}

// Unmarshal decodes b into what v points to. It refuses whatever Marshal would not write: duplicate or unknown keys,
// indefinite lengths, tags, long forms of integers, keys out of order, absent fields, trailing bytes. What v pointed
// to before is forgotten; after an error it is the zero value.
//
// The caller bounds len(b); the work and the memory are a small multiple of it.
func Unmarshal(b []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		panic("wire: Unmarshal needs a pointer")
	}
	p.Elem().SetZero()
	if err := decoder.Unmarshal(b, v); err != nil {
		p.Elem().SetZero()
		return fmt.Errorf("decode: %w", err)
	}
	again, err := encoder.Marshal(v)
	if err != nil || !bytes.Equal(again, b) {
		p.Elem().SetZero()
		return fmt.Errorf("decode: %w", ErrCanonical)
	}
	return nil
}
