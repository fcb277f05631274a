package nodetest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/host"
	"github.com/peerpost/peerpost/node/nodetest"
	"github.com/peerpost/peerpost/store"
	"github.com/peerpost/peerpost/store/storetest"
)

// TestKeeper has somebody choose a keeper that is among the furthest nodes of
// the inbox, so that nobody finds it there. All copies but the keeper's are
// lost, and the mail arrives, at a node that is locked, too; then the keeper
// forgets it like any holder.
func TestKeeper(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const nodes = 26 // 20 are asked for mail, and the two people's own are not to be the keeper
		c := nodetest.New(t, nodes, nodetest.Options{
			Refresh: time.Hour,
			Change:  func(_ int, cfg *node.Config) { cfg.UpkeepOff = true },
		})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		keeper := furthest(t, c, bob)
		ctx := context.Background()
		added, err := c.Node[1].Running().Control().AddKeeper(ctx, bob.Address(), c.Node[keeper].Running().Addresses()[0])
		if err != nil || !added.Connected || added.Peer != c.Node[keeper].PeerID().String() {
			t.Fatalf("%+v, %v", added, err)
		}
		c.Pass(time.Minute) // the record is published
		c.Stop(1)
		id := alice.Send(bob.Address(), "kept", "\n")
		alice.WaitState(id, "replicated")
		c.Pass(time.Minute) // the rest of the holders
		if h := c.Node[keeper].Status().Holding; h.Messages != 1 {
			t.Fatalf("the keeper holds %d messages", h.Messages)
		}
		for i := range nodes {
			if i != keeper && i != 1 {
				c.Stop(i)
				if err := os.RemoveAll(filepath.Join(c.Node[i].Home(), "holding")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := 2; i < nodes; i++ {
			c.Start(i)
		}
		c.Settle()
		c.Start(1)
		c.Wait("the locked node to collect it", nodetest.Patience, func() bool { return c.Node[1].Status().Accounts[0].Waiting == 1 })
		bob.Login()
		if got := bob.WaitMail(1); got[0].Subject != "kept" {
			t.Errorf("got %q", got[0].Subject)
		}
		c.Start(0) // the keeper may hold her receipt too
		alice.Login()
		alice.WaitState(id, "delivered")
		c.Wait("the keeper to forget it", nodetest.Patience, func() bool { return c.Node[keeper].Status().Holding.Messages == 0 })
	})
}

// furthest finds the node that is furthest from the inbox of the week, besides
// those of the two people.
func furthest(t *testing.T, c *nodetest.Cluster, p *nodetest.Person) int {
	t.Helper()
	root, err := identity.ParseAddress(p.Address())
	if err != nil {
		t.Fatal(err)
	}
	v, err := identity.OpenVault(filepath.Join(c.Node[1].Home(), "accounts", root.Root.Label()))
	if err != nil {
		t.Fatal(err)
	}
	keys := v.FetchKeys(time.Now())
	i := slices.IndexFunc(keys, func(k identity.FetchKey) bool { return k.Epoch == identity.EpochAt(time.Now()) })
	place := sha256.Sum256([]byte(store.DropKey(keys[i].Inbox())))
	distance := func(i int) []byte {
		d := sha256.Sum256([]byte(c.Node[i].PeerID()))
		for j := range d {
			d[j] ^= place[j]
		}
		return d[:]
	}
	most := 2
	for i := range c.Node {
		if i > 2 && bytes.Compare(distance(i), distance(most)) > 0 {
			most = i
		}
	}
	return most
}

// TestKeeperIsWatched cuts somebody's node off from everybody but the keeper:
// mail is told at once, and not found at the next round.
func TestKeeperIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const nodes = 26
		c := nodetest.New(t, nodes, nodetest.Options{Refresh: time.Hour})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		keeper := furthest(t, c, bob)
		if _, err := c.Node[1].Running().Control().AddKeeper(t.Context(), bob.Address(), c.Node[keeper].Running().Addresses()[0]); err != nil {
			t.Fatal(err)
		}
		c.Pass(11 * time.Minute) // whom to watch is chosen every ten
		for i := range nodes {
			if i != 1 && i != keeper {
				c.Cut(1, i)
			}
		}
		for i := range 3 {
			alice.Send(bob.Address(), "at once", "\n")
			c.Pass(12 * time.Second)
			if n := len(bob.Inbox()); n != i+1 {
				t.Fatalf("%d of %d messages are here", n, i+1)
			}
			c.Pass(5 * time.Second)
		}
	})
}

// TestKeeperThatIsOff counts how often a keeper is tried that is not there.
func TestKeeperThatIsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &counter{msg: "a watch ended"}
		c := nodetest.New(t, 3, nodetest.Options{Refresh: time.Hour, Log: slog.New(log)})
		defer c.Close()
		bob := c.Person(1, "bob")
		c.Pass(time.Minute)
		before := log.seen.Load()
		const off = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWBntoaf4mXgQTFJdnxgtTaMNRTwEuckFAWgEdyV4HFmmW"
		if _, err := c.Node[1].Running().Control().AddKeeper(t.Context(), bob.Address(), off); err != nil {
			t.Fatal(err)
		}
		c.Pass(time.Hour)
		if n := log.seen.Load() - before; n < 4 || n > 9 {
			t.Errorf("it was tried %d times in an hour", n)
		}
	})
}

