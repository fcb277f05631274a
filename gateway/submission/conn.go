package submission

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/peerpost/peerpost/gateway/internal/foreign"
)

// What a client may take of time and bytes.
const (
	// loginTime is from the first byte to the end of the login. People type a
	// password meanwhile, so minutes.
	loginTime = 3 * time.Minute
	// idleTime is how long a client may be silent once it has logged in (RFC
	// 5321, 4.5.3.2.7 asks for 5 minutes at least).
	idleTime = 5 * time.Minute
	// minRate is the least rate of a command or body in bytes a second: a body
	// of n bytes must be there idleTime + n/minRate after its command.
	minRate = 1 << 10
	// writeTime is for one write of answers.
	writeTime = time.Minute
	// handshakeTime is for the TLS handshake.
	handshakeTime = 20 * time.Second
	// farewellTime is for the last answer before a connection is closed, and for
	// the client to read it.
	farewellTime = 2 * time.Second
	// revokeTime is for a client to hear that its password was removed, before it
	// is cut off.
	revokeTime = time.Second

	// maxLoginBytes is what a client may send before it has logged in: three
	// tries with the longest lines that RFC 4954, section 4 allows (12,288
	// bytes), and more than enough for everything else.
	maxLoginBytes = 64 << 10
	// maxAnswers is how many bytes of answers are gathered before they are
	// written although more commands are there.
	maxAnswers = 16 << 10
	// lingerBytes is what is still read and thrown away after the last answer,
	// since closing with unread bytes would destroy the answer on its way.
	lingerBytes = 1 << 20
)

// errOver is what a read gives when nothing more is to be read. The library
// passes silently over net.ErrClosed; io.EOF would make it take what it has of a
// chunk (RFC 3030) for the whole.
var errOver = fmt.Errorf("connection is over: %w", net.ErrClosed)

// conn is the connection as go-smtp sees it. Read, Write and Close are called
// by the library, one after the other; the rest by anyone.
type conn struct {
	srv    *Server
	raw    net.Conn
	tls    *tls.Conn // nil on the plaintext listener
	stream net.Conn  // raw or tls
	opened time.Time

	// Of the goroutine that reads.
	shaken bool                // the TLS handshake is done
	window *[directBuffer]byte // nil unless in use
	unread []byte              // part of window, comes before what the stream gives
	due    string              // comes before that
	ahead  int                 // LFs given to the library, less the lines it began to wait for
	last   byte                // given to the library

	mu       sync.Mutex
	over     bool // nothing more is read
	linger   bool // the client may still be sending
	farewell string
	draining bool
	revoked  bool // the password of the login was removed
	busy     int  // messages being read or submitted
	known    bool
	account  string // set when known
	closed   bool
	begun    time.Time // when the library began to wait for the command
	taken    int64     // bytes read since, or since opened before the login
	armed    time.Time // read deadline of the stream
	head     []byte    // first bytes of the connection, until they were judged
	judged   bool

	wmu    sync.Mutex
	out    []byte // answers not yet written
	mute   bool   // nothing more is written
	chunks chunks
}

// chunks says where the library is with a message in chunks. It reads it in a
// goroutine and tells nobody; but it says so to the client.
type chunks struct {
	begun bool // a chunk was taken since the message began
	last  bool // that was the last answer
}

// sayContinue is how the library answers a chunk that is not the last.
const sayContinue = "250 2.0.0 Continue\r\n"

func newConn(s *Server, raw net.Conn, config *tls.Config) *conn {
	c := &conn{srv: s, raw: raw, stream: raw, opened: time.Now(), shaken: true}
	c.begun = c.opened
	if config != nil {
		c.tls = tls.Server(raw, config)
		c.stream = c.tls
		c.shaken = false
	}
	return c
}

// Read gives bytes to the library. After the first error it never does again.
func (c *conn) Read(p []byte) (n int, err error) {
	if c.isOver() {
		return 0, errOver
	}
	if c.due != "" {
		n = copy(p, c.due)
		c.due = c.due[n:]
		return n, nil
	}
	if len(c.unread) > 0 {
		n = c.leftover(p)
	} else {
		c.dropWindow()
		if n, err = c.fetch(p); err != nil {
			return 0, err
		}
	}
	c.ahead += bytes.Count(p[:n], []byte("\n"))
	c.last = p[n-1]
	return n, nil
}

// fetch writes the answers that are due, then reads from the client.
func (c *conn) fetch(p []byte) (int, error) {
	if !c.shaken {
		if !c.handshake() {
			return 0, c.finish("")
		}
	}
	if err := c.arm(); err != nil {
		return 0, err
	}
	if !c.flush(writeTime) {
		return 0, c.finish("")
	}
	n, err := c.stream.Read(p)
	if n == 0 {
		return 0, c.failed(err)
	}
	return c.took(p[:n])
}

func (c *conn) handshake() bool {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if err := c.tls.HandshakeContext(ctx); err != nil {
		c.srv.cfg.Log.Debug("tls handshake failed", "remote", c.raw.RemoteAddr(), "error", err)
		return false
	}
	c.shaken = true
	return true
}

// arm sets the deadline of the next read, or says that there is to be none.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return errOver
	case c.revoked:
		return c.finishLocked(sayRemoved)
	case c.draining && c.busy == 0:
		return c.finishLocked(sayStopping)
	}
	deadline := c.opened.Add(loginTime)
	if c.known {
		now := time.Now()
		deadline = c.begun.Add(idleTime + time.Duration(c.taken/minRate)*time.Second)
		if idle := now.Add(idleTime); idle.Before(deadline) {
			deadline = idle
		}
	}
	// A deadline moves with every read; a second more or less saves most calls.
	if d := deadline.Sub(c.armed); c.armed.IsZero() || d < 0 || d >= time.Second {
		c.armed = deadline
		if c.stream.SetReadDeadline(deadline) != nil {
			return c.finishLocked("")
		}
	}
	return nil
}

