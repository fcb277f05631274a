package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func TestFrames(t *testing.T) {
	var stream bytes.Buffer
	sizes := []int{0, 1, 120, 130, firstRead - 1, firstRead, firstRead + 1, 3 * firstRead, 5*firstRead + 17}
	for _, n := range sizes {
		if err := WriteFrame(&stream, bytes.Repeat([]byte{byte(n)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	written := bytes.Clone(stream.Bytes())
	for name, r := range map[string]io.Reader{
		"buffered":   bufio.NewReader(bytes.NewReader(written)),
		"unbuffered": onlyReader{bytes.NewReader(written)},
		"one byte":   iotest.OneByteReader(bytes.NewReader(written)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range sizes {
				var b []byte
				if err := ReadFrame(r, 1<<20, &b); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if !bytes.Equal(b, bytes.Repeat([]byte{byte(n)}, n)) {
					t.Fatalf("%d bytes came back as %d others", n, len(b))
				}
			}
			var b []byte
			if err := ReadFrame(r, 1<<20, &b); err != io.EOF {
				t.Fatalf("the end of the stream gives %v", err)
			}
		})
	}
}

// onlyReader hides every other method.
type onlyReader struct{ io.Reader }

func TestReadFrameRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, io.EOF},
		{"length cut short", []byte{0x80}, io.ErrUnexpectedEOF},
		{"body missing", []byte{2}, io.ErrUnexpectedEOF},
		{"body cut short", []byte{2, 0x41}, io.ErrUnexpectedEOF},
		{"above the limit", append([]byte{0x65}, make([]byte, 0x65)...), ErrFrameTooLarge},
		{"far above the limit", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, ErrFrameTooLarge},
		{"length in a longer form", []byte{0x81, 0, 0x40}, ErrCanonical},
		{"length of 65 bits", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, nil},
		{"length without end", bytes.Repeat([]byte{0x80}, 20), nil},
		{"empty", []byte{0}, nil},
		{"body of two values", []byte{2, 0x40, 0x40}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b []byte
			err := ReadFrame(bytes.NewReader(test.frame), 100, &b)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Fatalf("error is %v instead of %v", err, test.want)
			}
		})
	}
}

// A peer that announces much and sends little costs little.
func TestReadFrameAllocatesWhatArrives(t *testing.T) {
	frame := append([]byte{0x80, 0x80, 0x80, 0x20}, make([]byte, 100)...) // announces 64 MiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var v []byte
	if err := ReadFrame(bytes.NewReader(frame), 1<<30, &v); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*firstRead {
		t.Fatalf("allocated %d bytes", n)
	}
}

func TestWriteFrameWritesOnce(t *testing.T) {
	w := &countingWriter{}
	if err := WriteFrame(w, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if w.calls != 1 {
		t.Fatalf("%d calls of Write", w.calls)
	}
	broken := errors.New("broken")
	if err := WriteFrame(brokenWriter{broken}, 1); !errors.Is(err, broken) {
		t.Fatalf("error is %v", err)
	}
}

type countingWriter struct{ calls int }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.calls++
	return len(b), nil
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// FuzzReadFrame: a frame that is accepted is the one that WriteFrame writes, and nothing beyond it is read.
func FuzzReadFrame(f *testing.F) {
	var seed bytes.Buffer
	if err := WriteFrame(&seed, sample{Version: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Add([]byte{0x80, 0})
	f.Add([]byte{1, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		var v sample
		if ReadFrame(r, 1000, &v) != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteFrame(&again, v); err != nil {
			t.Fatal(err)
		}
		if read := b[:len(b)-r.Len()]; !bytes.Equal(again.Bytes(), read) {
			t.Fatalf("%x was read, %x is written", read, again.Bytes())
		}
	})
}
