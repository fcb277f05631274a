package imap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/gateway/internal/throttle"
	"github.com/peerpost/peerpost/internal/mail"
)

// How long the mailbox may take for one answer. FETCH and APPEND have no bound
// as a whole: they take as long as the client does, and the connection bounds that.
const (
	loginTimeout   = time.Minute // the first login derives keys
	commandTimeout = time.Minute
	searchTimeout  = 2 * time.Minute
	storeTimeout   = 2 * time.Minute // changes of many messages at once
)

// revokeTime is how long a client may take to hear that its password was
// removed, before it is cut off.
const revokeTime = time.Second

// maxName is the number of bytes of a user name or password that are looked at.
const maxName = 1024

// session is one connection as the library sees it. The library calls one
// method at a time, except that Idle may still run when the others go on.
type session struct {
	server *Server
	conn   *conn
	log    *slog.Logger
	remote net.Addr
	ctx    context.Context // as long as the connection lasts
	cancel context.CancelFunc

	failures int           // wrong passwords on this connection
	keep     func() bool   // keeps the password's end from ending a session that has ended
	account  string        // as throttle.Account tells it
	entered  bool          // it is counted among the account's sessions
	limit    atomic.Uint32 // bytes of the largest message that may be uploaded

	mu      sync.Mutex // held by each method that needs the folder, and by Idle while it tells
	mailbox Mailbox    // nil before login
	sel     *selected  // nil when no folder is selected
	closed  bool
	idle    sync.WaitGroup
}

var _ interface {
	imapserver.SessionNamespace
	imapserver.SessionMove
	imapserver.SessionAppendLimit
} = (*session)(nil)

// Close ends the session. It waits for Idle, which the library does not.
func (s *session) Close() error {
	s.conn.Close() // sends what waits, and tears Idle from a stuck write
	s.cancel()
	s.mu.Lock()
	s.closed = true
	s.sel = nil
	entered, keep := s.entered, s.keep
	s.entered = false
	s.mu.Unlock()
	if keep != nil {
		keep()
	}
	s.idle.Wait()
	if entered {
		s.server.exit(s.conn, s.account)
	}
	s.conn.finish()
	return nil
}

// Login checks user and password. The delay and the throttles hold against
// guessing; what they answer is not taken for a wrong password.
func (s *session) Login(user, password string) error {
	s.conn.Flush()
	if s.failures >= maxFailures {
		return refuse(imap.ResponseCodeLimit, "Too many tries on this connection")
	}
	try, wait := s.server.logins.Begin(user, password, s.remote)
	if wait > 0 {
		s.failed(throttled, 0)
		return refuse(imap.ResponseCodeLimit, fmt.Sprintf("Too many wrong passwords, try again in %d seconds", int(math.Ceil(wait.Seconds()))))
	}
	defer try.End()
	mb, err := s.login(user, password)
	switch {
	case err == nil:
	case errors.Is(err, mail.ErrCredentials):
		try.Wrong()
		s.failed("wrong user name or password", s.server.limits.LoginDelay)
		return refuse(imap.ResponseCodeAuthenticationFailed, "Authentication failed: wrong user name or password")
	case errors.Is(err, mail.ErrThrottled):
		s.failed(throttled, 0)
		return refuse(imap.ResponseCodeLimit, "Too many wrong passwords, try again later")
	default:
		s.log.Warn("IMAP login failed", "user", user, "error", err)
		var public *mail.Error
		if errors.As(err, &public) {
			return refuse(imap.ResponseCodeUnavailable, public.Public)
		}
		return refuse(imap.ResponseCodeUnavailable, "The account cannot be opened now, try again later")
	}
	try.Right()
	account := throttle.Account(user)
	if !s.server.enter(s.conn, account) {
		s.log.Warn("too many IMAP sessions of one account", "user", user)
		return refuse(imap.ResponseCodeLimit, "Too many connections of this account, close some")
	}
	s.mu.Lock()
	s.mailbox, s.account, s.entered = mb, account, true
	if r, ok := mb.(mail.Revocable); ok {
		s.keep = context.AfterFunc(r.Granted(), s.revoke)
	}
	s.mu.Unlock()
	s.limit.Store(uint32(min(mb.MaxMessage(), math.MaxUint32)))
	s.conn.LoggedIn()
	s.log.Debug("IMAP login", "user", user)
	return nil
}

func (s *session) login(user, password string) (Mailbox, error) {
	if len(user) > maxName || len(password) > maxName {
		return nil, mail.ErrCredentials
	}
	ctx, cancel := context.WithTimeout(s.ctx, loginTimeout)
	defer cancel()
	return s.server.accounts.Login(ctx, user, password, s.remote)
}

// revoke ends the session of a password that was removed: what is being done for
// it, also in IDLE, fails, and the client hears a BYE if it listens.
func (s *session) revoke() {
	s.log.Info("IMAP session ended with its app password")
	s.cancel()
	time.AfterFunc(revokeTime, func() { s.conn.Conn.Close() }) // Hangup may wait for a client that does not read
	s.conn.Hangup("The app password was removed")
}

// throttled is why a login is refused that was not even tried.
const throttled = "throttled"

// failed counts a failed login, lets the client wait, and ends the connection
// when there were too many.
func (s *session) failed(why string, delay time.Duration) {
	s.failures++
	level := slog.LevelInfo
	if why == throttled { // what led to it stands in the log
		level = slog.LevelDebug
	}
	s.log.Log(s.ctx, level, "IMAP login refused", "reason", why, "tries", s.failures)
	if s.failures >= maxFailures {
		s.conn.Hangup("Too many failed logins")
	}
	if delay > 0 {
		t := time.NewTimer(delay * time.Duration(s.failures))
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.ctx.Done():
		}
	}
}

// AppendLimit is what the library refuses larger literals by, before it lets
// the client send them. Nobody uploads before logging in. It takes no lock of
// the session: the library calls it while it holds one that Idle wants.
func (s *session) AppendLimit() uint32 {
	return s.limit.Load()
}

// Namespace says that all folders are the user's own.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: mail.Separator}}}, nil
}

// begin is called first by each method that asks the mailbox; end after it.
func (s *session) begin(timeout time.Duration) (ctx context.Context, end func()) {
	s.mu.Lock()
	s.conn.Amend(false)
	cancel := func() {}
	ctx = s.ctx
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	return ctx, func() {
		cancel()
		s.conn.Amend(true)
		s.mu.Unlock()
	}
}
