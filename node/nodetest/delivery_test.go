package nodetest_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/nodetest"
)

// TestDirect is the common case: both are on.
func TestDirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 3)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		first := alice.Send(bob.Address(), "Hello", "How are you?\n")
		got := bob.WaitMail(1)
		if got[0].Subject != "Hello" || !strings.Contains(got[0].Raw, "How are you?") {
			t.Fatalf("got %q", got[0].Raw)
		}
		if !strings.Contains(got[0].Raw, "Authentication-Results: ") {
			t.Error("the message says nothing of its signature")
		}
		alice.WaitState(first, "delivered")
		back := bob.Send(alice.Address(), "Re: Hello", "Well.\n")
		alice.WaitMail(1)
		bob.WaitState(back, "delivered")
		if sent := alice.Folder("Sent"); len(sent) != 1 || sent[0].Subject != "Hello" {
			t.Errorf("Sent holds %v", sent)
		}
		for i, m := range c.Node {
			if h := m.Status().Holding; h.Messages != 0 {
				t.Errorf("node %d holds %d messages that went directly", i, h.Messages)
			}
		}
	})
}

// TestDirectAfterRestart restarts the recipient: it still takes mail straight
// from the sender.
func TestDirectAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 3)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		first := alice.Send(bob.Address(), "one", "\n")
		alice.WaitState(first, "delivered")
		c.Stop(1)
		c.Start(1)
		bob.Login()
		c.Settle()
		second := alice.Send(bob.Address(), "two", "\n")
		alice.WaitState(second, "delivered")
		for i, m := range c.Node {
			if h := m.Status().Holding; h.Messages != 0 {
				t.Errorf("node %d holds %d messages that should have gone directly", i, h.Messages)
			}
		}
	})
}

// TestBackSoon has somebody come back: what waited is there as soon as the node
// has found a neighbour.
func TestBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 5)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		first := alice.Send(bob.Address(), "the record", "\n")
		alice.WaitState(first, "delivered")
		c.Stop(1)
		id := alice.Send(bob.Address(), "while you were away", "\n")
		alice.WaitState(id, "replicated")
		c.Stop(0)
		began := time.Now()
		c.Start(1)
		bob.Login()
		bob.WaitMail(2)
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestBcc sends to three people, one of them unseen by the others.
func TestBcc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 4)
		defer c.Close()
		alice, bob, carol, dave := c.Person(0, "alice"), c.Person(1, "bob"), c.Person(2, "carol"), c.Person(3, "dave")
		msg := fmt.Sprintf("From: %s\r\nTo: %s\r\nCc: %s\r\nBcc: %s\r\nSubject: plan\r\n\r\ntext\r\n",
			alice.Address(), bob.Address(), carol.Address(), dave.Address())
		alice.SendRaw([]byte(msg), bob.Address(), carol.Address(), dave.Address())
		for _, p := range []*nodetest.Person{bob, carol, dave} {
			raw := p.WaitMail(1)[0].Raw
			if strings.Contains(raw, "Bcc:") || p != dave && strings.Contains(raw, dave.Address()) {
				t.Errorf("the blind copy shows:\n%s", raw)
			}
		}
		if !strings.Contains(alice.Folder("Sent")[0].Raw, "Bcc: "+dave.Address()) {
			t.Error("the Sent copy has lost its Bcc field")
		}
	})
}

// TestOfflineToOffline has sender and recipient never on at the same time, and
// three of ten holders destroyed in between.
func TestOfflineToOffline(t *testing.T) {
	t.Parallel()
	const mails = 50
	c := nodetest.New(t, 12, nodetest.Options{Change: func(_ int, cfg *node.Config) { cfg.Capacity = 1 << 30 }})
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	first := alice.Send(bob.Address(), "before", "so that the records are known\n")
	bob.WaitMail(1)
	alice.WaitState(first, "delivered")
	c.Stop(1)

	rng := rand.New(rand.NewPCG(1, 2))
	want := make(map[[32]byte]string)
	var ids []string
	for i := range mails {
		size := 1 << 10
		if i > 0 {
			size = 1<<10 + rng.IntN(10<<20-1<<10)
		}
		if i == 1 {
			size = 10 << 20
		}
		subject := fmt.Sprintf("number %d", i)
		body := text(rng, size)
		want[sha256.Sum256(body)] = subject
		head := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <%d@test>\r\n\r\n",
			alice.Address(), bob.Address(), subject, i)
		ids = append(ids, alice.SendRaw(append([]byte(head), body...), bob.Address()))
	}
	for _, id := range ids {
		if e := alice.WaitState(id, "replicated"); e.Replicas < 6 {
			t.Fatalf("%d of %d holders have it: %s", e.Replicas, e.Wanted, e.LastError)
		}
	}
	c.Stop(0)
	for _, i := range []int{3, 6, 9} {
		c.Kill(i)
		c.Erase(i)
	}
	c.Start(1)
	bob.Login()
	got := bob.WaitMail(mails + 1)
	if len(got) != mails+1 {
		t.Fatalf("%d messages, not %d", len(got), mails+1)
	}
	for _, m := range got[1:] {
		_, body, _ := bytes.Cut([]byte(m.Raw), []byte("\r\n\r\n"))
		sum := sha256.Sum256(body)
		if want[sum] != m.Subject {
			t.Fatalf("%q is not what was sent", m.Subject)
		}
		delete(want, sum)
	}
	if len(want) != 0 {
		t.Fatalf("%d mails are missing", len(want))
	}
	c.Start(0)
	alice.Login()
	for _, id := range ids {
		alice.WaitState(id, "delivered")
	}
}

