package node

import (
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
)

// TestInboxesAfterWrongClock opens an account whose keys in clear were written
// by a clock ten weeks behind, or before a crash: it has all inboxes as soon as
// it is unlocked, and locked too after that.
func TestInboxesAfterWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := home(t.TempDir())
		_, keys, err := create(t.Context(), h, identity.NewSeed(), 1, AccountOptions{Name: "bob", Password: "secret", PasswordWork: 4})
		if err != nil {
			t.Fatal(err)
		}
		open := func() *account {
			t.Helper()
			a, err := openAccount(h, keys.Root(), nil, 4, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		clear := h.account(keys.Root()) + "/locked.cbor"
		old, err := os.ReadFile(clear)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * 7 * 24 * time.Hour)
		a := open()
		if _, _, err := a.unlock(t.Context(), "secret"); err != nil {
			t.Fatal(err)
		}
		a.close()
		if err := os.WriteFile(clear, old, 0o600); err != nil {
			t.Fatal(err)
		}

		a = open()
		before := len(a.inboxes(time.Now()))
		if _, _, err := a.unlock(t.Context(), "secret"); err != nil {
			t.Fatal(err)
		}
		after := len(a.inboxes(time.Now()))
		a.close()
		a = open()
		locked := len(a.inboxes(time.Now()))
		a.close()
		if before != 3+1 || after != 13+1 || locked != 13+1 {
			t.Errorf("%d inboxes, %d when it is unlocked, %d when it is locked again", before, after, locked)
		}
	})
}

// TestKeysThatCannotBeSaved fills the disk while new keys are made. The owner
// can log in and the inboxes are known, but no record is signed before the keys
// are on the disk, and that is tried until it works.
func TestKeysThatCannotBeSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := home(t.TempDir())
		_, keys, err := create(t.Context(), h, identity.NewSeed(), 1, AccountOptions{Name: "bob", Password: "secret", PasswordWork: 4})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(366 * 24 * time.Hour)
		for _, file := range []string{"keyring.age", "locked.cbor"} {
			full := h.account(keys.Root()) + "/" + file + ".tmp" // nothing can be written where a directory is
			if err := os.Mkdir(full, 0o700); err != nil {
				t.Fatal(err)
			}
			a, err := openAccount(h, keys.Root(), nil, 4, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			o, _, err := a.unlock(t.Context(), "secret")
			if err != nil {
				t.Fatal(err)
			}
			fallback := o.keys.Fallbacks()[0].Inbox()
			if _, ok := a.inboxes(time.Now())[fallback]; !ok {
				t.Errorf("%s: the new fallback inbox is not known", file)
			}
			for range 3 {
				if _, err := a.sign(time.Now()); err == nil {
					t.Errorf("%s: a record was signed", file)
				}
			}
			if err := os.Remove(full); err != nil {
				t.Fatal(err)
			}
			if err := a.roll(o.keys, time.Now()); err != nil {
				t.Error(err)
			}
			v, err := identity.OpenVault(a.dir)
			if err != nil {
				t.Fatal(err)
			}
			kr, _, err := v.Unlock(t.Context(), "secret")
			if err != nil {
				t.Fatal(err)
			}
			if _, _, ok := kr.SecretsByInbox(fallback); !ok || !v.Saved(kr, time.Now()) {
				t.Errorf("%s: the keys are not on the disk: %v", file, ok)
			}
			a.close()
			time.Sleep(366 * 24 * time.Hour)
		}
	})
}
