package identity

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/internal/wire"
)

const (
	// epochsAhead is how many epochs after the current one have their keys derived and kept.
	epochsAhead = 6
	// presignWeeks is how many weeks a locked node can go on publishing.
	presignWeeks = 5
	// destroyGrace is how long keys outlive the last message that can have been sealed to them.
	destroyGrace = 7 * 24 * time.Hour
	// fallbackLife is how long a fallback set is published before another takes its place.
	fallbackLife = 365 * 24 * time.Hour
	// fallbackKeep is how long a fallback set is kept after another has taken its place: a year, in which senders
	// may still hold the record that named it, and the life of a message with its grace.
	fallbackKeep = 365*24*time.Hour + 30*24*time.Hour + destroyGrace

	keyringVersion = 1
	maxKeyring     = 1 << 20 // bytes of its encoding
)

// ErrNoSecrets reports that the keys for an epoch are destroyed or were never held.
var ErrNoSecrets = errors.New("no keys for this epoch")

// Keyring holds the secrets of one account while it is unlocked. It is safe for concurrent use, and prints as
// "keyring(redacted)". Changes last once Vault.Save has written them.
type Keyring struct {
	root        Root
	roster      *Roster
	device      ed25519.PrivateKey
	atRestSeed  [32]byte
	atRest      *AtRest
	page        [32]byte
	accountSeed [32]byte // of the key that the vault's passwords wrap

	mu        sync.RWMutex
	chain     Chain
	leaves    map[Epoch]*Secrets
	fallbacks []fallback // the newest last; only it has no time of replacement
	inboxes   map[Inbox]Epoch
	changes   uint64 // made so far
	saved     uint64 // of these, on the disk

	recipients cache[*age.HybridRecipient] // by hash of the sealing key
	rosters    cache[*Roster]              // by hash of the signed bytes
}

type fallback struct {
	created  int64 // Unix seconds
	replaced int64 // Unix seconds; 0: in use
	secrets  *Secrets
}

type keyringPayload struct {
	Version   uint8             `cbor:"1,keyasint"`
	Roster    []byte            `cbor:"2,keyasint"`
	Device    [32]byte          `cbor:"3,keyasint"`
	Epoch     Epoch             `cbor:"4,keyasint"`
	Chain     [32]byte          `cbor:"5,keyasint"`
	Leaves    []leafPayload     `cbor:"6,keyasint"`
	Fallbacks []fallbackPayload `cbor:"7,keyasint"`
	AtRest    [32]byte          `cbor:"8,keyasint"`
	Page      [32]byte          `cbor:"9,keyasint"`
}

type leafPayload struct {
	_     struct{} `cbor:",toarray"`
	Epoch Epoch
	Seeds secretSeeds
}

type fallbackPayload struct {
	_        struct{} `cbor:",toarray"`
	Created  int64
	Replaced int64
	Seeds    secretSeeds
}

// NewKeyring makes the secrets of an account: a device whose roster the seed signs, and everything else at random. It
// does not keep the seed. A roster generation must be higher than any seen before for the same seed; the Unix time
// will do.
func NewKeyring(seed Seed, generation uint64, now time.Time) (*Keyring, error) {
	device := newDevice()
	// The first device counts from the beginning of time: were it from now, and now wrong, the person could not write
	// before the clock's mistake came true.
	signed, err := SignRoster(seed, generation, []Device{{Key: publicOf(device)}})
	if err != nil {
		return nil, err
	}
	roster, err := ParseRoster(signed)
	if err != nil {
		return nil, err
	}
	k := &Keyring{
		root:    roster.Root,
		roster:  roster,
		device:  device,
		chain:   *NewChain(firstEpoch(now)),
		leaves:  map[Epoch]*Secrets{},
		inboxes: map[Inbox]Epoch{},
	}
	rand.Read(k.atRestSeed[:])
	rand.Read(k.page[:])
	rand.Read(k.accountSeed[:])
	k.atRest = newAtRest(k.atRestSeed)
	k.Roll(now)
	return k, nil
}

