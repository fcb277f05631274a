package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/memnet"
)

const testProtocol = "/peerpost/drop/1"

// patience is how long a test waits for something that should come at once.
const patience = 20 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func hostKey(t testing.TB) *identity.HostKey {
	t.Helper()
	key, err := identity.GenerateHostKey(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// start makes a host on loopback and runs it until the test ends.
func start(t *testing.T, cfg Config) *Host {
	t.Helper()
	if cfg.Key == nil {
		cfg.Key = hostKey(t)
	}
	if cfg.Listen == nil {
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	}
	h, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, h)
	return h
}

func run(t *testing.T, h *Host) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// onMemory is the hook that builds hosts on an in-memory node.
func onMemory(nd *memnet.Node) func(Parts) (host.Host, error) {
	return func(p Parts) (host.Host, error) {
		return nd.Host(memnet.HostConfig{
			Key:             p.Key,
			ConnManager:     p.ConnManager,
			ResourceManager: p.ResourceManager,
			UserAgent:       p.UserAgent,
		})
	}
}

func info(h *Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

func connect(t *testing.T, a, b *Host) {
	t.Helper()
	if err := a.Connect(t.Context(), info(b)); err != nil {
		t.Fatal(err)
	}
}

func echo(ctx context.Context, s Stream, _ peer.ID) {
	io.Copy(s, s)
	s.Close()
}

// Three machines on loopback, with sockets: the DHT of each finds the others
// through the first, and a record that one publishes is found by the last.
func TestThreeMachines(t *testing.T) {
	var tables []*dht.DHT
	var first *Host
	for range 3 {
		h := start(t, Config{})
		if agent := userAgent(t, h); agent != DefaultUserAgent {
			t.Errorf("user agent %q", agent)
		}
		cfg := dht.Config{Host: h.Host}
		if first == nil {
			first = h
		} else {
			cfg.Bootstrap = []peer.AddrInfo{info(first)}
		}
		d, err := dht.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() { d.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			done.Wait()
			d.Close()
		})
		tables = append(tables, d)
	}
	for _, d := range tables {
		eventually(t, "to meet everybody", func() bool { return d.Peers() == 2 })
		if !d.IsServer() {
			t.Error("no server on loopback")
		}
	}
	keys, err := identity.NewKeyring(identity.NewSeed(), 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := keys.SignRecord(identity.RecordParams{Now: time.Now(), Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a record with two acknowledgements", func() bool {
		res, err := tables[1].Publish(t.Context(), rec)
		return err == nil && res.Acks == 2
	})
	if _, got, err := tables[2].Resolve(t.Context(), keys.Root()); err != nil || !bytes.Equal(got, rec) {
		t.Errorf("resolve: %v", err)
	}
	near, err := tables[0].Nearest(t.Context(), []byte("key"), 10)
	if err != nil || len(near) != 3 {
		t.Errorf("%d neighbours, %v", len(near), err)
	}
}

// userAgent asks a fresh peer what the host calls itself.
func userAgent(t *testing.T, h *Host) string {
	t.Helper()
	other := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	connect(t, other, h)
	agent, err := other.Peerstore().Get(h.ID(), "AgentVersion")
	if err != nil {
		t.Fatal(err)
	}
	return agent.(string)
}

func TestStreamsOverEachTransport(t *testing.T) {
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(listen, func(t *testing.T) {
			a, b := start(t, Config{Listen: []string{listen}}), start(t, Config{Listen: []string{listen}})
			b.Handle(testProtocol, echo)
			if err := a.Connect(t.Context(), info(b)); err != nil {
				t.Fatal(err)
			}
			s, err := a.Open(t.Context(), b.ID(), testProtocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			s.SetDeadline(time.Now().Add(patience))
			body := make([]byte, 3<<20)
			rand.Read(body)
			go func() {
				s.Write(body)
				s.CloseWrite()
			}()
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%d bytes came back, %v", len(got), err)
			}
			s.SetReadDeadline(time.Now().Add(-time.Second))
			s.SetWriteDeadline(time.Now().Add(-time.Second))
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Many calls at once for a peer that is not connected make one connection.
func TestOpenSharesTheDial(t *testing.T) {
	tcp := []string{"/ip4/127.0.0.1/tcp/0"}
	a, b := start(t, Config{Listen: tcp}), start(t, Config{Listen: tcp})
	b.Handle(testProtocol, echo)
	a.Peerstore().AddAddrs(b.ID(), b.Addrs(), time.Hour)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			s, err := a.Open(t.Context(), b.ID(), testProtocol)
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(s, "x")
			s.CloseWrite()
			io.ReadAll(s)
			s.Close()
		})
	}
	all.Wait()
	if got := len(a.Network().ConnsToPeer(b.ID())); got != 1 {
		t.Errorf("%d connections", got)
	}
}

func TestOpenToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{Latency: 10 * time.Millisecond})
		na, nb := n.Node(), n.Node()
		a, b := start(t, Config{Build: onMemory(na)}), start(t, Config{Build: onMemory(nb)})
		connect(t, a, b)
		nb.Kill()
		time.Sleep(time.Minute)
		begin := time.Now()
		if _, err := a.Open(t.Context(), b.ID(), testProtocol); err == nil {
			t.Fatal("opened a stream to a dead machine")
		}
		if d := time.Since(begin); d != DialTimeout {
			t.Errorf("it took %v to give up, want %v", d, DialTimeout)
		}
		// The next one fails at once.
		begin = time.Now()
		if _, err := a.Open(t.Context(), b.ID(), testProtocol); err == nil || time.Since(begin) != 0 {
			t.Errorf("the second failure took %v", time.Since(begin))
		}
	})
}

