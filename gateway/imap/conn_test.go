package imap

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wire is the network below a conn. It remembers each write by itself.
type wire struct {
	net.Conn
	mu     sync.Mutex
	writes []string
	fail   error
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return 0, w.fail
	}
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.writes
	w.writes = nil
	return l
}

// pipe returns a conn above a wire, and the client's end.
func pipe(t *testing.T) (*conn, *wire, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	w := &wire{Conn: ours}
	ended := 0
	c := newConn(w, func() { ended++ })
	t.Cleanup(func() {
		c.Close()
		c.Close()
		theirs.Close()
		if ended != 1 {
			t.Errorf("end was told %d times", ended)
		}
	})
	return c, w, theirs
}

func put(t *testing.T, c *conn, s string) {
	t.Helper()
	if n, err := io.WriteString(c, s); err != nil || n != len(s) {
		t.Fatalf("wrote %d of %d: %v", n, len(s), err)
	}
}

func TestLinesAreGatheredUntilTheNextRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, client := pipe(t)
		put(t, c, "one\r\n")
		put(t, c, "two\r\n")
		if got := w.take(); got != nil {
			t.Errorf("sent too early: %q", got)
		}
		go client.Write([]byte("a1 NOOP\r\n"))
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != "a1 NOOP\r\n" {
			t.Fatalf("%q, %v", b[:n], err)
		}
		if got := w.take(); len(got) != 1 || got[0] != "one\r\ntwo\r\n" {
			t.Errorf("sent %q", got)
		}
		put(t, c, "three\r\n")
		c.Flush()
		if got := w.take(); len(got) != 1 || got[0] != "three\r\n" {
			t.Errorf("flushed %q", got)
		}
	})
}

func TestLinesAreSentAtOnceWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, client := pipe(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Read(make([]byte, 10))
		}()
		synctest.Wait()
		put(t, c, "one\r\n")
		if got := w.take(); len(got) != 1 || got[0] != "one\r\n" {
			t.Errorf("sent %q", got)
		}
		c.Cork()
		put(t, c, "two\r\n")
		put(t, c, "three\r\n")
		if got := w.take(); got != nil {
			t.Errorf("corked, and sent %q", got)
		}
		c.Uncork()
		if got := w.take(); len(got) != 1 || got[0] != "two\r\nthree\r\n" {
			t.Errorf("uncorked, and sent %q", got)
		}
		client.Write([]byte("a1 NOOP\r\n"))
		<-done
	})
}

func TestMuchIsSentInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := pipe(t)
		var want strings.Builder
		for range 10_000 {
			put(t, c, "* 12345 FETCH (FLAGS (\\Seen))\r\n")
			want.WriteString("* 12345 FETCH (FLAGS (\\Seen))\r\n")
		}
		big := strings.Repeat("b", 3*gather+5)
		put(t, c, big)
		want.WriteString(big)
		c.Flush()
		put(t, c, big)
		want.WriteString(big)
		c.Flush()
		got := w.take()
		for _, p := range got {
			if len(p) > gather {
				t.Errorf("a write of %d bytes", len(p))
			}
		}
		if max := want.Len()/gather + 6; len(got) > max {
			t.Errorf("%d writes, want at most %d", len(got), max)
		}
		if strings.Join(got, "") != want.String() {
			t.Error("what was sent is not what was written")
		}
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := pipe(t)
		put(t, c, "* BYE\r\n")
		c.Close()
		if got := w.take(); len(got) != 1 || got[0] != "* BYE\r\n" {
			t.Errorf("sent %q", got)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("wrote to a closed connection")
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read from a closed connection")
		}
	})
}

func TestCloseDoesNotWaitForAStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, func() {})
		defer theirs.Close()
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 2*gather))
			wrote <- err
		}()
		synctest.Wait() // nobody reads
		began := time.Now()
		c.Close()
		if err := <-wrote; err == nil {
			t.Error("write succeeded")
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("closing took %v", d)
		}
	})
}

func TestAClientThatDoesNotReadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, func() {})
		defer theirs.Close()
		defer c.Close()
		// The reader is woken up although its own deadline is far away.
		c.LoggedIn()
		c.SetReadDeadline(time.Now().Add(35 * time.Minute))
		read := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		began := time.Now()
		if _, err := c.Write(make([]byte, 10)); err == nil {
			t.Error("write succeeded")
		}
		if d := time.Since(began); d != writeTimeout {
			t.Errorf("gave up after %v", d)
		}
		if err := <-read; err == nil {
			t.Error("read succeeded")
		}
		if d := time.Since(began); d != writeTimeout {
			t.Errorf("read ended after %v", d)
		}
	})
}

func TestASlowClientGetsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, func() {})
		defer theirs.Close()
		defer c.Close()
		const size = 4 * gather
		got := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, gather)
			for got < size {
				time.Sleep(writeTimeout - time.Second)
				n, err := io.ReadFull(theirs, b)
				got += n
				if err != nil {
					return
				}
			}
		}()
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Error(err)
		}
		<-done
		if got != size {
			t.Errorf("got %d bytes", got)
		}
	})
}

func TestIdleForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := pipe(t)
		c.LoggedIn()
		c.SetReadDeadline(time.Now().Add(35 * time.Minute))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("read something")
		}
		if got := w.take(); len(got) != 1 || got[0] != "* BYE Idle for too long\r\n" {
			t.Errorf("sent %q", got)
		}
	})
}

func TestTimeToLogIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, client := pipe(t)
		began := time.Now()
		silent := make(chan struct{})
		go func() {
			defer close(silent)
			for {
				time.Sleep(20 * time.Second)
				if _, err := client.Write([]byte("a NOOP\r\n")); err != nil {
					return
				}
			}
		}()
		var err error
		for err == nil {
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err = c.Read(make([]byte, 100))
			put2(c, "a OK\r\n")
		}
		if d := time.Since(began); d != loginTime {
			t.Errorf("connection lasted %v without login", d)
		}
		client.Close()
		<-silent
	})
}

func TestHangup(t *testing.T) {
	t.Run("while reading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, w, _ := pipe(t)
			read := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				read <- err
			}()
			synctest.Wait()
			c.Hangup("enough\r\nof this")
			c.Hangup("twice")
			if err := <-read; !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: %v", err)
			}
			if got := w.take(); len(got) != 1 || got[0] != "* BYE enough??of this\r\n" {
				t.Errorf("sent %q", got)
			}
		})
	})
	t.Run("between", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, w, _ := pipe(t)
			c.Hangup("enough")
			put(t, c, "a1 OK done\r\n")
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v", err)
			}
			if got := strings.Join(w.take(), ""); got != "a1 OK done\r\n* BYE enough\r\n" {
				t.Errorf("sent %q", got)
			}
		})
	})
}

func TestForeignProtocols(t *testing.T) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", "POST /x", "HEAD / ", "OPTIONS * HTTP/1.1", "PUT /a", "DELETE /a", "CONNECT a:1", "TRACE / ", "PATCH /", "PRI * HTTP/2.0", "\x16\x03\x01\x02"} {
		for _, step := range []int{1, len(s)} {
			synctest.Test(t, func(t *testing.T) {
				c, w, client := pipe(t)
				go func() {
					for i := 0; i < len(s); i += step {
						if _, err := client.Write([]byte(s[i:min(len(s), i+step)])); err != nil {
							return
						}
					}
				}()
				put(t, c, "* OK hello\r\n")
				var err error
				n := 0
				for err == nil && n < 100 {
					_, err = c.Read(make([]byte, 100))
					put2(c, "a BAD what\r\n")
					n++
				}
				if !errors.Is(err, errForeign) {
					t.Errorf("%q in steps of %d: %v", s, step, err)
				}
				client.Close()
				if got := w.take(); step > 1 && len(got) != 1 {
					t.Errorf("%q: answered %q", s, got)
				}
			})
		}
	}
}

func put2(c *conn, s string) { io.WriteString(c, s) }

func TestWriteErrorsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := pipe(t)
		w.fail = errors.New("broken")
		put(t, c, "one\r\n") // gathered
		if _, err := c.Read(make([]byte, 1)); err == nil || err.Error() != "broken" {
			t.Errorf("read: %v", err)
		}
		if _, err := c.Write([]byte("two\r\n")); err == nil {
			t.Error("write succeeded")
		}
	})
}

func TestAmend(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"capability", "* CAPABILITY IMAP4rev1 IDLE UTF8=ACCEPT MOVE\r\n", "* CAPABILITY IMAP4rev1 IDLE MOVE\r\n"},
		{"login", "a1 OK [CAPABILITY IMAP4rev1 UTF8=ACCEPT] Logged in\r\n", "a1 OK [CAPABILITY IMAP4rev1] Logged in\r\n"},
		{"other", "a1 OK done with UTF8=ACCEPT\r\n", "a1 OK done with UTF8=ACCEPT\r\n"},
		{"two lines", "* CAPABILITY UTF8=ACCEPT\r\nx\r\n", "* CAPABILITY UTF8=ACCEPT\r\nx\r\n"},
		{"half a line", "* CAPABILITY UTF8=ACCEPT", "* CAPABILITY UTF8=ACCEPT"},
		{"no tag", "\r\n", "\r\n"},
		{"syntax", "a1 NO [SERVERBUG] Internal server error\r\n", "a1 BAD [CLIENTBUG] Syntax error\r\n"},
	} {
		if got := new(conn).amend([]byte(c.line)); string(got) != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestLinesOfASessionAreNotAmended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := pipe(t)
		const line = "* CAPABILITY IMAP4rev1 UTF8=ACCEPT\r\n"
		c.Amend(false)
		put(t, c, line)
		c.Amend(true)
		put(t, c, line)
		c.Flush()
		if got := strings.Join(w.take(), ""); got != line+"* CAPABILITY IMAP4rev1\r\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestTimeForACommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, client := pipe(t)
		c.LoggedIn()
		c.SetReadDeadline(time.Now().Add(35 * time.Minute))
		began := time.Now()
		go func() {
			for _, s := range []string{"a", " LOGIN {3}\r\n", "x"} {
				time.Sleep(commandTime / 3)
				client.Write([]byte(s))
			}
		}()
		if _, err := c.Read(make([]byte, 100)); err == nil {
			t.Fatal("read something")
		}
		// It begins with the first byte, and anew with the leave to send a literal.
		if d := time.Since(began); d != commandTime/3+commandTime/3+commandTime {
			t.Errorf("gave up after %v", d)
		}
		if got := strings.Join(w.take(), ""); got != "+ Ready for literal data\r\n* BYE Idle for too long\r\n" {
			t.Errorf("sent %q", got)
		}
	})
}

// halfWire can be closed for writing.
type halfWire struct{ *wire }

func (halfWire) CloseWrite() error { return nil }

// Who is still talking when the connection ends is listened to for a while:
// otherwise the network takes back what was sent.
func TestParting(t *testing.T) {
	for _, pause := range []time.Duration{0, partTime / 10} {
		synctest.Test(t, func(t *testing.T) {
			c, w, client := pipe(t)
			c.Conn = halfWire{w}
			said := 0
			silent := make(chan struct{})
			go func() {
				defer close(silent)
				client.Write([]byte("\x00\n"))
				for p := make([]byte, 1<<10); ; said += len(p) {
					time.Sleep(pause)
					if _, err := client.Write(p); err != nil {
						return
					}
				}
			}()
			began := time.Now()
			if _, err := c.Read(make([]byte, 100)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: %v", err)
			}
			synctest.Wait()
			switch d := time.Since(began); {
			case pause > 0 && d != partTime, pause == 0 && d > 0:
				t.Errorf("listened for %v", d)
			case pause == 0 && said != maxParting:
				t.Errorf("listened to %d bytes", said)
			}
			if got := strings.Join(w.take(), ""); !strings.HasSuffix(got, "* BYE Commands cannot be told apart any more\r\n") {
				t.Errorf("sent %q", got)
			}
			client.Close()
			<-silent
		})
	}
}
