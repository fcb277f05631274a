package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// firstRead is how much is allocated on a peer's word alone, in bytes; a longer frame grows as its bytes arrive.
const firstRead = 64 << 10

// ErrFrameTooLarge reports a frame whose announced length is above the reader's limit. Nothing of it was read.
var ErrFrameTooLarge = errors.New("frame is too large")

// WriteFrame writes v as one frame, with a single call of w.Write.
func WriteFrame(w io.Writer, v any) error {
	b, err := Marshal(v)
	if err != nil {
		return err
	}
	frame := make([]byte, 0, binary.MaxVarintLen64+len(b))
	frame = binary.AppendUvarint(frame, uint64(len(b)))
	frame = append(frame, b...)
	if _, err := w.Write(frame); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// ReadFrame reads one frame of at most max bytes (its length not counted) and decodes it into v, as Unmarshal does.
// A stream that ends before the first byte gives io.EOF itself; one that ends later, io.ErrUnexpectedEOF. It reads no
// byte beyond the frame; where r is no io.ByteReader the length costs a read call for each of its bytes.
func ReadFrame(r io.Reader, max int, v any) error {
	n, err := readLength(r)
	if err != nil {
		return err
	}
	if max < 0 || n > uint64(max) {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrFrameTooLarge, n, max)
	}
	b, err := readBody(r, int(n))
	if err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	return Unmarshal(b, v)
}

// readLength reads an unsigned LEB128 number and refuses any but its shortest form.
func readLength(r io.Reader) (uint64, error) {
	next := byteReader(r)
	var n uint64
	for i := range binary.MaxVarintLen64 {
		b, err := next()
		if err != nil {
			if err == io.EOF && i == 0 {
				return 0, io.EOF
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("read frame length: %w", err)
		}
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				return 0, fmt.Errorf("read frame length: %w", ErrCanonical)
			}
			return n, nil
		}
	}
	return 0, errors.New("read frame length: more than 64 bits")
}

func byteReader(r io.Reader) func() (byte, error) {
	if br, ok := r.(io.ByteReader); ok {
		return br.ReadByte
	}
	var one [1]byte
	return func() (byte, error) {
		_, err := io.ReadFull(r, one[:])
		return one[0], err
	}
}

func readBody(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, min(n, firstRead))
	for read := 0; ; {
		m, err := io.ReadFull(r, b[read:])
		read += m
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if read == n {
			return b, nil
		}
		grown := make([]byte, min(n, 2*len(b)))
		copy(grown, b)
		b = grown
	}
}
