// Package node is a Peerpost node: it wires the parts together and gives them
// their lives.
//
//	mail client ─ gateway/imap ───── mailbox ──┐
//	            └ gateway/submission ─ outbox ─┤ account
//	                                           ├ courier ─── deliver, put ──► other nodes
//	                                           ├ opener ◄─── incoming ◄───── deliver
//	                                           ├ collector ─ list, get, watch ► holders
//	                                           └ publisher ─ record ────────► DHT
//	holder: mail kept for others
//
// New opens everything in the order in which it depends on one another and
// starts nothing; Run lives until its context ends and closes in reverse,
// listeners first.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	p2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/host"
	"github.com/peerpost/peerpost/node/web"
	"github.com/peerpost/peerpost/store"
)

// Node is one node.
type Node struct {
	cfg     Config
	home    home
	log     *slog.Logger
	started time.Time
	metrics *prometheus.Registry

	lock     *control.Lock
	clock    *clock.Clock
	key      *identity.HostKey
	host     *host.Host
	dht      *dht.DHT
	holder   *store.Holder
	receiver *store.Receiver
	network  *network

	imap       *imap.Server
	submission *submission.Server
	control    *control.Server
	web        *web.Server
	bound      bound

	making   sync.Mutex // one new account at a time, so that each sees the names and places of all
	mu       sync.Mutex
	accounts map[identity.Root]*account
	damaged  map[identity.Root]damaged
	life     context.Context // set while Run lives
	lives    *sync.WaitGroup

	stop     chan struct{}
	stopOnce sync.Once
	closers  []func() error // in the order of opening
	closed   sync.Once
	closeErr error
}

// bound is the addresses that are really listened on.
type bound struct{ imap, smtp, imaps, smtps, http string }

// New opens a node. It undoes what it did when a later step fails.
func New(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	n := &Node{
		cfg: cfg, home: home(cfg.Home), log: cfg.Log, started: time.Now(), metrics: cfg.Metrics,
		accounts: make(map[identity.Root]*account), damaged: make(map[identity.Root]damaged), stop: make(chan struct{}),
	}
	for _, step := range []func(context.Context) error{
		n.openHome, n.openHost, n.openNetwork, n.openAccounts, n.openGateways, n.openControl,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	n.register()
	return n, nil
}

func (n *Node) opened(close func() error) { n.closers = append(n.closers, close) }

func (n *Node) openHome(ctx context.Context) error {
	lock, err := control.AcquireLock(ctx, string(n.home))
	if err != nil {
		return err
	}
	n.lock = lock
	n.opened(lock.Close)
	if err := n.home.make(); err != nil {
		return err
	}
	n.clock = clock.Open(n.home.clock(), n.log)
	n.key, err = identity.LoadOrCreateHostKey(ctx, n.home.hostKey(), n.cfg.puzzleBits())
	if errors.Is(err, identity.ErrPuzzle) {
		return &control.Error{
			Code: control.CodeInvalid, Message: "the host key of this home was made for a network with easier puzzles",
			Hint: "start with the --puzzle-bits it was made with, or remove " + n.home.hostKey() + " to make another",
		}
	}
	if errors.Is(err, identity.ErrHostKey) {
		return &control.Error{
			Code: control.CodeFailure, Message: "the host key of this home is damaged", Cause: err,
			Hint: "put it back from a backup, or remove " + n.home.hostKey() + " to make another: accounts and mail stay, but invites and keepers that name this node have to be made anew",
		}
	}
	return err
}

// Run lives until ctx ends or the control socket asks for the end.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-n.stop:
			cancel()
		case <-ctx.Done():
		}
	}()

	// listeners end first, then what they use, then what that uses
	inner, endInner := context.WithCancel(context.WithoutCancel(ctx))
	defer endInner()
	var lives, doors sync.WaitGroup
	n.mu.Lock()
	n.life, n.lives = inner, &lives
	for _, a := range n.accounts {
		lives.Go(func() { a.run(inner) })
	}
	n.mu.Unlock()
	n.serveStreams()
	lives.Go(func() { n.clock.Run(inner) })
	lives.Go(func() { n.runPart(inner, "dht", n.dht.Run) })
	lives.Go(func() { n.runPart(inner, "host", n.host.Run) })
	if !n.cfg.UpkeepOff {
		lives.Go(func() { n.runPart(inner, "holder", n.holder.Run) })
	}
	lives.Go(func() { n.follow(inner) })
	lives.Go(func() { n.join(inner) })

	var first error
	var once sync.Once
	serve := func(name string, run func(context.Context) error) {
		doors.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				once.Do(func() { first = fmt.Errorf("%s: %w", name, err) })
				cancel()
			}
		})
	}
	if n.imap != nil {
		serve("imap", n.imap.Run)
	}
	if n.submission != nil {
		serve("submission", n.submission.Run)
	}
	if n.web != nil {
		serve("http", n.web.Run)
	}
	if n.control != nil {
		serve("control", n.control.Run)
	}
	n.log.Info("node started", "peer", n.host.ID())
	<-ctx.Done()
	doors.Wait()
	n.mu.Lock()
	n.life = nil
	n.mu.Unlock()
	endInner()
	lives.Wait()
	n.log.Info("node stopped")
	return errors.Join(first, n.Close())
}

