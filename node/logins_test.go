package node

import (
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
)

// TestLoginsEndWithTheirPassword removes a password while others log in with it,
// again and again. Whoever was let in is told, however close it was.
func TestLoginsEndWithTheirPassword(t *testing.T) {
	ctx := t.Context()
	h := home(t.TempDir())
	_, keys, err := create(ctx, h, identity.NewSeed(), 1, AccountOptions{Name: "bob", Password: "secret", PasswordName: "laptop", PasswordWork: 1})
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAccount(h, keys.Root(), nil, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	o, laptop, err := a.login(ctx, "secret")
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for range 50 {
		if err := a.vault.AddPassword(o.keys, "phone", "another"); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		grants := make(chan grant, 100)
		for range 8 {
			all.Go(func() {
				for range 10 {
					_, g, err := a.login(ctx, "another")
					if errors.Is(err, mail.ErrCredentials) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					grants <- g
				}
			})
		}
		first := <-grants
		if first.Granted().Err() != nil {
			late++
		}
		if err := a.removePassword("phone"); err != nil {
			t.Fatal(err)
		}
		if first.Granted().Err() == nil {
			t.Fatal("a session goes on after its password was removed")
		}
		all.Wait()
		close(grants)
		for g := range grants {
			if g.Granted().Err() == nil {
				t.Fatal("a session that began as its password was removed goes on")
			}
		}
	}
	if n := len(a.logins.of); n != 1 {
		t.Errorf("%d passwords are remembered", n)
	}
	if late > 0 {
		t.Errorf("%d sessions ended before their password was removed", late)
	}
	// It is removed between the check and the grant, and then added under another name.
	if err := a.vault.AddPassword(o.keys, "phone", "another"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.unlock(ctx, "another"); err != nil {
		t.Fatal(err)
	}
	if err := a.removePassword("phone"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.grantFor(t.Context(), "another", "phone"); !errors.Is(err, mail.ErrCredentials) {
		t.Fatalf("a session begins with a password that was removed: %v", err)
	}
	if err := a.vault.AddPassword(o.keys, "tablet", "another"); err != nil {
		t.Fatal(err)
	}
	g, err := a.grantFor(t.Context(), "another", "phone")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.removePassword("tablet"); err != nil {
		t.Fatal(err)
	}
	if g.Granted().Err() == nil {
		t.Error("the session has the grant of another password")
	}
	if err := a.removePassword("laptop"); !errors.Is(err, identity.ErrLastPassword) {
		t.Error(err)
	}
	if laptop.Granted().Err() != nil {
		t.Error("a session ended whose password is still there")
	}
}
