package submission

import (
	"bytes"
	"io"
)

// directBuffer is how much of a body is read at a time, in bytes.
const directBuffer = 64 << 10

// direct reads the body of DATA straight from the connection. The library reads
// it byte by byte through small buffers, which takes ten times as long as all
// the rest. When the end has come, the library gets to see an empty body.
type direct struct {
	c    *conn
	tail tail
	end  bool
}

// tail is what the last bytes of a body were.
type tail int

const (
	tailLine tail = iota // CRLF, or nothing yet
	tailLF               // without a CR
	tailCR
	tailText
)

// direct returns the reader of a body; false when the library has read some of
// it already, since the client did not wait for its turn.
//
// Every line that the library was given and has not yet taken ends in an LF. So
// when all LFs are accounted for, and one of them was the last byte, it has
// nothing left.
func (c *conn) direct() (io.Reader, bool) {
	if c.ahead != 0 || c.last != '\n' {
		return nil, false
	}
	return &direct{c: c}, true
}

// Read gives the body without the dots of its transport (RFC 5321, 4.5.2). Only
// CR LF . CR LF ends it. Clients that leave bare LFs as they are may double the
// dots after them (Python's smtplib does) or not, so one of two is taken away
// there, and a single one stays.
func (d *direct) Read(p []byte) (n int, err error) {
	for n == 0 && !d.end {
		w := d.c.unread
		switch {
		case len(w) == 0:
			err = d.c.fill()
		case d.tail == tailCR && w[0] == '\n':
			n = d.give(p, w[:1])
		case d.tail == tailLine && w[0] == '.':
			switch {
			case bytes.HasPrefix(w, []byte(".\r\n")):
				d.c.unread = w[3:]
				d.c.due = ".\r\n"
				d.end = true
			case len(w) < 3 && bytes.HasPrefix([]byte(".\r\n"), w):
				err = d.c.fill()
			default:
				d.c.unread = w[1:]
				d.tail = tailText
			}
		case d.tail == tailLF && len(w) == 1 && w[0] == '.':
			err = d.c.fill()
		case d.tail == tailLF && bytes.HasPrefix(w, []byte("..")):
			d.c.unread = w[1:]
			d.tail = tailText
		default:
			if i := bytes.Index(w, []byte("\n.")); i >= 0 {
				w = w[:i+1]
			}
			n = d.give(p, w)
		}
		if err != nil {
			return 0, err
		}
	}
	if d.end {
		err = io.EOF
	}
	return n, err
}

// give copies what fits and remembers how it ends.
func (d *direct) give(p, w []byte) int {
	n := copy(p, w)
	if n == 0 {
		return 0
	}
	d.c.unread = d.c.unread[n:]
	switch last := p[n-1]; {
	case last == '\r':
		d.tail = tailCR
	case last == '\n' && (n > 1 && p[n-2] == '\r' || n == 1 && d.tail == tailCR):
		d.tail = tailLine
	case last == '\n':
		d.tail = tailLF
	default:
		d.tail = tailText
	}
	return n
}

// fill reads more behind what is unread.
func (c *conn) fill() error {
	if c.window == nil {
		c.window = c.srv.windows.Get().(*[directBuffer]byte)
	}
	n := copy(c.window[:], c.unread)
	m, err := c.fetch(c.window[n:])
	c.unread = c.window[:n+m]
	return err
}

// leftover gives the library what came after a body.
func (c *conn) leftover(p []byte) int {
	n := copy(p, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.dropWindow()
	}
	return n
}

func (c *conn) dropWindow() {
	if c.window != nil {
		c.srv.windows.Put(c.window)
	}
	c.window, c.unread = nil, nil
}
