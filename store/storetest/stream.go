package storetest

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// window is how many bytes a stream takes before its reader reads.
const window = 256 << 10

// ErrReset answers reads and writes of a stream that was reset.
var ErrReset = errors.New("stream reset")

// Stream is one end of a stream. It implements store.Stream.
type Stream struct {
	node  *Node
	other *Stream
	in    *queue // what the other end wrote
	limit deadline
}

// Pipe makes a stream between nobody, for tests that have no network.
func Pipe() (a, b *Stream) { return newPair(&Node{}, &Node{}) }

func newPair(a, b *Node) (*Stream, *Stream) {
	x, y := &Stream{node: a, in: newQueue()}, &Stream{node: b, in: newQueue()}
	x.other, y.other = y, x
	x.limit.gone, y.limit.gone = make(chan struct{}), make(chan struct{})
	return x, y
}

// Read reads what the other end wrote.
func (s *Stream) Read(b []byte) (int, error) { return s.in.read(b, s.limit.wait) }

// Write waits while the other end has a window of unread bytes.
func (s *Stream) Write(b []byte) (int, error) { return s.other.in.write(b, s.limit.wait) }

// CloseWrite lets the other end read to the end.
func (s *Stream) CloseWrite() error {
	s.other.in.end(io.EOF)
	return nil
}

// Close ends both directions: the other end reads what was written, and writes to nobody.
func (s *Stream) Close() error {
	s.other.in.end(io.EOF)
	s.in.refuse(io.ErrClosedPipe)
	s.limit.set(time.Time{})
	return nil
}

// Reset breaks both directions at once.
func (s *Stream) Reset() error {
	s.reset()
	return nil
}

func (s *Stream) reset() {
	s.in.refuse(ErrReset)
	s.other.in.refuse(ErrReset)
	s.limit.set(time.Time{})
	s.other.limit.set(time.Time{})
}

// SetDeadline bounds reads and writes, also those under way.
func (s *Stream) SetDeadline(t time.Time) error {
	s.limit.set(t)
	return nil
}

// ReserveMemory counts against the node.
func (s *Stream) ReserveMemory(n int) (func(), error) { return s.node.reserve(n) }

// queue is one direction of a stream.
type queue struct {
	mu      sync.Mutex
	buf     []byte
	ended   error // after buf
	broken  error // at once
	changed chan struct{}
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

// change wakes whoever waits. It is called with the lock held.
func (q *queue) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended == nil {
		q.ended = err
		q.change()
	}
}

func (q *queue) refuse(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken == nil {
		q.broken = err
		q.change()
	}
}

func (q *queue) read(b []byte, limit func() <-chan struct{}) (int, error) {
	for {
		gone := limit()
		q.mu.Lock()
		changed := q.changed
		switch {
		case closed(gone):
			q.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case q.broken != nil:
			defer q.mu.Unlock()
			return 0, q.broken
		case len(q.buf) > 0 || len(b) == 0:
			defer q.mu.Unlock()
			n := copy(b, q.buf)
			if q.buf = q.buf[n:]; len(q.buf) == 0 {
				q.buf = nil
			}
			q.change()
			return n, nil
		case q.ended != nil:
			defer q.mu.Unlock()
			return 0, q.ended
		}
		q.mu.Unlock()
		select {
		case <-changed:
		case <-gone:
		}
	}
}

func (q *queue) write(b []byte, limit func() <-chan struct{}) (n int, err error) {
	for {
		gone := limit()
		q.mu.Lock()
		changed := q.changed
		switch {
		case closed(gone):
			q.mu.Unlock()
			return n, os.ErrDeadlineExceeded
		case q.broken != nil:
			defer q.mu.Unlock()
			return n, q.broken
		case q.ended != nil:
			q.mu.Unlock()
			return n, io.ErrClosedPipe
		}
		if m := min(len(b), window-len(q.buf)); m > 0 {
			q.buf = append(q.buf, b[:m]...)
			b, n = b[m:], n+m
			q.change()
			changed = q.changed
		}
		q.mu.Unlock()
		if len(b) == 0 {
			return n, nil
		}
		select {
		case <-changed:
		case <-gone:
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// deadline is a channel that is closed when the time has come.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	at    time.Time
	gone  chan struct{}
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

// set moves the deadline. Calls under way see the new one: the channel stays the same until it was closed.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	if closed(d.gone) {
		d.gone = make(chan struct{})
	}
	if t.IsZero() {
		if d.timer != nil {
			d.timer.Stop()
		}
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.gone)
		return
	}
	if d.timer == nil {
		d.timer = time.AfterFunc(left, d.expire)
		return
	}
	d.timer.Reset(left)
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && !time.Now().Before(d.at) && !closed(d.gone) {
		close(d.gone)
	}
}