// No more than 8 streams of a protocol come in from one peer, whatever it does;
// Open waits instead of running into that.
func TestStreamsPerPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{Latency: 10 * time.Millisecond})
		a, b := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		var mu sync.Mutex
		var busy, most, finished int
		release := make(chan struct{})
		b.Handle(testProtocol, func(_ context.Context, s Stream, _ peer.ID) {
			mu.Lock()
			busy++
			most = max(most, busy)
			wait := release
			mu.Unlock()
			<-wait
			mu.Lock()
			busy--
			mu.Unlock()
			s.Close()
		})
		connect(t, a, b)
		var all sync.WaitGroup
		for range 3 * maxOpen {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				s, err := a.Open(ctx, b.ID(), testProtocol)
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(s, "x")
				if _, err := io.ReadAll(s); err != nil {
					t.Errorf("a stream within the limit: %v", err)
				}
				s.Close()
				mu.Lock()
				finished++
				mu.Unlock()
			})
		}
		time.Sleep(time.Minute)
		mu.Lock()
		if most != maxOpen || finished != 0 {
			t.Errorf("%d streams at once, want %d", most, maxOpen)
		}
		close(release)
		mu.Unlock()
		all.Wait()
		time.Sleep(time.Second)

		// A peer that does not wait.
		mu.Lock()
		release, most = make(chan struct{}), 0
		mu.Unlock()
		for range maxStreamsOut {
			s, err := a.NewStream(t.Context(), b.ID(), testProtocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			io.WriteString(s, "x")
		}
		if _, err := a.NewStream(t.Context(), b.ID(), testProtocol); err == nil {
			t.Errorf("more than %d streams of our own to one peer", maxStreamsOut)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if most != maxStreamsPerPeer {
			t.Errorf("%d streams from one peer, want %d", most, maxStreamsPerPeer)
		}
		close(release)
	})
}

// A body of 40 MiB can be reserved once for a peer, and not a second time until
// it is released.
func TestReserveMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a, b := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		const body = 40 << 20
		var errs []error
		done := make(chan struct{}, 2)
		b.Handle(testProtocol, func(_ context.Context, s Stream, _ peer.ID) {
			defer func() { done <- struct{}{} }()
			release, err := s.ReserveMemory(body)
			errs = append(errs, err)
			if err != nil {
				return
			}
			_, err = s.ReserveMemory(body)
			errs = append(errs, err)
			release()
			release() // harmless
			_, err = s.ReserveMemory(body)
			errs = append(errs, err)
		})
		connect(t, a, b)
		for range 2 { // the end of a stream frees what it had
			s, err := a.Open(t.Context(), b.ID(), testProtocol)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(s, "x")
			<-done
			s.Reset()
			time.Sleep(time.Second)
		}
		if len(errs) != 6 || errs[0] != nil || errs[1] == nil || errs[2] != nil || errs[3] != nil || errs[4] == nil || errs[5] != nil {
			t.Errorf("reservations: %v", errs)
		}
	})
}

