package mailbox

import (
	"context"
	"errors"
	"sync"

	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// maxReaders is how many connections read the index at once. Each takes up to 3 MB, most of it cached pages.
const maxReaders = 4

// readers is a pool of connections that only read.
type readers struct {
	open  func(context.Context) (*pages.Conn, error)
	slots chan struct{}

	mu     sync.Mutex
	idle   []*pages.Conn
	closed bool
}

func newReaders(open func(context.Context) (*pages.Conn, error)) *readers {
	return &readers{open: open, slots: make(chan struct{}, maxReaders)}
}

// read calls f with a connection. f must not wait for anybody else, nor for the network.
func (m *Mailbox) read(ctx context.Context, f func(*pages.Conn) error) error {
	p := m.readers
	select {
	case p.slots <- struct{}{}:
	default:
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-p.slots }()
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	c.Interrupt(ctx)
	err = m.guard(func() error { return f(c) })
	c.Interrupt(context.Background())
	if c.InTransaction() {
		if rerr := c.Script("ROLLBACK"); err == nil {
			err = rerr
		}
	}
	p.give(c)
	if err != nil && pages.IsInterrupted(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (p *readers) take(ctx context.Context) (*pages.Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return p.open(ctx)
}

func (p *readers) give(c *pages.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
}

// trim closes connections that nobody uses, but for one.
func (p *readers) trim() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for len(p.idle) > 1 {
		n := len(p.idle) - 1
		errs = append(errs, p.idle[n].Close())
		p.idle = p.idle[:n]
	}
	return errors.Join(errs...)
}

// close closes the connections, those in use when they are given back.
func (p *readers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.Close())
	}
	p.idle = nil
	return errors.Join(errs...)
}
