// Package journal is an append-only log of records in segment files, with one sync per commit.
//
// It serves whoever must say "it is on the disk" often: a holder's spool, and the mail an account has
// accepted or received but not filed yet. A record is a small header, which the journal hands back at open so
// that its owner can rebuild an index, and a body, which it reads only when asked. Append returns after the
// record is on the disk; everything that waits while a sync runs joins the next one, so eight writers pay
// little more than one.
//
// What is promised after a crash at any instant:
//
//   - every record whose Append (or wait) returned nil is there;
//   - a torn tail, the rest of a commit that never returned, is cut off at open;
//   - damage in the middle loses the records it touches and no others, and is reported;
//   - a record whose Append returned an error may be there or not, and a later Append never pretends: the
//     segment whose write or sync failed takes no further record, since a second sync of the same file proves
//     nothing after the first one failed.
//
// Free gives a record back. What is freed is noted beside the segment without a sync of its own, so the last
// few notes may be lost in a crash and the owner sees those records once more. A segment file is unlinked when
// it is full and all its records are free, and on Linux the pages of freed bodies return to the file system
// before that.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

const (
	// DefaultSegmentSize is the size in bytes at which a segment is full when Options names none. A segment
	// is created and its directory synced (1 to 4 ms) once in that many bytes.
	DefaultSegmentSize = 64 << 20
	// MaxSegmentSize bounds Options.SegmentSize: offsets are 32 bits wide.
	MaxSegmentSize = 1 << 30
	// MaxHeader is the largest record header in bytes. Headers are read at open; they are for indexing.
	MaxHeader = 64 << 10
	// MaxBody is the largest record body in bytes: the largest sealed message (40 MiB and its padding) twice.
	// A record that is larger than a segment has a segment to itself.
	MaxBody = 96 << 20

	// gatherSize is how many bytes of small records are put together for one write.
	gatherSize = 256 << 10
	// directBody is the size from which a body is written from where it lies instead of being copied.
	directBody = 64 << 10
	// punchBatch is how many freed bytes of one segment wait before they are given back to the file system.
	punchBatch = 1 << 20
	// page is the unit in which a file system gives back parts of a file.
	page = 4 << 10
)

var (
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("journal closed")
	// ErrTooLarge answers an append of a header over MaxHeader or a body over MaxBody. Never retry it.
	ErrTooLarge = errors.New("journal record too large")
	// ErrNotFound answers a Read of a record that was freed or never written.
	ErrNotFound = errors.New("journal record not found")
	// ErrDamaged answers a Read of a record whose bytes no longer match their checksum. The record is lost.
	ErrDamaged = errors.New("journal record damaged")
)

// Options of Open.
type Options struct {
	// SegmentSize is the size in bytes at which a new segment file is begun; 0 means DefaultSegmentSize.
	SegmentSize int64
	// Log hears about damage and about failed writes; nil means silence.
	Log *slog.Logger
}

// A Ref names one record of one journal. It stays valid across restarts. Refs of a journal are unique and
// can be compared; the zero Ref names nothing.
type Ref struct {
	Segment uint32 // number of the segment, from 1
	Offset  uint32 // where the record begins in its segment, in bytes
	Length  uint32 // of the whole record in bytes, with its frame and padding
}

// Damage tells of records that could not be read at open, because of a fault in the middle of a segment.
// A torn tail is not damage.
type Damage struct {
	Segment uint32
	Offset  int64 // where the unreadable bytes begin
	Bytes   int64 // how many they are
}

// Status counts what a journal holds and did since it was opened.
type Status struct {
	Segments  int    // segment files
	Records   int    // live records
	LiveBytes int64  // bytes of live records
	DiskBytes int64  // bytes of all records, without what was given back since the journal was opened
	Appends   uint64 // records appended
	Commits   uint64 // syncs these needed
	Failures  uint64 // commits that failed
	Damage    int    // faults found at open
}

