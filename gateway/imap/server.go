package imap

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/gateway/internal/throttle"
	"github.com/peerpost/peerpost/gateway/listen"
)

// The defaults of Limits. A mail client takes up to five connections, and one
// for each folder that it watches; a person has a handful of clients.
const (
	MaxSessions   = 1024            // sessions in all
	MaxPerAccount = 256             // sessions of one account
	MaxWaiting    = 256             // connections that have not logged in
	LoginDelay    = 2 * time.Second // before a wrong password is answered
)

// maxFailures is the number of wrong passwords after which a connection ends.
const maxFailures = 3

// closeGrace is how long commands may run on when the server is told to stop.
const closeGrace = 3 * time.Second

// Limits bounds what clients may take. A zero field takes its default.
type Limits struct {
	Sessions   int
	PerAccount int
	Waiting    int
	LoginDelay time.Duration
}

// Config is what a Server is made of.
type Config struct {
	Accounts Accounts

	// Plain takes connections in clear text. It must be bound to a loopback
	// address. Nil: none.
	Plain net.Listener

	// TLS takes connections that speak TLS from the first byte; the listener
	// itself is an ordinary one. Nil: none.
	TLS       net.Listener
	TLSConfig *tls.Config

	Limits Limits
	Log    *slog.Logger // nil: silence
}

// Server serves mailboxes to mail clients.
type Server struct {
	accounts  Accounts
	listeners []listener
	limits    Limits
	log       *slog.Logger
	logins    *throttle.Logins

	stop    chan struct{} // closed by Close
	stopped sync.Once

	mu       sync.Mutex
	running  bool
	conns    map[*conn]standing
	sessions map[string]int // of each account that somebody has logged in to
	ended    *sync.Cond     // when a connection has gone
}

// standing is how far a connection has come.
type standing uint8

const (
	waiting standing = iota // to log in
	loggedIn
	leaving // refused, or put out
)

// listener is one door of the Server.
type listener struct {
	net.Listener
	tls *tls.Config // nil: clear text
}

// New checks the configuration. It starts nothing.
func New(c Config) (*Server, error) {
	if c.Accounts == nil {
		return nil, errors.New("imap: no accounts")
	}
	s := &Server{
		accounts: c.Accounts,
		limits: Limits{
			Sessions:   cmp.Or(c.Limits.Sessions, MaxSessions),
			PerAccount: cmp.Or(c.Limits.PerAccount, MaxPerAccount),
			Waiting:    cmp.Or(c.Limits.Waiting, MaxWaiting),
			LoginDelay: cmp.Or(c.Limits.LoginDelay, LoginDelay),
		},
		log:      cmp.Or(c.Log, slog.New(slog.DiscardHandler)),
		logins:   throttle.NewLogins(),
		stop:     make(chan struct{}),
		conns:    make(map[*conn]standing),
		sessions: make(map[string]int),
	}
	s.ended = sync.NewCond(&s.mu)
	if c.Plain != nil {
		if !listen.Loopback(c.Plain.Addr()) {
			return nil, fmt.Errorf("imap: %v can be reached from other computers and needs TLS", c.Plain.Addr())
		}
		s.listeners = append(s.listeners, listener{Listener: c.Plain})
	}
	if c.TLS != nil {
		if c.TLSConfig == nil {
			return nil, errors.New("imap: TLS listener without a certificate")
		}
		s.listeners = append(s.listeners, listener{Listener: c.TLS, tls: c.TLSConfig})
	}
	if len(s.listeners) == 0 {
		return nil, errors.New("imap: no listener")
	}
	return s, nil
}

