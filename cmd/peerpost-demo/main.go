// Command peerpost-demo starts ten nodes on loopback and shows what happens to
// a mail whose recipient is off: it is sealed, left with the holders, and
// fetched when the recipient comes back while the sender is gone.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/peerpost/peerpost/node/nodetest"
)

func main() {
	d := &demo{start: time.Now()}
	code := d.run()
	d.clean()
	os.Exit(code)
}

func (d *demo) run() (code int) {
	done := make(chan int, 1)
	go func() { // Fatal ends this goroutine, as in a test
		defer func() { done <- d.code }()
		d.show()
	}()
	return <-done
}

func (d *demo) show() {
	d.step("Ten nodes start on 127.0.0.1: real libp2p, real Kademlia, real disks.")
	c := nodetest.New(d, 10, nodetest.Options{Sockets: true})
	for i, m := range c.Node {
		d.tell("node %d  %s  knows %d others", i, m.PeerID(), m.Status().Peers)
	}

	d.step("Alice makes an account on node 0, Bob on node 1.")
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	d.tell("alice  %s", alice.Address())
	d.tell("bob    %s", bob.Address())

	d.step("Alice writes while Bob is on: it goes straight to his node.")
	id := alice.Send(bob.Address(), "Are you there?", "Then we both are.\n")
	bob.WaitMail(1)
	d.tell("Bob has %q", bob.Inbox()[0].Subject)
	alice.WaitState(id, "delivered")
	d.tell("Alice's outbox says: delivered (Bob's device signed that)")

	d.step("Bob closes his laptop. Alice writes again.")
	c.Stop(1)
	id = alice.Send(bob.Address(), "While you were away", "This waits with your neighbours.\n")
	e := alice.WaitState(id, "replicated")
	d.tell("Alice's outbox says: %s, %d of %d holders have it", e.State, e.Replicas, e.Wanted)
	for i, m := range c.Node {
		if m.Running() == nil {
			d.tell("node %d  is off", i)
			continue
		}
		h := m.Status().Holding
		d.tell("node %d  holds %d sealed message(s), %d bytes, that it cannot read", i, h.Messages, h.Bytes)
	}

	d.step("Alice closes hers too. Three of the holders die for good.")
	c.Stop(0)
	for _, i := range []int{7, 8, 9} {
		c.Kill(i)
		c.Erase(i)
	}

	d.step("Bob comes back, with Alice's machine off.")
	c.Start(1)
	bob.Login()
	for _, m := range bob.WaitMail(2) {
		d.tell("in Bob's INBOX: %s", m.Subject)
	}

	d.step("Alice comes back and learns that it arrived.")
	c.Start(0)
	alice.Login()
	e = alice.WaitState(id, "delivered")
	d.tell("Alice's outbox says: %s", e.State)
	d.step("Done.")
	c.Close()
}

// demo stands in for a test: it tells, and ends the program when something fails.
type demo struct {
	start time.Time
	n     int
	code  int
	dirs  []string
	tasks []func()
}

func (d *demo) step(text string) {
	d.n++
	fmt.Printf("\n%d. %s\n", d.n, text)
}

func (d *demo) tell(format string, args ...any) {
	fmt.Printf("   %6.2f s  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) clean() {
	for i := len(d.tasks) - 1; i >= 0; i-- {
		d.tasks[i]()
	}
	for _, dir := range d.dirs {
		os.RemoveAll(dir)
	}
}

func (d *demo) Helper()          {}
func (d *demo) Cleanup(f func()) { d.tasks = append(d.tasks, f) }

func (d *demo) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "demo: "+strings.TrimSuffix(format, "\n")+"\n", args...)
	d.code = 1
}

func (d *demo) Fatalf(format string, args ...any) {
	d.Errorf(format, args...)
	runtime.Goexit()
}

func (d *demo) Fatal(args ...any) { d.Fatalf("%s", fmt.Sprint(args...)) }

func (d *demo) TempDir() string {
	dir, err := os.MkdirTemp("", "peerpost-demo-")
	if err != nil {
		d.Fatal(err)
	}
	d.dirs = append(d.dirs, dir)
	return dir
}
