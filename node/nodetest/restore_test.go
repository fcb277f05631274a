package nodetest_test

import (
	"context"
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
