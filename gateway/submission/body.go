package submission

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/peerpost/peerpost/internal/mail/mime"
)

// Sizes of the memory in which a message is gathered, in bytes.
const (
	firstBuffer = 8 << 10
	// firstDeclared is the most that is reserved on the word of a client (SIZE)
	// before it has sent anything.
	firstDeclared = 1 << 20
)

var (
	errTooLarge  = errors.New("message is too large")
	errNoMemory  = errors.New("no memory for the message at the moment")
	errNUL       = errors.New("message contains a NUL")
	errAmbiguous = errors.New("the end of the message is not clear")
)

// budget is the memory that the messages of all sessions share.
type budget struct {
	mu   sync.Mutex
	free int64 // bytes
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.free {
		return false
	}
	b.free -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
}

// body is a message in memory. All of its memory is on loan from the budget
// until release.
type body struct {
	budget *budget
	buf    []byte
	loan   int64
}

// grow gives the buffer a new capacity.
func (b *body) grow(n int64) bool {
	if !b.budget.take(n) {
		return false
	}
	old := int64(cap(b.buf))
	buf := make([]byte, len(b.buf), n)
	copy(buf, b.buf)
	b.buf = buf
	b.budget.give(old)
	b.loan += n - old
	return true
}

func (b *body) release() {
	b.buf = nil
	b.budget.give(b.loan)
	b.loan = 0
}

// bodyParams says what is known of a message before it is read.
type bodyParams struct {
	declared int64 // SIZE, 0 when not declared
	max      int64 // bytes, with CRLF line ends
	stuffed  bool  // by DATA, where the library has taken away the dots
}

// read gathers a message. Its errors are those above and those of r.
func (b *body) read(r io.Reader, p bodyParams) error {
	// One byte more than may come shows that too much came.
	first := min(max(p.declared+1, firstBuffer), firstDeclared, p.max+1)
	if !b.grow(first) {
		return errNoMemory
	}
	for {
		if len(b.buf) == cap(b.buf) {
			// The second step is to what was declared, the others double.
			next := 2 * int64(cap(b.buf))
			if p.declared >= int64(cap(b.buf)) {
				next = p.declared + 1
			}
			if !b.grow(min(next, p.max+1)) {
				return errNoMemory
			}
		}
		had := len(b.buf)
		n, err := r.Read(b.buf[had:cap(b.buf)])
		b.buf = b.buf[:had+n]
		if int64(len(b.buf)) > p.max {
			return errTooLarge
		}
		if bytes.IndexByte(b.buf[had:], 0) >= 0 {
			return errNUL
		}
		// Some programs see a line end in CR CR LF, others do not: whether a dot after
		// it is the end of the message is then a matter of taste.
		if p.stuffed && (bytes.Contains(b.buf[max(0, had-3):], []byte("\r\r\n.")) || err == io.EOF && bytes.HasSuffix(b.buf, []byte("\r\r\n"))) {
			return errAmbiguous
		}
		if err == io.EOF {
			return b.normalise(p.max)
		}
		if err != nil {
			return err
		}
	}
}

// normalise makes every line end CRLF, the last one too.
func (b *body) normalise(max int64) error {
	if last := len(b.buf) - 1; last >= 0 && b.buf[last] != '\r' && b.buf[last] != '\n' {
		if cap(b.buf)-len(b.buf) < 2 && !b.grow(int64(len(b.buf)+2)) {
			return errNoMemory
		}
		b.buf = append(b.buf, "\r\n"...)
	}
	size := int64(len(b.buf)) + bareEnds(b.buf)
	if size > max {
		return errTooLarge
	}
	if size == int64(len(b.buf)) {
		return nil
	}
	if !b.budget.take(size) {
		return errNoMemory
	}
	b.loan += size
	clean, err := mime.Normalise(b.buf)
	if err != nil {
		return errNUL
	}
	b.buf = clean
	return nil
}

// bareEnds counts the CRs and LFs that are not part of a CRLF.
func bareEnds(b []byte) int64 {
	return int64(bytes.Count(b, []byte("\r")) + bytes.Count(b, []byte("\n")) - 2*bytes.Count(b, []byte("\r\n")))
}