// Log is an open journal. All methods may be called at once from several goroutines.
type Log struct {
	dir  string
	size int64
	log  *slog.Logger
	disk disk

	mu         sync.Mutex
	segments   []*segment      // ascending by number; only the last one takes records
	next       uint32          // number of the next segment
	pending    []*batch        // not yet written, in order
	committing bool            // a goroutine commits what is pending
	sweeping   bool            // a goroutine deals with sweeps
	sweeps     []*segment      // have something freed
	trims      []chan struct{} // closed when all of these are dealt with
	closed     bool
	work       sync.WaitGroup // these two goroutines

	// Of the committing goroutine alone.
	active *segment // has an open file
	buf    []byte

	damage  []Damage
	appends uint64
	commits uint64
	failed  uint64
}

// batch is what one write and one sync put on the disk. All its records lie in one segment.
type batch struct {
	segment *segment
	records []pending
	done    chan struct{}
	err     error // readable once done is closed
}

type pending struct {
	offset       int64
	header, body []byte
}

// Open opens the journal in dir, which is created if need be. It reads every record header, checks what the
// last run may have left half written, and cuts it off. One process at a time may have a journal open.
func Open(dir string, opt Options) (*Log, error) {
	return open(dir, opt, osDisk{})
}

func open(dir string, opt Options, d disk) (*Log, error) {
	size := opt.SegmentSize
	if size == 0 {
		size = DefaultSegmentSize
	}
	if size < page || size > MaxSegmentSize {
		return nil, fmt.Errorf("journal segment size %d outside %d to %d", size, page, MaxSegmentSize)
	}
	l := &Log{dir: dir, size: size, log: opt.Log, disk: d, next: 1}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Also when it was there: the last run may have ended before it synced this.
	if err := d.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if err := l.load(); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return l, nil
}

// load reads the directory. The last segment stays open for appending when it is not full.
func (l *Log) load() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if number, mark, ok := parseName(e.Name()); ok {
			l.segments = append(l.segments, newSegment(l.dir, number, mark))
			l.next = max(l.next, number+1)
		}
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	for i, s := range l.segments {
		damage, err := l.loadSegment(s, i == len(l.segments)-1)
		if err != nil {
			return fmt.Errorf("segment %d: %w", s.number, err)
		}
		for _, d := range damage {
			l.damage = append(l.damage, d)
			l.log.Error("journal damaged", "dir", l.dir, "segment", d.Segment, "offset", d.Offset, "bytes", d.Bytes)
		}
	}
	known := make(map[string]bool)
	l.mu.Lock()
	for _, s := range l.segments {
		known[s.notes] = true
		l.sweep(s)
	}
	l.mu.Unlock()
	for _, e := range entries {
		// Left by a crash between two unlinks.
		if path := filepath.Join(l.dir, e.Name()); strings.HasSuffix(path, notesSuffix) && !known[path] {
			if err := removeFile(path); err != nil {
				return err
			}
		}
	}
	return l.disk.SyncDir(l.dir)
}

// Append puts one record on the disk and returns once it is there. The context is looked at before the
// record joins a commit and not after, since a commit takes milliseconds and cannot be taken back. After an
// error the record may be found at the next open or not.
func (l *Log) Append(ctx context.Context, header, body []byte) (Ref, error) {
	if err := ctx.Err(); err != nil {
		return Ref{}, err
	}
	ref, wait := l.AppendAsync(header, body)
	if err := wait(); err != nil {
		return Ref{}, err
	}
	return ref, nil
}

// AppendAsync puts one record on its way and returns where it will be. The record is on the disk when wait
// returns nil; until then nobody may change header or body, nor use the Ref. wait may be called any number
// of times, or never.
func (l *Log) AppendAsync(header, body []byte) (Ref, func() error) {
	fail := func(err error) (Ref, func() error) { return Ref{}, func() error { return err } }
	if len(header) > MaxHeader || len(body) > MaxBody {
		return fail(ErrTooLarge)
	}
	length := recordSize(len(header), len(body))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fail(ErrClosed)
	}
	s := l.tail(length)
	offset := s.end
	s.end += length
	s.offsets = append(s.offsets, uint32(offset))
	s.freed = append(s.freed, false)
	s.live++
	s.liveBytes += length
	l.appends++

	var b *batch
	if n := len(l.pending); n > 0 && l.pending[n-1].segment == s {
		b = l.pending[n-1]
	} else {
		b = &batch{segment: s, done: make(chan struct{})}
		l.pending = append(l.pending, b)
	}
	b.records = append(b.records, pending{offset, header, body})
	if !l.committing {
		l.committing = true
		l.work.Go(l.commit)
	}
	wait := func() error {
		<-b.done
		return b.err
	}
	return Ref{Segment: s.number, Offset: uint32(offset), Length: uint32(length)}, wait
}

