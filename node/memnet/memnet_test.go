package memnet

import (
	"context"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	latency = 25 * time.Millisecond
	echo    = "/test/echo/1"
)

// serve builds a host that answers every byte it gets.
func serve(t *testing.T, nd *Node, cfg HostConfig) host.Host {
	t.Helper()
	h, err := nd.Host(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	h.SetStreamHandler(echo, func(s network.Stream) {
		defer s.Close()
		io.Copy(s, s)
	})
	return h
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

func roundTrip(t *testing.T, s network.Stream, msg string) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := io.WriteString(s, msg); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(s, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != msg {
		t.Fatalf("got %q, want %q", got, msg)
	}
	return time.Since(start)
}

func TestStreamTakesTheLatency(t *testing.T) {
	for name, cfg := range map[string]HostConfig{"plain": {}, "noise": {Noise: true, KeepAlive: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New(Config{Latency: latency})
				a, b := serve(t, n.Node(), cfg), serve(t, n.Node(), cfg)
				if err := a.Connect(t.Context(), info(b)); err != nil {
					t.Fatal(err)
				}
				s, err := a.NewStream(t.Context(), b.ID(), echo)
				if err != nil {
					t.Fatal(err)
				}
				roundTrip(t, s, "hello") // agrees on the protocol
				if d := roundTrip(t, s, "again"); d != 2*latency {
					t.Errorf("a round trip took %v, want %v", d, 2*latency)
				}
				s.Close()
			})
		})
	}
}

func TestCutAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Latency: latency})
		na, nb := n.Node(), n.Node()
		a, b := serve(t, na, HostConfig{}), serve(t, nb, HostConfig{})
		if err := a.Connect(t.Context(), info(b)); err != nil {
			t.Fatal(err)
		}
		s, err := a.NewStream(t.Context(), b.ID(), echo)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s, "before")

		n.Cut(na, nb)
		if _, err := io.WriteString(s, "during"); err != nil {
			t.Fatal(err)
		}
		s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := s.Read(make([]byte, 1)); !os.IsTimeout(err) {
			t.Fatalf("read during the cut: %v", err)
		}
		s.SetReadDeadline(time.Time{})
		n.Heal(na, nb)
		got := make([]byte, 6)
		if _, err := io.ReadFull(s, got); err != nil || string(got) != "during" {
			t.Fatalf("after healing: %q, %v", got, err)
		}

		n.Cut(na, nb)
		start := time.Now()
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Fatal("a long cut left the connection alive")
		}
		if d := time.Since(start); d != DefaultGiveUp {
			t.Errorf("the connection failed after %v, want %v", d, DefaultGiveUp)
		}
		synctest.Wait()
		start = time.Now()
		if err := a.Connect(t.Context(), info(b)); err == nil {
			t.Fatal("dialled through a cut")
		}
		if d := time.Since(start); d != dialTimeout {
			t.Errorf("the dial failed after %v, want %v", d, dialTimeout)
		}
	})
}

func TestKillAndRevive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Latency: latency})
		na, nb := n.Node(), n.Node()
		a, b := serve(t, na, HostConfig{}), serve(t, nb, HostConfig{})
		if err := a.Connect(t.Context(), info(b)); err != nil {
			t.Fatal(err)
		}
		nb.Kill()
		b.Close()
		time.Sleep(time.Second)
		if a.Network().Connectedness(b.ID()) != network.Connected {
			t.Error("a silent death was noticed at once")
		}
		time.Sleep(DefaultGiveUp)
		if a.Network().Connectedness(b.ID()) == network.Connected {
			t.Error("a silent death was never noticed")
		}
		nb.Revive()
		b2 := serve(t, nb, HostConfig{})
		if err := a.Connect(t.Context(), info(b2)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRefusalAndFirewall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Latency: latency})
		na, nb := n.Node(), n.Node()
		a, b := serve(t, na, HostConfig{}), serve(t, nb, HostConfig{})
		gone := info(b)
		b.Close()
		start := time.Now()
		if err := a.Connect(t.Context(), gone); err == nil {
			t.Fatal("connected to a closed host")
		}
		if d := time.Since(start); d != 2*latency {
			t.Errorf("a refusal took %v, want a round trip", d)
		}

		b = serve(t, nb, HostConfig{})
		nb.Firewall(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Connect(ctx, info(b)); err == nil {
			t.Fatal("dialled through a firewall")
		}
		if err := b.Connect(t.Context(), info(a)); err != nil {
			t.Fatalf("outward through the firewall: %v", err)
		}
	})
}

// A large body passes the windows of the multiplexer both ways.
func TestLargeBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Latency: latency})
		a, b := serve(t, n.Node(), HostConfig{}), serve(t, n.Node(), HostConfig{})
		if err := a.Connect(t.Context(), info(b)); err != nil {
			t.Fatal(err)
		}
		s, err := a.NewStream(t.Context(), b.ID(), echo)
		if err != nil {
			t.Fatal(err)
		}
		const size = 20 << 20
		go func() {
			s.Write(make([]byte, size))
			s.CloseWrite()
		}()
		got, err := io.Copy(io.Discard, s)
		if err != nil || got != size {
			t.Fatalf("%d bytes came back, %v", got, err)
		}
	})
}

// The constructor of production builds on the transport too.
func TestUnderTheFullHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Latency: latency})
		full := func() host.Host {
			nd := n.Node()
			h, err := libp2p.New(
				libp2p.ListenAddrStrings(nd.Listen()),
				libp2p.Transport(nd.Transport),
				libp2p.DisableIdentifyAddressDiscovery(),
				libp2p.DisableMetrics(),
				libp2p.DisableRelay(),
			)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		a, b := full(), full()
		defer a.Close()
		defer b.Close()
		if err := a.Connect(t.Context(), info(b)); err != nil {
			t.Fatal(err)
		}
		if got := a.Network().ConnsToPeer(b.ID()); len(got) != 1 {
			t.Fatalf("%d connections", len(got))
		}
	})
}
