package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/peerpost/peerpost/node/control"
)

// fakeNodes is the package node of tests that are about the command alone: it
// keeps accounts in memory and runs a control socket in front of a fakeNode.
type fakeNodes struct {
	addresses []string
	node      fakeNode
	taken     error // of Free
	quicker   bool  // somebody else makes the first account
	ready     chan struct{}
}

func (f *fakeNodes) Free(context.Context, Settings) error { return f.taken }

func (f *fakeNodes) Accounts(context.Context, string) (list []control.AccountStatus, err error) {
	for _, a := range f.addresses {
		list = append(list, control.AccountStatus{Address: a, Locked: true})
	}
	return list, nil
}

func (f *fakeNodes) FirstAccount(_ context.Context, _ string, a control.NewAccount) (control.CreatedAccount, error) {
	if f.quicker || len(f.addresses) > 0 {
		return control.CreatedAccount{}, control.ErrExists
	}
	return f.node.AddAccount(context.Background(), a)
}

func (f *fakeNodes) AddAccount(_ context.Context, _ string, a control.NewAccount) (control.CreatedAccount, error) {
	return f.node.AddAccount(context.Background(), a)
}

func (f *fakeNodes) New(ctx context.Context, s Settings, log *slog.Logger) (Running, error) {
	lock, err := control.AcquireLock(ctx, s.Home)
	if err != nil {
		return nil, err
	}
	server, err := control.New(control.Config{Lock: lock, Node: &f.node, Log: log})
	if err != nil {
		return nil, err
	}
	return &fakeRun{f, lock, server}, nil
}

type fakeRun struct {
	nodes  *fakeNodes
	lock   *control.Lock
	server *control.Server
}

func (r *fakeRun) Status(ctx context.Context) (control.Status, error) {
	return r.nodes.node.Status(ctx)
}

func (r *fakeRun) Run(ctx context.Context) error {
	if r.nodes.ready != nil {
		close(r.nodes.ready)
	}
	defer r.lock.Close()
	return r.server.Run(ctx)
}

func (r *fakeRun) Close() error {
	defer r.lock.Close()
	return r.server.Close()
}

// evil is what a stranger might put into a text to play with a terminal.
const evil = "\x1b[2Jx\u202ey\u009bz\nw\xff"

var fakeTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const fakePassword = "correct horse"

// fakeNode answers every request with something. Methods of control.Node that
// it lacks are not called.
type fakeNode struct {
	control.Node
	locked bool
	err    error

	problem string // with the account
	sent    []control.Message
	mail    []control.ExportedMessage
}

func (f *fakeNode) Status(context.Context) (control.Status, error) {
	return control.Status{
		PeerID: "12D3Koo", IMAP: "127.0.0.1:1143", IMAPS: "127.0.0.1:1993", SMTP: "127.0.0.1:1025", Started: time.Now(),
		Accounts: []control.AccountStatus{{Address: "ada@key.peerpost.alt", Locked: f.locked, Messages: 3, Problem: f.problem}},
	}, f.err
}

func (f *fakeNode) Outbox(context.Context, string, string) ([]control.OutboxEntry, error) {
	return []control.OutboxEntry{{ID: "1f", To: "bob@key", State: control.Accepted, Replicas: 2, Wanted: 10, Subject: evil, LastError: evil, Accepted: fakeTime}}, f.err
}

func (f *fakeNode) Contacts(context.Context, string) ([]control.Contact, error) {
	if f.locked {
		return nil, control.ErrLocked
	}
	return []control.Contact{{Address: "bob@key", Name: evil, Added: fakeTime}}, f.err
}

func (f *fakeNode) Keepers(context.Context, string) ([]control.Keeper, error) {
	return []control.Keeper{{Peer: "12D3Koo", Addrs: []string{"/dns4/" + evil + "/tcp/1"}}}, f.err
}

func (f *fakeNode) Send(_ context.Context, m control.Message) (control.Sent, error) {
	if f.locked {
		return control.Sent{}, control.ErrLocked
	}
	f.sent = append(f.sent, m)
	return control.Sent{ID: "1f", Recipients: m.To}, f.err
}

func (f *fakeNode) Export(_ context.Context, _ string, write func(control.ExportedMessage) error) error {
	for _, m := range f.mail {
		if err := write(m); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fakeNode) AddAccount(_ context.Context, a control.NewAccount) (control.CreatedAccount, error) {
	if f.err != nil {
		return control.CreatedAccount{}, f.err
	}
	name := a.Name
	if name == "" {
		name = "me"
	}
	c := control.CreatedAccount{Address: name + "@key.peerpost.alt"}
	if !a.Restore {
		c.Words = strings.TrimSpace(strings.Repeat("abandon ", 23) + "art")
	} else if a.Words != "abandon ability able" {
		return c, &control.Error{Code: control.CodeInvalid, Message: "not these: " + a.Words}
	}
	if a.Password == "" {
		c.Password = "made-up"
	}
	return c, nil
}

func (f *fakeNode) Unlock(_ context.Context, _, password string) error {
	if password != fakePassword {
		return control.ErrPassword
	}
	f.locked = false
	return nil
}

func (f *fakeNode) Stop() {}
