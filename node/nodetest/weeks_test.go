package nodetest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/nodetest"
)

// TestKeysRoll has somebody log in to an account that was made while the node
// ran: the new week's keys are saved all the same.
func TestKeysRoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 1, nodetest.Options{Refresh: 24 * time.Hour})
		defer c.Close()
		alice := c.Person(0, "alice")
		alice.Login()
		found, err := filepath.Glob(filepath.Join(c.Node[0].Home(), "accounts", "*", "keyring.age"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%d keyrings: %v", len(found), err)
		}
		before, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		c.Pass(8 * 24 * time.Hour)
		after, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(before, after) {
			t.Error("a week later the keys are the same")
		}
	})
}

// TestOldKeysGo lets a week pass into the past on a node with two accounts. The
// keys of that week go when no mail can need them any more; those of an account
// that is locked, and that has mail of that week unopened, stay until it is
// read.
func TestOldKeysGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 3, nodetest.Options{Refresh: 24 * time.Hour})
		defer c.Close()
		alice, bob, carol := c.Person(0, "alice"), c.Person(1, "bob"), c.Person(1, "carol")
		week := identity.EpochAt(time.Now())
		gone := (week + 2).Start().AddDate(0, 0, 31+1+7)
		has := func(p *nodetest.Person, e identity.Epoch) bool {
			t.Helper()
			root, err := identity.ParseAddress(p.Address())
			if err != nil {
				t.Fatal(err)
			}
			v, err := identity.OpenVault(filepath.Join(c.Node[1].Home(), "accounts", root.Root.Label()))
			if err != nil {
				t.Fatal(err)
			}
			keys, _, err := v.Unlock(t.Context(), nodetest.Password)
			if err != nil {
				t.Fatal(err)
			}
			_, ok := keys.SecretsFor(e)
			return ok
		}
		id := alice.Send(bob.Address(), "hello", "\n")
		bob.WaitMail(1)
		alice.WaitState(id, "delivered")
		c.Stop(1)
		id = alice.Send(bob.Address(), "of that week", "\n")
		alice.WaitState(id, "replicated")
		c.Stop(0)
		c.Stop(2)

		c.Pass(25 * 24 * time.Hour)
		c.Start(2)
		c.Start(1)
		c.Wait("the message to be collected", nodetest.Patience, func() bool {
			s := c.Node[1].Status().Accounts
			return s[0].Waiting+s[1].Waiting == 1
		})
		c.Stop(1)
		c.Stop(2)

		c.Pass(time.Until(gone.Add(-2 * time.Hour)))
		c.Start(2)
		c.Start(1)
		carol.Login()
		c.Pass(2*time.Hour - time.Second)
		if !has(carol, week) {
			t.Error("keys were destroyed before their time")
		}
		c.Pass(time.Hour)
		if has(carol, week) || !has(carol, week+1) {
			t.Errorf("of an unlocked account: that week %v, the next %v", has(carol, week), has(carol, week+1))
		}
		if !has(bob, week) {
			t.Error("a locked account has lost keys")
		}
		bob.Login()
		if got := bob.WaitMail(2); got[1].Subject != "of that week" {
			t.Errorf("got %q", got[1].Subject)
		}
		c.Pass(time.Hour)
		if has(bob, week) || !has(bob, week+1) {
			t.Errorf("of an account whose mail is read: that week %v, the next %v", has(bob, week), has(bob, week+1))
		}
	})
}
