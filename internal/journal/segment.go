package journal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segment is one file of the journal and what is known about its records. All is guarded by the journal's
// lock, but file belongs to the committing goroutine and holes to the sweeping one.
type segment struct {
	number uint32
	mark   mark
	path   string
	notes  string // the file that notes which records are free

	end       int64 // where the next record goes
	durable   int64 // where the synced part ends
	full      bool  // takes no further record
	err       error // why it was abandoned
	offsets   []uint32
	freed     []bool // beside offsets
	live      int
	liveBytes int64
	freshly   []Ref // freed and not yet noted
	sweeping  bool  // in the journal's list of sweeps
	trim      bool  // the next sweep gives back all it can
	given     int64 // bytes of it that were given back since the journal was opened

	file     file // nil when nothing can be appended
	holes    []hole
	holeSize int64
}

func newSegment(dir string, number uint32, m mark) *segment {
	base := fmt.Sprintf("%08x-%s", number, hex.EncodeToString(m[:]))
	return &segment{number: number, mark: m, path: filepath.Join(dir, base+segmentSuffix), notes: filepath.Join(dir, base+notesSuffix)}
}

// drop takes a record out of the live ones. It is called with the journal's lock held.
func (s *segment) drop(offset uint32, length int64) {
	i, ok := slices.BinarySearch(s.offsets, offset)
	if !ok || s.freed[i] {
		return
	}
	s.freed[i] = true
	s.live--
	s.liveBytes -= length
}

// writeSeal ends a segment at an offset.
func writeSeal(f file, m mark, at int64) error {
	b := appendFrame(nil, m, kindSeal, nil, nil)
	b = append(b, zeros[:padding(0, 0)]...)
	if _, err := f.WriteAt(b, at); err != nil {
		return err
	}
	if err := f.Truncate(at + int64(len(b))); err != nil {
		return err
	}
	return f.Sync()
}

// mark is a random number that begins every record of one segment. Whoever can put bytes into a body cannot
// know it, so no body can pass for a record when the scanner looks for the next one behind a fault.
type mark [8]byte

func newMark() (m mark) {
	rand.Read(m[:])
	return m
}

const (
	segmentSuffix = ".seg"
	notesSuffix   = ".free"
)

func parseName(name string) (number uint32, m mark, ok bool) {
	base, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, m, false
	}
	left, right, ok := strings.Cut(base, "-")
	if !ok || len(left) != 8 || len(right) != 2*len(m) {
		return 0, m, false
	}
	n, err := strconv.ParseUint(left, 16, 32)
	if err != nil || n == 0 {
		return 0, m, false
	}
	b, err := hex.DecodeString(right)
	if err != nil {
		return 0, m, false
	}
	return uint32(n), mark(b), true
}

// loadSegment reads a segment as the last run left it, and makes it whole: a torn tail is cut, and what a
// crash left unsealed is sealed, or opened for appending when it is the last.
func (l *Log) loadSegment(s *segment, last bool) ([]Damage, error) {
	f, err := l.disk.Open(s.path)
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > MaxSegmentSize+MaxBody {
		return nil, fmt.Errorf("%d bytes are more than a segment ever has", size)
	}
	freed, err := readNotes(s.notes)
	if err != nil {
		return nil, err
	}
	sc := &scanner{window: window{r: f}, size: size, mark: s.mark, freed: freed}
	sc.sealed = sc.isSealed()
	var damage []Damage
	for {
		r, ok := sc.next()
		if !ok {
			break
		}
		if r.skipped > 0 {
			damage = append(damage, Damage{s.number, r.offset - r.skipped, r.skipped})
		}
		if r.kind != kindData {
			continue
		}
		length := recordSize(r.header, r.body)
		s.offsets = append(s.offsets, uint32(r.offset))
		s.freed = append(s.freed, freed[uint32(r.offset)] || r.bad)
		if r.bad {
			damage = append(damage, Damage{s.number, r.offset, length})
			continue
		}
		if !freed[uint32(r.offset)] {
			s.live++
			s.liveBytes += length
		}
	}
	if sc.err != nil {
		return nil, sc.err
	}
	s.end, s.durable = sc.end, sc.end
	if sc.sealed {
		s.full = true
		return damage, nil
	}
	if s.end < size {
		if err := f.Truncate(s.end); err != nil {
			return nil, err
		}
	}
	// A note about a place that a new record would take must never speak for that record.
	reuse := last && s.end+recordSize(0, 0) < l.size
	for offset := range freed {
		reuse = reuse && int64(offset) < s.end
	}
	if !reuse {
		s.full = true
		return damage, writeSeal(f, s.mark, s.end)
	}
	if err := f.Truncate(l.size); err != nil {
		return nil, err
	}
	// What was read may be only in the memory of the system: a killed process leaves it so.
	if err := f.Sync(); err != nil {
		return nil, err
	}
	s.file, l.active, keep = f, s, true
	return damage, nil
}
