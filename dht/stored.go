package dht

import (
	"errors"
	"fmt"
	"time"

	recpb "github.com/libp2p/go-libp2p-record/pb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peerpost/peerpost/identity"
)

const (
	// maxKey is how long a record's key may be; ours have 62 bytes.
	maxKey = 128
	// maxFrom is how long the name of an address block may be. A peer id has 38
	// bytes.
	maxFrom = 64
)

// The fields that are kept beside the library's.
const (
	fieldFirst protowire.Number = 1000 // varint: Unix time
	fieldFrom  protowire.Number = 1001 // bytes
)

// stored is a record as it is kept: the library's message, and behind it, in
// fields that the library does not know, how it came here.
type stored struct {
	key      string
	value    []byte
	received time.Time
	first    time.Time // when it came first, to the second
	from     string    // the address block of who brought it; "" if not known
}

// decodeStored reads a stored record, or what the library wants stored. The
// library clones the message of whoever put the record, with every field that it
// does not know. Of those only ours are read, which screen has made true.
func decodeStored(b []byte) (stored, error) {
	var rec recpb.Record
	if err := proto.Unmarshal(b, &rec); err != nil {
		return stored{}, err
	}
	switch {
	case len(rec.GetKey()) == 0:
		return stored{}, errors.New("record without a key")
	case len(rec.GetKey()) > maxKey:
		return stored{}, fmt.Errorf("record key of %d bytes, more than %d", len(rec.GetKey()), maxKey)
	case len(rec.GetValue()) > identity.MaxRecord:
		return stored{}, fmt.Errorf("record of %d bytes, more than %d", len(rec.GetValue()), identity.MaxRecord)
	}
	received, err := time.Parse(time.RFC3339Nano, rec.GetTimeReceived())
	if err != nil {
		return stored{}, err
	}
	if year := received.UTC().Year(); year < 1970 || year > 9999 {
		return stored{}, fmt.Errorf("record received in the year %d", year)
	}
	r := stored{key: string(rec.GetKey()), value: rec.GetValue(), received: received, first: received}
	r.readMarks(rec.ProtoReflect().GetUnknown())
	return r, nil
}

// readMarks reads our own fields. Whatever else is there is passed over.
func (r *stored) readMarks(b []byte) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeField(b)
		if n < 0 {
			return
		}
		switch _, _, tag := protowire.ConsumeTag(b); {
		case field == fieldFirst && kind == protowire.VarintType:
			if v, _ := protowire.ConsumeVarint(b[tag:]); v <= uint64(r.received.Unix()) {
				r.first = time.Unix(int64(v), 0)
			}
		case field == fieldFrom && kind == protowire.BytesType:
			if v, _ := protowire.ConsumeBytes(b[tag:]); len(v) <= maxFrom {
				r.from = string(v)
			}
		}
		b = b[n:]
	}
}

// markFrom is the field that says who brings a record.
func markFrom(from string) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, fieldFrom, protowire.BytesType), []byte(from))
}

// encode writes what is kept.
func (r stored) encode() ([]byte, error) {
	b, err := r.bare()
	if err != nil {
		return nil, err
	}
	b = protowire.AppendTag(b, fieldFirst, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(max(0, r.first.Unix())))
	if r.from != "" {
		b = append(b, markFrom(r.from)...)
	}
	return b, nil
}

// bare writes what the library reads.
func (r stored) bare() ([]byte, error) {
	return proto.Marshal(&recpb.Record{
		Key: []byte(r.key), Value: r.value, TimeReceived: r.received.UTC().Format(time.RFC3339Nano),
	})
}

// bare takes from a stored record what is not the library's. What is no record
// stays as it is; the library drops it.
func bare(kept []byte) []byte {
	r, err := decodeStored(kept)
	if err != nil {
		return kept
	}
	b, err := r.bare()
	if err != nil {
		return kept
	}
	return b
}
