package nodetest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node/nodetest"
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
