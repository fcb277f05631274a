package nodetest_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node/nodetest"
)

// TestLocked reboots two machines without a login: what one had sealed still
// goes out, and what comes to the other is kept, at the holders too.
func TestLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 5, nodetest.Options{Refresh: time.Hour})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		first := alice.Send(bob.Address(), "hello", "\n")
		bob.WaitMail(1)
		alice.WaitState(first, "delivered")

		// sealed while the whole world was away
		c.Stop(1)
		for i := 2; i < 5; i++ {
			c.Isolate(i)
		}
		c.Pass(time.Minute)
		id := alice.Send(bob.Address(), "sealed before the reboot", "\n")
		c.Pass(30 * time.Second)
		if s := alice.Outbox()[id].State; s != "accepted" {
			t.Fatalf("%s, with nobody there to take it", s)
		}
		c.Stop(0)
		for i := 2; i < 5; i++ {
			c.Rejoin(i)
		}
		c.Start(0) // and nobody logs in
		c.Wait("the holders to get it", nodetest.Patience, func() bool { return c.Node[3].Status().Holding.Messages == 1 })
		if !c.Node[0].Status().Accounts[0].Locked {
			t.Fatal("the sender is not locked")
		}

		c.Start(1) // nor here
		c.Wait("the message to be collected", nodetest.Patience, func() bool { return c.Node[1].Status().Accounts[0].Waiting == 1 })
		c.Pass(time.Hour)
		if h := c.Node[3].Status().Holding; h.Messages != 1 {
			t.Fatalf("a locked node has deleted at the holders: %+v", h)
		}
		bob.Login()
		if got := bob.WaitMail(2); got[1].Subject != "sealed before the reboot" {
			t.Fatalf("got %q", got[1].Subject)
		}
		c.Wait("the holders to forget it", 2*time.Hour, func() bool { return c.Node[3].Status().Holding.Messages == 0 })
		alice.Login()
		alice.WaitState(id, "delivered")
	})
}

// TestStolenHome looks for planted strings in everything on the disk.
func TestStolenHome(t *testing.T) {
	c := nodetest.New(t, 3)
	defer c.Close()
	alice, bob, carol := c.Person(0, "alice"), c.Person(1, "bob"), c.Person(2, "carol")
	secrets := []string{"PlantedSubject", "PlantedBodyWord", bob.Address(), carol.Address(), bob.Address()[4:60], nodetest.Password, alice.Words()}
	first := alice.Send(bob.Address(), "PlantedSubject", "PlantedBodyWord\n")
	bob.WaitMail(1)
	alice.WaitState(first, "delivered")
	bob.Send(alice.Address(), "PlantedSubject", "PlantedBodyWord\n")
	alice.WaitMail(1)
	c.Stop(2)
	id := alice.Send(carol.Address(), "PlantedSubject", "PlantedBodyWord\n") // stays in the outbox
	alice.WaitState(id, "replicated")

	look := func(when string) {
		t.Helper()
		info, err := os.Stat(c.Node[0].Home())
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the home has mode %v", when, info.Mode())
		}
		files := 0
		err = filepath.WalkDir(c.Node[0].Home(), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for _, s := range secrets {
				if bytes.Contains(b, []byte(s)) {
					t.Errorf("%s: %s contains %q", when, path, s)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if files < 8 {
			t.Fatalf("%s: only %d files looked at", when, files)
		}
	}
	look("while it runs")
	c.Stop(0)
	look("after the end")
}
