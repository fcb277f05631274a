package identity

import (
	"bytes"
	"context"
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
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/internal/durable"
)

const (
	// DefaultWorkFactor is the binary logarithm of scrypt's cost: 0.2 s and 64 MiB for each password tried.
	DefaultWorkFactor = 16
	// MaxPasswords is how many app passwords an account may have. A wrong one is tried against each of them.
	MaxPasswords = 32

	// maxTries is how many passwords may be tried or wait for it at once. The owner waits for no more.
	maxTries = 8

	maxWorkFactor   = 22 // 13 s and 4 GiB; a file that asks for more is not tried
	maxPassword     = 1024
	maxPasswordName = 32
	maxPasswordFile = 4 << 10 // bytes; one has about 215

	passwordDir = "passwords"
	passwordExt = ".age"
)

var (
	// ErrPassword reports a password that opens nothing.
	ErrPassword = errors.New("wrong password")
	// ErrBusy reports that too many passwords are being tried. This one was not.
	ErrBusy = errors.New("too many passwords are being tried")
	// ErrPasswordName reports a name that no app password can have, has already, or has not.
	ErrPasswordName = errors.New("no such name for an app password")
	// ErrLastPassword reports the attempt to remove the only password, without which nothing could be opened again.
	ErrLastPassword = errors.New("the last app password cannot be removed")
)

// PasswordInfo describes an app password.
type PasswordInfo struct {
	Name    string
	Created time.Time
}

// accepted remembers that a password opened a file, for as long as it is that very file.
type accepted struct {
	hash [32]byte
	file fs.FileInfo
}

// try is a password that is tried, or waits for it, whoever gave it.
type try struct {
	callers int
	err     error // of who tried it; the holder of the token reads and writes it
}

// Unlock opens the account with an app password and returns its keyring and the password's name. While the account
// is unlocked all callers get the same keyring, and a password that was accepted before is recognised at once. Any
// other is tried against each app password, one after the other and one caller at a time, at the full cost of
// scrypt; callers who wait with the same password share the answer. It gives ErrPassword when none fits, ErrBusy when
// too many others wait, and the error of ctx when that ends first.
func (v *Vault) Unlock(ctx context.Context, password string) (*Keyring, string, error) {
	if kr, name, ok := v.recall(password); ok {
		return kr, name, nil
	}
	t, leave, err := v.queue(password)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	select {
	case v.scrypt <- struct{}{}:
	case <-ctx.Done():
		return nil, "", fmt.Errorf("unlock: %w", ctx.Err())
	}
	defer func() { <-v.scrypt }()
	if kr, name, ok := v.recall(password); ok {
		return kr, name, nil // accepted while this call waited
	}
	if t.err != nil {
		return nil, "", t.err // refused while this call waited
	}
	kr, name, err := v.try(password)
	if t.err = err; err != nil {
		v.disperse(password, t)
	}
	return kr, name, err
}

// queue joins those who try a password. leave must be called.
func (v *Vault) queue(password string) (t *try, leave func(), err error) {
	h := v.hash(password)
	v.mu.Lock()
	defer v.mu.Unlock()
	t = v.tries[h]
	if t == nil {
		if len(v.tries) >= maxTries {
			return nil, nil, ErrBusy
		}
		t = &try{}
		v.tries[h] = t
	}
	t.callers++
	return t, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if t.callers--; t.callers == 0 && v.tries[h] == t {
			delete(v.tries, h)
		}
	}, nil
}

// disperse has those who come from now on try a password anew.
func (v *Vault) disperse(password string, t *try) {
	h := v.hash(password)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tries[h] == t {
		delete(v.tries, h)
	}
}

// try tries a password against each app password. The caller has the token.
func (v *Vault) try(password string) (*Keyring, string, error) {
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
	if v.workFactor < 1 || v.workFactor > maxWorkFactor {
		return fmt.Errorf("add app password: work factor %d, and 1 to %d are allowed", v.workFactor, maxWorkFactor)
	}
	r, err := age.NewScryptRecipient(password)
	if err != nil {
		return fmt.Errorf("add app password: %w", err)
	}
	r.SetWorkFactor(v.workFactor)
	v.scrypt <- struct{}{}
	defer func() { <-v.scrypt }()
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
	if err := durable.WriteFile(v.passwordPath(name), wrapped.Bytes()); err != nil {
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
	if err := durable.SyncDir(v.path(passwordDir)); err != nil {
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

func (v *Vault) passwordPath(name string) string {
	return filepath.Join(v.dir, passwordDir, name+passwordExt)
}

// passwordAlphabet has 32 characters that are told apart in every typeface: no l, no o, no 0 and no 1.
const passwordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// NewPassword draws an app password at random: four groups of four characters, such as "k7qm-x2vd-9nhc-arw4", worth
// 80 bits.
func NewPassword() string {
	var random [16]byte
	rand.Read(random[:])
	b := make([]byte, 0, 19)
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b = append(b, '-')
		}
		b = append(b, passwordAlphabet[r%32])
	}
	return string(b)
}
