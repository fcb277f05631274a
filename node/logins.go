package node

import (
	"context"
	"errors"
	"sync"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
)

// logins knows the app passwords that sessions were opened with, so that the
// sessions end with the password.
type logins struct {
	mu sync.Mutex
	of map[string]grant // by the name of the password
}

// grant is what a session has of its password.
type grant struct {
	ctx context.Context
	end context.CancelFunc
}

// Granted ends when the password is removed; see mail.Revocable.
func (g grant) Granted() context.Context { return g.ctx }

// under gives the grant of the password of this name.
func (l *logins) under(name string) grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.of[name]
	if !ok {
		if l.of == nil {
			l.of = make(map[string]grant)
		}
		g.ctx, g.end = context.WithCancel(context.Background())
		l.of[name] = g
	}
	return g
}

// revoke ends what was opened with a password that has been removed.
func (l *logins) revoke(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g, ok := l.of[name]; ok {
		g.end()
		delete(l.of, name)
	}
}

// forget takes back a grant that nobody may have: its password was gone before.
func (l *logins) forget(name string, g grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[name].ctx == g.ctx {
		g.end()
		delete(l.of, name)
	}
}

// login is unlock for a session, which ends with the password.
func (a *account) login(ctx context.Context, password string) (*open, grant, error) {
	o, name, err := a.unlock(ctx, password)
	if err != nil {
		return nil, grant{}, err
	}
	g, err := a.grantFor(ctx, password, name)
	if err != nil {
		return nil, grant{}, err
	}
	return o, g, nil
}

// grantFor gives the grant of a password that was accepted under a name. It may
// have been removed since, before anybody knew of this session.
func (a *account) grantFor(ctx context.Context, password, name string) (grant, error) {
	for {
		g := a.logins.under(name)
		_, now, err := a.enter(ctx, password) // at once, where it is as it was
		if err == nil && now == name {
			return g, nil
		}
		if err == nil || errors.Is(err, mail.ErrCredentials) {
			a.logins.forget(name, g)
		}
		if err != nil {
			return grant{}, err
		}
		name = now // added again as another
	}
}

// removePassword removes an app password and ends the sessions that were opened
// with it.
func (a *account) removePassword(name string) error {
	err := a.vault.RemovePassword(name)
	if errors.Is(err, identity.ErrPasswordName) || errors.Is(err, identity.ErrLastPassword) {
		return err
	}
	// Also after an error of the disk: it may be gone, and a session is soon opened again.
	a.logins.revoke(name)
	return err
}
