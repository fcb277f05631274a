package submission

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// given is a connection that reads what it was given.
type given struct {
	net.Conn
	r io.Reader
}

func (g given) Read(p []byte) (int, error)      { return g.r.Read(p) }
func (g given) SetReadDeadline(time.Time) error { return nil }
func (g given) Close() error                    { return nil }

// readDirect reads a body in pieces of a size from a stream, and says what is left.
func readDirect(stream io.Reader, piece int) (body, left []byte, err error) {
	s := &Server{windows: sync.Pool{New: func() any { return new([directBuffer]byte) }}}
	s.cfg.MaxMessage = 1 << 20
	c := newConn(s, given{r: stream}, nil)
	c.known, c.judged, c.last = true, true, '\n'
	d, ok := c.direct()
	if !ok {
		return nil, nil, errors.New("not direct")
	}
	p := make([]byte, piece)
	for err == nil {
		var n int
		n, err = d.Read(p)
		body = append(body, p[:n]...)
	}
	if err != io.EOF {
		return body, nil, err
	}
	left, _ = io.ReadAll(struct{ io.Reader }{c})
	return body, left, nil
}

// plainDots is the same in the plainest way.
func plainDots(in []byte) (body, left []byte, ok bool) {
	for {
		i := bytes.Index(in, []byte("\r\n"))
		if i < 0 {
			return body, nil, false
		}
		line := in[:i+2]
		in = in[i+2:]
		if string(line) == ".\r\n" {
			return body, in, true
		}
		line = bytes.TrimPrefix(line, []byte("."))
		body = append(body, bytes.ReplaceAll(line, []byte("\n.."), []byte("\n."))...)
	}
}

func checkDirect(t *testing.T, in []byte) {
	t.Helper()
	want, wantLeft, ok := plainDots(in)
	for _, piece := range []int{1, 2, 3, 7, 4096} {
		for name, r := range map[string]io.Reader{"": bytes.NewReader(in), "bytes": iotest.OneByteReader(bytes.NewReader(in)), "halves": iotest.HalfReader(bytes.NewReader(in))} {
			body, left, err := readDirect(r, piece)
			if !ok {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%q (%s, %d): error %v, want the end of the connection", in, name, piece, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(body, want) {
				t.Errorf("%q (%s, %d): %q, %v; want %q", in, name, piece, body, err, want)
			}
			if left = bytes.TrimPrefix(left, []byte(".\r\n")); !bytes.Equal(left, wantLeft) {
				t.Errorf("%q (%s, %d): left %q, want %q", in, name, piece, left, wantLeft)
			}
		}
	}
}

var directSeeds = []string{
	".\r\n", "\r\n.\r\n", "a\r\n.\r\nNOOP\r\n", "..\r\n...\r\n.a\r\n.\r\n.\r\n",
	"a\r\r\n.\r\nb\r\n.\r\n", "a\n.\nb\r.\rc\r\n.\rd\r\n.\r\n", ".\r.\r\n.\r\n", "a\r\n.", "a\r\n.\r", "a\r\n\r", "\n.\r\n\r\n.\r\n", "..", "",
	"a\n..\n...\n..b\n.c\r\n.\n..\r\n.\r\n", "\n.", "\n..\r\n.\r\n",
}

func TestDirect(t *testing.T) {
	for _, in := range directSeeds {
		checkDirect(t, []byte(in))
	}
	line := []byte("0123456789abcdef\r\n.0123456789abcdef\r\n")
	checkDirect(t, append(bytes.Repeat(line, 2*directBuffer/len(line)), "\r\n.\r\nrest"...))
}

func FuzzDirect(f *testing.F) {
	for _, in := range directSeeds {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) { checkDirect(t, in) })
}