// text makes lines of printable text that do not compress away.
func text(rng *rand.Rand, size int) []byte {
	b := make([]byte, 0, size+80)
	for len(b) < size {
		for range 9 {
			b = fmt.Appendf(b, "%08x", rng.Uint32())
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// TestSleepingStranger is a first contact with somebody who was last seen ten
// days ago and whose record only the DHT has.
func TestSleepingStranger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 6, nodetest.Options{Refresh: 12 * time.Hour})
		defer c.Close()
		bob := c.Person(1, "bob")
		c.Pass(time.Minute) // the record is published
		c.Stop(1)
		c.Pass(10 * 24 * time.Hour)
		alice := c.Person(0, "alice")
		id := alice.Send(bob.Address(), "We have not met", "Hello.\n")
		alice.WaitState(id, "replicated")
		c.Stop(0)
		c.Start(1)
		bob.Login()
		if got := bob.WaitMail(1); got[0].Subject != "We have not met" {
			t.Errorf("got %q", got[0].Subject)
		}
	})
}

// TestOldRecord has a sender who has not looked for a new record in five weeks
// write to a recipient who was away that long.
func TestOldRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 4, nodetest.Options{Refresh: 24 * time.Hour})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		id := alice.Send(bob.Address(), "hello", "\n")
		bob.WaitMail(1)
		alice.WaitState(id, "delivered")
		c.Stop(0)
		c.Stop(1)
		c.Pass(36 * 24 * time.Hour) // every record has expired by now, and nobody renewed it
		c.Start(0)
		alice.Login()
		id = alice.Send(bob.Address(), "still there?", "\n")
		alice.WaitState(id, "replicated")
		c.Stop(0)
		c.Start(1)
		bob.Login()
		if got := bob.WaitMail(2); got[1].Subject != "still there?" {
			t.Errorf("got %q", got[1].Subject)
		}
	})
}

// TestRestore loses a laptop with mail in flight to its keys, and gets the
// account back on a machine that was switched on the same second, before it
// knows anybody.
func TestRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 6, nodetest.Options{Refresh: time.Hour})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		first := alice.Send(bob.Address(), "hello", "\n")
		bob.WaitMail(1)
		alice.WaitState(first, "delivered")
		c.Stop(1)
		id := alice.Send(bob.Address(), "in flight", "\n")
		alice.WaitState(id, "replicated")
		c.Erase(1)
		c.Start(1)
		bob.Restore(1)
		c.Pass(time.Hour) // the sender looks again after a quarter of one
		if got := bob.WaitMail(1); got[0].Subject != "in flight" {
			t.Errorf("got %q", got[0].Subject)
		}
		alice.WaitState(id, "delivered")
	})
}

// TestExpiry has a recipient who never comes back: one delay DSN, one failure
// DSN, and a row that says failed.
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 3, nodetest.Options{Refresh: 24 * time.Hour})
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		c.Pass(time.Minute)
		c.Stop(1)
		id := alice.Send(bob.Address(), "too late", "\n")
		alice.WaitState(id, "replicated")
		c.Pass(5 * time.Hour)
		if got := alice.Inbox(); len(got) != 1 || !strings.Contains(got[0].Raw, "Action: delayed") {
			t.Fatalf("after five hours the inbox has %d messages", len(got))
		}
		c.Pass(34 * 24 * time.Hour)
		alice.WaitState(id, "failed")
		got := alice.Inbox()
		if len(got) != 2 || !strings.Contains(got[1].Raw, "Action: failed") || !strings.Contains(got[1].Raw, "not confirmed") {
			t.Fatalf("the inbox has %d messages", len(got))
		}
	})
}
