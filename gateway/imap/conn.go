package imap

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/peerpost/peerpost/gateway/internal/foreign"
)

// How long the network may take.
const (
	// writeTimeout bounds one write of at most gather bytes. It begins anew
	// with each, so that a slow client gets a large message in the end.
	writeTimeout = time.Minute
	// closeTimeout bounds the last write of a connection that is being closed.
	closeTimeout = time.Second
	// loginTime is what a client has to log in.
	loginTime = 2 * time.Minute
	// literalTimeout is how long a client may pause while it uploads a
	// message. It begins anew whenever something has come.
	literalTimeout = 5 * time.Minute
	// commandTime is what a client has for the rest of a command that it has
	// begun, and for each literal that it was given leave to send.
	commandTime = 30 * time.Second
	// partTime is how long a client whose connection ends over what it said may
	// go on saying it, so that it gets to hear why.
	partTime = time.Second
)

// maxStrange is how many lines that are no command a client may send before it
// logs in. Real ones send one or two (ID, for one); whoever speaks another
// protocol sends more.
const maxStrange = 8

// maxParting bounds what a client says in partTime.
const maxParting = 1 << 20

// gather is the number of bytes that are held back to be sent at once: two
// records of TLS.
const gather = 32 << 10

var (
	errForeign = errors.New("client does not speak IMAP")
)

// buffers holds the memory in which lines are gathered. A connection has one
// only while something waits in it, so that a session in IDLE costs none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, gather)
	return &b
}}

// conn stands between the library and the network, above TLS where there is
// TLS. The library flushes every line; conn sends what was written when the
// library comes to read, at once when it is reading already, and when gather
// bytes have come together. What the client sends passes through a framer.
type conn struct {
	net.Conn
	onEnd  func() // called once, by finish
	cut    func() // ends it at once, whatever it is doing
	opened time.Time
	frames framer // the reader's alone

	closing, ending sync.Once

	mu        sync.Mutex // held while writing, not while reading
	waiting   *[]byte    // from buffers; nil when there is nothing to send
	reading   bool       // a Read is waiting for the client
	corked    bool       // gather although somebody reads
	bye       string     // to be said at the next chance
	err       error      // of the first write that failed
	loginEnds time.Time  // zero once logged in
	session   bool       // a method of the session is writing: its lines are not ours to amend
	midline   bool       // what was written last did not end a line
	asked     string     // tag of the command that the library has not answered yet
	saves     bool       // that command wants no ESEARCH
	from, to  string     // see Substitute
	held      []byte     // of what was written: from may begin in it
	owned     bool       // a session calls finish; otherwise Close does
	deadline  time.Time  // to read; the library's
	began     time.Time  // when the command did that is being gathered; zero: none is
	strange   int        // lines before login that were no command

	head []byte // the first bytes of the client, until they are known not to be foreign
}

func newConn(c net.Conn, onEnd func()) *conn {
	now := time.Now()
	return &conn{
		Conn:      c,
		onEnd:     onEnd,
		opened:    now,
		loginEnds: now.Add(loginTime),
		head:      make([]byte, 0, foreign.Longest),
	}
}

// Write takes over p. Its errors are those of an earlier or of this write.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	q := p
	if !c.session && !c.midline {
		q = c.amend(p)
		if c.asked != "" && answers(p, c.asked) {
			c.asked = ""
		}
	}
	c.midline = len(p) > 0 && p[len(p)-1] != '\n'
	if c.from != "" {
		q = c.substitute(q)
	}
	if err := c.write(q); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Substitute has from replaced, once, where it comes next in what is written. It
// is for what the library can write in its own way only, and nothing that a
// stranger has a say in may come before. Release ends it.
func (c *conn) Substitute(from, to string) {
	c.mu.Lock()
	c.from, c.to = from, to
	c.mu.Unlock()
}

// Release lets go what waits for the end of a text that did not come.
func (c *conn) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held
	c.from, c.to, c.held = "", "", nil
	if len(held) > 0 && c.err == nil {
		c.write(held)
	}
}