// tail is the segment that takes the next record of that length. Its file is made by the commit.
func (l *Log) tail(length int64) *segment {
	if n := len(l.segments); n > 0 {
		s := l.segments[n-1]
		// Room for the seal is kept, so that sealing never grows the file.
		if !s.full && (s.end == 0 || s.end+length+recordSize(0, 0) <= l.size) {
			return s
		}
		s.full = true
	}
	s := newSegment(l.dir, l.next, newMark())
	l.next++
	l.segments = append(l.segments, s)
	return s
}

// commit writes and syncs what is pending, batch after batch, until nothing is.
func (l *Log) commit() {
	for {
		// Those who were woken by the last commit get to join this one.
		runtime.Gosched()
		l.mu.Lock()
		if len(l.pending) == 0 {
			l.committing = false
			l.mu.Unlock()
			return
		}
		b := l.pending[0]
		l.pending = l.pending[1:]
		l.mu.Unlock()

		if old := l.active; old != nil && old != b.segment {
			l.seal(old)
		}
		end, err := l.write(b)

		l.mu.Lock()
		l.commits++
		if err != nil {
			l.abandon(b, err)
		} else {
			first := b.segment.durable == 0
			b.segment.durable = end
			if first {
				// Older segments without live records were waiting for this one.
				for _, s := range l.segments {
					l.sweep(s)
				}
			}
		}
		l.mu.Unlock()
		b.err = err
		close(b.done)
	}
}

