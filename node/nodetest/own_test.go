package nodetest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/nodetest"
	"github.com/peerpost/peerpost/store"
)

// TestOwnNode writes to oneself, to another account of the same node, and to
// two names of one person, with no other node in the world.
func TestOwnNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 1)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(0, "bob")
		self := alice.Send(alice.Address(), "to myself", "\n")
		alice.WaitMail(1)
		alice.WaitState(self, "delivered")
		other := alice.Send(bob.Address(), "next door", "\n")
		bob.WaitMail(1)
		alice.WaitState(other, "delivered")
		alias := "sales+x@" + bob.Address()[strings.IndexByte(bob.Address(), '@')+1:]
		msg := "From: " + alice.Address() + "\r\nTo: " + bob.Address() + ", " + alias + "\r\nSubject: twice\r\n\r\ntext\r\n"
		alice.SendRaw([]byte(msg), bob.Address(), alias)
		bob.WaitMail(3)
		c.Pass(time.Hour)
		for id, e := range alice.Outbox() {
			if e.State != "delivered" {
				t.Errorf("%s is %s", id, e.State)
			}
		}
		c.Stop(0)
		c.Start(0)
		alice.Login()
		locked := alice.Send(bob.Address(), "while locked", "\n")
		c.Pass(2 * time.Hour)
		bob.Login()
		bob.WaitMail(4)
		alice.WaitState(locked, "delivered")
		if n := len(bob.Inbox()); n != 4 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestNobodyToAsk looks for a stranger without a neighbour: that nobody was asked
// says nothing about the stranger, whose mail or refusal is not given up for it.
func TestNobodyToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for nodes := range 2 {
			c := nodetest.New(t, nodes+1)
			alice := c.Person(0, "alice")
			c.Pass(time.Minute)
			id := alice.Send(identity.Address{Local: "bob", Root: identity.NewSeed().Root()}.String(), "anybody there", "\n")
			c.Pass(time.Minute)
			if e := alice.Outbox()[id].LastError; strings.Contains(e, store.ErrNoHolders.Error()) != (nodes == 0) {
				t.Errorf("with %d neighbours: %q", nodes, e)
			}
			c.Close()
		}
	})
}