// Close ends the context of handlers, waits for them, and may be called twice.
func TestCloseWaitsForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a, b := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		ended := false
		b.Handle(testProtocol, func(ctx context.Context, s Stream, remote peer.ID) {
			if remote != a.ID() {
				t.Errorf("a stream from %s", remote)
			}
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
		})
		connect(t, a, b)
		s, err := a.Open(t.Context(), b.ID(), testProtocol)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(s, "x")
		synctest.Wait()
		if err := b.Close(); err != nil || !ended {
			t.Errorf("closed before the handler ended: %v", err)
		}
		if _, err := io.ReadAll(s); err == nil {
			t.Error("the stream ended as if all were well")
		}
		s.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The connections of one address are bounded in number and rate; loopback is
// free.
func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(rm network.ResourceManager, ip string) error {
			_, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast("/ip4/"+ip+"/tcp/4001"))
			return err
		}
		rm, err := newResourceManager(false)
		if err != nil {
			t.Fatal(err)
		}
		defer rm.Close()
		// Below the rate, up to the number. Connections in the making are bounded
		// on their own, so attach each to a peer.
		for i := range maxConnsPerIP {
			time.Sleep(time.Second)
			c, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast("/ip4/5.6.7.8/tcp/4001"))
			if err == nil {
				err = c.SetPeer(peer.ID([]byte{byte(i)}))
			}
			if err != nil {
				t.Fatalf("connection %d of one address: %v", i, err)
			}
		}
		time.Sleep(time.Minute)
		if open(rm, "5.6.7.8") == nil {
			t.Errorf("more than %d connections of one address", maxConnsPerIP)
		}
		if err := open(rm, "5.6.7.9"); err != nil {
			t.Errorf("another address: %v", err)
		}

		// At once: a burst, then so many a second.
		accepted := func(d time.Duration) (n int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				c, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast("/ip4/5.9.7.8/tcp/4001"))
				if err == nil {
					n++
					c.Done()
				}
			}
			return n
		}
		if n := accepted(time.Second); n < connsBurst || n > connsBurst+connsPerSecond {
			t.Errorf("%d connections in the first second", n)
		}
		if n := accepted(10 * time.Second); n < 9*connsPerSecond || n > 11*connsPerSecond {
			t.Errorf("%d connections in the next ten seconds", n)
		}
		for i := range 3 * maxConnsPerIP {
			c, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast("/ip4/127.0.0.1/tcp/4001"))
			if err == nil {
				err = c.SetPeer(peer.ID([]byte{1, byte(i)}))
			}
			if err != nil {
				t.Fatalf("connection %d of loopback: %v", i, err)
			}
		}
	})
}

// The connections of a network are bounded too, however many addresses it has.
func TestConnectionsOfANetwork(t *testing.T) {
	for _, c := range []struct {
		name, address string // of host i in subnet j of the network
		other         string
	}{
		{"IPv4 /24", "/ip4/5.6.7.%d/tcp/4001", "/ip4/5.6.8.1/tcp/4001"},
		{"IPv6 /48", "/ip6/2a00:1:2:%x00::1/tcp/4001", "/ip6/2a00:1:3::1/tcp/4001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rm, err := newResourceManager(false)
				if err != nil {
					t.Fatal(err)
				}
				defer rm.Close()
				n := 0
				open := func(address string) error {
					time.Sleep(time.Second) // below the rate
					conn, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast(address))
					if err != nil {
						return err
					}
					n++
					return conn.SetPeer(peer.ID(fmt.Sprint(n)))
				}
				for i := range maxConnsPerNet {
					if err := open(fmt.Sprintf(c.address, 1+i/(maxConnsPerIP/2))); err != nil {
						t.Fatalf("connection %d of one network: %v", i, err)
					}
				}
				if open(fmt.Sprintf(c.address, 200)) == nil {
					t.Errorf("more than %d connections of one network", maxConnsPerNet)
				}
				if err := open(c.other); err != nil {
					t.Errorf("another network: %v", err)
				}
			})
		})
	}
}

