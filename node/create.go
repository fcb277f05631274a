package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/control"
)

// defaultName is what an account is called that nobody has named.
const defaultName = "me"

// AccountOptions say how an account is made.
type AccountOptions struct {
	Name         string // local part of the address; defaultName when empty
	Password     string // first app password; a strong one is made when empty
	PasswordName string // what the owner calls it; "first" when empty
	PasswordWork int    // see Config
}

// NewAccount is what the owner of an account is told, once.
type NewAccount struct {
	Address  string
	Words    string // recovery words; empty after a restore
	Password string // empty when it was given
}

// CreateAccount makes an account in a home that no node runs with. The seed of
// its root key is in the words and nowhere else.
func CreateAccount(ctx context.Context, dir string, opt AccountOptions) (NewAccount, error) {
	lock, err := control.AcquireLock(ctx, dir)
	if err != nil {
		return NewAccount{}, err
	}
	defer lock.Close()
	made, _, err := createNew(ctx, home(dir), opt)
	return made, err
}

// CreateFirstAccount makes the account of a home that has none. The error is a
// control.ErrExists when there is one, so that of several callers at once one
// makes it.
func CreateFirstAccount(ctx context.Context, dir string, opt AccountOptions) (NewAccount, error) {
	if err := vacant(dir); err != nil { // the node that runs with it has the lock
		return NewAccount{}, err
	}
	lock, err := control.AcquireLock(ctx, dir)
	if err != nil {
		return NewAccount{}, err
	}
	defer lock.Close()
	if err := vacant(dir); err != nil {
		return NewAccount{}, err
	}
	made, _, err := createNew(ctx, home(dir), opt)
	return made, err
}

// vacant returns an error when there is an account in a home.
func vacant(dir string) error {
	have, err := Accounts(dir)
	if err == nil && len(have) > 0 {
		err = &control.Error{Code: control.CodeExists, Message: "this home has an account already: " + have[0].Address, Hint: "`peerpost account add` makes another one"}
	}
	return err
}

// RestoreAccount makes the account anew whose recovery words these are. The
// address is the same; keys and mail are new, and what is under way to the old
// keys is sealed again by its senders when they see the new roster.
func RestoreAccount(ctx context.Context, dir, words string, opt AccountOptions) (NewAccount, error) {
	lock, err := control.AcquireLock(ctx, dir)
	if err != nil {
		return NewAccount{}, err
	}
	defer lock.Close()
	made, _, err := restore(ctx, home(dir), words, 0, opt)
	return made, err
}

// Accounts lists the accounts in a home, as far as they are known without a node
// that runs.
func Accounts(dir string) ([]control.AccountStatus, error) {
	roots, _, err := home(dir).accounts()
	if err != nil {
		return nil, err
	}
	all := []control.AccountStatus{}
	for _, root := range roots {
		v, err := identity.OpenVault(home(dir).account(root))
		if err != nil {
			all = append(all, home(dir).damaged(root, err).status())
			continue
		}
		all = append(all, control.AccountStatus{Address: identity.Address{Local: v.Local(), Root: root}.String(), Locked: true})
	}
	return all, nil
}

// restore is create from words. seen is the highest roster generation known of
// the account.
func restore(ctx context.Context, h home, words string, seen uint64, opt AccountOptions) (NewAccount, *identity.Keyring, error) {
	seed, err := identity.SeedFromWords(words)
	if err != nil {
		return NewAccount{}, nil, &control.Error{Code: control.CodeInvalid, Message: "these are not recovery words", Hint: "enter the 24 words as they were printed, in their order", Cause: err}
	}
	generation := max(seen+1, uint64(time.Now().Unix()))
	made, keys, err := create(ctx, h, seed, generation, opt)
	made.Words = ""
	return made, keys, err
}

// createNew is create with a new seed. The name is one that no other account in
// the home has, or it would be of no use: it could mean either.
func createNew(ctx context.Context, h home, opt AccountOptions) (NewAccount, *identity.Keyring, error) {
	have, err := Accounts(string(h))
	if err != nil {
		return NewAccount{}, nil, err
	}
	name := cmp.Or(opt.Name, defaultName)
	for _, a := range have {
		if local, _, _ := strings.Cut(a.Address, "@"); strings.EqualFold(local, name) {
			return NewAccount{}, nil, &control.Error{
				Code: control.CodeExists, Message: fmt.Sprintf("an account is called %s already: %s", local, a.Address),
				Hint: "choose another name; `peerpost restore` is what gets an account back",
			}
		}
	}
	return create(ctx, h, identity.NewSeed(), uint64(time.Now().Unix()), opt)
}

// create makes an account beside its place and moves it there when it is whole.
func create(ctx context.Context, h home, seed identity.Seed, generation uint64, opt AccountOptions) (NewAccount, *identity.Keyring, error) {
	opt.Name = cmp.Or(opt.Name, defaultName)
	opt.PasswordName = cmp.Or(opt.PasswordName, "first")
	if err := control.CheckName(opt.Name); err != nil {
		return NewAccount{}, nil, err
	}
	if err := h.make(); err != nil {
		return NewAccount{}, nil, err
	}
	root := seed.Root()
	place := h.account(root)
	if _, err := os.Stat(place); err == nil {
		if _, err := identity.OpenVault(place); err != nil {
			return NewAccount{}, nil, h.damaged(root, err).refusal()
		}
		return NewAccount{}, nil, &control.Error{Code: control.CodeExists, Message: "this account is in this home already", Hint: "log in with one of its app passwords"}
	}
	password := opt.Password
	if password == "" {
		password = identity.NewPassword()
	}
	keys, err := identity.NewKeyring(seed, generation, time.Now())
	if err != nil {
		return NewAccount{}, nil, err
	}
	draft := h.draft(root)
	if err := os.RemoveAll(draft); err != nil { // of a try that was cut off
		return NewAccount{}, nil, err
	}
	vault, err := identity.CreateVault(draft, keys, opt.Name, opt.PasswordName, password, vaultOptions(opt.PasswordWork)...)
	if err == nil {
		err = firstRecord(vault, keys)
	}
	if err != nil {
		return NewAccount{}, nil, errors.Join(fmt.Errorf("write the keys: %w", err), os.RemoveAll(draft))
	}
	box, err := mailbox.Open(ctx, mailbox.Config{Dir: draft + "/mailbox", Keys: keys})
	if err == nil {
		err = box.Close()
	}
	if err == nil {
		err = os.Rename(draft, place)
	}
	if err == nil {
		err = durable.SyncDir(h.path("accounts"))
	}
	if err != nil {
		return NewAccount{}, nil, errors.Join(fmt.Errorf("make the account: %w", err), os.RemoveAll(draft))
	}
	made := NewAccount{Address: identity.Address{Local: opt.Name, Root: root}.String(), Words: seed.Words()}
	if strings.TrimSpace(opt.Password) == "" {
		made.Password = password
	}
	return made, keys, nil
}

// firstRecord signs the record with which a node that starts before anybody has
// logged in makes the account known.
func firstRecord(v *identity.Vault, keys *identity.Keyring) error {
	now := time.Now()
	seq, err := v.NextSequence(now)
	if err != nil {
		return err
	}
	_, err = signAhead(v, keys, identity.RecordParams{Now: now, Sequence: seq, Policy: identity.Policy{MaxMessage: sealed.MaxMessage}})
	return err
}

func vaultOptions(work int) []identity.Option {
	if work == 0 {
		return nil
	}
	return []identity.Option{identity.WithWorkFactor(work)}
}
