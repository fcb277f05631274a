package mime

import (
	"bytes"
	"io"

	"github.com/peerpost/peerpost/internal/mail"
)

// Decode returns the body of a part with its transfer encoding undone; false
// when the encoding is unknown. Faults in the encoding are passed over: the
// reader's only errors are those of r.
func Decode(r io.ReaderAt, p *mail.Part) (io.Reader, bool) {
	body := io.NewSectionReader(r, p.Body, p.End-p.Body)
	if p.IsMultipart() || isMessage(p) {
		return body, true
	}
	switch p.Encoding {
	case "7bit", "8bit", "binary":
		return body, true
	case "base64":
		return &base64Reader{r: body}, true
	case "quoted-printable":
		return &qpReader{in: linesOf(body, body.Size())}, true
	}
	return nil, false
}

// base64Reader decodes base64 and passes over all bytes that are not of its
// alphabet. Padding ends a group, not the text: some senders join several.
type base64Reader struct {
	r    io.Reader
	in   [32 << 10]byte
	out  [24<<10 + 3]byte
	rest []byte // of out
	bits uint32
	n    int // digits in bits, below 4
	err  error
}

func (b *base64Reader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.fill()
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *base64Reader) fill() {
	var n int
	n, b.err = b.r.Read(b.in[:])
	out := b.out[:0]
	for _, c := range b.in[:n] {
		v := base64Digits[c]
		if v < 64 {
			b.bits = b.bits<<6 | uint32(v)
			if b.n++; b.n == 4 {
				out = append(out, byte(b.bits>>16), byte(b.bits>>8), byte(b.bits))
				b.bits, b.n = 0, 0
			}
		} else if c == '=' {
			out = b.flush(out)
		}
	}
	if b.err != nil {
		out = b.flush(out)
	}
	b.rest = out
}

// flush ends a group of less than four digits.
func (b *base64Reader) flush(out []byte) []byte {
	switch b.n {
	case 2:
		out = append(out, byte(b.bits>>4))
	case 3:
		out = append(out, byte(b.bits>>10), byte(b.bits>>2))
	}
	b.bits, b.n = 0, 0
	return out
}

// base64Digits gives the value of each digit, 255 of other bytes.
var base64Digits = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// qpReader decodes quoted-printable line by line. An "=" that begins nothing stays.
type qpReader struct {
	in   lines
	rest []byte
	buf  []byte
}

func (q *qpReader) Read(p []byte) (int, error) {
	for len(q.rest) == 0 {
		line, _ := q.in.next()
		if line == nil {
			if q.in.err != nil {
				return 0, q.in.err
			}
			return 0, io.EOF
		}
		q.rest = q.decode(line)
	}
	n := copy(p, q.rest)
	q.rest = q.rest[n:]
	return n, nil
}

func (q *qpReader) decode(line []byte) []byte {
	end := line[len(line)-eol(line):]
	line = line[:len(line)-len(end)]
	last := len(end) > 0 || q.in.offset() == q.in.size
	if !last { // a piece of a very long line: what may be half of something waits for the next
		if i := bytes.LastIndexAny(line[len(line)-3:], "=\r"); i >= 0 {
			q.in.back(3 - i)
			line = line[:len(line)-3+i]
		}
	}
	if last {
		// Blanks that end a line were added on the way (RFC 2045, 6.7).
		for len(line) > 0 && (line[len(line)-1] == ' ' || line[len(line)-1] == '\t') {
			line = line[:len(line)-1]
		}
	}
	if n := len(line); n > 0 && line[n-1] == '=' && last {
		line, end = line[:n-1], nil // a soft line break
	}
	out := q.buf[:0]
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c == '=' && i+2 < len(line) && unhex(line[i+1]) < 16 && unhex(line[i+2]) < 16 {
			c = unhex(line[i+1])<<4 | unhex(line[i+2])
			i += 2
		}
		out = append(out, c)
	}
	out = append(out, end...)
	q.buf = out
	return out
}
