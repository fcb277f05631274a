package memnet

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A conn is one end of a wire. It satisfies manet.Conn. Writes never block:
// the multiplexer's windows bound what can be in flight.
type conn struct {
	net           *Network
	link          *link
	local, remote netip.AddrPort
	in, out       *half
	peer          *conn
}

// A half is one direction of a wire.
type half struct {
	wake chan struct{} // holds one token when the reader should look again

	mu       sync.Mutex
	queue    []segment
	fin      bool      // the writer closed: EOF after the queue
	severed  bool      // the wire is gone for good, and nobody has been told
	err      error     // reads and writes fail with it at once
	deadline time.Time // of reads
}

// A segment is what one Write put on the wire.
type segment struct {
	data []byte
	due  time.Time
}

func newHalf() *half { return &half{wake: make(chan struct{}, 1)} }

func (h *half) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *half) fail(err error) {
	h.mu.Lock()
	if h.err == nil {
		h.err = err
	}
	h.mu.Unlock()
	h.nudge()
}

// Read waits until the first segment is due. There is one reader at a time.
func (c *conn) Read(b []byte) (int, error) {
	h := c.in
	for {
		stalled := c.link.cut.Load()
		now := time.Now()
		h.mu.Lock()
		if h.err != nil {
			err := h.err
			h.mu.Unlock()
			return 0, err
		}
		if !h.deadline.IsZero() && !now.Before(h.deadline) {
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		stalled = stalled || h.severed
		if n := h.take(b, now, stalled); n > 0 || len(b) == 0 {
			h.mu.Unlock()
			return n, nil
		}
		if h.fin && len(h.queue) == 0 && !stalled {
			h.mu.Unlock()
			return 0, io.EOF
		}
		until := h.deadline
		if len(h.queue) > 0 && !stalled && (until.IsZero() || h.queue[0].due.Before(until)) {
			until = h.queue[0].due
		}
		h.mu.Unlock()

		if until.IsZero() {
			<-h.wake
			continue
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-h.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take moves what is due into b; h.mu is held.
func (h *half) take(b []byte, now time.Time, stalled bool) int {
	n := 0
	for !stalled && n < len(b) && len(h.queue) > 0 && !h.queue[0].due.After(now) {
		head := &h.queue[0]
		k := copy(b[n:], head.data)
		n += k
		if head.data = head.data[k:]; len(head.data) == 0 {
			h.queue[0] = segment{}
			if h.queue = h.queue[1:]; len(h.queue) == 0 {
				h.queue = nil
			}
		}
	}
	return n
}

// Write puts b on the wire.
func (c *conn) Write(b []byte) (int, error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, h.err
	}
	if h.fin {
		return 0, net.ErrClosed
	}
	if h.severed || len(b) == 0 {
		return len(b), nil
	}
	h.queue = append(h.queue, segment{append([]byte(nil), b...), time.Now().Add(c.net.cfg.Latency)})
	h.nudge()
	return len(b), nil
}

// Close ends the wire here at once, and over there after what was written.
func (c *conn) Close() error {
	c.in.fail(net.ErrClosed)
	c.out.mu.Lock()
	c.out.fin = true
	c.out.mu.Unlock()
	c.out.nudge()
	c.net.forget(c)
	return nil
}

// fail ends the wire at both ends.
func (c *conn) fail(err error) {
	c.in.fail(err)
	c.out.fail(err)
	c.net.forget(c)
	c.net.forget(c.peer)
}

// sever silences the wire for good without telling anybody.
func (c *conn) sever() {
	for _, h := range []*half{c.in, c.out} {
		h.mu.Lock()
		h.severed = true
		h.mu.Unlock()
	}
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	c.in.deadline = t
	c.in.mu.Unlock()
	c.in.nudge()
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) LocalAddr() net.Addr           { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr          { return net.TCPAddrFromAddrPort(c.remote) }
func (c *conn) LocalMultiaddr() ma.Multiaddr  { return multiaddr(c.local) }
func (c *conn) RemoteMultiaddr() ma.Multiaddr { return multiaddr(c.remote) }

func multiaddr(ap netip.AddrPort) ma.Multiaddr {
	a, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(ap))
	if err != nil {
		panic("memnet: an address without a multiaddr: " + err.Error())
	}
	return a
}
