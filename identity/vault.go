package identity

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/wire"
)

const (
	vaultVersion   = 1
	maxAccountFile = 1 << 10             // bytes; one has about 60
	maxKeyringFile = maxKeyring + 16<<10 // bytes

	accountFile = "account.cbor"
	keyringFile = "keyring.age"
)

// ErrStale reports a keyring that is no longer in use: the account was locked, and unlocked again with another copy.
var ErrStale = errors.New("keyring is no longer in use")

// Vault is the directory that keeps the keys of one account:
//
//	account.cbor        in clear: root key, local part, date
//	locked.cbor         in clear: what a locked node works with: fetch keys of the weeks around now, signed records
//	sequence.cbor       in clear: the last record sequence given out
//	keepers.cbor        in clear: the keepers that records name; there is none before one was chosen
//	keyring.age         the Keyring, sealed to the account key
//	passwords/NAME.age  the account key, under scrypt of one app password
//
// Nothing in clear opens mail, deletes it or signs. Files are replaced as a whole, mode 0600 in directories of 0700;
// when a write fails the old file is still there. A copy of a password's file that somebody took stays good for that
// password after it was removed here.
//
// A Vault is safe for concurrent use by one process. It prints as "vault(redacted)".
type Vault struct {
	dir        string
	workFactor int
	account    accountPayload

	scrypt chan struct{} // holds a token while somebody is at it: each takes 64 MiB

	mu       sync.Mutex
	locked   lockedPayload
	sequence uint64
	keepers  []Host
	keyring  *Keyring            // while unlocked
	accepted map[string]accepted // by password name
	tries    map[[32]byte]*try   // by hash of the password
	hashKey  [32]byte            // of the hashes in accepted; random for each Vault
}

type accountPayload struct {
	Version uint8  `cbor:"1,keyasint"`
	Root    Root   `cbor:"2,keyasint"`
	Local   string `cbor:"3,keyasint"`
	Created int64  `cbor:"4,keyasint"` // Unix seconds
}

// Option changes how a vault is kept.
type Option func(*Vault)

// WithWorkFactor sets the cost of the passwords that are added from now on, as the binary logarithm of scrypt's N.
// The default is DefaultWorkFactor; tests take 10 or less.
func WithWorkFactor(logN int) Option { return func(v *Vault) { v.workFactor = logN } }

// CreateVault writes a new account to dir, which is made if need be, and leaves it unlocked. local is the part before
// the @ that the owner wants to be seen with. It gives fs.ErrExist when there is an account already; an attempt that
// was cut short leaves none.
func CreateVault(dir string, kr *Keyring, local, passwordName, password string, opts ...Option) (*Vault, error) {
	if err := checkLocal(local); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	v := newVault(dir, opts)
	v.account = accountPayload{vaultVersion, kr.Root(), local, time.Now().Unix()}
	if _, err := os.Lstat(v.path(accountFile)); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return nil, fmt.Errorf("create account in %s: %w", dir, err)
	}
	// What an attempt that was cut short has left behind is worthless without account.cbor, which is written last.
	if err := os.RemoveAll(v.path(passwordDir)); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	if err := os.RemoveAll(v.path(sequenceFile)); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	if err := os.MkdirAll(v.path(passwordDir), 0o700); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // it may have been there
		return nil, fmt.Errorf("create account: %w", err)
	}
	if err := v.AddPassword(kr, passwordName, password); err != nil {
		return nil, err
	}
	if err := v.Save(kr); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(v.path(accountFile), encode(v.account)); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	v.keyring = kr
	return v, nil
}

// OpenVault opens the account in dir, locked. It gives fs.ErrNotExist when there is none.
func OpenVault(dir string, opts ...Option) (*Vault, error) {
	v := newVault(dir, opts)
	if err := load(v.path(accountFile), maxAccountFile, &v.account); err != nil {
		return nil, err
	}
	if err := load(v.path(lockedFile), maxLockedFile, &v.locked); err != nil {
		return nil, err
	}
	var s sequencePayload
	if err := load(v.path(sequenceFile), maxSequenceFile, &s); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	v.sequence = s.Last
	var k keepersPayload
	if err := load(v.path(keepersFile), maxKeepersFile, &k); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	v.keepers = k.Keepers
	return v, nil
}

