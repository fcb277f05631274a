package submission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/peerpost/peerpost/gateway/internal/throttle"
	"github.com/peerpost/peerpost/gateway/listen"
)

// Limits that a Config may lower or raise.
const (
	DefaultMaxMessage         = 40 << 20  // bytes
	DefaultMaxConns           = 256       // of all clients
	DefaultMaxConnsPerAccount = 64        // that have logged in to it
	DefaultMaxMemory          = 256 << 20 // bytes of all messages on their way
	DefaultGrace              = 20 * time.Second
)

// Limits of the protocol.
const (
	// MaxRecipients is how many recipients one message may have (RFC 5321,
	// 4.5.3.1.8 asks for 100 at least).
	MaxRecipients = 100
	// maxLine is the longest line of a body in bytes. Mail should keep to 1,000,
	// but what some programs write does not, and would be lost at a lower limit.
	maxLine = 1 << 20
)

// Config says what a Server serves. Zero values mean the defaults.
type Config struct {
	Accounts  Accounts
	Plain     net.Listener // must be on loopback; may be nil
	TLS       net.Listener // implicit TLS, given as the TCP listener; may be nil
	TLSConfig *tls.Config  // needed with TLS
	Hostname  string       // in the greeting; "localhost"
	Log       *slog.Logger // slog.Default()

	MaxMessage         int64         // bytes; a Submitter may ask for less
	MaxConns           int           // connections in all
	MaxConnsPerAccount int           // connections that are logged in to one account
	MaxMemory          int64         // bytes of all messages being read or submitted
	Grace              time.Duration // for messages on their way when the server stops
}

// Server takes mail from mail clients.
type Server struct {
	cfg         Config
	smtp        *smtp.Server
	budget      budget
	windows     sync.Pool // of *[directBuffer]byte
	logins      *throttle.Logins
	failureTime time.Duration

	base    context.Context // of all calls to the backend
	cancel  context.CancelFunc
	closing chan struct{} // closed by Close

	readers sync.WaitGroup // calls of Data

	mu       sync.Mutex
	running  bool
	ended    bool
	closed   bool
	draining bool
	conns    map[*conn]struct{}
	accounts map[string]int // connections by account
}

// ErrClosed is returned by Run when the server was closed before.
var ErrClosed = errors.New("submission: server is closed")

