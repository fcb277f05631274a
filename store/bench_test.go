package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity/sealed"
)

// BenchmarkSpoolPut puts bodies into a spool, each on the disk before the next of its writer.
func BenchmarkSpoolPut(b *testing.B) {
	for _, size := range []int{1 << 10, 75 << 10, 1 << 20} {
		for _, writers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKB/%dwriters", size>>10, writers), func(b *testing.B) {
				s := spoolAt(b, b.TempDir(), 1<<50, free(Limits{InboxBytes: 1 << 50, InboxMessages: 1 << 30, PeerShare: 1}))
				k := newKeys(b)
				m := k.letter(1, size, month())
				b.SetBytes(int64(size))
				b.ResetTimer()
				var next atomic.Int64
				var work sync.WaitGroup
				for range writers {
					work.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							// The spool believes that the hash was checked.
							one := *m
							one.Outer.Hash[0], one.Outer.Hash[1], one.Outer.Hash[2] = byte(n), byte(n>>8), byte(n>>16)
							if _, err := s.store(&one, "peer"); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				work.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			})
		}
	}
}

// BenchmarkHeldMessage tells how much memory the index takes for each message that is held.
func BenchmarkHeldMessage(b *testing.B) {
	s := spoolAt(b, b.TempDir(), 1<<50, free(Limits{InboxBytes: 1 << 50, InboxMessages: 1 << 30, PeerShare: 1}))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 20_000
	var work sync.WaitGroup
	for w := range 20 {
		work.Go(func() {
			k := newKeys(b)
			m := k.letter(1, 100, month())
			for i := range n / 20 {
				one := *m
				one.Outer.Hash[0], one.Outer.Hash[1], one.Outer.Hash[2] = byte(i), byte(i>>8), byte(w)
				if _, err := s.store(&one, "peer"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	for b.Loop() {
		runtime.GC()
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/message")
	runtime.KeepAlive(s)
}

// BenchmarkCollect collects 1,000 small messages from the node's own holder, without a stream.
func BenchmarkCollectLocal(b *testing.B) {
	h := holderT(b, Limits{PeerShare: 1})
	k := newKeys(b)
	for i := range 1000 {
		if _, err := h.putLocal(b.Context(), k.letter(i, sealed.MinBody, month())); err != nil {
			b.Fatal(err)
		}
	}
	c := NewClient(ClientConfig{Self: h.cfg.Self, Local: h, Near: neighbours{h.cfg.Self}})
	for b.Loop() {
		r, err := c.Collect(b.Context(), []FetchKey{k.key()},
			func(sealed.ID) bool { return false }, func(context.Context, *sealed.Message, peer.ID) error { return nil })
		if err != nil || r.Fetched != 1000 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
