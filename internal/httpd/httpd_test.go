package httpd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// run serves h, and returns where, a way to end it, and what Run returned.
func run(t *testing.T, patience time.Duration, h http.HandlerFunc) (url string, end context.CancelFunc, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listener: l, MaxConns: 4, Patience: patience, HTTP: &http.Server{Handler: h}})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return "http://" + l.Addr().String(), cancel, done
}

// A request under way is answered after the end has come, if it does not take
// too long; one that does is cut off, and Run waits for its handler.
func TestEnd(t *testing.T) {
	for name, c := range map[string]struct {
		patience time.Duration
		answered bool
	}{"patient": {time.Minute, true}, "not": {time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			asked, ending := make(chan struct{}), make(chan struct{})
			left := false
			url, end, ended := run(t, c.patience, func(w http.ResponseWriter, r *http.Request) {
				close(asked)
				<-ending
				if !c.answered {
					<-r.Context().Done()
				}
				io.WriteString(w, "done")
				left = true
			})
			answer := make(chan error, 1)
			go func() {
				resp, err := http.Get(url)
				if err == nil {
					var b []byte
					if b, err = io.ReadAll(resp.Body); string(b) != "done" {
						err = errors.Join(err, errors.New("it got "+string(b)))
					}
					resp.Body.Close()
				}
				answer <- err
			}()
			<-asked
			end()
			close(ending)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if !left {
				t.Error("a handler runs on")
			}
			if err := <-answer; (err == nil) != c.answered {
				t.Errorf("the request: %v", err)
			}
		})
	}
}

func TestClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listener: l, MaxConns: 1, HTTP: &http.Server{}})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Run(t.Context()); err != nil {
		t.Errorf("run after close: %v", err)
	}
}

// A listener that fails is told of.
func TestListenerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := New(Config{Listener: l, MaxConns: 1, HTTP: &http.Server{}}).Run(t.Context()); err == nil {
		t.Error("nobody was told")
	}
}
