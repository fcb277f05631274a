package mime

import (
	"bytes"
	"io"
)

// window is how many bytes of a message are held at a time.
const window = 64 << 10

// lines walks over the lines of a message. Of a line longer than the window it
// gives piece after piece.
type lines struct {
	r    io.ReaderAt // nil when buf holds the whole message
	size int64
	buf  []byte
	pos  int   // of the next byte within buf
	base int64 // offset of buf[0] in the message
	err  error

	whole bool // the last piece ended its line, or there was none yet
}

func linesOf(r io.ReaderAt, size int64) lines {
	return lines{r: r, size: size, buf: make([]byte, 0, min(size, window)), whole: true}
}

// offset is the place of the next piece.
func (l *lines) offset() int64 { return l.base + int64(l.pos) }

// next returns the next line with its end, or a piece of it, and whether the
// piece is at the beginning of a line. The piece lasts until the next call. It is nil at the end
// of the message and when reading failed.
func (l *lines) next() (piece []byte, first bool) {
	first = l.whole
	i := bytes.IndexByte(l.buf[l.pos:], '\n')
	if i < 0 {
		have := len(l.buf) - l.pos
		if l.fill(); l.err != nil {
			return nil, false
		}
		if len(l.buf) == l.pos {
			return nil, false
		}
		i = bytes.IndexByte(l.buf[l.pos+have:], '\n')
		if i >= 0 {
			i += have
		}
	}
	if l.whole = i >= 0; !l.whole {
		i = len(l.buf) - l.pos - 1
	}
	piece = l.buf[l.pos : l.pos+i+1]
	l.pos += i + 1
	return piece, first
}

// fill moves what is unread to the front and reads more behind it.
func (l *lines) fill() {
	end := l.base + int64(len(l.buf))
	if end >= l.size || l.r == nil {
		return
	}
	n := copy(l.buf[:cap(l.buf)], l.buf[l.pos:])
	l.base += int64(l.pos)
	l.pos = 0
	more := int(min(int64(cap(l.buf)-n), l.size-end))
	l.buf = l.buf[:n+more]
	got, err := l.r.ReadAt(l.buf[n:], end)
	if got == more {
		return
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	l.buf = l.buf[:n]
	l.err = err
}

// back gives the last n bytes of the last piece back.
func (l *lines) back(n int) {
	l.pos -= n
	l.whole = false
}

// eol is the length of the line end that closes a line: 2, 1 or 0.
func eol(line []byte) int {
	n := len(line)
	switch {
	case n >= 2 && line[n-1] == '\n' && line[n-2] == '\r':
		return 2
	case n >= 1 && line[n-1] == '\n':
		return 1
	}
	return 0
}
