package identity

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/peerpost/peerpost/internal/wire"
)

// The limits of an identity record. A decoder refuses what lies outside them before it checks any signature.
const (
	// MaxRecord is the size of a signed record in bytes: it has to travel through a DHT.
	MaxRecord = 10 << 10
	// MaxRecordLife is the longest time from issue to expiry.
	MaxRecordLife = 35 * 24 * time.Hour
	// RecordEpochs is how many epochs a record publishes keys for, the current one included.
	RecordEpochs = 6
	// MaxEpochs is how many epochs a record may publish keys for.
	MaxEpochs = 8
	// MaxHosts is how many hosts, and how many keepers, a record may name.
	MaxHosts = 4
	// MaxAddrs is how many network addresses one host may have.
	MaxAddrs = 8
	// MaxAddr is the size of one network address in bytes.
	MaxAddr = 128
	// MaxPeer is the size of a peer id in bytes; one with an Ed25519 key has 38.
	MaxPeer = 64
	// MaxStampBits is how much work a record may ask of strangers: 2^32 hashes take an hour.
	MaxStampBits = 32

	recordVersion = 1
)

// ErrExpired reports a record that is not valid now: expired, or issued in the future.
var ErrExpired = errors.New("record is not valid at this time")

// EpochKeys are the keys for what is sealed during one epoch.
type EpochKeys struct {
	_     struct{} `cbor:",toarray"`
	Epoch Epoch
	Keys  KeySet
}

// Host is a node where its owner can be met, or one that keeps mail for them. This package does not look inside.
type Host struct {
	_     struct{} `cbor:",toarray"`
	Peer  []byte   // peer id
	Addrs [][]byte // network addresses (binary multiaddrs), the best one first
}

// Policy is what the owner asks of those who write.
type Policy struct {
	_          struct{} `cbor:",toarray"`
	MaxMessage uint64   // largest RFC 5322 message taken, in bytes; 0: the network's own limit
	StampBits  uint8    // work asked of strangers beyond the usual; 0: none
}

// Record is what a person publishes: how to seal mail for them and where to bring it. A device signs it, and the
// roster that it carries tells that the device may. A Record comes from ParseRecord only, so its signatures hold.
type Record struct {
	Roster      *Roster
	RosterBytes []byte // as signed
	Device      Public // that signed
	Sequence    uint64 // grows with every record
	Issued      time.Time
	Expires     time.Time
	Epochs      []EpochKeys // in ascending order
	Fallback    KeySet
	Hosts       []Host // none: the owner hides where they are
	Keepers     []Host // hold the owner's mail besides the nearest nodes
	Policy      Policy

	raw []byte
}

type recordPayload struct {
	Version  uint8       `cbor:"1,keyasint"`
	Roster   []byte      `cbor:"2,keyasint"`
	Device   Public      `cbor:"3,keyasint"`
	Sequence uint64      `cbor:"4,keyasint"`
	Issued   int64       `cbor:"5,keyasint"` // Unix seconds
	Expires  int64       `cbor:"6,keyasint"` // Unix seconds
	Epochs   []EpochKeys `cbor:"7,keyasint"`
	Fallback KeySet      `cbor:"8,keyasint"`
	Hosts    []Host      `cbor:"9,keyasint"`
	Keepers  []Host      `cbor:"10,keyasint"`
	Policy   Policy      `cbor:"11,keyasint"`
}

// RecordKey is the name under which the record of root is published.
func RecordKey(root Root) string {
	h := RecordKeyHash(root)
	return "/peerpost/" + labelEncoding.EncodeToString(h[:])
}

// RecordKeyHash is SHA-256("peerpost record" ‖ root key).
func RecordKeyHash(root Root) [32]byte {
	return sha256.Sum256(append([]byte("peerpost record"), root[:]...))
}

// ParseRecord reads a record and checks everything that needs no clock: limits, the roster's signature by the root
// key, that the device is in the roster, and the device's signature. It does not check that the sealing keys are
// points of their curves; sealing to one that is not fails, at nobody's cost but the owner's.
func ParseRecord(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("record has %d bytes, limit %d", len(b), MaxRecord)
	}
	payload, sig, err := wire.SplitSigned(b)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	var p recordPayload
	if err := wire.Unmarshal(payload, &p); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	roster, err := ParseRoster(p.Roster)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if !roster.Allows(p.Device, time.Unix(p.Issued, 0)) {
		return nil, errors.New("record: signed by a device that is not in the roster")
	}
	if err := VerifySignature(ContextRecord, p.Device, payload, sig); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return p.record(roster, bytes.Clone(b)), nil
}

func (p *recordPayload) record(roster *Roster, raw []byte) *Record {
	return &Record{
		Roster:      roster,
		RosterBytes: p.Roster,
		Device:      p.Device,
		Sequence:    p.Sequence,
		Issued:      time.Unix(p.Issued, 0).UTC(),
		Expires:     time.Unix(p.Expires, 0).UTC(),
		Epochs:      p.Epochs,
		Fallback:    p.Fallback,
		Hosts:       p.Hosts,
		Keepers:     p.Keepers,
		Policy:      p.Policy,
		raw:         raw,
	}
}