// failed says what a failed read means and tells the client when it can hear it.
func (c *conn) failed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ne, ok := err.(net.Error)
	switch {
	case !ok || !ne.Timeout():
		return c.finishLocked("")
	case c.revoked:
		return c.finishLocked(sayRemoved)
	case c.draining && c.busy == 0:
		return c.finishLocked(sayStopping)
	default:
		return c.finishLocked(sayTimeout)
	}
}

// took counts what was read and looks at the beginning of the connection.
func (c *conn) took(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken += int64(len(p))
	if !c.known {
		if c.taken > maxLoginBytes {
			c.linger = true
			return 0, c.finishLocked(sayTooMuch)
		}
	} else if c.taken > c.srv.maxTaken() {
		// The library is throwing away what it refused. Its answer still goes
		// out, and then the connection ends.
		c.over, c.linger = true, true
		return 0, errOver
	}
	if !c.judged {
		c.head = append(c.head, p[:min(len(p), foreign.Longest-len(c.head))]...)
		switch foreign.Judge(c.head) {
		case foreign.Yes:
			c.srv.cfg.Log.Warn("a program that does not speak smtp was refused", "remote", c.raw.RemoteAddr())
			return 0, c.finishLocked("")
		case foreign.No:
			c.judged, c.head = true, nil
		}
	}
	return len(p), nil
}

// finish ends the reading. With a farewell, that is the last thing the client
// hears; with none, nothing more is said.
func (c *conn) finish(farewell string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finishLocked(farewell)
}

func (c *conn) finishLocked(farewell string) error {
	c.over = true
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.mute {
		if farewell == "" {
			c.out = nil
		}
		c.out = append(c.out, farewell...)
		c.mute = true
	}
	return errOver
}

// hangUp ends the connection with a farewell after the answer to this command.
func (c *conn) hangUp(farewell string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewell == "" {
		c.farewell = farewell
		c.linger = true
	}
}

// cutOff ends the reading, but not the answers.
func (c *conn) cutOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.linger = true, true
}

// Write keeps an answer until the next read, so that the answers to pipelined
// commands leave in one packet.
func (c *conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	full := false
	c.chunks.last = string(p) == sayContinue
	c.chunks.begun = c.chunks.begun || c.chunks.last
	if !c.mute {
		c.out = append(c.out, p...)
		full = len(c.out) >= maxAnswers
	}
	c.wmu.Unlock()
	if full {
		c.flush(writeTime)
	}
	return len(p), nil
}

// chunked returns where the library is with chunks, and forgets it.
func (c *conn) chunked() chunks {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	was := c.chunks
	c.chunks = chunks{}
	return was
}

// flush writes the answers that are due; false when the client is gone.
func (c *conn) flush(d time.Duration) bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if len(c.out) == 0 {
		return true
	}
	err := c.stream.SetWriteDeadline(time.Now().Add(d))
	if err == nil {
		_, err = c.stream.Write(c.out)
	}
	if cap(c.out) > maxAnswers {
		c.out = nil
	}
	c.out = c.out[:0]
	if err != nil {
		c.mute = true
	}
	return err == nil
}

// Close ends the connection. The last answers are written before.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed, c.over = true, true
	linger := c.linger
	c.mu.Unlock()
	c.dropWindow()
	if !c.shaken {
		c.srv.forget(c)
		return c.raw.Close()
	}
	if c.flush(farewellTime) && linger {
		c.wait()
	}
	c.srv.forget(c) // before the client can know
	return c.stream.Close()
}

// wait gives a client that is still sending the time to read its last answer.
func (c *conn) wait() {
	half, ok := c.stream.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.stream.SetReadDeadline(time.Now().Add(farewellTime)) == nil {
		io.CopyN(io.Discard, c.stream, lingerBytes)
	}
}

// abort ends the connection at once, from anywhere.
func (c *conn) abort() { c.raw.Close() }

// drain ends the connection when no message is on its way.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.busy == 0 && !c.over {
		c.armed = time.Time{}
		c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// revoke ends the connection, also in the middle of a message.
func (c *conn) revoke() {
	time.AfterFunc(revokeTime, c.abort) // a client that does not read keeps the mutex
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked, c.linger = true, true
	if !c.over {
		c.armed = time.Time{}
		c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// work keeps the connection from being drained until done is called.
func (c *conn) work() (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy--
	}
}

// loggedIn gives the connection the limits of one that is known.
func (c *conn) loggedIn(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.account = true, account
	c.begun, c.taken = time.Now(), 0
}

func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

func (c *conn) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// leave returns the account that the connection counts for, once.
func (c *conn) leave() (account string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	account, c.account = c.account, ""
	return account, c.known && account != ""
}

// SetReadDeadline is called by the library when it begins to wait for a command,
// although the next may have been read already. The time it wants is not used: it
// would be one and the same for a whole body. An error stops the library, which
// would otherwise go on with what it has even after it has closed the connection.
func (c *conn) SetReadDeadline(time.Time) error {
	c.ahead--
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return errOver
	case c.revoked:
		return c.finishLocked(sayRemoved)
	case c.farewell != "":
		return c.finishLocked(c.farewell)
	}
	if c.known {
		c.begun, c.taken = time.Now(), 0
	}
	return nil
}

// SetWriteDeadline does nothing; flush sets its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline does nothing; Read and flush set their own.
func (c *conn) SetDeadline(time.Time) error { return nil }

func (c *conn) LocalAddr() net.Addr  { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }
