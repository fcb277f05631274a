package nodetest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node/nodetest"
)

// TestLongTimeOff has all be off for longer than mail lives, as it seems to a
// node whose clock is that much ahead. A holder that is alone drops nothing;
// when somebody else is there who has the same time, it does, and the sender's
// node says that the message has failed.
func TestLongTimeOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 3, nodetest.Options{Refresh: 24 * time.Hour})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		c.Pass(2 * time.Hour)
		c.Stop(1)
		id := alice.Send(bob.Address(), "a late one", "\n")
		alice.WaitState(id, "replicated")
		c.Stop(0)
		c.Stop(2)
		c.Pass(60 * 24 * time.Hour)

		c.Start(2)
		c.Pass(24 * time.Hour)
		if n := c.Node[2].Status().Holding.Messages; n != 1 {
			t.Fatalf("alone, a holder has %d messages", n)
		}
		c.Start(0)
		alice.Login()
		c.Pass(time.Hour)
		if n := c.Node[2].Status().Holding.Messages; n != 0 {
			t.Errorf("with somebody else there, a holder has %d messages", n)
		}
		alice.WaitState(id, "failed")
	})
}
