package identity

import (
	"cmp"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/peerpost/peerpost/internal/durable"
)

const (
	clearBack  = 6 // epochs before the current one whose fetch keys lie in clear
	clearAhead = 6 // and after it

	maxFetchKeys    = 64 // 13 epochs, and a fallback set for each year that one is kept
	maxPresigned    = 16
	maxLockedFile   = 256 << 10 // bytes; one has 54 KB
	maxSequenceFile = 64        // bytes

	lockedFile   = "locked.cbor"
	sequenceFile = "sequence.cbor"
)

type lockedPayload struct {
	Version uint8          `cbor:"1,keyasint"`
	Fetch   []fetchPayload `cbor:"2,keyasint"`
	Records [][]byte       `cbor:"3,keyasint"`
}

type fetchPayload struct {
	_      struct{} `cbor:",toarray"`
	Epoch  Epoch
	Fetch  [32]byte // seed
	Delete Public
}

type sequencePayload struct {
	Version uint8  `cbor:"1,keyasint"`
	Last    uint64 `cbor:"2,keyasint"`
}

// FetchKey is the private fetch key of one inbox, as it lies in clear for a locked node.
type FetchKey struct {
	Epoch    Epoch // FallbackEpoch for a fallback set
	Fallback bool
	Key      ed25519.PrivateKey
	Delete   Public // that goes with it
}

// Inbox is the inbox that the key fetches from.
func (f FetchKey) Inbox() Inbox { return InboxOf(publicOf(f.Key), f.Delete) }

// Format keeps the key out of every verb of fmt.
func (f FetchKey) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "fetchkey(%d, redacted)", f.Epoch) }

// FetchKeys lists the fetch keys of the 6 epochs before and after now and of the current one, and those of the fallback
// sets: of a locked account those of them that lie in clear, of an unlocked one all that the keyring has.
func (v *Vault) FetchKeys(now time.Time) []FetchKey {
	v.mu.Lock()
	defer v.mu.Unlock()
	fetch := v.locked.Fetch
	if v.keyring != nil {
		fetch = v.keyring.clearKeys(now)
	}
	var out []FetchKey
	for _, f := range fetch {
		if f.Epoch == FallbackEpoch || nearEpoch(f.Epoch, EpochAt(now)) {
			out = append(out, FetchKey{f.Epoch, f.Epoch == FallbackEpoch, ed25519.NewKeyFromSeed(f.Fetch[:]), f.Delete})
		}
	}
	return out
}

func nearEpoch(e, now Epoch) bool { return e+clearBack >= now && e <= now+clearAhead }

// PresignedRecords lists the records that were signed in advance.
func (v *Vault) PresignedRecords() [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.locked.Records)
}

// PresignedAt finds the newest record that was signed in advance and whose time has come, or nil.
func (v *Vault) PresignedAt(now time.Time) []byte {
	var best *Record
	for _, b := range v.PresignedRecords() {
		r, err := ParseRecord(b)
		if err != nil || r.Issued.After(now) || r.Valid(now) != nil {
			continue
		}
		if best == nil || r.Compare(best) > 0 {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return best.Bytes()
}

// SetPresigned replaces the records that were signed in advance.
func (v *Vault) SetPresigned(records [][]byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	// One that is dropped now may have been published: no later record may come below it.
	if last := v.published(time.Now()); last > v.sequence {
		if err := v.saveSequence(last); err != nil {
			return err
		}
	}
	next := v.locked
	next.Records = slices.Clone(records)
	if err := next.check(); err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	return v.saveLocked(next)
}

// published is the highest sequence of the records signed in advance that can have been published by now.
func (v *Vault) published(now time.Time) (last uint64) {
	for _, b := range v.locked.Records {
		if r, err := ParseRecord(b); err == nil && !r.Issued.After(now.Add(ClockTolerance)) {
			last = max(last, r.Sequence)
		}
	}
	return last
}

// NextSequence gives out the sequence for a record: one more than the last, or the Unix time where that is more. It
// is on disk before it is returned, so that no two records share one. Whole weeks are left out; they belong to
// records signed in advance.
func (v *Vault) NextSequence(now time.Time) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := max(v.sequence+1, v.published(now)+1, uint64(max(now.Unix(), 1)))
	if next%epochSeconds == 0 {
		next++
	}
	if err := v.saveSequence(next); err != nil {
		return 0, err
	}
	return next, nil
}

// clearKeys are the fetch keys that may lie in clear.
func (k *Keyring) clearKeys(now time.Time) []fetchPayload {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []fetchPayload
	for e, s := range k.leaves {
		if nearEpoch(e, EpochAt(now)) {
			out = append(out, fetchPayload{Epoch: e, Fetch: s.seeds.Fetch, Delete: publicOf(s.Delete)})
		}
	}
	slices.SortFunc(out, func(a, b fetchPayload) int { return cmp.Compare(a.Epoch, b.Epoch) })
	for _, f := range k.fallbacks {
		out = append(out, fetchPayload{Epoch: FallbackEpoch, Fetch: f.secrets.seeds.Fetch, Delete: publicOf(f.secrets.Delete)})
	}
	return out
}

func (v *Vault) saveLocked(next lockedPayload) error {
	if err := durable.WriteFile(v.path(lockedFile), encode(next)); err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	v.locked = next
	return nil
}

func (v *Vault) saveSequence(last uint64) error {
	if err := durable.WriteFile(v.path(sequenceFile), encode(sequencePayload{vaultVersion, last})); err != nil {
		return fmt.Errorf("save record sequence: %w", err)
	}
	v.sequence = last
	return nil
}

func (p *lockedPayload) check() error {
	if p.Version != vaultVersion {
		return fmt.Errorf("version %d is not known", p.Version)
	}
	if len(p.Fetch) > maxFetchKeys || len(p.Records) > maxPresigned {
		return fmt.Errorf("%d fetch keys and %d records, limits %d and %d", len(p.Fetch), len(p.Records), maxFetchKeys, maxPresigned)
	}
	return nil
}

func (p *sequencePayload) check() error {
	if p.Version != vaultVersion {
		return fmt.Errorf("version %d is not known", p.Version)
	}
	return nil
}
