package nodetest_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/nodetest"
)

// TestRestoreOutdoes gets an account back in the second in which it was made,
// on a node that has just been started and knows nobody yet: the new roster
// outdoes the old one all the same, so that mail reaches the new keys.
func TestRestoreOutdoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 4)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		c.Wait("alice to know the old record", nodetest.Patience, func() bool {
			known, err := c.Node[0].Running().Control().AddContact(context.Background(), "", control.NewContact{Target: bob.Address()})
			return err == nil && known.Known
		})
		c.Stop(1)
		c.Erase(1)
		c.Start(1)
		bob.Restore(1)
		id := alice.Send(bob.Address(), "hello again", "\n")
		c.Pass(time.Hour) // with the old record at hand it is sealed to the old keys first
		bob.WaitMail(1)
		alice.WaitState(id, "delivered")
	})
}

// TestRestoreIsOutdone has the same account on two machines, of which one has the
// lower generation, as after a restore without network by a clock that was behind.
// Nobody takes its records; its owner is told, and the other machine is not
// troubled.
func TestRestoreIsOutdone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 4)
		defer c.Close()
		bob := c.Person(1, "bob")
		problem := func(i int) string {
			accounts := c.Node[i].Status().Accounts
			if len(accounts) != 1 {
				t.Fatalf("%d accounts on node %d", len(accounts), i)
			}
			return accounts[0].Problem
		}
		c.Pass(time.Minute)
		if got := problem(1); got != "" {
			t.Errorf("of an account that is all right: %q", got)
		}
		c.Isolate(1)
		bob.Restore(2)
		c.Pass(time.Minute)
		c.Rejoin(1)
		c.Stop(1)
		c.Start(1)
		c.Wait("the outdone node to say so", 14*time.Hour, func() bool { // with its next record, if nobody was there for the first
			return strings.Contains(problem(1), "recovery words")
		})
		old := c.Node[1].Running().Control()
		if err := old.Unlock(t.Context(), bob.Address(), nodetest.Password); err != nil {
			t.Fatal(err)
		}
		_, err := old.Send(t.Context(), control.Message{From: bob.Address(), To: []string{bob.Address()}, Body: []byte("text\n")})
		if err == nil || !strings.Contains(err.Error(), "newer keys") {
			t.Errorf("mail that nobody will take is accepted: %v", err)
		}
		c.Pass(time.Hour)
		if got := problem(2); got != "" {
			t.Errorf("of the account that was restored: %q", got)
		}
		c.Isolate(1)
		c.Stop(1)
		c.Start(1)
		c.Pass(time.Minute) // it cannot know, and says nothing
		c.Rejoin(1)
		c.Wait("the outdone node to say so again", 14*time.Hour, func() bool { return problem(1) != "" })
	})
}

// TestRestoreUnchecked says of a restore that asked nobody that it did not.
func TestRestoreUnchecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 2)
		defer c.Close()
		bob := c.Person(1, "bob")
		restore := func() bool {
			c.Stop(1)
			c.Erase(1)
			c.Start(1)
			made, err := c.Node[1].Running().Control().AddAccount(context.Background(), control.NewAccount{Name: "bob", Password: nodetest.Password, Restore: true, Words: bob.Words()})
			if err != nil {
				t.Fatal(err)
			}
			return made.Unchecked
		}
		if restore() {
			t.Error("the neighbour was not asked")
		}
		c.Stop(0)
		if !restore() {
			t.Error("nobody was there, and somebody was asked")
		}
	})
}