// New makes a server. It begins nothing. The listeners are the server's from
// here on, and closed by Run or Close.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Accounts == nil:
		return nil, errors.New("submission: no accounts")
	case cfg.Plain == nil && cfg.TLS == nil:
		return nil, errors.New("submission: no listener")
	case cfg.TLS != nil && cfg.TLSConfig == nil:
		return nil, errors.New("submission: no certificate for the tls listener")
	}
	if cfg.Plain != nil && !listen.Loopback(cfg.Plain.Addr()) {
		return nil, fmt.Errorf("submission: plaintext listener on %v, which is not loopback", cfg.Plain.Addr())
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "localhost"
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	setDefault(&cfg.MaxMessage, DefaultMaxMessage)
	setDefault(&cfg.MaxConns, DefaultMaxConns)
	setDefault(&cfg.MaxConnsPerAccount, DefaultMaxConnsPerAccount)
	setDefault(&cfg.MaxMemory, DefaultMaxMemory)
	setDefault(&cfg.Grace, DefaultGrace)
	s := &Server{
		cfg:         cfg,
		budget:      budget{free: cfg.MaxMemory},
		windows:     sync.Pool{New: func() any { return new([directBuffer]byte) }},
		logins:      throttle.NewLogins(),
		failureTime: failureTime,
		closing:     make(chan struct{}),
		conns:       make(map[*conn]struct{}),
		accounts:    make(map[string]int),
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	l := smtp.NewServer(smtp.BackendFunc(s.newSession))
	l.Domain = cfg.Hostname
	l.MaxRecipients = MaxRecipients
	// The library refuses a body of exactly its limit, so that ours is always hit first.
	l.MaxMessageBytes = cfg.MaxMessage + 1
	l.MaxLineLength = maxLine
	l.AllowInsecureAuth = true // TLS is ended in conn, where the library does not see it
	l.ReadTimeout = idleTime   // not used as such, but makes the library call SetReadDeadline
	l.WriteTimeout = writeTime
	l.EnableSMTPUTF8 = true
	l.EnableDSN = true
	l.ErrorLog = faults{cfg.Log}
	s.smtp = l
	return s, nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// faults takes what the library wants logged: panics with their stack, and errors of Accept.
type faults struct{ log *slog.Logger }

func (f faults) Printf(format string, v ...any) { f.write(fmt.Sprintf(format, v...)) }

func (f faults) Println(v ...any) { f.write(fmt.Sprint(v...)) }

func (f faults) write(detail string) {
	level := slog.LevelError
	// When a client goes away right after the beginning of a chunk, the library's
	// reader of chunks finds no session any more and panics, outside our code.
	if strings.Contains(detail, "handleBdat.func1") && !strings.Contains(detail, "gateway/submission") {
		level = slog.LevelDebug
	}
	f.log.Log(context.Background(), level, "fault in the smtp server", "detail", detail)
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{srv: s, conn: c.Conn().(*conn)}, nil
}

// maxMessage is the size of the largest message of one user.
func (s *Server) maxMessage(box Submitter) int64 {
	if n := box.MaxMessage(); n > 0 && n < s.cfg.MaxMessage {
		return n
	}
	return s.cfg.MaxMessage
}

// maxTaken is how much may follow one command: a message with all its dots
// doubled and, of one that was refused, as much again to be thrown away.
func (s *Server) maxTaken() int64 { return 2*s.cfg.MaxMessage + 1<<20 }

// Run serves until ctx ends, Close is called or a listener fails. Then it takes
// no more connections, lets messages that are on their way arrive within the
// grace time, and returns when everything has ended. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.closed || s.running {
		s.mu.Unlock()
		return ErrClosed
	}
	s.running = true
	s.mu.Unlock()
	defer s.cancel()

	served := make(chan error, 2)
	serving := 0
	for _, l := range s.listeners() {
		serving++
		go func() { served <- s.smtp.Serve(l) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case <-s.closing:
	case err = <-served:
		serving--
	}
	s.stop()
	for range serving {
		<-served
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.smtp.Shutdown(context.Background())
	}()
	grace := time.NewTimer(s.cfg.Grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
	case <-s.closing:
	}
	s.cancel()
	s.abort()
	<-ended
	s.endReading()
	if err != nil {
		return fmt.Errorf("submission: listener: %w", err)
	}
	return nil
}

// beginReading counts a call of Data. The library does not wait for those that
// read chunks.
func (s *Server) beginReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.readers.Add(1)
	return true
}

func (s *Server) endReading() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.readers.Wait()
}

// Close ends the server at once, without grace. Run returns soon after.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.cancel()
	s.stop()
	s.abort()
	return nil
}

// stop closes the listeners and lets go of all clients that are not submitting.
func (s *Server) stop() {
	for _, l := range s.listeners() {
		l.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for c := range s.conns {
		c.drain()
	}
}

func (s *Server) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.abort()
	}
}

func (s *Server) listeners() (all []net.Listener) {
	if s.cfg.Plain != nil {
		all = append(all, gate{s.cfg.Plain, s, nil})
	}
	if s.cfg.TLS != nil {
		all = append(all, gate{s.cfg.TLS, s, s.cfg.TLSConfig})
	}
	return all
}

// gate is a listener that lets in no more clients than there is room for.
type gate struct {
	net.Listener
	srv    *Server
	config *tls.Config // nil for plaintext
}

func (g gate) Accept() (net.Conn, error) {
	for {
		raw, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newConn(g.srv, raw, g.config)
		if g.srv.admit(c) {
			return c, nil
		}
		if g.config == nil {
			raw.SetWriteDeadline(time.Now().Add(farewellTime))
			raw.Write([]byte(sayFull))
		}
		raw.Close()
	}
}

// admit makes room for a connection. When there is none, the oldest that has
// not logged in goes: a program that only opens connections must not keep
// those out that can log in.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	if len(s.conns) >= s.cfg.MaxConns {
		var oldest *conn
		for o := range s.conns {
			if !o.isKnown() && (oldest == nil || o.opened.Before(oldest.opened)) {
				oldest = o
			}
		}
		if oldest == nil {
			return false
		}
		oldest.abort()
		delete(s.conns, oldest)
	}
	s.conns[c] = struct{}{}
	return true
}

// enter counts a connection to an account; false when it has too many.
func (s *Server) enter(c *conn, account string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account] >= s.cfg.MaxConnsPerAccount {
		return false
	}
	s.accounts[account]++
	c.loggedIn(account)
	return true
}

// forget takes back what admit and enter counted.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if account, ok := c.leave(); ok {
		if s.accounts[account]--; s.accounts[account] == 0 {
			delete(s.accounts, account)
		}
	}
}