// write puts one batch on the disk and tells where it ends. Only the committing goroutine comes here.
func (l *Log) write(b *batch) (end int64, err error) {
	s := b.segment
	if s.err != nil {
		return 0, s.err
	}
	if s.file == nil {
		f, err := l.disk.Create(s.path)
		if err != nil {
			return 0, fmt.Errorf("create journal segment: %w", err)
		}
		s.file = f
		l.active = s
		// The size is set at once: a commit inside it need not write it again.
		if err := f.Truncate(l.size); err != nil {
			return 0, fmt.Errorf("size journal segment: %w", err)
		}
		if err := l.disk.SyncDir(l.dir); err != nil {
			return 0, fmt.Errorf("sync journal directory: %w", err)
		}
	}
	at := b.records[0].offset
	buf := l.buf[:0]
	defer func() { l.buf = buf }()
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		_, err := s.file.WriteAt(buf, at)
		at += int64(len(buf))
		buf = buf[:0]
		return err
	}
	for _, r := range b.records {
		buf = appendFrame(buf, s.mark, kindData, r.header, r.body)
		if len(r.body) < directBody {
			buf = append(buf, r.body...)
		} else {
			if err := flush(); err != nil {
				return 0, fmt.Errorf("write journal: %w", err)
			}
			if _, err := s.file.WriteAt(r.body, at); err != nil {
				return 0, fmt.Errorf("write journal: %w", err)
			}
			at += int64(len(r.body))
		}
		buf = append(buf, zeros[:padding(len(r.header), len(r.body))]...)
		if len(buf) >= gatherSize {
			if err := flush(); err != nil {
				return 0, fmt.Errorf("write journal: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return 0, fmt.Errorf("write journal: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return 0, fmt.Errorf("sync journal: %w", err)
	}
	return at, nil
}

// abandon gives up a segment whose write or sync failed, with all that was meant to go there. What it had
// before stays readable. It is called with the lock held, by the committing goroutine.
func (l *Log) abandon(b *batch, err error) {
	s := b.segment
	l.failed++
	if s.err == nil {
		l.log.Error("journal write failed", "dir", l.dir, "segment", s.number, "error", err)
	}
	s.err, s.full = err, true
	for _, r := range b.records {
		s.drop(uint32(r.offset), recordSize(len(r.header), len(r.body)))
	}
	if s.durable == 0 {
		// Nothing was ever promised here, so on a disk that stays full the attempts do not pile up.
		l.segments = slices.DeleteFunc(l.segments, func(t *segment) bool { return t == s })
		if s.file != nil {
			_ = s.file.Close()
			_ = os.Remove(s.path)
			s.file, l.active = nil, nil
		}
		return
	}
	if s.file != nil {
		// If this fails too, the next open finds the rest unsealed and checks it record by record.
		_ = s.file.Truncate(s.durable)
		_ = s.file.Close()
		s.file, l.active = nil, nil
	}
}

// seal ends a full segment: it says on the disk that all before it is whole, so that the next open need not
// read the bodies.
func (l *Log) seal(s *segment) {
	if err := writeSeal(s.file, s.mark, s.durable); err != nil {
		// Nothing is lost: an unsealed segment is checked at open.
		l.log.Warn("journal segment not sealed", "dir", l.dir, "segment", s.number, "error", err)
	}
	_ = s.file.Close()
	l.mu.Lock()
	s.file, l.active = nil, nil
	l.mu.Unlock()
}

// Read returns a record. It is ErrNotFound when the record was freed, ErrDamaged when its bytes are no
// longer what was written. The slices belong to the caller.
func (l *Log) Read(ref Ref) (header, body []byte, err error) {
	b, h, err := l.read(ref, true)
	if err != nil {
		return nil, nil, err
	}
	header = b[:h.header:h.header]
	return header, b[h.header:], nil
}

// ReadHeader returns the header of a record without touching its body.
func (l *Log) ReadHeader(ref Ref) ([]byte, error) {
	b, _, err := l.read(ref, false)
	return b, err
}

func (l *Log) read(ref Ref, withBody bool) ([]byte, frame, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, frame{}, ErrClosed
	}
	s, ok := l.find(ref)
	l.mu.Unlock()
	if !ok {
		return nil, frame{}, ErrNotFound
	}
	// Opening costs microseconds, and no file is held for segments that nobody reads.
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, frame{}, ErrNotFound
	}
	if err != nil {
		return nil, frame{}, err
	}
	defer f.Close()
	var head [frameSize]byte
	if _, err := f.ReadAt(head[:], int64(ref.Offset)); err != nil {
		return nil, frame{}, readError(err)
	}
	h, ok := parseFrame(head[:], s.mark)
	if !ok || recordSize(h.header, h.body) != int64(ref.Length) {
		return nil, frame{}, ErrDamaged
	}
	n := h.header
	if withBody {
		n += h.body
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(ref.Offset)+frameSize); err != nil {
		return nil, frame{}, readError(err)
	}
	if !h.headerOK(head[:], b[:h.header]) || withBody && checksum(b[h.header:]) != h.bodySum {
		return nil, frame{}, ErrDamaged
	}
	return b, h, nil
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrDamaged
	}
	return err
}

// find looks for a live record. It is called with the lock held.
func (l *Log) find(ref Ref) (*segment, bool) {
	i, ok := slices.BinarySearchFunc(l.segments, ref.Segment, func(s *segment, n uint32) int { return cmp.Compare(s.number, n) })
	if !ok {
		return nil, false
	}
	s := l.segments[i]
	j, ok := slices.BinarySearch(s.offsets, ref.Offset)
	return s, ok && !s.freed[j]
}

// Free gives a record back. Freeing twice, or what is not there, does nothing.
func (l *Log) Free(ref Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if s, ok := l.find(ref); ok {
		s.drop(ref.Offset, int64(ref.Length))
		s.freshly = append(s.freshly, ref)
		l.sweep(s)
	}
}

