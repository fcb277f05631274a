package host

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	// openTimeout bounds Open where the caller sets no deadline: a dial, a hole
	// punch through a relay, and the choice of the protocol.
	openTimeout = 10 * time.Second
	// maxOpen is how many streams of one protocol Open keeps open to one peer,
	// who allows 8. The rest is slack: a peer frees its end of a stream a little
	// later than we do.
	maxOpen = 6
)

// A Stream is one conversation with a peer.
type Stream interface {
	io.Reader
	io.Writer
	// Close ends the conversation after what was written. CloseWrite ends only
	// our side, Reset drops everything.
	Close() error
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	// ReserveMemory asks for n bytes under the limits of peer and protocol, before
	// a body of that size is read. Call release when they are free again; the end
	// of the stream frees them too.
	ReserveMemory(n int) (release func(), err error)
}

// standing marks contexts of conversations that last.
type standing struct{}

// Standing marks a context for conversations that last, such as watching a
// drop: they do not count among those that Open waits for.
func Standing(ctx context.Context) context.Context { return context.WithValue(ctx, standing{}, true) }

// Open begins a conversation. It dials unless connected; simultaneous calls for
// one peer share the dial. While several streams of the protocol are open to
// the peer it waits for one of them to end. The deadline of ctx bounds only the
// opening.
func (h *Host) Open(ctx context.Context, p peer.ID, proto string) (Stream, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	free := func() {}
	if ctx.Value(standing{}) == nil {
		var err error
		if free, err = h.slots.take(ctx, p, proto); err != nil {
			return nil, fmt.Errorf("open %s: too many streams to the peer: %w", proto, err)
		}
	}
	s, err := h.NewStream(ctx, p, protocol.ID(proto))
	if err != nil {
		free()
		return nil, fmt.Errorf("open %s: %w", proto, err)
	}
	return &stream{Stream: s, free: free}, nil
}

// Handle answers conversations of a protocol. The context of serve ends when
// the host is closed, and so does the stream; Close waits for serve to return.
// What serve leaves open is reset.
func (h *Host) Handle(proto string, serve func(ctx context.Context, s Stream, remote peer.ID)) {
	h.SetStreamHandler(protocol.ID(proto), func(s network.Stream) {
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			s.Reset()
			return
		}
		h.handlers.Add(1)
		h.mu.Unlock()
		defer h.handlers.Done()
		in := &stream{Stream: s, free: func() {}}
		defer in.end()
		serve(h.ctx, in, s.Conn().RemotePeer())
	})
}

// stream adapts a libp2p stream.
type stream struct {
	network.Stream
	free func() // gives the slot back
	mu   sync.Mutex
	done bool
}

func (s *stream) finished() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return false
	}
	s.done = true
	s.free()
	return true
}

func (s *stream) Close() error {
	s.finished()
	return s.Stream.Close()
}

func (s *stream) Reset() error {
	s.finished()
	return s.Stream.Reset()
}

// end resets the stream unless it was ended properly.
func (s *stream) end() {
	if s.finished() {
		s.Stream.Reset()
	}
}

func (s *stream) ReserveMemory(n int) (release func(), err error) {
	scope := s.Scope()
	if err := scope.ReserveMemory(n, network.ReservationPriorityAlways); err != nil {
		return nil, fmt.Errorf("reserve %d bytes: %w", n, err)
	}
	var once sync.Once
	return func() { once.Do(func() { scope.ReleaseMemory(n) }) }, nil
}

// slots counts the streams that Open has opened.
type slots struct {
	mu   sync.Mutex
	used map[slotKey]chan struct{}
}

type slotKey struct {
	peer  peer.ID
	proto string
}

func newSlots() *slots { return &slots{used: make(map[slotKey]chan struct{})} }

// take waits for a slot.
func (s *slots) take(ctx context.Context, p peer.ID, proto string) (free func(), err error) {
	key := slotKey{p, proto}
	s.mu.Lock()
	c := s.used[key]
	if c == nil {
		c = make(chan struct{}, maxOpen)
		s.used[key] = c
	}
	s.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { s.put(key, c) }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slots) put(key slotKey, c chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-c
	if len(c) == 0 && s.used[key] == c {
		delete(s.used, key)
	}
}
