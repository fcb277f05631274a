package submission_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/gateway/listen"
	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/gateway/submission/submissiontest"
)

// pipes is a listener of connections in memory, for virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// timed is a fixture in virtual time. Its clients wait as long as it takes.
type timed struct {
	*fixture
	pipes *pipes
}

func inVirtualTime(t *testing.T, change func(*submission.Config), test func(f timed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		f := prepare(t, p, change)
		f.SetFailureTime(submission.FailureTime)
		f.run()
		test(timed{f, p})
		if f.cancel != nil {
			f.stop()
		}
	})
}

func (f timed) dial() *client { return f.talk(f.pipes.dial()) }

func (f timed) login() *client {
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	c.say(auth, "235 ")
	return c
}

// wait reads an answer that may take any time, and says how long it took.
func (c *client) wait() (answer string, took time.Duration) {
	begin := time.Now()
	c.SetReadDeadline(time.Time{})
	answer, _ = c.r.ReadString('\n')
	return answer, time.Since(begin)
}

// drip sends one byte after the other at a pace, until the server ends it.
func (c *client) drip(pace time.Duration, bytes string) (took time.Duration) {
	begin := time.Now()
	for {
		for i := range len(bytes) {
			c.SetWriteDeadline(time.Time{})
			if _, err := c.Write([]byte{bytes[i]}); err != nil {
				return time.Since(begin)
			}
			time.Sleep(pace)
		}
	}
}

func TestSilence(t *testing.T) {
	t.Run("before login", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.dial()
			c.expect("220 ")
			c.say("EHLO test", "250")
			if got, took := c.wait(); !strings.HasPrefix(got, "421 4.4.2") || took != submission.LoginTime {
				t.Errorf("%q after %v", got, took)
			}
			c.expectEnd()
		})
	})
	t.Run("after login", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.login()
			for range 3 {
				time.Sleep(submission.IdleTime - time.Second)
				c.say("NOOP", "250 ")
			}
			if got, took := c.wait(); !strings.HasPrefix(got, "421 4.4.2") || took != submission.IdleTime {
				t.Errorf("%q after %v", got, took)
			}
			c.expectEnd()
		})
	})
	for _, begin := range []string{"DATA\r\n", "BDAT 1000 LAST\r\n"} {
		t.Run("in "+begin[:4], func(t *testing.T) {
			inVirtualTime(t, nil, func(f timed) {
				c := f.login()
				c.envelope()
				c.send(begin)
				if begin[0] == 'D' {
					c.expect("354 ")
				}
				c.send("A: b\r\n")
				if got, took := c.wait(); !strings.HasPrefix(got, "421 4.4.2") || took != submission.IdleTime {
					t.Errorf("%q after %v", got, took)
				}
				// What comes later is not read, least of all as commands.
				_, err := io.WriteString(c, "\r\n.\r\nMAIL FROM:<"+alice+">\r\n")
				if err == nil {
					t.Error("the connection is still open")
				}
				f.wantBodies()
			})
		})
	}
}

func TestSlowness(t *testing.T) {
	t.Run("before login", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.dial()
			c.expect("220 ")
			go io.Copy(io.Discard, c.r)
			if took := c.drip(10*time.Second, "NOOP\r\n"); took > submission.LoginTime+10*time.Second {
				t.Errorf("lasted %v", took)
			}
		})
	})
	t.Run("in a command", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.login()
			go io.Copy(io.Discard, c.r)
			if took := c.drip(20*time.Second, "NOOP"); took > submission.IdleTime+20*time.Second {
				t.Errorf("lasted %v", took)
			}
		})
	})
	t.Run("in a body", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.login()
			c.envelope()
			c.say("DATA", "354 ")
			go io.Copy(io.Discard, c.r)
			if took := c.drip(time.Second, "A\r\n"); took > submission.IdleTime+5*time.Second {
				t.Errorf("lasted %v", took)
			}
			f.wantBodies()
		})
	})
	t.Run("fast enough", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.login()
			c.envelope()
			c.say("DATA", "354 ")
			piece := body(2 * submission.MinRate)
			begin := time.Now()
			for time.Since(begin) < 3*submission.IdleTime/2 {
				c.send(piece)
				time.Sleep(2 * time.Second)
			}
			c.say(".", "250 ")
			c.envelope()
		})
	})
	t.Run("reading nothing", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			c := f.login()
			begin := time.Now()
			c.SetWriteDeadline(time.Time{})
			_, err := io.WriteString(c, strings.Repeat("NOOP\r\n", 100))
			for err == nil {
				_, err = io.WriteString(c, "NOOP\r\n")
			}
			if took := time.Since(begin); took > 2*time.Minute {
				t.Errorf("lasted %v", took)
			}
		})
	})
}

func TestHandshakeThatNeverComes(t *testing.T) {
	authority, err := listen.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		f := prepare(t, newPipes(), func(c *submission.Config) { c.TLS, c.TLSConfig = p, authority.TLS() }).run()
		c := f.talk(p.dial())
		c.send("\x16\x03\x01")
		if _, took := c.wait(); took != submission.HandshakeTime {
			t.Errorf("lasted %v", took)
		}
		f.stop()
	})
}

func TestWrongPasswordsTakeTime(t *testing.T) {
	inVirtualTime(t, nil, func(f timed) {
		wrong := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00wrong"))
		begin := time.Now()
		for range 4 {
			c := f.dial()
			c.expect("220 ")
			c.say("EHLO test", "250")
			for range 3 {
				c.send(wrong + "\r\n")
				if got, _ := c.reply(); !strings.HasPrefix(got, "535 5.7.8") && !strings.HasPrefix(got, "454 4.7.0") {
					t.Errorf("got %q", got)
				}
			}
			c.expect("421 4.7.0")
			c.expectEnd()
		}
		if took := time.Since(begin); took < 12*submission.FailureTime {
			t.Errorf("12 tries took %v", took)
		}
		if n := f.accounts.Tries(); n >= 12 {
			t.Errorf("%d passwords were tried at that pace", n)
		}
	})
}

func TestGrace(t *testing.T) {
	const grace = 7 * time.Second
	t.Run("body that never ends", func(t *testing.T) {
		inVirtualTime(t, func(c *submission.Config) { c.Grace = grace }, func(f timed) {
			c := f.login()
			c.envelope()
			c.say("DATA", "354 ")
			c.send("A: b\r\n")
			begin := time.Now()
			f.stop()
			if took := time.Since(begin); took != grace {
				t.Errorf("took %v", took)
			}
		})
	})
	t.Run("submission that takes long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPipes()
			f := timed{prepare(t, p, func(c *submission.Config) { c.Grace = grace }), p}
			var cause error
			f.box.OnSubmit = func(ctx context.Context, _ submissiontest.Message) error {
				<-ctx.Done()
				cause = ctx.Err()
				return cause
			}
			f.run()
			c := f.login()
			c.envelope()
			c.say("DATA", "354 ")
			c.send(text + ".\r\n")
			begin := time.Now()
			f.stop()
			if took := time.Since(begin); took != grace || !errors.Is(cause, context.Canceled) {
				t.Errorf("took %v, cause %v", took, cause)
			}
		})
	})
	t.Run("nobody there", func(t *testing.T) {
		inVirtualTime(t, nil, func(f timed) {
			begin := time.Now()
			f.stop()
			if took := time.Since(begin); took != 0 {
				t.Errorf("took %v", took)
			}
		})
	})
}
