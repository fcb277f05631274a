package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/internal/wire"
)

const (
	// DefaultWorkFactor is the binary logarithm of scrypt's cost: 0.2 s and 64 MiB for each password tried.
	DefaultWorkFactor = 16
	// MaxPasswords is how many app passwords an account may have. A wrong one is tried against each of them.
	MaxPasswords = 32

	maxWorkFactor   = 20 // that a file may ask for: 1 GiB
	maxPassword     = 1024
	maxPasswordName = 32
	clearBack       = 6 // epochs before the current one whose fetch keys lie in clear
	clearAhead      = 6 // and after it

	vaultVersion    = 1
	maxFetchKeys    = 64 // 13 epochs, and a fallback set for each year that one is kept
	maxPresigned    = 16
	maxAccountFile  = 1 << 10
	maxLockedFile   = 256 << 10
	maxSequenceFile = 64
	maxPasswordFile = 4 << 10
	maxKeyringFile  = maxKeyring + 16<<10

	accountFile  = "account.cbor"
	lockedFile   = "locked.cbor"
	sequenceFile = "sequence.cbor"
	keyringFile  = "keyring.age"
	passwordDir  = "passwords"
	passwordExt  = ".age"
)

var (
	// ErrPassword reports a password that opens nothing.
	ErrPassword = errors.New("wrong password")
	// ErrPasswordName reports a name that no app password can have, has already, or has not.
	ErrPasswordName = errors.New("no such name for an app password")
	// ErrLastPassword reports the attempt to remove the only password, without which nothing could be opened again.
	ErrLastPassword = errors.New("the last app password cannot be removed")
)

// Vault is the directory that keeps the keys of one account:
//
//	account.cbor        in clear: root key, local part, date
//	locked.cbor         in clear: what a locked node works with: fetch keys of the weeks around now, signed records
//	sequence.cbor       in clear: the last record sequence given out
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

	scrypt sync.Mutex // one at a time: each takes 64 MiB

	mu       sync.Mutex
	locked   lockedPayload
	sequence uint64
	keyring  *Keyring            // while unlocked
	accepted map[string]accepted // by password name
	hashKey  [32]byte            // of the hashes in accepted; random for each Vault
}

// accepted remembers that a password opened a file, for as long as it is that very file.
type accepted struct {
	hash [32]byte
	file fs.FileInfo
}

type accountPayload struct {
	Version uint8  `cbor:"1,keyasint"`
	Root    Root   `cbor:"2,keyasint"`
	Local   string `cbor:"3,keyasint"`
	Created int64  `cbor:"4,keyasint"` // Unix seconds
}

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

// Option changes how a vault is kept.
type Option func(*Vault)

// WithWorkFactor sets the cost of the passwords that are added from now on, as the binary logarithm of scrypt's N.
// The default is DefaultWorkFactor; tests take 10 or less.
func WithWorkFactor(logN int) Option { return func(v *Vault) { v.workFactor = logN } }

// FetchKey is the private fetch key of one inbox, as it lies in clear for a locked node.
type FetchKey struct {
	Epoch    Epoch // FallbackEpoch for a fallback set
	Fallback bool
	Key      ed25519.PrivateKey
	Delete   Public // that messages to this inbox must name
}

// Inbox is the public half.
func (f FetchKey) Inbox() Public { return publicOf(f.Key) }

// Format keeps the key out of every verb of fmt.
func (f FetchKey) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "fetchkey(%d, redacted)", f.Epoch) }

// PasswordInfo describes an app password.
type PasswordInfo struct {
	Name    string
	Created time.Time
}

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
	if err := writeFile(v.path(accountFile), encode(v.account)); err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	if err := syncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
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
	return v, nil
}

