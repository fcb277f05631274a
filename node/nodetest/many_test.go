package nodetest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/nodetest"
	"github.com/peerpost/peerpost/store"
)

// TestMoreAccountsThanWatches has more accounts on one node than a holder lets
// watch, and cuts it off from the sender, so that the mail comes by the holder
// only. Those who cannot watch get theirs by asking.
func TestMoreAccountsThanWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Without upkeep, or the node would hold the mail itself after a while.
		c := nodetest.New(t, 3, nodetest.Options{Change: func(_ int, cfg *node.Config) { cfg.UpkeepOff = true }})
		defer c.Close()
		c.Cut(0, 2)
		alice := c.Person(0, "alice")
		var all []*nodetest.Person
		for i := range store.WatchesPerPeer + 4 {
			all = append(all, c.Person(2, fmt.Sprintf("p%d", i)))
		}
		c.Pass(5 * time.Minute) // rounds are over, and watches open
		for i, p := range all {
			alice.Send(p.Address(), fmt.Sprint(i), "x\n")
		}
		have := func() (n int) {
			for _, p := range all {
				n += len(p.Inbox())
			}
			return n
		}
		c.Pass(time.Minute)
		if n := have(); n < store.WatchesPerPeer || n == len(all) {
			t.Errorf("%d of %d were told of their mail at once, want %d", n, len(all), store.WatchesPerPeer)
		}
		c.Pass(node.CollectEvery + node.CollectEvery/10 + time.Minute)
		if n := have(); n != len(all) {
			t.Errorf("%d of %d have their mail", n, len(all))
		}
	})
}
