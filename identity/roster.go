package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// MaxRoster is the size of a signed roster in bytes; one with all its devices has about 900.
	MaxRoster = 1024
	// MaxDevices is how many devices a person may have at a time.
	MaxDevices = 16

	rosterVersion = 1
)

// Device is a key that may sign records and messages for a person.
type Device struct {
	_    struct{} `cbor:",toarray"`
	Key  Public
	From int64 // Unix seconds; what it signed for an earlier time does not count
}

// Roster is the list of a person's devices, signed by the root key. A newer generation replaces an older one
// altogether. In version 1 it does not expire.
type Roster struct {
	Root       Root
	Generation uint64
	Devices    []Device // in ascending order of key

	raw []byte
}

// Bytes are the signed bytes that were parsed. Do not change them.
func (r *Roster) Bytes() []byte { return r.raw }

// Hash is the SHA-256 of the signed bytes.
func (r *Roster) Hash() [32]byte { return sha256.Sum256(r.raw) }

type rosterPayload struct {
	Version    uint8    `cbor:"1,keyasint"`
	Root       Root     `cbor:"2,keyasint"`
	Generation uint64   `cbor:"3,keyasint"`
	Devices    []Device `cbor:"4,keyasint"`
}

// SignRoster signs a list of devices with the root key that seed makes, and returns the signed bytes. The devices
// are put in order. It fails when there is none, more than MaxDevices, or one twice.
func SignRoster(seed Seed, generation uint64, devices []Device) ([]byte, error) {
	devices = slices.Clone(devices)
	slices.SortFunc(devices, func(a, b Device) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	r := Roster{Root: seed.Root(), Generation: generation, Devices: devices}
	if err := r.check(); err != nil {
		return nil, err
	}
	return Sign(ContextRoster, seed.key(), encode(rosterPayload{rosterVersion, r.Root, r.Generation, r.Devices})), nil
}

// ParseRoster reads a signed roster and checks that the root key it names has signed it.
func ParseRoster(b []byte) (*Roster, error) {
	if len(b) > MaxRoster {
		return nil, fmt.Errorf("roster has %d bytes, limit %d", len(b), MaxRoster)
	}
	var p rosterPayload
	if err := open(ContextRoster, b, &p, func(p *rosterPayload) Public { return Public(p.Root) }); err != nil {
		return nil, fmt.Errorf("roster: %w", err)
	}
	if p.Version != rosterVersion {
		return nil, fmt.Errorf("roster: version %d is not known", p.Version)
	}
	r := &Roster{Root: p.Root, Generation: p.Generation, Devices: p.Devices, raw: bytes.Clone(b)}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Roster) check() error {
	if len(r.Devices) == 0 || len(r.Devices) > MaxDevices {
		return fmt.Errorf("roster has %d devices, and 1 to %d are allowed", len(r.Devices), MaxDevices)
	}
	for i := range r.Devices {
		if !ValidTime(r.Devices[i].From) {
			return errors.New("roster: a device is dated beyond all time")
		}
		if i > 0 && bytes.Compare(r.Devices[i-1].Key[:], r.Devices[i].Key[:]) >= 0 {
			return errors.New("roster: devices are not in ascending order")
		}
	}
	return nil
}

// Allows tells whether the device may sign something dated t; the clock of who dated it may be a day behind.
func (r *Roster) Allows(device Public, t time.Time) bool {
	for _, d := range r.Devices {
		if d.Key == device {
			return t.Unix() >= d.From-int64(ClockTolerance/time.Second)
		}
	}
	return false
}

// newDevice draws a device key at random.
func newDevice() ed25519.PrivateKey {
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic("identity: " + err.Error())
	}
	return priv
}
