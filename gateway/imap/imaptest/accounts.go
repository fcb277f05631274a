// Package imaptest holds an in-memory twin of what the IMAP gateway is built
// upon, and the tests that every Mailbox has to pass.
package imaptest

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
)

// Accounts is an imap.Accounts in memory. User names are compared without
// regard to case.
type Accounts struct {
	intercept atomic.Pointer[func(string) error]

	mu    sync.Mutex
	users map[string]account
}

type account struct {
	password string
	mailbox  imap.Mailbox
	granted  context.Context
	end      context.CancelFunc
}

// session is a mailbox as one who has logged in has it.
type session struct {
	imap.Mailbox
	granted context.Context
}

// Granted implements mail.Revocable.
func (s session) Granted() context.Context { return s.granted }

var _ imap.Accounts = (*Accounts)(nil)

// Add adds a user, or replaces one.
func (a *Accounts) Add(user, password string, m imap.Mailbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == nil {
		a.users = make(map[string]account)
	}
	u := account{password: password, mailbox: m}
	u.granted, u.end = context.WithCancel(context.Background())
	a.users[strings.ToLower(user)] = u
}

// Remove removes a user, whose sessions are to end.
func (a *Accounts) Remove(user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u, ok := a.users[strings.ToLower(user)]; ok {
		delete(a.users, strings.ToLower(user))
		u.end()
	}
}

// Intercept has f called by each Login; its error is the answer. Nil ends this.
func (a *Accounts) Intercept(f func(user string) error) { a.intercept.Store(&f) }

// Login implements imap.Accounts.
func (a *Accounts) Login(_ context.Context, user, password string, _ net.Addr) (imap.Mailbox, error) {
	if f := a.intercept.Load(); f != nil && *f != nil {
		if err := (*f)(user); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.users[strings.ToLower(user)]
	if !ok || u.password != password {
		return nil, mail.ErrCredentials
	}
	return session{u.mailbox, u.granted}, nil
}
