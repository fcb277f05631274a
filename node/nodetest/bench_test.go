package nodetest_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/peerpost/peerpost/node/nodetest"
)

// BenchmarkNotice measures from MAIL FROM on one node to the IDLE line on
// another, one message at a time.
func BenchmarkNotice(b *testing.B) {
	c := nodetest.New(b, 3, nodetest.Options{Sockets: true})
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	news := make(chan uint32, 1024)
	client := login(b, c.Node[1], bob, &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				news <- *data.NumMessages
			}
		},
	})
	if _, err := client.Select("INBOX", nil).Wait(); err != nil {
		b.Fatal(err)
	}
	if _, err := client.Idle(); err != nil {
		b.Fatal(err)
	}
	conn := submission(b, c.Node[0], alice)
	msg := []byte(message(alice, bob, 4<<10))
	send(b, conn, alice, bob, msg) // the first one looks for the record
	<-news
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		send(b, conn, alice, bob, msg)
		<-news
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkSubmit measures accepted messages (4 KB, 250 means on disk) with 1, 4
// and 16 submitters.
func BenchmarkSubmit(b *testing.B) {
	for _, n := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("submitters=%d", n), func(b *testing.B) {
			c := nodetest.New(b, 3, nodetest.Options{Sockets: true})
			alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
			msg := []byte(message(alice, bob, 4<<10))
			var left atomic.Int64
			b.ResetTimer()
			left.Store(int64(b.N))
			var work sync.WaitGroup
			for range n {
				conn := submission(b, c.Node[0], alice)
				work.Go(func() {
					for left.Add(-1) >= 0 {
						send(b, conn, alice, bob, msg)
					}
				})
			}
			work.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkThrough measures messages a second from submission until the
// recipient's mailbox has them all.
func BenchmarkThrough(b *testing.B) {
	c := nodetest.New(b, 3, nodetest.Options{Sockets: true})
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	conn := submission(b, c.Node[0], alice)
	msg := []byte(message(alice, bob, 4<<10))
	b.ResetTimer()
	for range b.N {
		send(b, conn, alice, bob, msg)
	}
	bob.WaitMail(b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkReplicate measures a message of 75 KB to a sleeping recipient, until
// enough of ten holders have it on disk. No stamp is asked for.
func BenchmarkReplicate(b *testing.B) {
	c := nodetest.New(b, 11, nodetest.Options{Sockets: true})
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	first := alice.Send(bob.Address(), "the record", "\n")
	alice.WaitState(first, "delivered")
	c.Stop(1)
	msg := []byte(message(alice, bob, 75<<10))
	for b.Loop() {
		id := alice.SendRaw(msg, bob.Address())
		for alice.Outbox()[id].State == "accepted" {
			<-time.After(time.Millisecond)
		}
	}
}

// BenchmarkCollect measures a recipient who comes back to 1,000 waiting messages.
func BenchmarkCollect(b *testing.B) {
	const waiting = 1000
	for b.Loop() {
		b.StopTimer()
		c := nodetest.New(b, 6, nodetest.Options{Sockets: true})
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		first := alice.Send(bob.Address(), "the record", "\n")
		alice.WaitState(first, "delivered")
		c.Stop(1)
		var last string
		for range waiting {
			last = alice.SendRaw([]byte(message(alice, bob, 4<<10)), bob.Address())
		}
		alice.WaitState(last, "replicated")
		c.Wait("all to be replicated", nodetest.Patience, func() bool { return c.Node[0].Status().Outbox.Waiting == 0 })
		c.Stop(0)
		b.StartTimer()
		c.Start(1)
		bob.Login()
		bob.WaitMail(waiting + 1)
		b.StopTimer()
		c.Close()
		b.StartTimer()
	}
}

// BenchmarkIdleNode measures the memory of nodes that know each other and have
// nothing to do.
func BenchmarkIdleNode(b *testing.B) {
	const nodes = 10
	for b.Loop() {
		before := heap()
		c := nodetest.New(b, nodes, nodetest.Options{Sockets: true})
		for i := range nodes {
			c.Person(i, "someone")
		}
		b.ReportMetric(float64(heap()-before)/nodes/1e6, "MB/node")
		c.Close()
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func message(from, to *nodetest.Person, size int) string {
	line := strings.Repeat("0123456789abcdef", 4) + "\r\n"
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: measured\r\n\r\n", from.Address(), to.Address())
	for b.Len() < size {
		b.WriteString(line)
	}
	return b.String()
}