func newVault(dir string, opts []Option) *Vault {
	v := &Vault{
		dir:        dir,
		workFactor: DefaultWorkFactor,
		accepted:   map[string]accepted{},
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

// FetchKeys lists the fetch keys that lie in clear: those of the 6 epochs before and after now and the current one,
// and those of the fallback sets.
func (v *Vault) FetchKeys(now time.Time) []FetchKey {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []FetchKey
	for _, f := range v.locked.Fetch {
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

// Unlock opens the account with an app password and returns its keyring and the password's name. While the account
// is unlocked all callers get the same keyring, and a password that was accepted before is recognised at once. Any
// other is tried against each app password, one after the other and one caller at a time, at the full cost of
// scrypt. It gives ErrPassword when none fits.
func (v *Vault) Unlock(password string) (*Keyring, string, error) {
	if kr, name, ok := v.recall(password); ok {
		return kr, name, nil
	}
	v.scrypt.Lock()
	defer v.scrypt.Unlock()
	if kr, name, ok := v.recall(password); ok {
		return kr, name, nil // accepted while this call waited
	}
	files, err := v.passwords()
	if err != nil {
		return nil, "", fmt.Errorf("unlock: %w", err)
	}
	var unreadable error
	for _, f := range files {
		account, err := v.unwrap(f.name, password)
		if errors.Is(err, ErrPassword) {
			continue
		}
		if err != nil {
			unreadable = errors.Join(unreadable, err)
			continue
		}
		kr, err := v.open(f, password, account)
		if err != nil {
			return nil, "", fmt.Errorf("unlock: %w", err)
		}
		return kr, f.name, nil
	}
	if unreadable != nil {
		return nil, "", fmt.Errorf("unlock: %w; and some could not be tried: %w", ErrPassword, unreadable)
	}
	return nil, "", ErrPassword
}

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

// recall recognises a password that was accepted before, without scrypt.
func (v *Vault) recall(password string) (*Keyring, string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keyring == nil {
		return nil, "", false
	}
	h := v.hash(password)
	for name, a := range v.accepted {
		if hmac.Equal(h[:], a.hash[:]) {
			if !v.unchanged(name, a.file) {
				delete(v.accepted, name)
				return nil, "", false
			}
			return v.keyring, name, true
		}
	}
	return nil, "", false
}

// unchanged tells whether the file of a password is the one it was.
func (v *Vault) unchanged(name string, was fs.FileInfo) bool {
	is, err := os.Lstat(v.passwordPath(name))
	return err == nil && os.SameFile(is, was) && is.ModTime().Equal(was.ModTime())
}

func (v *Vault) hash(password string) [32]byte {
	m := hmac.New(sha256.New, v.hashKey[:])
	m.Write([]byte(password))
	return [32]byte(m.Sum(nil))
}

// unwrap tries a password against one file, at the cost of scrypt.
func (v *Vault) unwrap(name, password string) (account [32]byte, err error) {
	b, err := readFile(v.passwordPath(name), maxPasswordFile)
	if err != nil {
		return account, err
	}
	id, err := age.NewScryptIdentity(password)
	if err != nil {
		return account, ErrPassword // the empty one
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	plain, err := decrypt(b, len(account), id)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return account, ErrPassword
	}
	if err != nil {
		return account, fmt.Errorf("app password %s: %w", name, err)
	}
	if len(plain) != len(account) {
		return account, fmt.Errorf("app password %s: it wraps no account key", name)
	}
	return [32]byte(plain), nil
}

// open makes the account unlocked, unless the password was removed while scrypt ran.
func (v *Vault) open(f passwordFile, password string, account [32]byte) (*Keyring, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.unchanged(f.name, f.info) {
		return nil, ErrPassword
	}
	if v.keyring == nil {
		b, err := readFile(v.path(keyringFile), maxKeyringFile)
		if err != nil {
			return nil, err
		}
		plain, err := decrypt(b, maxKeyring, identityFromSeed(account))
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		kr, err := parseKeyring(plain)
		if err != nil {
			return nil, err
		}
		if kr.root != v.account.Root {
			return nil, errors.New("keyring belongs to another account")
		}
		kr.accountSeed = account
		v.keyring = kr
	} else if v.keyring.accountSeed != account {
		return nil, errors.New("app password belongs to another account key")
	}
	v.accepted[f.name] = accepted{hash: v.hash(password), file: f.info}
	return v.keyring, nil
}

// Save writes the keyring, and the fetch keys around now in clear. When it fails, what was there before is still
// readable; the keyring is always written before the clear part.
func (v *Vault) Save(kr *Keyring) error {
	if kr.root != v.account.Root {
		return errors.New("save keyring: it belongs to another account")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, identityFromSeed(kr.accountSeed).Recipient())
	if err == nil {
		_, err = w.Write(kr.marshal())
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = writeFile(v.path(keyringFile), sealed.Bytes())
	}
	if err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	next := v.locked
	next.Fetch = kr.clearKeys(time.Now())
	return v.saveLocked(next)
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
	slices.SortFunc(out, func(a, b fetchPayload) int { return int(a.Epoch) - int(b.Epoch) })
	for _, f := range k.fallbacks {
		out = append(out, fetchPayload{Epoch: FallbackEpoch, Fetch: f.secrets.seeds.Fetch, Delete: publicOf(f.secrets.Delete)})
	}
	return out
}

// Passwords lists the app passwords by name.
func (v *Vault) Passwords() ([]PasswordInfo, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	files, err := v.passwords()
	if err != nil {
		return nil, fmt.Errorf("list app passwords: %w", err)
	}
	var out []PasswordInfo
	for _, f := range files {
		out = append(out, PasswordInfo{Name: f.name, Created: f.info.ModTime()})
	}
	return out, nil
}

type passwordFile struct {
	name string // of the password
	info fs.FileInfo
}

func (v *Vault) passwords() ([]passwordFile, error) {
	entries, err := os.ReadDir(v.path(passwordDir))
	if err != nil {
		return nil, err
	}
	var out []passwordFile
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), passwordExt)
		if !ok || checkPasswordName(name) != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, passwordFile{name, info})
	}
	return out, nil
}

