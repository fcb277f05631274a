package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A record on the disk, numbers little-endian:
//
//	 0  mark of the segment, 8 bytes
//	 8  kind: 1 data, 2 seal (the last record of a full segment)
//	 9  three zero bytes
//	12  length of the header in bytes
//	16  length of the body in bytes
//	20  CRC-32C of the body
//	24  CRC-32C of the 24 bytes before and of the header
//	28  header, body, and zeros up to a multiple of 8
const frameSize = 28

type kind uint8

const (
	kindData kind = 1
	kindSeal kind = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// frame is the fixed part of a record, decoded.
type frame struct {
	kind         kind
	header, body int
	bodySum      uint32
	headerSum    uint32
}

// zeros is what padding is made of.
var zeros [8]byte

func padding(header, body int) int { return -(frameSize + header + body) & 7 }

// recordSize is the length in bytes of a record with its frame and padding.
func recordSize(header, body int) int64 {
	return int64(frameSize + header + body + padding(header, body))
}

// appendFrame appends the fixed part and the header of a record; the body follows.
func appendFrame(b []byte, m mark, k kind, header, body []byte) []byte {
	start := len(b)
	b = append(b, m[:]...)
	b = append(b, byte(k), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, checksum(body))
	sum := crc32.Update(checksum(b[start:]), castagnoli, header)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, header...)
}

// parseFrame reads the fixed part of a record and checks its bounds. Nothing in it is to be believed before
// headerOK.
func parseFrame(b []byte, m mark) (frame, bool) {
	if len(b) < frameSize || mark(b[:8]) != m || b[9]|b[10]|b[11] != 0 {
		return frame{}, false
	}
	f := frame{kind: kind(b[8]), bodySum: binary.LittleEndian.Uint32(b[20:]), headerSum: binary.LittleEndian.Uint32(b[24:])}
	header, body := binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint32(b[16:])
	if header > MaxHeader || body > MaxBody || f.kind != kindData && f.kind != kindSeal {
		return frame{}, false
	}
	f.header, f.body = int(header), int(body)
	return f, true
}

// headerOK tells whether the fixed part and the header are what was written.
func (f frame) headerOK(fixed, header []byte) bool {
	return crc32.Update(checksum(fixed[:24]), castagnoli, header) == f.headerSum
}

// window reads a file forward in large pieces.
type window struct {
	r    io.ReaderAt
	buf  []byte
	from int64
}

const windowSize = 64 << 10

// at returns n bytes at an offset, valid until the next call. Fewer are io.EOF.
func (w *window) at(offset int64, n int) ([]byte, error) {
	if offset < w.from || offset+int64(n) > w.from+int64(len(w.buf)) {
		if size := max(n, windowSize); cap(w.buf) < size {
			w.buf = make([]byte, size)
		}
		w.buf = w.buf[:cap(w.buf)]
		m, err := w.r.ReadAt(w.buf, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			w.buf = w.buf[:0]
			return nil, err
		}
		w.from, w.buf = offset, w.buf[:m]
		if m < n {
			return nil, io.EOF
		}
	}
	i := offset - w.from
	return w.buf[i : i+int64(n)], nil
}

// scanner walks over the records of one segment. In a sealed segment it reads headers only; in any other it
// also checks the bodies, since the last commit may be half on the disk.
type scanner struct {
	window
	size   int64
	mark   mark
	sealed bool
	freed  map[uint32]bool // the bodies of these may be gone

	pos     int64
	end     int64 // behind the last good record
	err     error // of the disk
	waiting []found
}

// found is a record met by the scanner.
type found struct {
	frame
	offset  int64
	skipped int64 // unreadable bytes between the record before and this one
	bad     bool  // the body is damaged and good records follow
}

// isSealed tells whether the segment ends with a seal.
func (s *scanner) isSealed() bool {
	size := recordSize(0, 0)
	if s.size < size {
		return false
	}
	b, err := s.at(s.size-size, frameSize)
	if err != nil {
		return false
	}
	f, ok := parseFrame(b, s.mark)
	return ok && f.kind == kindSeal && f.header == 0 && f.body == 0 && f.headerOK(b, nil)
}

// next returns the next record. Damage is told only once a good record was found behind it; what is behind
// the last good record is a torn tail and is not told at all.
func (s *scanner) next() (found, bool) {
	for {
		// Records with damaged bodies wait until a good one follows.
		if n := len(s.waiting); n > 0 && !s.waiting[n-1].bad {
			f := s.waiting[0]
			s.waiting = s.waiting[1:]
			return f, true
		}
		f, ok := s.scan()
		if !ok {
			s.waiting = nil
			return found{}, false
		}
		if !f.bad {
			s.end = f.offset + recordSize(f.header, f.body)
		}
		s.waiting = append(s.waiting, f)
	}
}

// scan finds the next record with a good header.
func (s *scanner) scan() (found, bool) {
	start := s.pos
	for s.err == nil {
		f, ok := s.record(s.pos)
		if ok {
			f.skipped = f.offset - start
			s.pos = f.offset + recordSize(f.header, f.body)
			return f, true
		}
		if s.err != nil || !s.seek(s.pos+8) {
			break
		}
	}
	return found{}, false
}

// record reads the record at an offset, if there is a good one.
func (s *scanner) record(offset int64) (found, bool) {
	b, err := s.at(offset, frameSize)
	if err != nil {
		s.fail(err)
		return found{}, false
	}
	f, ok := parseFrame(b, s.mark)
	if !ok || offset+recordSize(f.header, f.body) > s.size {
		return found{}, false
	}
	if b, err = s.at(offset, frameSize+f.header); err != nil {
		s.fail(err)
		return found{}, false
	}
	if !f.headerOK(b[:frameSize], b[frameSize:]) {
		return found{}, false
	}
	r := found{frame: f, offset: offset}
	if !s.sealed && !s.freed[uint32(offset)] {
		r.bad = !s.bodyOK(offset+frameSize+int64(f.header), f)
	}
	return r, s.err == nil
}

func (s *scanner) bodyOK(offset int64, f frame) bool {
	sum := uint32(0)
	for left := f.body; left > 0; {
		n := min(left, windowSize)
		b, err := s.at(offset, n)
		if err != nil {
			s.fail(err)
			return false
		}
		sum = crc32.Update(sum, castagnoli, b)
		offset += int64(n)
		left -= n
	}
	return sum == f.bodySum
}

// seek moves to the next place at or behind an offset where the mark stands.
func (s *scanner) seek(offset int64) bool {
	for offset+int64(len(s.mark)) <= s.size {
		n := min(windowSize, s.size-offset)
		b, err := s.at(offset, int(n))
		if err != nil {
			s.fail(err)
			return false
		}
		if i := bytes.Index(b, s.mark[:]); i >= 0 {
			s.pos = offset + int64(i)
			return true
		}
		offset += n - int64(len(s.mark)) + 1
	}
	return false
}

// fail keeps an error of the disk. The end of the file is not one.
func (s *scanner) fail(err error) {
	if !errors.Is(err, io.EOF) {
		s.err = err
	}
}