// Root is the person whose secrets these are.
func (k *Keyring) Root() Root { return k.root }

// Roster is the roster that this device signs under.
func (k *Keyring) Roster() *Roster { return k.roster }

// Device is this device's public key.
func (k *Keyring) Device() Public { return publicOf(k.device) }

// Sign signs payload with the device key and returns the bare signature.
func (k *Keyring) Sign(c Context, payload []byte) []byte { return Signature(c, k.device, payload) }

// Recipient is the recipient of ks, as KeySet.Recipient makes it. The keyring remembers the last ones, because
// turning the raw key into what age wants takes as long as a quarter of sealing a small message.
func (k *Keyring) Recipient(ks KeySet) (*age.HybridRecipient, error) {
	return k.recipients.get(ks.SealingHash(), ks.Recipient)
}

// ParseRoster is ParseRoster for the roster of whoever writes to this account. The keyring remembers the last ones
// that it has verified.
func (k *Keyring) ParseRoster(b []byte) (*Roster, error) {
	return k.rosters.get(sha256.Sum256(b), func() (*Roster, error) { return ParseRoster(b) })
}

// AtRest is the key of the account's files.
func (k *Keyring) AtRest() *AtRest { return k.atRest }

// PageKey is the key of the account's index, 32 bytes.
func (k *Keyring) PageKey() []byte { return slices.Clone(k.page[:]) }

// ExportAtRest is the at-rest key as the age tool reads it: AGE-SECRET-KEY-PQ-1…
func (k *Keyring) ExportAtRest() string { return identityString(k.atRestSeed) }

// Format keeps the secrets out of every verb of fmt.
func (k *Keyring) Format(f fmt.State, _ rune) { fmt.Fprint(f, "keyring(redacted)") }

// Roll brings the keys up to date: it derives and keeps those of every epoch up to 6 weeks ahead, but of none before
// the first, moves the chain behind them, and replaces a fallback set that is a year old. It destroys no key that mail may still need; see
// Expired. No record is signed before Vault.Saved tells that the disk has what it changed.
//
// After a long absence it derives the keys of the weeks in between too. A clock that ran ahead costs nothing but a few
// kept keys, and where the chain began, or keys were destroyed, by a clock that was wrong, the weeks without keys get
// random ones. A clock more than 20 years ahead is not followed.
func (k *Keyring) Roll(now time.Time) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() {
		if changed {
			k.changes++
		}
	}()
	last := EpochAt(now) + epochsAhead
	if last > k.chain.Head() && last-k.chain.Head() > maxAhead {
		return false
	}
	for e := firstEpoch(now); e <= last && e < k.chain.Head(); e++ {
		if _, ok := k.leaves[e]; !ok {
			k.keep(e, newSecrets(randomSeeds()))
			changed = true
		}
	}
	for e := k.chain.Head(); e <= last; e = k.chain.Head() {
		s, ok := k.chain.Leaf(e)
		if !ok {
			panic("identity: the chain has no leaf at its head")
		}
		k.keep(e, s)
		k.chain.Advance()
		changed = true
	}
	if n := len(k.fallbacks); n == 0 || now.Unix() >= k.fallbacks[n-1].created+int64(fallbackLife/time.Second) {
		if n > 0 {
			k.fallbacks[n-1].replaced = now.Unix()
		}
		s := newSecrets(randomSeeds())
		k.fallbacks = append(k.fallbacks, fallback{created: now.Unix(), secrets: s})
		k.inboxes[s.Inbox()] = FallbackEpoch
		changed = true
	}
	return changed
}

// firstEpoch is the epoch of now, or the first that is a real one: a machine without a clock starts in 1970.
func firstEpoch(now time.Time) Epoch { return max(EpochAt(now), FallbackEpoch+1) }

func (k *Keyring) keep(e Epoch, s *Secrets) {
	k.leaves[e] = s
	k.inboxes[s.Inbox()] = e
}