// What one peer may reserve is bounded for each mail protocol and in all, and as
// much on a large machine as on a small one. Others have as much.
func TestMemoryOfAPeer(t *testing.T) {
	rm, err := newResourceManager(false)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	reserve := func(p peer.ID, proto protocol.ID, n int) error {
		s, err := rm.OpenStream(p, network.DirInbound)
		if err != nil {
			return err
		}
		if err := s.SetProtocol(proto); err != nil {
			return err
		}
		return s.ReserveMemory(n, network.ReservationPriorityAlways)
	}
	const body = 40 << 20
	for _, proto := range []protocol.ID{dropProtocol, deliverProtocol} {
		for _, n := range []int{body, maxMemoryPerPeer - body} {
			if err := reserve("greedy", proto, n); err != nil {
				t.Fatalf("%s: %v", proto, err)
			}
		}
		if reserve("greedy", proto, 1) == nil {
			t.Errorf("%s: more than %d bytes for one peer", proto, maxMemoryPerPeer)
		}
	}
	const other = 16 << 20 // what the library lets other protocols have
	for i := range (peerMemory - 2*maxMemoryPerPeer) / other {
		if err := reserve("greedy", protocol.ID(fmt.Sprint("/other/", i)), other); err != nil {
			t.Fatal(err)
		}
	}
	if reserve("greedy", "/another", 1) == nil {
		t.Errorf("more than %d bytes for one peer in all", peerMemory)
	}
	if err := reserve("friend", dropProtocol, body); err != nil {
		t.Errorf("another peer: %v", err)
	}
}

// What runs where: on loopback nothing that looks for the outside world, beyond
// it all of it. Only the options are looked at; no such host is built here.
func TestOptions(t *testing.T) {
	apply := func(h *Host) libp2p.Config {
		t.Helper()
		var cfg libp2p.Config
		rm, err := newResourceManager(false)
		if err != nil {
			t.Fatal(err)
		}
		defer rm.Close()
		if err := cfg.Apply(append(h.options(Parts{ResourceManager: rm}), libp2p.FallbackDefaults)...); err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	local := apply(&Host{local: true})
	if local.NATManager != nil || local.EnableAutoNATv2 || local.Relay || local.EnableAutoRelay || local.EnableHolePunching ||
		local.EnableRelayService || local.AutoNATConfig.EnableService || !local.DisableIdentifyAddressDiscovery {
		t.Error("on loopback something looks for the outside world")
	}
	wide := apply(&Host{cfg: Config{Reachability: network.ReachabilityPublic}})
	if wide.NATManager == nil || !wide.EnableAutoNATv2 || !wide.Relay || !wide.EnableAutoRelay || !wide.EnableHolePunching ||
		!wide.EnableRelayService || !wide.AutoNATConfig.EnableService {
		t.Error("on the internet something is missing")
	}
	if wide.AutoNATConfig.ForceReachability == nil || *wide.AutoNATConfig.ForceReachability != network.ReachabilityPublic {
		t.Error("the operator's word is not obeyed")
	}
	for _, cfg := range []libp2p.Config{local, wide} {
		if len(cfg.Transports) != 2 || cfg.DialTimeout != DialTimeout || cfg.UDPBlackHoleSuccessCounter != nil ||
			cfg.IPv6BlackHoleSuccessCounter != nil || len(cfg.SecurityTransports) != 1 || !cfg.DisableMetrics {
			t.Errorf("unexpected: %d transports, dial timeout %v", len(cfg.Transports), cfg.DialTimeout)
		}
	}
}

func TestAnnounced(t *testing.T) {
	const (
		loopback = "/ip4/127.0.0.1/tcp/1"
		lan      = "/ip4/192.168.1.2/tcp/1"
		public   = "/ip4/5.6.7.8/tcp/1"
		relayed  = "/ip4/5.6.7.9/tcp/1/p2p/12D3KooWCvqTfYG9myFWVE2pCpUnCQnUFuBMYk1KrDwLkhfDYmjM/p2p-circuit"
	)
	for _, c := range []struct{ announce, have, want []string }{
		{nil, []string{loopback}, []string{loopback}},
		{nil, []string{loopback, lan}, []string{lan}},
		{nil, []string{loopback, lan, public}, []string{public}},
		{nil, []string{lan, relayed}, []string{relayed}},
		{[]string{public}, []string{loopback, lan}, []string{public}},
		{[]string{public}, []string{public}, []string{public}},
		{nil, nil, nil},
	} {
		announce, err := parseAddrs(c.announce)
		if err != nil {
			t.Fatal(err)
		}
		have, err := parseAddrs(c.have)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range (&Host{announce: announce}).announced(have) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with %v and %v: %v, want %v", c.announce, c.have, got, c.want)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for what, cfg := range map[string]Config{
		"no key":              {},
		"no multiaddr":        {Key: hostKey(t), Listen: []string{"127.0.0.1:4001"}},
		"announce is junk":    {Key: hostKey(t), Announce: []string{"junk"}},
		"nothing to listen":   {Key: hostKey(t), Listen: []string{"/ip4/127.1.2.3/tcp/0/ws"}},
		"the network refuses": {Key: hostKey(t), Build: func(Parts) (host.Host, error) { return nil, errors.New("no") }},
	} {
		if h, err := New(t.Context(), cfg); err == nil {
			h.Close()
			t.Errorf("%s: no error", what)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := start(t, Config{Registerer: reg})
	b := start(t, Config{Registerer: prometheus.NewRegistry()})
	connect(t, a, b)
	eventually(t, "metrics of a connection", func() bool {
		families, err := reg.Gather()
		return err == nil && slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "libp2p_swarm_connections_opened_total" })
	})
}

// Relays are looked for among the connected DHT servers, and nowhere else.
func TestRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a := start(t, Config{Build: onMemory(n.Node())})
		nothing := func(network.Stream) {}
		var want []peer.ID
		for _, kind := range []struct{ server, relay bool }{{true, true}, {true, false}, {false, true}, {true, true}} {
			b := start(t, Config{Build: onMemory(n.Node())})
			if kind.server {
				b.SetStreamHandler(dht.Protocol, nothing)
			}
			if kind.relay {
				b.SetStreamHandler(circuit.ProtoIDv2Hop, nothing)
			}
			connect(t, a, b)
			if kind.server && kind.relay {
				want = append(want, b.ID())
			}
		}
		time.Sleep(time.Second)
		var got []peer.ID
		for info := range a.relays(t.Context(), 10) {
			if len(info.Addrs) == 0 {
				t.Error("a relay without an address")
			}
			got = append(got, info.ID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d relays, want %d", len(got), len(want))
		}
		if got := len(a.relays(t.Context(), 1)); got != 1 {
			t.Errorf("%d relays although one was asked for", got)
		}
	})
}