// substitute returns what of p, and of what is held, can be written; mu is held.
func (c *conn) substitute(p []byte) []byte {
	c.held = append(c.held, p...)
	before, after, ok := bytes.Cut(c.held, []byte(c.from))
	if !ok {
		// It does not begin before the last bytes.
		n := max(0, len(c.held)-len(c.from)+1)
		q := c.held[:n:n]
		c.held = c.held[n:]
		return q
	}
	q := slices.Concat(before, []byte(c.to), after)
	c.from, c.to, c.held = "", "", nil
	return q
}

// write is Write with mu held and without amendments.
func (c *conn) write(p []byte) error {
	hold := !c.reading || c.corked
	if c.waiting == nil && (!hold || len(p) >= gather) {
		return c.send(p)
	}
	for len(p) > 0 {
		if c.waiting == nil {
			c.waiting = buffers.Get().(*[]byte)
		}
		b := *c.waiting
		n := min(len(p), cap(b)-len(b))
		*c.waiting = append(b, p[:n]...)
		p = p[n:]
		if len(*c.waiting) == cap(b) {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	if !hold {
		return c.flush()
	}
	return nil
}

// flush sends what waits; mu is held.
func (c *conn) flush() error {
	if c.waiting == nil {
		return c.err
	}
	err := c.send(*c.waiting)
	*c.waiting = (*c.waiting)[:0]
	buffers.Put(c.waiting)
	c.waiting = nil
	return err
}

// send writes to the network; mu is held. After an error the connection is of no use.
func (c *conn) send(p []byte) error {
	for len(p) > 0 && c.err == nil {
		n := min(len(p), gather)
		c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := c.Conn.Write(p[:n]); err != nil {
			c.fail(err)
		}
		p = p[n:]
	}
	return c.err
}

// fail makes all later writes fail, and wakes up whoever reads; mu is held.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
		c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Flush sends what waits. The session calls it before work that takes time.
func (c *conn) Flush() {
	c.mu.Lock()
	c.flush()
	c.mu.Unlock()
}

// Cork makes lines be gathered although the client is being read from;
// Uncork sends them.
func (c *conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

func (c *conn) Uncork() {
	c.mu.Lock()
	c.corked = false
	if c.reading {
		c.flush()
	}
	c.mu.Unlock()
}

// Amend says whether lines may be amended: not those that a session writes.
func (c *conn) Amend(on bool) {
	c.mu.Lock()
	c.session = !on
	c.mu.Unlock()
}

// Read gives the library the next piece of what the client says.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f := &c.frames
	for {
		var e event
		switch busy := c.busy(); {
		case !busy:
			e = f.next()
		case len(f.pieces) > 0:
			return f.hand(p), nil
		case f.upload > 0 && len(f.in) > 0:
			return f.pass(p), nil
		case f.upload > 0:
			n, err := c.receive(p[:min(int64(len(p)), f.upload)])
			f.upload -= int64(n)
			return n, err
		default:
			e = f.reply()
		}
		if err := c.act(e, p); err != nil {
			return 0, err
		}
	}
}

// EndAppend reads on to the end of the command after a message has come. It
// fails when there is more: then the message is not what the client meant.
func (c *conn) EndAppend() error {
	var p [64]byte
	for c.frames.tail {
		if err := c.act(c.frames.reply(), p[:]); err != nil {
			return err
		}
	}
	return nil
}

// Command returns the name of the command that the library is busy with. Its
// methods of the session may ask, but for Idle.
func (c *conn) Command() string { return c.frames.name }

// busy reports whether the library has a command that it has not answered.
func (c *conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked != ""
}

// act does what the framer's event calls for. It receives into p.
func (c *conn) act(e event, p []byte) error {
	f := &c.frames
	if e == more {
		n, err := c.receive(p)
		f.add(p[:n])
		if n > 0 {
			err = nil // it comes again
		}
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = time.Time{}
	waits := !c.loginEnds.IsZero() // for the client to log in
	if e == complete && waits && c.asked == "" && !known(f.name) {
		// The library would end the connection over it.
		f.refuse("BAD Unknown command")
		e = refused
	}
	switch e {
	case complete:
		c.asked, c.saves = f.tag, f.saves
		return nil
	case proceed:
		return c.write([]byte("+ Ready for literal data\r\n"))
	}
	c.asked = ""
	tag := f.tag
	if tag == "" {
		tag = "*"
	}
	if err := c.write([]byte(tag + " " + f.status + "\r\n")); err != nil {
		return err
	}
	if waits {
		c.strange++
	}
	switch {
	case e == lost:
		return c.part("Commands cannot be told apart any more")
	case c.strange > maxStrange:
		return c.part("This is not IMAP")
	}
	return nil
}

// part ends the connection over what the client said; mu is held. When bytes
// have come that nobody read, closing would take back what is on its way to the
// client.
func (c *conn) part(text string) error {
	c.bye = text
	c.sayBye()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.err != nil {
		c.fail(net.ErrClosed)
		return c.err
	}
	c.err = net.ErrClosed // and the deadline is another than that of fail
	half.CloseWrite()
	c.Conn.SetReadDeadline(time.Now().Add(partTime))
	c.mu.Unlock()
	io.CopyN(io.Discard, c.Conn, maxParting)
	c.mu.Lock()
	return c.err
}

// receive sends what waits and reads from the network.
func (c *conn) receive(p []byte) (int, error) {
	c.mu.Lock()
	err := c.flush()
	if err == nil && c.bye != "" {
		c.sayBye()
		err = io.EOF
	}
	if err == nil {
		err = c.setDeadline()
	}
	c.reading = err == nil
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}

	n, err := c.Conn.Read(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if c.err != nil {
		return 0, c.err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.bye = "Idle for too long"
		c.sayBye()
		c.fail(net.ErrClosed)
		return 0, c.err
	}
	if c.head != nil {
		k := min(n, foreign.Longest-len(c.head))
		c.head = append(c.head, p[:k]...)
		switch foreign.Judge(c.head) {
		case foreign.Yes:
			c.fail(errForeign)
			c.waiting = nil
			return 0, errForeign
		case foreign.No:
			c.head = nil
		}
	}
	return n, err
}

// setDeadline bounds the next read; mu is held. The library's own bound of a
// command begins when it is whole.
func (c *conn) setDeadline() error {
	t := c.deadline
	if c.asked == "" && c.frames.begun() {
		if c.began.IsZero() {
			c.began = time.Now()
		}
		if end := c.began.Add(commandTime); t.IsZero() || end.Before(t) {
			t = end
		}
	}
	if !c.loginEnds.IsZero() && (t.IsZero() || t.After(c.loginEnds)) {
		t = c.loginEnds
	}
	return c.Conn.SetReadDeadline(t)
}

// Hangup ends the connection with a BYE: now when the client is silent,
// otherwise when the commands that it has sent are done.
func (c *conn) Hangup(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bye != "" {
		return
	}
	c.bye = text
	if c.reading {
		c.sayBye()
		c.fail(net.ErrClosed)
	}
}

// sayBye writes the BYE; mu is held.
func (c *conn) sayBye() {
	c.flush()
	c.send([]byte("* BYE " + plainText(c.bye) + "\r\n"))
}

// Abort breaks the connection off: what was promised to the client cannot be kept.
func (c *conn) Abort() {
	c.mu.Lock()
	c.fail(net.ErrClosed)
	c.mu.Unlock()
}

// LoggedIn lifts the bound on the time before login.
func (c *conn) LoggedIn() {
	c.mu.Lock()
	c.loginEnds = time.Time{}
	c.mu.Unlock()
}

// SetReadDeadline is the library's: 35 minutes between two commands, half a
// minute before login. Nobody gets more than loginTime to log in.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.deadline = t
	return c.setDeadline()
}

// SetWriteDeadline does nothing: the library sets one for each line, which is
// sent later. See send.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Close sends what waits, unless somebody is stuck in a write, and closes.
func (c *conn) Close() error {
	var err error
	c.closing.Do(func() {
		if c.mu.TryLock() {
			if c.waiting != nil && c.err == nil {
				c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
				c.Conn.Write(*c.waiting)
			}
			c.waiting = nil
			c.fail(net.ErrClosed)
			c.mu.Unlock()
		}
		err = c.Conn.Close()
	})
	c.mu.Lock()
	owned := c.owned
	c.mu.Unlock()
	if !owned {
		c.finish()
	}
	return err
}

// Own makes finish the session's to call.
func (c *conn) Own() {
	c.mu.Lock()
	c.owned = true
	c.mu.Unlock()
}

// finish says that nothing of the connection is left.
func (c *conn) finish() { c.ending.Do(c.onEnd) }