func (n *Node) runPart(ctx context.Context, name string, run func(context.Context) error) {
	if err := run(ctx); err != nil && ctx.Err() == nil {
		n.log.Error("a part of the node stopped", "part", name, "err", err)
		n.Stop()
	}
}

// Stop asks Run to end.
func (n *Node) Stop() { n.stopOnce.Do(func() { close(n.stop) }) }

// Close closes a node that is not running. It may be called twice.
func (n *Node) Close() error {
	n.closed.Do(func() {
		for i := len(n.closers) - 1; i >= 0; i-- {
			n.closeErr = errors.Join(n.closeErr, n.closers[i]())
		}
	})
	return n.closeErr
}

func (n *Node) openAccounts(ctx context.Context) error {
	if n.cfg.Holder {
		return nil
	}
	roots, strange, err := n.home.accounts()
	if err != nil {
		return err
	}
	for _, dir := range strange {
		n.log.Warn("a directory among the accounts is none, and is left alone", "directory", dir)
	}
	n.opened(n.closeAccounts)
	for _, root := range roots {
		if a, err := n.openAccount(root); err == nil {
			n.board(a)
		} else {
			n.setAside(n.home.damaged(root, err))
		}
	}
	return nil
}

func (n *Node) openAccount(root identity.Root) (*account, error) {
	return openAccount(n.home, root, n.network, n.cfg.PasswordWork, n.log)
}

// board takes an account on board, and runs it if the node runs.
func (n *Node) board(a *account) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.accounts[a.address.Root] = a
	delete(n.damaged, a.address.Root) // it was moved away, and restored
	if n.life != nil {
		life := n.life
		n.lives.Go(func() { a.run(life) })
	}
}

func (n *Node) closeAccounts() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var err error
	for _, a := range n.accounts {
		err = errors.Join(err, a.close())
	}
	return err
}

func (n *Node) local(root identity.Root) *account {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.accounts[root]
}

// owner finds the account whose inbox a message names.
func (n *Node) owner(o sealed.Outer, now time.Time) *account {
	for _, a := range n.all() {
		if a.owns(o, now) {
			return a
		}
	}
	return nil
}

func (n *Node) all() []*account {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*account, 0, len(n.accounts))
	for _, a := range n.accounts {
		list = append(list, a)
	}
	return list
}

// account finds an account by address or local part; empty means the only one.
func (n *Node) account(name string) (*account, error) {
	type candidate struct {
		address identity.Address
		account *account
		err     error // of a damaged one
	}
	var meant []candidate
	n.mu.Lock()
	for _, a := range n.accounts {
		meant = append(meant, candidate{a.address, a, nil})
	}
	for _, d := range n.damaged {
		meant = append(meant, candidate{d.address, nil, d.refusal()})
	}
	n.mu.Unlock()
	address, noAddress := identity.ParseAddress(name)
	meant = slices.DeleteFunc(meant, func(c candidate) bool {
		switch {
		case name == "":
			return false
		case noAddress == nil:
			return c.address.Root != address.Root
		}
		return !strings.EqualFold(c.address.Local, name)
	})
	switch {
	case len(meant) == 1:
		return meant[0].account, meant[0].err
	case len(meant) == 0 && name == "":
		return nil, &control.Error{Code: control.CodeNotFound, Message: "this node has no account", Hint: "make one with `peerpost account add`"}
	case len(meant) == 0:
		return nil, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("this node has no account %q", name), Hint: "`peerpost account list` shows the accounts"}
	case name == "":
		return nil, control.ErrAmbiguous
	}
	return nil, &control.Error{
		Code: control.CodeAmbiguous, Message: fmt.Sprintf("several accounts are called %s", name),
		Hint: "give the whole address; `peerpost account list` shows it",
	}
}

// follow hands on the news of the network.
func (n *Node) follow(ctx context.Context) {
	sub, err := n.host.EventBus().Subscribe([]any{new(event.EvtLocalAddressesUpdated), new(event.EvtPeerConnectednessChanged)})
	if err != nil {
		n.log.Error("the host's events cannot be followed", "err", err)
		return
	}
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.dht.Changed():
			n.network.tell()
			for _, a := range n.all() {
				a.courier.Nudge()
				a.neighboursChanged()
			}
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtLocalAddressesUpdated:
				for _, a := range n.all() {
					wakeUp(a.publishNow)
				}
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == p2pnet.Connected {
					for _, a := range n.all() {
						a.courier.PeerUp(e.Peer)
					}
				}
			}
		}
	}
}

// openGateways opens the listeners for mail clients.
func (n *Node) openGateways(ctx context.Context) error {
	if n.cfg.Holder {
		return nil
	}
	var tlsConfig *tls.Config
	if n.cfg.IMAPS != "" || n.cfg.SMTPS != "" {
		var err error
		if tlsConfig, err = n.certificate(); err != nil {
			return err
		}
	}
	listen := func(name, addr string, bound *string) (net.Listener, error) {
		if addr == "" {
			return nil, nil
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen for %s: %w", name, err)
		}
		n.opened(func() error { l.Close(); return nil })
		*bound = l.Addr().String()
		return l, nil
	}
	imapPlain, err := listen("imap", n.cfg.IMAP, &n.bound.imap)
	if err != nil {
		return err
	}
	imapTLS, err := listen("imaps", n.cfg.IMAPS, &n.bound.imaps)
	if err != nil {
		return err
	}
	smtpPlain, err := listen("smtp", n.cfg.SMTP, &n.bound.smtp)
	if err != nil {
		return err
	}
	smtpTLS, err := listen("smtps", n.cfg.SMTPS, &n.bound.smtps)
	if err != nil {
		return err
	}
	if imapPlain != nil || imapTLS != nil {
		n.imap, err = imap.New(imap.Config{
			Accounts: imapAccounts{n}, Plain: imapPlain, TLS: imapTLS, TLSConfig: tlsConfig, Log: n.log,
		})
		if err != nil {
			return err
		}
	}
	if smtpPlain != nil || smtpTLS != nil {
		n.submission, err = submission.New(submission.Config{
			Accounts: submissionAccounts{n}, Plain: smtpPlain, TLS: smtpTLS, TLSConfig: tlsConfig, Log: n.log,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) openControl(context.Context) error {
	if n.cfg.HTTP != "" {
		w, err := web.New(web.Config{Addr: n.cfg.HTTP, Status: n.Status, Metrics: n.metrics, Log: n.log})
		if err != nil {
			return err
		}
		n.web = w
		n.opened(w.Close)
		n.bound.http = w.Addr()
	}
	if n.cfg.NoControl {
		return nil
	}
	c, err := control.New(control.Config{Lock: n.lock, Node: controlled{n}, Log: n.log})
	if err != nil {
		return err
	}
	n.control = c
	n.opened(c.Close)
	return nil
}
