package node

import (
	"errors"
	"sync"
	"testing"

	"github.com/peerpost/peerpost/node/control"
)

// quick makes accounts whose passwords cost little.
func quick(name string) AccountOptions { return AccountOptions{Name: name, PasswordWork: 4} }

// Of several who find a home without an account one makes it.
func TestFirstAccountIsOne(t *testing.T) {
	dir := t.TempDir()
	const callers = 4
	errs := make([]error, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() { _, errs[i] = CreateFirstAccount(t.Context(), dir, quick("")) })
	}
	group.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !errors.Is(err, control.ErrExists) && !errors.Is(err, control.ErrRunning) {
			t.Error(err)
		}
	}
	all, err := Accounts(dir)
	if err != nil || made != 1 || len(all) != 1 {
		t.Errorf("%d made an account, and there are %v, %v", made, all, err)
	}
	lock, err := control.AcquireLock(t.Context(), dir) // of a node that runs
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := CreateFirstAccount(t.Context(), dir, quick("")); !errors.Is(err, control.ErrExists) {
		t.Errorf("another first account: %v", err)
	}
}

// A name is given once, whatever its case; what is restored keeps the one it had.
func TestNamesAreGivenOnce(t *testing.T) {
	dir := t.TempDir()
	made, err := CreateAccount(t.Context(), dir, quick("bob"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateAccount(t.Context(), dir, quick("Bob")); !errors.Is(err, control.ErrExists) {
		t.Errorf("another Bob: %v", err)
	}
	other, err := CreateAccount(t.Context(), t.TempDir(), quick("bob"))
	if err != nil {
		t.Fatal(err)
	}
	if other, err = RestoreAccount(t.Context(), dir, other.Words, quick("bob")); err != nil || other.Address == made.Address {
		t.Errorf("restored %v, %v", other.Address, err)
	}
	if _, err := CreateAccount(t.Context(), dir, quick("eve")); err != nil {
		t.Error(err)
	}
}