// Expired names the inboxes whose keys no message can need any more: a week has passed since the last one that was
// sealed to them could expire. Before each is destroyed the caller makes sure that a whole collection round has
// looked into it since, and that no unopened message names it.
func (k *Keyring) Expired(now time.Time) []Inbox {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []Inbox
	for e, s := range k.leaves {
		// A sender whose clock is off may use the keys for one epoch more.
		if !now.Before((e + 2).Start().Add(MessageLife + ClockTolerance + destroyGrace)) {
			out = append(out, s.Inbox())
		}
	}
	for _, f := range k.fallbacks {
		if f.replaced != 0 && !now.Before(time.Unix(f.replaced, 0).Add(fallbackKeep)) {
			out = append(out, f.secrets.Inbox())
		}
	}
	slices.SortFunc(out, func(a, b Inbox) int { return cmp.Compare(k.inboxes[a], k.inboxes[b]) })
	return out
}

// Destroy forgets the keys of an inbox for good and reports whether they were held. The fallback set in use stays.
// The keys are gone from the disk when the vault has been saved.
func (k *Keyring) Destroy(inbox Inbox) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.inboxes[inbox]
	if !ok {
		return false
	}
	if e != FallbackEpoch {
		delete(k.leaves, e)
	} else {
		i := slices.IndexFunc(k.fallbacks, func(f fallback) bool { return f.secrets.Inbox() == inbox })
		if k.fallbacks[i].replaced == 0 {
			return false
		}
		k.fallbacks = slices.Delete(k.fallbacks, i, i+1)
	}
	delete(k.inboxes, inbox)
	k.changes++
	return true
}

// SecretsByInbox finds the secrets for an inbox and the epoch that messages to it name: FallbackEpoch for a fallback
// set.
func (k *Keyring) SecretsByInbox(inbox Inbox) (*Secrets, Epoch, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	e, ok := k.inboxes[inbox]
	if !ok {
		return nil, 0, false
	}
	if e != FallbackEpoch {
		return k.leaves[e], e, true
	}
	for _, f := range k.fallbacks {
		if f.secrets.Inbox() == inbox {
			return f.secrets, FallbackEpoch, true
		}
	}
	return nil, 0, false
}

// SecretsFor finds the secrets that are kept for an epoch.
func (k *Keyring) SecretsFor(e Epoch) (*Secrets, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s, ok := k.leaves[e]
	return s, ok
}

// Epochs lists the epochs whose secrets are kept, in ascending order.
func (k *Keyring) Epochs() []Epoch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Sorted(maps.Keys(k.leaves))
}

// Fallbacks lists the fallback sets that are kept, the one in use first.
func (k *Keyring) Fallbacks() []*Secrets {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []*Secrets
	for _, f := range slices.Backward(k.fallbacks) {
		out = append(out, f.secrets)
	}
	return out
}

// RecordParams are the parts of a record that do not come from the keyring.
type RecordParams struct {
	Now      time.Time // of issue; the record is valid for 35 days from here
	Sequence uint64    // from Vault.NextSequence
	Hosts    []Host    // none: hidden
	Keepers  []Host
	Policy   Policy
}

// SignRecord makes the record for a time: the keys of the epoch of p.Now and of the 5 epochs after it, and the
// fallback set in use. It thins the record to fit MaxRecord: first addresses beyond the first of each host, then the
// furthest epochs, then the last addresses. Call Roll, and save, before.
func (k *Keyring) SignRecord(p RecordParams) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	at := EpochAt(p.Now)
	var epochs []EpochKeys
	for e := at; e < at+RecordEpochs; e++ {
		s, ok := k.leaves[e]
		if !ok {
			// Beyond what is kept: the chain still reaches it, now and later.
			if s, ok = k.chain.Leaf(e); !ok {
				return nil, fmt.Errorf("sign record: epoch %d: %w", e, ErrNoSecrets)
			}
		}
		epochs = append(epochs, EpochKeys{Epoch: e, Keys: s.Public()})
	}
	return signRecord(recordPayload{
		Version:  recordVersion,
		Roster:   k.roster.Bytes(),
		Device:   k.Device(),
		Sequence: p.Sequence,
		Issued:   p.Now.Unix(),
		Expires:  p.Now.Add(MaxRecordLife).Unix(),
		Epochs:   epochs,
		Fallback: k.fallbacks[len(k.fallbacks)-1].secrets.Public(),
		Hosts:    p.Hosts,
		Keepers:  p.Keepers,
		Policy:   p.Policy,
	}, k.device)
}

