package store_test

import (
	"context"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
	"github.com/peerpost/peerpost/store/storetest"
)

// BenchmarkCollect collects 1,000 small messages from three holders over streams in memory.
func BenchmarkCollect(b *testing.B) {
	net := storetest.New()
	cluster(b, net, 3, store.Limits{StampDiscount: 64, PutBurst: 5000, PeerShare: 1})
	_, sender := outsider(b, net)
	_, owner := outsider(b, net)
	in := storetest.NewInbox(b)
	for range 1000 {
		put(b, sender, in.Message(body))
	}
	for b.Loop() {
		r, err := owner.Collect(b.Context(), []store.FetchKey{in.Key()},
			func(sealed.ID) bool { return false }, func(context.Context, *sealed.Message, peer.ID) error { return nil })
		if err != nil || r.Fetched != 1000 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkDeliver delivers messages straight to a machine that keeps them in memory, one after the other.
func BenchmarkDeliver(b *testing.B) {
	net := storetest.New()
	host := net.Add(b, false)
	_, sender := outsider(b, net)
	in := storetest.NewInbox(b)
	r := store.NewReceiver(store.ReceiverConfig{HostKey: host.Key, Accept: &account{inbox: in.Name(), got: make(map[sealed.ID]bool)}, Limits: store.Limits{DeliveryBurst: 1 << 20}})
	host.Handle(store.DeliverProtocol, r.ServeDeliver)
	for b.Loop() {
		m := in.Message(body)
		if _, err := sender.Deliver(b.Context(), host.ID, m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut puts messages to twelve holders, each of which has them on its disk.
func BenchmarkPut(b *testing.B) {
	net := storetest.New()
	cluster(b, net, 12, store.Limits{StampDiscount: 64, PutBurst: 1 << 20, PeerShare: 1, InboxMessages: 1 << 20})
	_, sender := outsider(b, net)
	in := storetest.NewInbox(b)
	for b.Loop() {
		put(b, sender, in.Message(body))
	}
}
