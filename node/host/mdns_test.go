package host

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/node/memnet"
)

// fakeMDNS stands for multicast.
type fakeMDNS struct {
	fails           bool
	started, closed *atomic.Int32
}

func (f fakeMDNS) Start() error {
	f.started.Add(1)
	if f.fails {
		return errors.New("no network")
	}
	return nil
}

func (f fakeMDNS) Close() error {
	f.closed.Add(1)
	return nil
}

// startWithMDNS makes a host whose service is the given one.
func startWithMDNS(t *testing.T, nd *memnet.Node, f fakeMDNS) *Host {
	t.Helper()
	h, err := New(t.Context(), Config{Key: hostKey(t), MDNS: true, Listen: []string{"/ip4/0.0.0.0/tcp/4001"}, Build: onMemory(nd)})
	if err != nil {
		t.Fatal(err)
	}
	h.newMDNS = func(*Host) service { return f }
	run(t, h)
	return h
}

func TestFoundOnTheLAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a, b := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		f := &finder{h: a, slots: make(chan struct{}, mdnsDials)}
		f.HandlePeerFound(info(a))
		f.HandlePeerFound(peer.AddrInfo{ID: b.ID()})
		f.HandlePeerFound(peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/5.6.7.8/tcp/4001")}})
		if len(a.Network().Peers()) != 0 || len(a.Peerstore().Addrs(b.ID())) != 0 {
			t.Error("took an address of the internet from the LAN")
		}
		f.HandlePeerFound(info(b))
		if a.Network().Connectedness(b.ID()) != network.Connected {
			t.Error("did not connect to a peer on the LAN")
		}
	})
}

// Somebody who announces a crowd does not make us dial a crowd at once.
func TestCrowdOnTheLAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a := start(t, Config{Build: onMemory(n.Node())})
		f := &finder{h: a, slots: make(chan struct{}, mdnsDials)}
		for i := range 100 {
			go f.HandlePeerFound(peer.AddrInfo{ID: peerID(t, i), Addrs: []ma.Multiaddr{tcpAddr(1<<20 + i)}})
		}
		synctest.Wait()
		dialled := 0
		for i := range 100 {
			if len(a.Peerstore().Addrs(peerID(t, i))) > 0 {
				dialled++
			}
		}
		if dialled != mdnsDials {
			t.Errorf("%d dials at once, want %d", dialled, mdnsDials)
		}
		time.Sleep(openTimeout)
	})
}

func TestMDNSFollowsTheAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started, closed atomic.Int32
		h := startWithMDNS(t, memnet.New(memnet.Config{}).Node(), fakeMDNS{false, &started, &closed})
		time.Sleep(time.Hour)
		if started.Load() != 1 || closed.Load() != 0 {
			t.Fatalf("started %d times, closed %d times", started.Load(), closed.Load())
		}
		em, err := h.EventBus().Emitter(new(event.EvtLocalAddressesUpdated))
		if err != nil {
			t.Fatal(err)
		}
		defer em.Close()
		for range 5 {
			em.Emit(event.EvtLocalAddressesUpdated{})
			time.Sleep(addrsQuiet / 2)
		}
		time.Sleep(time.Minute)
		if started.Load() != 2 || closed.Load() != 1 {
			t.Errorf("after new addresses: started %d times, closed %d times", started.Load(), closed.Load())
		}
	})
}

func TestMDNSTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started, closed atomic.Int32
		h := startWithMDNS(t, memnet.New(memnet.Config{}).Node(), fakeMDNS{true, &started, &closed})
		time.Sleep(10*mdnsRetry + time.Second)
		if started.Load() != 11 {
			t.Errorf("tried %d times in ten minutes", started.Load())
		}
		h.Close()
		synctest.Wait()
		if closed.Load() != started.Load() {
			t.Errorf("started %d times, closed %d times", started.Load(), closed.Load())
		}
	})
}

// On loopback there is no LAN.
func TestNoMDNSOnLoopback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started, closed atomic.Int32
		h, err := New(t.Context(), Config{Key: hostKey(t), MDNS: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Build: onMemory(memnet.New(memnet.Config{}).Node())})
		if err != nil {
			t.Fatal(err)
		}
		h.newMDNS = func(*Host) service { return fakeMDNS{false, &started, &closed} }
		run(t, h)
		time.Sleep(time.Hour)
		if started.Load() != 0 {
			t.Error("looked for a LAN on loopback")
		}
	})
}
