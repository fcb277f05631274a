package nodetest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/nodetest"
)

// Whoever restores an account whose keys are whole, and which cannot be opened all
// the same, is told so: nobody can log in to it.
func TestDamagedBesideTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 2)
		defer c.Close()
		bob := c.Person(1, "bob")
		c.Stop(1)
		dir := filepath.Join(c.Node[1].Home(), "accounts", strings.TrimSuffix(bob.Address()[len("bob@"):], ".peerpost.alt"))
		if err := errors.Join(os.RemoveAll(dir+"/outgoing"), os.WriteFile(dir+"/outgoing", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		c.Start(1)
		restore := control.NewAccount{Name: "bob", Password: nodetest.Password, Restore: true, Words: bob.Words()}
		var e *control.Error
		_, err := c.Node[1].Running().Control().AddAccount(t.Context(), restore)
		if !errors.As(err, &e) || e.Code != control.CodeFailure || !strings.Contains(e.Hint, dir) {
			t.Errorf("restored in its place: %v", err)
		}
	})
}

// A damaged account is no wrong password, and comes back by its words when its
// remains were moved away, while the node runs.
func TestDamagedAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 2)
		defer c.Close()
		bob, eve := c.Person(1, "bob"), c.Person(1, "eve")
		c.Stop(1)
		dir := filepath.Join(c.Node[1].Home(), "accounts", strings.TrimSuffix(bob.Address()[len("bob@"):], ".peerpost.alt"))
		if err := os.WriteFile(dir+"/locked.cbor", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c.Start(1)
		n := c.Node[1].Running()
		damaged := func() (addresses []string) {
			for _, a := range c.Node[1].Status().Accounts {
				if a.Damaged != (a.Problem != "") {
					t.Errorf("damaged %v, and %q", a.Damaged, a.Problem)
				}
				if a.Damaged {
					addresses = append(addresses, a.Address)
				}
			}
			return addresses
		}
		if got := damaged(); len(got) != 1 || got[0] != bob.Address() {
			t.Errorf("damaged: %v", got)
		}
		eve.Login()
		var e *control.Error
		if _, err := n.Mailbox(t.Context(), bob.Address(), nodetest.Password); errors.Is(err, mail.ErrCredentials) || !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("a login to it: %v", err)
		}
		restore := control.NewAccount{Name: "bob", Password: nodetest.Password, Restore: true, Words: bob.Words()}
		if _, err := n.Control().AddAccount(t.Context(), restore); !errors.As(err, &e) || e.Code != control.CodeFailure || !strings.Contains(e.Hint, dir) {
			t.Errorf("restored in its place: %v", err)
		}
		if err := os.Rename(dir, filepath.Join(t.TempDir(), "remains")); err != nil {
			t.Fatal(err)
		}
		bob.Restore(1)
		bob.Login()
		if got := damaged(); len(got) != 0 {
			t.Errorf("damaged after the restore: %v", got)
		}
	})
}
