// Package httpd runs an HTTP server on one listener for as long as a context
// lives, and ends it so that nothing of it is left.
package httpd

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Config says what a Server is made of.
type Config struct {
	Listener net.Listener
	MaxConns int           // connections at once
	Patience time.Duration // for requests under way at the end
	HTTP     *http.Server  // handler and limits; ConnState and BaseContext are set here
}

// Server answers on its listener.
type Server struct {
	cfg   Config
	conns sync.WaitGroup // connections whose goroutine has not ended
}

// New makes a server. Nothing is answered before Run.
func New(c Config) *Server {
	s := &Server{cfg: c}
	c.HTTP.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew: // told before the goroutine starts
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Done()
		}
	}
	return s
}

// Run answers until ctx ends, gives the requests under way a moment, and
// returns when all of them have ended: nil, unless the listener failed.
func (s *Server) Run(ctx context.Context) error {
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	s.cfg.HTTP.BaseContext = func(net.Listener) context.Context { return requests }

	served := make(chan error, 1)
	go func() { served <- s.cfg.HTTP.Serve(netutil.LimitListener(s.cfg.Listener, s.cfg.MaxConns)) }()

	var err error
	select {
	case err = <-served: // the listener failed, or Close
		served = nil
	case <-ctx.Done():
		patience, cancel := context.WithTimeout(requests, s.cfg.Patience)
		s.cfg.HTTP.Shutdown(patience)
		cancel()
	}
	abort()
	s.Close()
	if served != nil {
		err = <-served
	}
	s.conns.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close stops at once. It may be called twice.
func (s *Server) Close() error {
	s.cfg.HTTP.Close()
	if err := s.cfg.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
