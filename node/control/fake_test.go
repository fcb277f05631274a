package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a node in memory with one account.
type fake struct {
	mu        sync.Mutex
	locked    bool
	contacts  []Contact
	keepers   []Keeper
	passwords []Password
	sent      []Message
	messages  []ExportedMessage
	exportErr error

	stopped chan struct{}
	hang    chan struct{} // Invite waits for it or the context
}

const (
	fakeAddress = "ada@key.peerpost.alt"
	fakeSecret  = "open sesame"
)

var fakeTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newFake() *fake {
	return &fake{
		passwords: []Password{{Name: "first", Created: fakeTime}},
		stopped:   make(chan struct{}),
		hang:      make(chan struct{}),
	}
}

func (f *fake) check(account string) error {
	if account != "" && account != fakeAddress && account != "ada" {
		return &Error{Code: CodeNotFound, Message: "there is no account " + account}
	}
	return nil
}

func (f *fake) Status(context.Context) (Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{PeerID: "peer", IMAP: "127.0.0.1:7143", Started: fakeTime, Accounts: []AccountStatus{{Address: fakeAddress, Locked: f.locked}}}, nil
}

func (f *fake) Outbox(_ context.Context, account, id string) ([]OutboxEntry, error) {
	if err := f.check(account); err != nil {
		return nil, err
	}
	if id != "" && id != "1" {
		return nil, ErrNotFound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sent) == 0 {
		return nil, nil
	}
	return []OutboxEntry{{ID: "1", To: f.sent[0].To[0], State: Replicated, Replicas: 6, Wanted: 10, Expires: fakeTime}}, nil
}

func (f *fake) Invite(ctx context.Context, account string) (Invite, error) {
	select {
	case <-f.hang:
		return Invite{Link: "peerpost:x", Address: fakeAddress}, f.check(account)
	case <-ctx.Done():
		return Invite{}, ctx.Err()
	}
}

func (f *fake) Contacts(context.Context, string) ([]Contact, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked {
		return nil, ErrLocked
	}
	return f.contacts, nil
}

func (f *fake) AddContact(_ context.Context, _ string, c NewContact) (Contact, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !strings.Contains(c.Target, "@") {
		return Contact{}, &Error{Code: CodeInvalid, Message: "neither an invite nor an address", Cause: errors.New("no @")}
	}
	added := Contact{Address: c.Target, Name: c.Name, Added: fakeTime}
	f.contacts = append(f.contacts, added)
	return added, nil
}

func (f *fake) Keepers(_ context.Context, account string) ([]Keeper, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.keepers), f.check(account)
}

func (f *fake) AddKeeper(_ context.Context, account, target string) (Keeper, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := Keeper{Peer: target, Connected: true}
	f.keepers = append(f.keepers, k)
	return k, f.check(account)
}

func (f *fake) RemoveKeeper(_ context.Context, account, peer string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.keepers)
	if f.keepers = slices.DeleteFunc(f.keepers, func(k Keeper) bool { return k.Peer == peer }); len(f.keepers) == n {
		return ErrNotFound
	}
	return f.check(account)
}

func (f *fake) Send(_ context.Context, m Message) (Sent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, m)
	return Sent{ID: "1", From: fakeAddress, Recipients: m.To}, nil
}

func (f *fake) Export(_ context.Context, account string, write func(ExportedMessage) error) error {
	if err := f.check(account); err != nil {
		return err
	}
	for _, m := range f.messages {
		if err := write(m); err != nil {
			return err
		}
	}
	return f.exportErr
}

func (f *fake) AddAccount(_ context.Context, a NewAccount) (CreatedAccount, error) {
	if a.Restore {
		return CreatedAccount{Address: a.Name + "@old.peerpost.alt"}, nil
	}
	return CreatedAccount{Address: a.Name + "@new.peerpost.alt", Words: "abandon art", Password: "made"}, nil
}

func (f *fake) Passwords(context.Context, string) ([]Password, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.passwords), nil
}

func (f *fake) AddPassword(_ context.Context, _, name, password string) (NewPassword, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locked {
		return NewPassword{}, ErrLocked
	}
	f.passwords = append(f.passwords, Password{Name: name, Created: fakeTime})
	return NewPassword{Name: name, Password: password + "!"}, nil
}

func (f *fake) RemovePassword(_ context.Context, _, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.passwords)
	f.passwords = slices.DeleteFunc(f.passwords, func(p Password) bool { return p.Name == name })
	if len(f.passwords) == n {
		return ErrNotFound
	}
	return nil
}

func (f *fake) Unlock(_ context.Context, _, password string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if password != fakeSecret {
		return ErrPassword
	}
	f.locked = false
	return nil
}

func (f *fake) Stop() { close(f.stopped) }

// serve runs a server for a node with a home, and returns a client, the path
// of the socket and a function that ends the server and waits.
func serve(t *testing.T, home string, n Node) (*Client, *Server, func()) {
	t.Helper()
	lock, err := AcquireLock(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Lock: lock, Node: n, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			lock.Close()
		})
	}
	t.Cleanup(stop)
	c, err := Dial(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, s, stop
}
