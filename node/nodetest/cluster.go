// Package nodetest runs whole nodes in one process, on an in-memory network
// that can be cut, or on loopback sockets.
//
//	c := nodetest.New(t, 10)                    // ten nodes that know one another
//	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
//	c.Stop(1)
//	alice.Send(bob.Address(), "Hello", "…")
//	alice.WaitState(id, "replicated")
//	c.Start(1)
//	bob.WaitMail(1)
//
// Everything in it works in a testing/synctest bubble as long as no sockets
// are asked for, so weeks pass in seconds.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	libp2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/host"
	"github.com/peerpost/peerpost/node/memnet"
)

// Options change what New makes.
type Options struct {
	Latency time.Duration // one way, of the in-memory network
	Sockets bool          // loopback sockets instead, and gateways for mail clients
	Refresh time.Duration // of routing tables; simulated days want hours
	Holders bool          // no node has an account unless Person asks for one
	Change  func(i int, cfg *node.Config)
	Log     *slog.Logger // nil: standard error when NODETEST_LOG is set in the environment, else silence
}

// T is what a cluster needs of a test: *testing.T, or a stand-in.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	TempDir() string
	Cleanup(func())
}

// Cluster is a set of nodes.
type Cluster struct {
	t    T
	opt  Options
	net  *memnet.Network
	Node []*Machine
}

// Machine is a computer with a home directory, on which a node runs or not.
type Machine struct {
	c     *Cluster
	index int
	home  string
	wire  *memnet.Node // nil with sockets

	node   *node.Node // nil while off
	cancel context.CancelFunc
	ended  chan error
}

// New starts n nodes, each of which joins by the first. They end with the test.
func New(t T, n int, opts ...Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	if len(opts) > 0 {
		c.opt = opts[0]
	}
	if c.opt.Log == nil && os.Getenv("NODETEST_LOG") != "" {
		c.opt.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if !c.opt.Sockets {
		c.net = memnet.New(memnet.Config{Latency: c.opt.Latency})
	}
	dir := t.TempDir()
	for i := range n {
		m := &Machine{c: c, index: i, home: filepath.Join(dir, fmt.Sprint(i))}
		if c.net != nil {
			m.wire = c.net.Node()
		}
		c.Node = append(c.Node, m)
	}
	t.Cleanup(c.Close)
	for i := range n {
		c.Start(i)
	}
	c.Settle()
	return c
}

// Close stops all nodes.
func (c *Cluster) Close() {
	for i := range c.Node {
		c.Stop(i)
	}
	if c.net != nil {
		c.Pass(2 * time.Second) // the store of records takes a second to end its last goroutine
	}
}

// Settle waits until every running node knows another, if there is one.
func (c *Cluster) Settle() {
	c.t.Helper()
	running := 0
	for _, m := range c.Node {
		if m.node != nil {
			running++
		}
	}
	if running < 2 {
		return
	}
	c.Wait("the nodes to find one another", 30*time.Second, func() bool {
		for _, m := range c.Node {
			if m.node != nil && m.Status().Peers == 0 {
				return false
			}
		}
		return true
	})
}

// Wait polls until ok, or fails the test.
func (c *Cluster) Wait(what string, patience time.Duration, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(patience / 3000)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	c.t.Fatalf("waited %v in vain for %s", patience, what)
}

// Start switches a node on. It waits for nothing.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	m := c.Node[i]
	if m.node != nil {
		return
	}
	cfg := node.Config{
		Home: m.home, PuzzleBits: -1, StampBits: -1, NoMDNS: true, NoControl: true, PasswordWork: 4,
		Refresh: c.opt.Refresh, Log: c.opt.Log, Capacity: 4 << 30,
	}
	if cfg.Log != nil {
		cfg.Log = cfg.Log.With("node", i)
	}
	for _, other := range c.Node {
		if other.node != nil && other != m {
			cfg.Bootstrap = append(cfg.Bootstrap, other.node.Addresses()...)
			break
		}
	}
	if m.wire != nil {
		m.wire.Revive()
		cfg.HostHook = m.hook
	} else {
		cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
		cfg.IMAP, cfg.SMTP, cfg.HTTP, cfg.NoControl = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", false
	}
	if c.opt.Change != nil {
		c.opt.Change(i, &cfg)
	}
	n, err := node.New(context.Background(), cfg)
	if err != nil {
		c.t.Fatalf("start node %d: %v", i, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.node, m.cancel, m.ended = n, cancel, make(chan error, 1)
	go func() { m.ended <- n.Run(ctx) }()
}

func (m *Machine) hook(p host.Parts) (libp2phost.Host, error) {
	return m.wire.Host(memnet.HostConfig{
		Key: p.Key, ConnManager: p.ConnManager, ResourceManager: p.ResourceManager, UserAgent: p.UserAgent,
	})
}

// Stop switches a node off, in good order.
func (c *Cluster) Stop(i int) {
	m := c.Node[i]
	if m.node == nil {
		return
	}
	m.cancel()
	if err := <-m.ended; err != nil && !errors.Is(err, context.Canceled) {
		c.t.Errorf("node %d ended with: %v", i, err)
	}
	m.node = nil
}

// Kill takes the power from a node: what it writes from now on is lost, and
// nobody hears from it again.
func (c *Cluster) Kill(i int) {
	c.t.Helper()
	m := c.Node[i]
	if m.node == nil {
		return
	}
	if m.wire != nil {
		m.wire.Kill()
	}
	then := m.home + ".then"
	if err := copyTree(then, m.home); err != nil {
		c.t.Fatal(err)
	}
	m.cancel()
	<-m.ended
	m.node = nil
	if err := errors.Join(os.RemoveAll(m.home), os.Rename(then, m.home)); err != nil {
		c.t.Fatal(err)
	}
}

// copyTree copies a directory that somebody may be writing to.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
}

// Erase destroys the disk of a node that is off.
func (c *Cluster) Erase(i int) {
	if err := os.RemoveAll(c.Node[i].home); err != nil {
		c.t.Fatal(err)
	}
}

// Cut silences the wire between two nodes, Heal restores it. In-memory only.
func (c *Cluster) Cut(i, j int)  { c.net.Cut(c.Node[i].wire, c.Node[j].wire) }
func (c *Cluster) Heal(i, j int) { c.net.Heal(c.Node[i].wire, c.Node[j].wire) }

// Isolate takes a node off the network, Rejoin brings it back. In-memory only.
func (c *Cluster) Isolate(i int) { c.net.Isolate(c.Node[i].wire) }
func (c *Cluster) Rejoin(i int)  { c.net.Rejoin(c.Node[i].wire) }

// PeerID is the id of a running node.
func (m *Machine) PeerID() peer.ID {
	id, err := peer.Decode(m.Status().PeerID)
	if err != nil {
		m.c.t.Fatal(err)
	}
	return id
}

// Home is the directory of the node.
func (m *Machine) Home() string { return m.home }

// Running is the node, nil while it is off.
func (m *Machine) Running() *node.Node { return m.node }

// Pass lets virtual time pass. It is for bubbles, where that takes none.
func (c *Cluster) Pass(d time.Duration) { <-time.After(d) }
