package dht

import (
	"encoding/base32"
	"errors"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
)

// clockTolerance is how far a node's clock may be off, either way.
const clockTolerance = 24 * time.Hour

var keyEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// recordKey is identity.RecordKey for a known hash.
func recordKey(hash [32]byte) string { return prefix + "/" + keyEncoding.EncodeToString(hash[:]) }

// checkRecord parses a record and checks that it belongs under key and may be
// used now. It is all a stranger's record has to pass.
func checkRecord(key string, value []byte, now time.Time) (*identity.Record, error) {
	if len(value) > identity.MaxRecord {
		return nil, fmt.Errorf("record of %d bytes, more than %d", len(value), identity.MaxRecord)
	}
	rec, err := identity.ParseRecord(value)
	if err != nil {
		return nil, err
	}
	if identity.RecordKey(rec.Root()) != key {
		return nil, errors.New("record under a key that is not its own")
	}
	if rec.Valid(now) != nil {
		// Perhaps our clock is the one that is ahead.
		if err := rec.Valid(now.Add(-clockTolerance)); err != nil {
			return nil, err
		}
	}
	return rec, nil
}

// recordValidator is the rule of the namespace "peerpost".
type recordValidator struct{}

// Validate is asked about every record that is stored or found.
func (recordValidator) Validate(key string, value []byte) error {
	_, err := checkRecord(key, value, time.Now())
	return err
}

// Select returns the index of the newest record, of the first one where two are
// equal. Values that are no records lose against all that are.
func (recordValidator) Select(_ string, values [][]byte) (int, error) {
	best, at := (*identity.Record)(nil), -1
	for i, v := range values {
		rec, err := identity.ParseRecord(v)
		if err != nil {
			continue
		}
		if best == nil || rec.Compare(best) > 0 {
			best, at = rec, i
		}
	}
	if best == nil {
		return -1, errors.New("none of the values is a record")
	}
	return at, nil
}