// counter is a log that counts one sentence.
type counter struct {
	slog.Handler
	msg  string
	seen atomic.Int64
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *counter) WithGroup(string) slog.Handler            { return c }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == c.msg {
		c.seen.Add(1)
	}
	return nil
}

// TestKeepers looks at what may be a keeper, and at how it gets into the record.
func TestKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 3, nodetest.Options{Change: func(i int, cfg *node.Config) { cfg.Holder = i == 2 }})
		defer c.Close()
		bob := c.Person(1, "bob")
		ctl, ctx := c.Node[1].Running().Control(), context.Background()
		invite, err := c.Node[2].Running().Control().Invite(ctx, "")
		if err != nil || invite.Address != "" {
			t.Fatalf("the invite of a holder: %+v, %v", invite, err)
		}
		if inv, err := host.ParseInvite(invite.Link); err != nil || inv.Peers[0].ID != c.Node[2].PeerID() {
			t.Fatalf("the invite of a holder: %+v, %v", inv, err)
		}
		added, err := ctl.AddKeeper(ctx, "", invite.Link)
		if err != nil || added.Peer != c.Node[2].PeerID().String() || !added.Connected {
			t.Fatalf("%+v, %v", added, err)
		}
		c.Pass(time.Minute)
		root, err := identity.ParseAddress(bob.Address())
		if err != nil {
			t.Fatal(err)
		}
		named := func() []identity.Host {
			t.Helper()
			v, err := identity.OpenVault(filepath.Join(c.Node[1].Home(), "accounts", root.Root.Label()))
			if err != nil {
				t.Fatal(err)
			}
			var keepers []identity.Host
			for i, b := range v.PresignedRecords() { // the first is the one of now
				r, err := identity.ParseRecord(b)
				if err != nil || i > 0 && len(r.Keepers) != len(keepers) {
					t.Fatalf("record %d: %v", i, err)
				}
				keepers = r.Keepers
			}
			return keepers
		}
		if k := named(); len(k) != 1 || string(k[0].Peer) != string(c.Node[2].PeerID()) || len(k[0].Addrs) == 0 {
			t.Fatalf("the records name %v", k)
		}

		// addresses that few can reach come last, and a second time they are the new ones
		const id = "/p2p/12D3KooWBntoaf4mXgQTFJdnxgtTaMNRTwEuckFAWgEdyV4HFmmW"
		for _, target := range []string{
			"/ip4/127.0.0.1/tcp/1" + id,
			"peerpost:?peer=/ip4/127.0.0.1/tcp/4001" + id + "&peer=/ip4/192.168.0.7/tcp/4001" + id + "&peer=/ip4/8.8.8.8/tcp/4001" + id,
		} {
			if added, err = ctl.AddKeeper(ctx, "", target); err != nil || added.Connected {
				t.Fatalf("%+v, %v", added, err)
			}
		}
		list, err := ctl.Keepers(ctx, bob.Address())
		if err != nil || len(list) != 2 || fmt.Sprint(list[1].Addrs) != "[/ip4/8.8.8.8/tcp/4001 /ip4/192.168.0.7/tcp/4001 /ip4/127.0.0.1/tcp/4001]" {
			t.Fatalf("%+v, %v", list, err)
		}
		for what, target := range map[string]string{
			"itself":     c.Node[1].Running().Addresses()[0],
			"a person":   "peerpost:" + bob.Address(),
			"no address": strings.TrimPrefix(id, "/p2p/"),
			"no place":   id,
			"nobody":     "/ip4/192.0.2.1/tcp/4001",
			"too long":   "/dns4/" + strings.Repeat("a.", 70) + "example/tcp/4001" + id,
		} {
			if _, err := ctl.AddKeeper(ctx, "", target); !errors.Is(err, control.ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		c.Pass(time.Minute)
		if k := named(); len(k) != 2 {
			t.Fatalf("the records name %d keepers", len(k))
		}
		c.Stop(1)
		c.Start(1)
		ctl = c.Node[1].Running().Control()
		if _, err := ctl.AddKeeper(ctx, "", invite.Link); !errors.Is(err, control.ErrLocked) {
			t.Fatalf("locked: %v", err)
		}
		if list, err = ctl.Keepers(ctx, ""); err != nil || len(list) != 2 {
			t.Fatalf("locked: %+v, %v", list, err)
		}
		bob.Login()
		var more []string
		for range 3 {
			key, err := identity.GenerateHostKey(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			more = append(more, storetest.PeerID(key).String())
		}
		for _, p := range more {
			_, err = ctl.AddKeeper(ctx, "", "/ip4/192.0.2.1/tcp/4001/p2p/"+p)
		}
		if !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), "at most 4") {
			t.Errorf("the fifth: %v", err)
		}
		for _, k := range append([]string{added.Peer, c.Node[2].PeerID().String()}, more[:2]...) {
			if err := ctl.RemoveKeeper(ctx, "", k); err != nil {
				t.Error(err)
			}
		}
		if err := ctl.RemoveKeeper(ctx, "", added.Peer); !errors.Is(err, control.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
		c.Pass(time.Minute)
		if k := named(); len(k) != 0 {
			t.Errorf("the records still name %d keepers", len(k))
		}
	})
}
