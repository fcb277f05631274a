package journal

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
)

// sweep has a segment looked at by the sweeping goroutine, since noting, unlinking and giving back pages cost
// milliseconds that no writer should wait for. It is called with the lock held.
func (l *Log) sweep(s *segment) {
	if s.sweeping || len(s.freshly) == 0 && !l.removable(s) {
		return
	}
	l.enlist(s)
}

func (l *Log) enlist(s *segment) {
	s.sweeping = true
	l.sweeps = append(l.sweeps, s)
	if !l.sweeping {
		l.sweeping = true
		l.work.Go(l.sweepAll)
	}
}

// Trim gives the space of what was freed back to the file system, also where it is so little that Free alone would let
// it wait, and returns when that is done. It is for a disk that is full.
func (l *Log) Trim() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	for _, s := range l.segments {
		s.trim = true
		if !s.sweeping {
			l.enlist(s)
		}
	}
	done := make(chan struct{})
	if l.sweeping {
		l.trims = append(l.trims, done)
	} else {
		close(done) // there are no segments
	}
	l.mu.Unlock()
	<-done
}

// removable tells whether a segment file can go: nothing live is in it, nothing will be added, and a newer
// one is on the disk, so that numbers and with them Refs are never used twice. It is called with the lock
// held.
func (l *Log) removable(s *segment) bool {
	if len(l.segments) == 0 {
		return false
	}
	newest := l.segments[len(l.segments)-1]
	return s.full && s.live == 0 && s.file == nil && s != newest && newest.durable > 0
}

func (l *Log) sweepAll() {
	for {
		l.mu.Lock()
		if len(l.sweeps) == 0 {
			l.sweeping = false
			for _, done := range l.trims {
				close(done)
			}
			l.trims = nil
			l.mu.Unlock()
			return
		}
		s := l.sweeps[0]
		l.sweeps = l.sweeps[1:]
		s.sweeping = false
		remove := l.removable(s)
		freshly, trim := s.freshly, s.trim
		s.freshly, s.trim = nil, false
		if remove {
			l.segments = slices.DeleteFunc(l.segments, func(t *segment) bool { return t == s })
		}
		l.mu.Unlock()

		var err error
		if remove {
			err = errors.Join(removeFile(s.path), removeFile(s.notes))
		} else if len(freshly) > 0 || trim {
			if err = s.note(freshly); err == nil {
				var given int64
				given, err = s.giveBack(freshly, trim)
				l.mu.Lock()
				s.given += given
				l.mu.Unlock()
			} else {
				// They are noted with the next ones.
				l.mu.Lock()
				s.freshly = append(freshly, s.freshly...)
				l.mu.Unlock()
			}
		}
		if err != nil {
			// What could not be noted or unlinked is seen once more after the next open.
			l.log.Warn("journal sweep failed", "dir", l.dir, "segment", s.number, "error", err)
		}
	}
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hole is a part of a segment file that holds nothing live.
type hole struct{ from, to int64 }

// note writes down which records are free.
func (s *segment) note(refs []Ref) error {
	if len(refs) == 0 {
		return nil
	}
	var b []byte
	for _, r := range refs {
		b = appendNote(b, r.Offset)
	}
	f, err := os.OpenFile(s.notes, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// giveBack gives the pages of freed records back, once they are many or when all of them are wanted. The notes are
// synced before that: a record without its note and without its pages would look like damage.
func (s *segment) giveBack(refs []Ref, all bool) (bytes int64, err error) {
	if err := s.addHoles(refs); err != nil || s.holeSize == 0 || s.holeSize < punchBatch && !all {
		return 0, err
	}
	f, err := os.OpenFile(s.notes, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	holes := s.holes
	s.holes, s.holeSize = nil, 0
	return punch(s.path, holes)
}

// addHoles finds the whole pages of the freed bodies. Frames and headers stay: the next open walks over them.
func (s *segment) addHoles(refs []Ref) error {
	var f *os.File
	for _, r := range refs {
		if r.Length < 2*page {
			continue
		}
		if f == nil {
			var err error
			if f, err = os.Open(s.path); err != nil {
				return err
			}
			defer f.Close()
		}
		var head [frameSize]byte
		if _, err := f.ReadAt(head[:], int64(r.Offset)); err != nil {
			return err
		}
		h, ok := parseFrame(head[:], s.mark)
		if !ok {
			continue
		}
		body := int64(r.Offset) + frameSize + int64(h.header)
		from := (body + page - 1) / page * page
		if to := (body + int64(h.body)) / page * page; to > from {
			s.holes = append(s.holes, hole{from, to})
			s.holeSize += to - from
		}
	}
	return nil
}

// A note is the offset of a freed record and its complement, eight bytes in all.
const noteSize = 8

func appendNote(b []byte, offset uint32) []byte {
	b = binary.LittleEndian.AppendUint32(b, offset)
	return binary.LittleEndian.AppendUint32(b, ^offset)
}

// readNotes reads which records were freed. A note that was torn or damaged is passed over: its record is
// seen once more.
func readNotes(path string) (map[uint32]bool, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	freed := make(map[uint32]bool, len(b)/noteSize)
	for ; len(b) >= noteSize; b = b[noteSize:] {
		offset := binary.LittleEndian.Uint32(b)
		if binary.LittleEndian.Uint32(b[4:]) == ^offset {
			freed[offset] = true
		}
	}
	return freed, nil
}
