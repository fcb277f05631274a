package node

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/node/control"
)

// TestRestoredOnce restores an account several times at once.
func TestRestoredOnce(t *testing.T) {
	n := &Node{home: home(t.TempDir()), log: slog.New(slog.DiscardHandler)}
	words, opt := identity.NewSeed().Words(), AccountOptions{Password: "secret", PasswordWork: 4}
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		group.Go(func() {
			_, _, errs[i] = n.makeAccount(t.Context(), control.NewAccount{Restore: true, Words: words}, 0, opt)
		})
	}
	group.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, control.ErrExists):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

// TestAdmitLeavesNothing fails to open and to unlock accounts that were just made.
func TestAdmitLeavesNothing(t *testing.T) {
	h := home(t.TempDir())
	n := &Node{home: h, log: slog.New(slog.DiscardHandler), accounts: make(map[identity.Root]*account), cfg: Config{PasswordWork: 4}}
	fresh := func(seed identity.Seed) NewAccount {
		t.Helper()
		made, _, err := create(t.Context(), h, seed, 1, AccountOptions{PasswordWork: 4})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	gone := func(what string) {
		t.Helper()
		left, err := os.ReadDir(h.path("accounts"))
		if err != nil || len(left) != 0 || len(n.all()) != 0 {
			t.Errorf("%s: left %v, %d accounts on board, %v", what, left, len(n.all()), err)
		}
	}

	seed := identity.NewSeed()
	fresh(seed)
	if err := n.admit(t.Context(), seed.Root(), "another password"); !errors.Is(err, mail.ErrCredentials) {
		t.Errorf("unlock: %v", err)
	}
	gone("unlock")

	made := fresh(seed)
	if err := os.WriteFile(h.account(seed.Root())+"/outgoing", nil, 0o600); err != nil { // where a directory is to be
		t.Fatal(err)
	}
	if err := n.admit(t.Context(), seed.Root(), made.Password); err == nil {
		t.Error("open: no error")
	}
	gone("open")

	made = fresh(seed)
	if err := n.admit(t.Context(), seed.Root(), made.Password); err != nil || n.local(seed.Root()) == nil {
		t.Errorf("the third time: %v", err)
	}
	if err := n.closeAccounts(); err != nil {
		t.Error(err)
	}
}