// Run serves until ctx ends or Close is called, then takes leave of the
// clients and returns when all connections have ended. It closes the
// listeners. An error means that a listener failed.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	again := s.running
	s.running = true
	s.mu.Unlock()
	if again {
		return errors.New("imap: server runs already")
	}
	select {
	case <-s.stop:
		return nil // Close has closed the listeners
	default:
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// Commands may run on a little after ctx has ended.
	base, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()

	var doors sync.WaitGroup
	for _, l := range s.listeners {
		doors.Go(func() {
			if err := s.accept(ctx, base, l); err != nil {
				cancel(err)
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-s.stop:
		cancel(nil)
	}
	for _, l := range s.listeners {
		l.Close()
	}
	doors.Wait()
	s.leave(kill)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Close ends Run; it does not wait for it. It may be called twice, and before Run.
func (s *Server) Close() error {
	s.stopped.Do(func() { close(s.stop) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return nil
	}
	var err error
	for _, l := range s.listeners {
		if e := l.Close(); !errors.Is(e, net.ErrClosed) {
			err = cmp.Or(err, e)
		}
	}
	return err
}

// Sessions returns the number of clients that are connected.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx, base context.Context, l listener) error {
	const longest = time.Second
	pause := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			s.serve(base, l, c)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("imap: listener: %w", err)
		}
		// Out of files, or the client was gone before we took it.
		s.log.Warn("IMAP connection could not be accepted", "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, longest)
	}
}

// serve hands a connection to the library. Each gets a library server of its
// own, whose log and whose sessions then belong to that connection.
func (s *Server) serve(base context.Context, l listener, raw net.Conn) {
	c := raw
	if l.tls != nil {
		c = tls.Server(raw, l.tls)
	}
	log := s.log.With("remote", c.RemoteAddr())
	ctx, cancel := context.WithCancel(base)
	var k *conn
	k = newConn(c, func() { cancel(); s.gone(k) })
	k.cut = func() { cancel(); raw.Close() }
	why, ok := s.admit(k)
	if !ok {
		log.Warn("too many IMAP connections")
		cancel()
		raw.Close()
		return
	}
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			if why != "" {
				log.Warn("IMAP connection refused", "reason", why)
				return nil, nil, &imap.Error{Type: imap.StatusResponseTypeBye, Code: imap.ResponseCodeLimit, Text: why}
			}
			k.Own()
			return &session{server: s, conn: k, log: log, remote: k.RemoteAddr(), ctx: ctx, cancel: cancel}, nil, nil
		},
		Caps:         capabilities,
		Logger:       logger{log},
		InsecureAuth: true, // clear text comes from loopback only, see New
	})
	server.Serve(&single{conn: k}) // returns at once
}

// capabilities is what of the library's list the mailbox can honour. Some more
// are always there: IDLE, UNSELECT, ENABLE, SASL-IR, LITERAL-; and APPENDLIMIT
// comes from the session. LITERAL+ is left out because a large literal that is
// refused would have to be read to its end; BINARY because it would have to
// decode each part twice; IMAP4rev2 because some of it is missing.
var capabilities = imap.CapSet{
	imap.CapIMAP4rev1:        {},
	imap.CapNamespace:        {},
	imap.CapUIDPlus:          {},
	imap.CapESearch:          {},
	imap.CapSearchRes:        {},
	imap.CapListExtended:     {},
	imap.CapListStatus:       {},
	imap.CapMove:             {},
	imap.CapStatusSize:       {},
	imap.CapChildren:         {},
	imap.CapSpecialUse:       {},
	imap.CapCreateSpecialUse: {},
}

// admit makes room for a connection. When there is none, the oldest that has
// not logged in goes: a program that only opens connections must not keep those
// out that can log in. When all have logged in, it says why the new one cannot
// stay; false when there are so many that nobody is even told.
func (s *Server) admit(k *conn) (why string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.limits.Sessions+s.limits.Waiting {
		return "", false
	}
	waits, known := 0, 0
	var oldest *conn
	for o, now := range s.conns {
		switch now {
		case waiting:
			waits++
			if oldest == nil || o.opened.Before(oldest.opened) {
				oldest = o
			}
		case loggedIn:
			known++
		}
	}
	if known >= s.limits.Sessions {
		s.conns[k] = leaving
		return "Too many connections, try again later", true
	}
	if waits >= s.limits.Waiting || waits+known >= s.limits.Sessions {
		s.conns[oldest] = leaving
		oldest.cut()
	}
	s.conns[k] = waiting
	return "", true
}

// enter counts a session that has logged in; false when the account has too many.
func (s *Server) enter(k *conn, account string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[k] != waiting || s.sessions[account] >= s.limits.PerAccount {
		return false
	}
	s.conns[k] = loggedIn
	s.sessions[account]++
	return true
}

// exit undoes enter.
func (s *Server) exit(k *conn, account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[k] = leaving
	if s.sessions[account]--; s.sessions[account] == 0 {
		delete(s.sessions, account)
	}
}

// gone forgets a connection.
func (s *Server) gone(k *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, k)
	s.ended.Broadcast()
}

// leave says BYE to all clients, gives running commands closeGrace, and waits
// until nobody is left.
func (s *Server) leave(kill context.CancelFunc) {
	var hangups sync.WaitGroup
	defer hangups.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.conns {
		hangups.Go(func() { k.Hangup("The node is shutting down") }) // may wait for a write, until Close below
	}
	timer := time.AfterFunc(closeGrace, func() {
		kill()
		s.mu.Lock()
		left := make([]*conn, 0, len(s.conns))
		for k := range s.conns {
			left = append(left, k)
		}
		s.mu.Unlock()
		for _, k := range left {
			k.Conn.Close() // the library then comes to an end by itself
		}
	})
	defer timer.Stop()
	for len(s.conns) > 0 {
		s.ended.Wait()
	}
}

// single is a listener that gives one connection and is then closed.
type single struct {
	conn net.Conn
}

func (l *single) Accept() (net.Conn, error) {
	c := l.conn
	l.conn = nil
	if c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return nil }