// Records goes through the headers of all live records, in the order in which they were appended. Records
// that are freed on the way may be seen or not; a header that cannot be read any more is left out and logged.
func (l *Log) Records() iter.Seq2[Ref, []byte] {
	return func(yield func(Ref, []byte) bool) {
		l.mu.Lock()
		segments := slices.Clone(l.segments)
		l.mu.Unlock()
		for _, s := range segments {
			more, err := l.segmentRecords(s, yield)
			if err != nil {
				l.log.Error("journal segment unreadable", "dir", l.dir, "segment", s.number, "error", err)
			}
			if !more {
				return
			}
		}
	}
}

// Walk goes through the headers of all live records as Records does, but ends with an error when a segment cannot be
// read now. It is for an owner that gives up what it does not see. Damaged headers are left out and logged all the same.
func (l *Log) Walk(yield func(Ref, []byte) error) error {
	l.mu.Lock()
	segments := slices.Clone(l.segments)
	l.mu.Unlock()
	for _, s := range segments {
		var stop error
		_, err := l.segmentRecords(s, func(ref Ref, header []byte) bool {
			stop = yield(ref, header)
			return stop == nil
		})
		if err != nil {
			return fmt.Errorf("read journal segment %d: %w", s.number, err)
		}
		if stop != nil {
			return stop
		}
	}
	return nil
}

// segmentRecords is false when yield wants no more.
func (l *Log) segmentRecords(s *segment, yield func(Ref, []byte) bool) (more bool, err error) {
	l.mu.Lock()
	var live []uint32
	for i, o := range s.offsets {
		if !s.freed[i] {
			live = append(live, o)
		}
	}
	l.mu.Unlock()
	if len(live) == 0 {
		return true, nil
	}
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	defer f.Close()
	r := &window{r: f}
	for _, o := range live {
		head, err := r.at(int64(o), frameSize)
		h, ok := frame{}, false
		if err == nil {
			h, ok = parseFrame(head, s.mark)
		}
		if ok {
			if head, err = r.at(int64(o), frameSize+h.header); err != nil {
				ok = false
			} else {
				ok = h.headerOK(head[:frameSize], head[frameSize:])
			}
		}
		if err != nil && readError(err) != ErrDamaged {
			return true, err
		}
		if !ok {
			l.log.Error("journal record unreadable", "dir", l.dir, "segment", s.number, "offset", o)
			continue
		}
		ref := Ref{Segment: s.number, Offset: o, Length: uint32(recordSize(h.header, h.body))}
		if !yield(ref, slices.Clone(head[frameSize:])) {
			return false, nil
		}
	}
	return true, nil
}

// Sparse lists the segments that take no further record and of which little is live, the emptiest first: at most the
// part ofFile of what was ever in them, or the part ofDisk of what they still take on the disk. Their owner may append
// those records anew and free the old ones, so that the segments can go.
func (l *Log) Sparse(ofFile, ofDisk float64) []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sparse []*segment
	for _, s := range l.segments {
		if !s.full || s.file != nil || s.live == 0 {
			continue
		}
		if live := float64(s.liveBytes); live <= ofFile*float64(s.end) || live <= ofDisk*float64(s.end-s.given) {
			sparse = append(sparse, s)
		}
	}
	slices.SortFunc(sparse, func(a, b *segment) int { return cmp.Compare(a.liveBytes, b.liveBytes) })
	var numbers []uint32
	for _, s := range sparse {
		numbers = append(numbers, s.number)
	}
	return numbers
}

// Damage lists what Open found unreadable.
func (l *Log) Damage() []Damage {
	return slices.Clone(l.damage)
}

// Status counts.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Status{
		Segments: len(l.segments), Appends: l.appends, Commits: l.commits, Failures: l.failed, Damage: len(l.damage),
	}
	for _, s := range l.segments {
		st.Records += s.live
		st.LiveBytes += s.liveBytes
		st.DiskBytes += s.end - s.given
	}
	return st
}

// Close waits for what is under way and closes the files. It may be called twice.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.work.Wait()
	return l.closeFiles()
}

func (l *Log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.active
	if s == nil {
		return nil
	}
	// The unwritten rest goes, so that the next open need not read it.
	err := errors.Join(s.file.Truncate(s.durable), s.file.Close())
	s.file, l.active = nil, nil
	return err
}