// What was met in one run is where the next one begins.
func TestRememberedPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "peers.json")
		n := memnet.New(memnet.Config{})
		nd := n.Node()
		key := hostKey(t)
		first, err := New(t.Context(), Config{Key: key, PeersFile: file, Build: onMemory(nd)})
		if err != nil {
			t.Fatal(err)
		}
		if got := first.Remembered(); len(got) != 0 {
			t.Errorf("remembers %d peers of a run that was not", len(got))
		}
		server, client := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		server.SetStreamHandler(dht.Protocol, func(network.Stream) {})
		connect(t, first, server)
		connect(t, first, client)
		time.Sleep(time.Second)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := start(t, Config{Key: key, PeersFile: file, Build: onMemory(nd)})
		got := second.Remembered()
		if len(got) != 1 || got[0].ID != server.ID() || len(got[0].Addrs) != 1 || !got[0].Addrs[0].Equal(server.Addrs()[0]) {
			t.Fatalf("remembered %v, want %v", got, info(server))
		}
		// While it runs the file is written too.
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		connect(t, second, server)
		time.Sleep(rememberEvery + time.Second)
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	})
}

// kept reads what a run that is killed now would leave to the next.
func kept(t *testing.T, file string) map[peer.ID]acquaintance {
	t.Helper()
	b, err := openBook(file)
	if err != nil {
		t.Fatal(err)
	}
	return b.peers
}

// Whoever is met for the first time is on the disk some seconds later, also when
// it becomes a server while it is connected; nobody is counted twice for it.
func TestNewPeersAreRememberedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "peers.json")
		n := memnet.New(memnet.Config{})
		h := start(t, Config{PeersFile: file, Build: onMemory(n.Node())})
		time.Sleep(time.Minute)
		if _, err := os.Stat(file); err == nil {
			t.Error("a file with nobody in it was written")
		}
		server, late := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		serve := func(h *Host) { h.SetStreamHandler(dht.Protocol, func(network.Stream) {}) }
		serve(server)
		connect(t, h, server)
		connect(t, h, late)
		time.Sleep(rememberSoon + time.Second)
		if got := kept(t, file); len(got) != 1 || got[server.ID()].met != 1 {
			t.Fatalf("kept %v", got)
		}
		serve(late)
		time.Sleep(rememberSoon + time.Second)
		if got := kept(t, file); len(got) != 2 || got[server.ID()].met != 1 || got[late.ID()].met != 1 {
			t.Fatalf("kept %v", got)
		}
		// Who comes again is written with the rest.
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Network().ClosePeer(server.ID()); err != nil {
			t.Fatal(err)
		}
		connect(t, h, server)
		time.Sleep(rememberSoon + time.Second)
		if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
			t.Errorf("it was written for nothing, %v", err)
		}
	})
}