func hasPassword(files []passwordFile, name string) bool {
	return slices.ContainsFunc(files, func(f passwordFile) bool { return f.name == name })
}

// AddPassword wraps the account key of kr under another app password. The name has 1 to 32 lower-case letters,
// digits and inner hyphens; one that is taken gives ErrPasswordName.
func (v *Vault) AddPassword(kr *Keyring, name, password string) error {
	if err := checkPasswordName(name); err != nil {
		return err
	}
	if len(password) == 0 || len(password) > maxPassword {
		return fmt.Errorf("add app password: it has %d bytes, and 1 to %d are allowed", len(password), maxPassword)
	}
	if kr.root != v.account.Root {
		return errors.New("add app password: the keyring belongs to another account")
	}
	r, err := age.NewScryptRecipient(password)
	if err != nil {
		return fmt.Errorf("add app password: %w", err)
	}
	r.SetWorkFactor(v.workFactor)
	v.scrypt.Lock()
	defer v.scrypt.Unlock()
	var wrapped bytes.Buffer
	w, err := age.Encrypt(&wrapped, r)
	if err == nil {
		_, err = w.Write(kr.accountSeed[:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("add app password: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	files, err := v.passwords()
	if err != nil {
		return fmt.Errorf("add app password: %w", err)
	}
	if len(files) >= MaxPasswords {
		return fmt.Errorf("add app password: there are %d already, which is the limit", len(files))
	}
	if hasPassword(files, name) {
		return fmt.Errorf("%w: %s is taken", ErrPasswordName, name)
	}
	if err := writeFile(v.passwordPath(name), wrapped.Bytes()); err != nil {
		return fmt.Errorf("add app password: %w", err)
	}
	return nil
}

// RemovePassword removes an app password. It fails at once from then on, though the account stays unlocked for
// whoever holds the keyring. It gives ErrLastPassword for the only one and ErrPasswordName for one that is not there.
func (v *Vault) RemovePassword(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	files, err := v.passwords()
	if err != nil {
		return fmt.Errorf("remove app password: %w", err)
	}
	if !hasPassword(files, name) {
		return fmt.Errorf("%w: there is no %q", ErrPasswordName, name)
	}
	if len(files) == 1 {
		return ErrLastPassword
	}
	delete(v.accepted, name)
	if err := os.Remove(v.passwordPath(name)); err != nil {
		return fmt.Errorf("remove app password: %w", err)
	}
	if err := syncDir(v.path(passwordDir)); err != nil {
		return fmt.Errorf("remove app password: %w", err)
	}
	return nil
}

func checkPasswordName(name string) error {
	if len(name) == 0 || len(name) > maxPasswordName {
		return fmt.Errorf("%w: it has %d bytes, and 1 to %d are allowed", ErrPasswordName, len(name), maxPasswordName)
	}
	for i := range len(name) {
		c := name[i]
		inner := i > 0 && i < len(name)-1
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' && inner) {
			return fmt.Errorf("%w: only lower-case letters, digits and inner hyphens are allowed", ErrPasswordName)
		}
	}
	return nil
}

// decrypt opens a whole age file of which at most limit bytes are expected inside, and releases nothing of it before
// all of it is authenticated.
func decrypt(b []byte, limit int, id age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(b), id)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(plain) > limit {
		return nil, fmt.Errorf("longer than %d bytes", limit)
	}
	return plain, nil
}

func (v *Vault) saveLocked(next lockedPayload) error {
	if err := writeFile(v.path(lockedFile), encode(next)); err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	v.locked = next
	return nil
}

func (v *Vault) saveSequence(last uint64) error {
	if err := writeFile(v.path(sequenceFile), encode(sequencePayload{vaultVersion, last})); err != nil {
		return fmt.Errorf("save record sequence: %w", err)
	}
	v.sequence = last
	return nil
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

func (v *Vault) path(name string) string { return filepath.Join(v.dir, name) }

func (v *Vault) passwordPath(name string) string {
	return filepath.Join(v.dir, passwordDir, name+passwordExt)
}