func (p *recordPayload) check() error {
	if p.Version != recordVersion {
		return fmt.Errorf("version %d is not known", p.Version)
	}
	if !ValidTime(p.Issued) || !ValidTime(p.Expires) {
		return errors.New("is dated beyond all time")
	}
	if p.Expires <= p.Issued {
		return errors.New("expires before it is issued")
	}
	if p.Expires-p.Issued > int64(MaxRecordLife/time.Second) {
		return fmt.Errorf("is valid for more than %d days", MaxRecordLife/(24*time.Hour))
	}
	if len(p.Epochs) == 0 || len(p.Epochs) > MaxEpochs {
		return fmt.Errorf("has keys for %d epochs, and 1 to %d are allowed", len(p.Epochs), MaxEpochs)
	}
	last := FallbackEpoch
	for _, e := range p.Epochs {
		if e.Epoch <= last {
			return errors.New("epochs are not in ascending order")
		}
		last = e.Epoch
		if err := e.Keys.check(); err != nil {
			return err
		}
	}
	if err := p.Fallback.check(); err != nil {
		return err
	}
	if p.Policy.StampBits > MaxStampBits {
		return fmt.Errorf("asks for a stamp of %d bits, limit %d", p.Policy.StampBits, MaxStampBits)
	}
	return errors.Join(checkHosts("host", p.Hosts), checkHosts("keeper", p.Keepers))
}

func checkHosts(what string, hosts []Host) error {
	if len(hosts) > MaxHosts {
		return fmt.Errorf("has %d %ss, limit %d", len(hosts), what, MaxHosts)
	}
	for _, h := range hosts {
		if len(h.Peer) == 0 || len(h.Peer) > MaxPeer {
			return fmt.Errorf("peer id of a %s has %d bytes, and 1 to %d are allowed", what, len(h.Peer), MaxPeer)
		}
		if len(h.Addrs) > MaxAddrs {
			return fmt.Errorf("%s has %d addresses, limit %d", what, len(h.Addrs), MaxAddrs)
		}
		for _, a := range h.Addrs {
			if len(a) == 0 || len(a) > MaxAddr {
				return fmt.Errorf("address of a %s has %d bytes, and 1 to %d are allowed", what, len(a), MaxAddr)
			}
		}
	}
	return nil
}

// Root is the person whose record it is.
func (r *Record) Root() Root { return r.Roster.Root }

// Bytes are the signed bytes that were parsed. Do not change them.
func (r *Record) Bytes() []byte { return r.raw }

// Hash is the SHA-256 of the signed bytes.
func (r *Record) Hash() [32]byte { return sha256.Sum256(r.raw) }

// Valid tells whether the record may be used at now: not expired, and issued at most a day in the future. Its errors
// are ErrExpired.
func (r *Record) Valid(now time.Time) error {
	if r.Issued.After(now.Add(ClockTolerance)) {
		return fmt.Errorf("%w: it is issued %s from now", ErrExpired, r.Issued.Sub(now).Round(time.Hour))
	}
	if !now.Before(r.Expires) {
		return fmt.Errorf("%w: it expired on %s", ErrExpired, r.Expires.Format(time.DateOnly))
	}
	return nil
}

// Compare tells which of two records of one person is the newer: by roster generation, then by sequence, then, so
// that all nodes keep the same one of a fork, by bytes. It is positive when r is the newer.
func (r *Record) Compare(o *Record) int {
	return cmp.Or(
		cmp.Compare(r.Roster.Generation, o.Roster.Generation),
		cmp.Compare(r.Sequence, o.Sequence),
		bytes.Compare(r.raw, o.raw),
	)
}

// KeysAt chooses the keys for a message that is sealed at now: those of the current epoch, or, where the record has
// none for it, the fallback set with FallbackEpoch.
func (r *Record) KeysAt(now time.Time) (e Epoch, ks KeySet, fallback bool) {
	at := EpochAt(now)
	for _, k := range r.Epochs {
		if k.Epoch == at {
			return at, k.Keys, false
		}
	}
	return FallbackEpoch, r.Fallback, true
}

// signRecord signs p with the device key, after thinning it until it fits MaxRecord. What goes first is what a
// reader misses least:
//
//  1. network addresses, from the end of each host's and keeper's list, the longest lists first, down to one each;
//  2. keys of the furthest epochs, down to the current and the next one (senders then use the fallback set);
//  3. the last addresses of the keepers, then of the hosts (peers can be looked up by their id).
func signRecord(p recordPayload, device ed25519.PrivateKey) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("sign record: %w", err)
	}
	p.Hosts, p.Keepers = cloneHosts(p.Hosts), cloneHosts(p.Keepers)
	for {
		payload := encode(p)
		if size := len(wire.JoinSigned(payload, make([]byte, wire.SignatureSize))); size <= MaxRecord {
			return Sign(ContextRecord, device, payload), nil
		}
		if !p.thin() {
			return nil, fmt.Errorf("sign record: it cannot be made to fit %d bytes", MaxRecord)
		}
	}
}

// thin takes one thing out and reports whether there was any left to take.
func (p *recordPayload) thin() bool {
	longest := 0
	for _, h := range slices.Concat(p.Hosts, p.Keepers) {
		longest = max(longest, len(h.Addrs))
	}
	switch {
	case longest > 1:
		cutAddrs(p.Hosts, longest-1)
		cutAddrs(p.Keepers, longest-1)
	case len(p.Epochs) > 2:
		p.Epochs = p.Epochs[:len(p.Epochs)-1]
	case cutAddrs(p.Keepers, 0), cutAddrs(p.Hosts, 0):
	default:
		return false
	}
	return true
}

// cutAddrs leaves each host at most n addresses and reports whether any had more.
func cutAddrs(hosts []Host, n int) (cut bool) {
	for i := range hosts {
		if len(hosts[i].Addrs) > n {
			hosts[i].Addrs, cut = hosts[i].Addrs[:n], true
		}
	}
	return cut
}

func cloneHosts(hosts []Host) []Host {
	out := slices.Clone(hosts)
	for i := range out {
		out[i].Addrs = slices.Clone(out[i].Addrs)
	}
	return out
}
