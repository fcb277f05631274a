package nodetest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/nodetest"
)

var soak = flag.Bool("soak", false, "run TestUpkeep with 60 nodes for three days, which takes some ten minutes")

// TestUpkeep lets whole nodes come and go while 30 messages wait and their
// sender is off. With upkeep eight nodes that are on have all of them at any
// hour; without it they do not. Package store has the same with its own parts
// alone, 60 holders and three days, in seconds.
func TestUpkeep(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprintf("upkeep=%v", on), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if least := churn(t, on); (least >= 8) != on {
					t.Errorf("at some hour only %d nodes had all messages", least)
				}
			})
		})
	}
}

func churn(t *testing.T, upkeep bool) (least int) {
	const messages = 30
	nodes, hours, leave := 22, 20, 6
	if *soak {
		nodes, hours, leave = 60, 72, 12
	}
	c := nodetest.New(t, nodes, nodetest.Options{
		Refresh: 4 * time.Hour,
		Change:  func(_ int, cfg *node.Config) { cfg.UpkeepOff = !upkeep },
	})
	defer c.Close()
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	c.Pass(time.Minute) // the records are published
	c.Stop(1)
	for i := range messages {
		id := alice.Send(bob.Address(), fmt.Sprint(i), "\n")
		alice.WaitState(id, "replicated")
	}
	c.Pass(time.Minute) // the rest of the ten
	c.Stop(0)

	rng := rand.New(rand.NewPCG(7, 7))
	least = nodes
	for range hours {
		for i := 2; i < nodes; i++ {
			switch on := c.Node[i].Running() != nil; {
			case on && rng.IntN(leave) == 0:
				c.Stop(i)
			case !on && rng.IntN(leave*2/3) == 0:
				c.Start(i)
			}
		}
		c.Pass(time.Hour)
		whole := 0
		for _, m := range c.Node {
			if m.Running() != nil && m.Status().Holding.Messages == messages {
				whole++
			}
		}
		least = min(least, whole)
	}
	return least
}
