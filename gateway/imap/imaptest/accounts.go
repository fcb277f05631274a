// Package imaptest holds an in-memory twin of what the IMAP gateway is built
// upon, and the tests that every Mailbox has to pass.
package imaptest

import (
	"context"
	"net"
	"strings"
	"sync"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
)

// Accounts is an imap.Accounts in memory. User names are compared without
// regard to case.
type Accounts struct {
	// Before is called by each Login, when set; its error is the answer.
	Before func(user string) error

	mu    sync.Mutex
	users map[string]account
}

type account struct {
	password string
	mailbox  imap.Mailbox
}

var _ imap.Accounts = (*Accounts)(nil)

// Add adds a user, or replaces one.
func (a *Accounts) Add(user, password string, m imap.Mailbox) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == nil {
		a.users = make(map[string]account)
	}
	a.users[strings.ToLower(user)] = account{password, m}
}

// Login implements imap.Accounts.
func (a *Accounts) Login(_ context.Context, user, password string, _ net.Addr) (imap.Mailbox, error) {
	if a.Before != nil {
		if err := a.Before(user); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.users[strings.ToLower(user)]
	if !ok || u.password != password {
		return nil, mail.ErrCredentials
	}
	return u.mailbox, nil
}