// Presign signs the records of the coming 5 weeks, each issued at the start of its week, so that a locked node can
// publish them when their time has come (see Vault.SetPresigned). Their sequences are whole weeks in seconds since
// the Unix epoch, which Vault.NextSequence never gives out, and above p.Sequence.
func (k *Keyring) Presign(p RecordParams) ([][]byte, error) {
	at := EpochAt(p.Now)
	sequence := p.Sequence / epochSeconds * epochSeconds
	var out [][]byte
	for e := at + 1; e <= at+presignWeeks; e++ {
		sequence = max(sequence+epochSeconds, uint64(e)*epochSeconds)
		q := p
		q.Now, q.Sequence = e.Start(), sequence
		b, err := k.SignRecord(q)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// marshal returns everything but the account key.
func (k *Keyring) marshal() []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	p := keyringPayload{
		Version: keyringVersion,
		Roster:  k.roster.Bytes(),
		Device:  [32]byte(k.device.Seed()),
		Epoch:   k.chain.epoch,
		Chain:   k.chain.state,
		AtRest:  k.atRestSeed,
		Page:    k.page,
	}
	for _, e := range slices.Sorted(maps.Keys(k.leaves)) {
		p.Leaves = append(p.Leaves, leafPayload{Epoch: e, Seeds: k.leaves[e].seeds})
	}
	for _, f := range k.fallbacks {
		p.Fallbacks = append(p.Fallbacks, fallbackPayload{Created: f.created, Replaced: f.replaced, Seeds: f.secrets.seeds})
	}
	return encode(p)
}

// changed counts the changes that were made.
func (k *Keyring) changed() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.changes
}

// wrote notes how many of them are on the disk.
func (k *Keyring) wrote(changes uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saved = changes
}

// unsaved tells whether there are some that are not.
func (k *Keyring) unsaved() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.saved != k.changes
}

func parseKeyring(b []byte) (*Keyring, error) {
	if len(b) > maxKeyring {
		return nil, fmt.Errorf("keyring has %d bytes, limit %d", len(b), maxKeyring)
	}
	var p keyringPayload
	if err := wire.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if p.Version != keyringVersion {
		return nil, fmt.Errorf("keyring: version %d is not known", p.Version)
	}
	roster, err := ParseRoster(p.Roster)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k := &Keyring{
		root:       roster.Root,
		roster:     roster,
		device:     ed25519.NewKeyFromSeed(p.Device[:]),
		atRestSeed: p.AtRest,
		page:       p.Page,
		chain:      Chain{epoch: p.Epoch, state: p.Chain},
		leaves:     map[Epoch]*Secrets{},
		inboxes:    map[Inbox]Epoch{},
	}
	if len(p.Fallbacks) == 0 {
		return nil, errors.New("keyring: there is no fallback set")
	}
	last := FallbackEpoch
	for _, l := range p.Leaves {
		if l.Epoch <= last || l.Epoch >= p.Epoch {
			return nil, errors.New("keyring: epochs are not in order")
		}
		last = l.Epoch
		k.keep(l.Epoch, newSecrets(l.Seeds))
	}
	for i, f := range p.Fallbacks {
		if (f.Replaced == 0) != (i == len(p.Fallbacks)-1) {
			return nil, errors.New("keyring: fallback sets are not in order")
		}
		s := newSecrets(f.Seeds)
		k.fallbacks = append(k.fallbacks, fallback{created: f.Created, replaced: f.Replaced, secrets: s})
		k.inboxes[s.Inbox()] = FallbackEpoch
	}
	k.atRest = newAtRest(p.AtRest)
	return k, nil
}
