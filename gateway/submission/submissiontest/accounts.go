// Package submissiontest is the in-memory twin of what package submission asks
// of the node: accounts with a password, and outboxes that remember what they
// were given.
package submissiontest

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"

	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/internal/mail"
)

// Accounts is a set of users. The zero value has none.
type Accounts struct {
	// Fault, when it is set, is called before every login and may refuse it.
	Fault func(ctx context.Context, user string) error

	mu    sync.Mutex
	users map[string]*user
	tries int
}

type user struct {
	password string
	box      *Outbox
	granted  context.Context
	end      context.CancelFunc
}

// session is an outbox as one who has logged in has it.
type session struct {
	*Outbox
	granted context.Context
}

// Granted implements mail.Revocable.
func (s session) Granted() context.Context { return s.granted }

var _ submission.Accounts = (*Accounts)(nil)

// Add makes a user and returns its outbox. The user may send from its own
// address only; the local part is compared without regard to case.
func (a *Accounts) Add(address, password string) *Outbox {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == nil {
		a.users = make(map[string]*user)
	}
	b := &Outbox{address: address}
	u := &user{password: password, box: b}
	u.granted, u.end = context.WithCancel(context.Background())
	a.users[strings.ToLower(address)] = u
	return b
}

// Remove removes a user, whose sessions are to end.
func (a *Accounts) Remove(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.users[strings.ToLower(address)]; u != nil {
		delete(a.users, strings.ToLower(address))
		u.end()
	}
}

// Login implements submission.Accounts.
func (a *Accounts) Login(ctx context.Context, name, password string, _ net.Addr) (submission.Submitter, error) {
	a.mu.Lock()
	a.tries++
	u := a.users[strings.ToLower(name)]
	fault := a.Fault
	a.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, name); err != nil {
			return nil, err
		}
	}
	if u == nil || u.password != password {
		return nil, mail.ErrCredentials
	}
	return session{u.box, u.granted}, nil
}

// Tries returns how many logins were tried.
func (a *Accounts) Tries() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tries
}

// DefaultMax is the largest message of an Outbox in bytes, unless it says otherwise.
const DefaultMax = 1 << 20

// Message is what an Outbox was given.
type Message struct {
	mail.Submission
	Body []byte
}

// Outbox is one user's. Its fields are to be set before it is used.
type Outbox struct {
	Max int64 // bytes; 0 means DefaultMax
	// The hooks may refuse; nil hooks take everything in a domain that ends in ".alt".
	OnRecipient func(ctx context.Context, address string, size int64) error
	OnSubmit    func(ctx context.Context, m Message) error
	// Discard keeps no messages, for benchmarks.
	Discard bool

	address  string
	mu       sync.Mutex
	messages []Message
}

var _ submission.Submitter = (*Outbox)(nil)

// CheckSender takes the user's own address and the empty return path.
func (b *Outbox) CheckSender(_ context.Context, address string) error {
	if address == "" || strings.EqualFold(address, b.address) {
		return nil
	}
	return &mail.Error{Code: [3]int{5, 7, 1}, Public: "This return path belongs to somebody else"}
}

// CheckRecipient implements submission.Submitter.
func (b *Outbox) CheckRecipient(ctx context.Context, address string, size int64) error {
	if b.OnRecipient != nil {
		return b.OnRecipient(ctx, address, size)
	}
	if !strings.HasSuffix(address, ".alt") {
		return &mail.Error{Code: [3]int{5, 1, 2}, Public: "This node sends to addresses that end in .alt only"}
	}
	return nil
}

// Submit remembers a copy of the message.
func (b *Outbox) Submit(ctx context.Context, s mail.Submission, body []byte) error {
	if b.Discard && b.OnSubmit == nil {
		return nil
	}
	m := Message{s, bytes.Clone(body)}
	if b.OnSubmit != nil {
		if err := b.OnSubmit(ctx, m); err != nil {
			return err
		}
	}
	if b.Discard {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, m)
	return nil
}

// MaxMessage implements submission.Submitter.
func (b *Outbox) MaxMessage() int64 {
	if b.Max != 0 {
		return b.Max
	}
	return DefaultMax
}

// Messages returns what was submitted, oldest first.
func (b *Outbox) Messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Message(nil), b.messages...)
}