// ReadAddress reads whose account is in dir, which the other files need not be whole for.
func ReadAddress(dir string) (Address, error) {
	v := newVault(dir, nil)
	err := load(v.path(accountFile), maxAccountFile, &v.account)
	return v.Address(), err
}

func newVault(dir string, opts []Option) *Vault {
	v := &Vault{
		dir:        dir,
		workFactor: DefaultWorkFactor,
		scrypt:     make(chan struct{}, 1),
		accepted:   map[string]accepted{},
		tries:      map[[32]byte]*try{},
		locked:     lockedPayload{Version: vaultVersion},
	}
	rand.Read(v.hashKey[:])
	for _, o := range opts {
		o(v)
	}
	return v
}

// Root is the person whose account it is.
func (v *Vault) Root() Root { return v.account.Root }

// Local is the part before the @, as the owner chose it.
func (v *Vault) Local() string { return v.account.Local }

// Address is the owner's address.
func (v *Vault) Address() Address { return Address{Local: v.account.Local, Root: v.account.Root} }

// Created is when the account was made on this machine.
func (v *Vault) Created() time.Time { return time.Unix(v.account.Created, 0).UTC() }

// Format keeps the contents out of every verb of fmt.
func (v *Vault) Format(f fmt.State, _ rune) { fmt.Fprint(f, "vault(redacted)") }

// Lock forgets the keyring and the passwords that were accepted. Whoever holds the keyring still has it.
func (v *Vault) Lock() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keyring = nil
	clear(v.accepted)
}

// Unlocked returns the keyring while the account is unlocked, and otherwise nil.
func (v *Vault) Unlocked() *Keyring {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keyring
}

// Save writes the keyring, and the fetch keys around now in clear. When it fails, what was there before is still
// readable; the keyring is always written before the clear part. What could not be read again is not written. A keyring
// from before the account was locked and unlocked again is refused with ErrStale.
func (v *Vault) Save(kr *Keyring) error { return v.save(kr, time.Now()) }

func (v *Vault) save(kr *Keyring, now time.Time) error {
	if kr.root != v.account.Root {
		return errors.New("save keyring: it belongs to another account")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keyring != nil && v.keyring != kr {
		return ErrStale
	}
	changes := kr.changed() // before, so that one that is made meanwhile does not count as written
	plain := kr.marshal()
	if _, err := parseKeyring(plain); err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	next := v.locked
	next.Fetch = kr.clearKeys(now)
	if err := next.check(); err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, identityFromSeed(kr.accountSeed).Recipient())
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = durable.WriteFile(v.path(keyringFile), sealed.Bytes())
	}
	if err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	if err := v.saveLocked(next); err != nil {
		return err
	}
	kr.wrote(changes)
	return nil
}

// Saved tells whether the disk has all of the keyring, and in clear the fetch keys around now as the keyring has them.
// It has not the first after a save that failed, nor the second after one that was cut short or made by a clock that
// was wrong.
func (v *Vault) Saved(kr *Keyring, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !kr.unsaved() && slices.Equal(v.locked.Fetch, kr.clearKeys(now))
}

// payload is what one of the files in clear holds.
type payload interface {
	check() error
}

// load reads a file in clear.
func load(path string, limit int, into payload) error {
	b, err := readFile(path, limit)
	if err != nil {
		return fmt.Errorf("open account: %w", err)
	}
	if err := parse(b, into); err != nil {
		return fmt.Errorf("open account: %s: %w", path, err)
	}
	return nil
}

func parse(b []byte, into payload) error {
	if err := wire.Unmarshal(b, into); err != nil {
		return err
	}
	return into.check()
}

func (p *accountPayload) check() error {
	if p.Version != vaultVersion {
		return fmt.Errorf("version %d is not known", p.Version)
	}
	if !ValidTime(p.Created) {
		return errors.New("dated beyond all time")
	}
	return checkLocal(p.Local)
}

func (v *Vault) path(name string) string { return filepath.Join(v.dir, name) }