// Who was named is on the disk at once, and where he was met is not forgotten
// when he is named elsewhere.
func TestNamedPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "peers.json")
		n := memnet.New(memnet.Config{})
		h := start(t, Config{PeersFile: file, Build: onMemory(n.Node())})
		stranger := peer.AddrInfo{ID: peerID(t, 1), Addrs: []ma.Multiaddr{tcpAddr(1)}}
		h.Name(stranger, info(h), peer.AddrInfo{ID: peerID(t, 2)})
		if got := kept(t, file); len(got) != 1 || got[stranger.ID].met != 0 || len(got[stranger.ID].addrs) != 1 {
			t.Errorf("kept %v", got)
		}
		server := start(t, Config{Build: onMemory(n.Node())})
		server.SetStreamHandler(dht.Protocol, func(network.Stream) {})
		connect(t, h, server)
		time.Sleep(rememberSoon + time.Second)
		h.Name(peer.AddrInfo{ID: server.ID(), Addrs: []ma.Multiaddr{tcpAddr(2)}})
		got := kept(t, file)[server.ID()]
		if want := []ma.Multiaddr{tcpAddr(2), server.Addrs()[0]}; got.met != 1 || !slices.EqualFunc(got.addrs, want, ma.Multiaddr.Equal) {
			t.Errorf("kept %v", got)
		}
	})
}

// Servers that do not satisfy the puzzle lead nowhere: none is remembered, nor
// named in an invite, and those that an older version remembered are forgotten.
func TestOnlyServersWithPuzzle(t *testing.T) {
	const bits = 8
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		file := filepath.Join(t.TempDir(), "peers.json")
		serve := func(bits int, only bool) *Host {
			for {
				key, err := identity.GenerateHostKey(t.Context(), bits)
				if err != nil {
					t.Fatal(err)
				}
				if only && identity.PuzzleBits(key.Public()) != bits {
					continue
				}
				h := start(t, Config{Key: key, Build: onMemory(n.Node())})
				h.SetStreamHandler(dht.Protocol, func(network.Stream) {})
				return h
			}
		}
		good, bad := serve(bits, false), serve(bits-1, true)
		nd, key := n.Node(), hostKey(t)
		for _, run := range []struct{ bits, remembered int }{{0, 2}, {bits, 1}, {bits, 1}} {
			h, err := New(t.Context(), Config{Key: key, PeersFile: file, PuzzleBits: run.bits, Build: onMemory(nd)})
			if err != nil {
				t.Fatal(err)
			}
			connect(t, h, good)
			connect(t, h, bad)
			time.Sleep(time.Second)
			if run.bits > 0 && (len(h.Remembered()) != 1 || h.Remembered()[0].ID != good.ID()) {
				t.Errorf("with a puzzle of %d bits it begins with %v", run.bits, h.Remembered())
			}
			if got := len(h.Invite("").Peers); got != 1+run.remembered {
				t.Errorf("an invite names %d peers, itself included", got)
			}
			h.remember()
			if got := len(h.Remembered()); got != run.remembered {
				t.Errorf("with a puzzle of %d bits %d peers are remembered", run.bits, got)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A file that cannot be read is no reason not to start.
func TestBrokenPeersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.json")
	if err := os.WriteFile(file, []byte(`{"version": 7`), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		nd, err := memnet.New(memnet.Config{}).NodeAt(netip.MustParseAddr("10.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		h := start(t, Config{PeersFile: file, Build: onMemory(nd)})
		if len(h.Remembered()) != 0 {
			t.Error("remembers something")
		}
	})
	if text, err := os.ReadFile(file); err != nil || !bytes.Contains(text, []byte(`"peers"`)) {
		t.Errorf("the file was not replaced: %q, %v", text, err)
	}
}
