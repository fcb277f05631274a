package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// small is a segment size that makes tests rotate.
const small = 8 << 10

func openT(t testing.TB, dir string, size int64) *Log {
	t.Helper()
	l, err := Open(dir, Options{SegmentSize: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func appendT(t testing.TB, l *Log, header string, body []byte) Ref {
	t.Helper()
	ref, err := l.Append(t.Context(), []byte(header), body)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// headers lists the headers of a journal, in order.
func headers(l *Log) (hs []string) {
	for _, h := range l.Records() {
		hs = append(hs, string(h))
	}
	return hs
}

func bodyOf(i, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(i), 1))
	for j := range b {
		b[j] = byte(r.Uint32())
	}
	return b
}

// files lists the segment files of a journal, oldest first.
func files(t testing.TB, dir, suffix string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, small)
	var refs []Ref
	var want []string
	for i := range 100 {
		h := fmt.Sprintf("record %d", i)
		refs = append(refs, appendT(t, l, h, bodyOf(i, i*37)))
		want = append(want, h)
	}
	check := func(l *Log) {
		t.Helper()
		if got := headers(l); !slices.Equal(got, want) {
			t.Fatalf("headers %q", got)
		}
		for i, ref := range refs {
			h, b, err := l.Read(ref)
			if err != nil || string(h) != want[i] || !bytes.Equal(b, bodyOf(i, i*37)) {
				t.Fatalf("record %d: %q %d bytes, %v", i, h, len(b), err)
			}
			if h, err := l.ReadHeader(ref); err != nil || string(h) != want[i] {
				t.Fatalf("header %d: %q %v", i, h, err)
			}
		}
	}
	check(l)
	if st := l.Status(); st.Segments < 10 || st.Records != 100 {
		t.Fatalf("status %+v", st)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), nil, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	if _, _, err := l.Read(refs[0]); !errors.Is(err, ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
	l = openT(t, dir, small)
	check(l)
	if len(l.Damage()) != 0 {
		t.Fatalf("damage %v", l.Damage())
	}
	refs = append(refs, appendT(t, l, "later", bodyOf(100, 3700)))
	want = append(want, "later")
	check(l)
}

func TestLimits(t *testing.T) {
	l := openT(t, t.TempDir(), small)
	if _, err := l.Append(t.Context(), make([]byte, MaxHeader+1), nil); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("header: %v", err)
	}
	if _, err := l.Append(t.Context(), nil, make([]byte, MaxBody+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("body: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{SegmentSize: 10}); err == nil {
		t.Fatal("a segment of 10 bytes was taken")
	}
	if _, err := Open(t.TempDir(), Options{SegmentSize: MaxSegmentSize + 1}); err == nil {
		t.Fatal("an oversized segment was taken")
	}
	// A record larger than a segment has one to itself.
	body := bodyOf(1, 10*small)
	h := strings.Repeat("h", MaxHeader)
	a, b, c := appendT(t, l, "a", nil), appendT(t, l, h, body), appendT(t, l, "c", nil)
	if a.Segment == b.Segment || b.Segment == c.Segment {
		t.Fatalf("segments %v %v %v", a, b, c)
	}
	if gh, gb, err := l.Read(b); err != nil || string(gh) != h || !bytes.Equal(gb, body) {
		t.Fatalf("large record: %v", err)
	}
}

// lazyDisk does not wait for the disk, for tests that open very often.
type lazyDisk struct{ osDisk }

type lazyFile struct{ file }

func (d lazyDisk) Create(path string) (file, error) {
	f, err := d.osDisk.Create(path)
	return lazyFile{f}, err
}

func (d lazyDisk) Open(path string) (file, error) {
	f, err := d.osDisk.Open(path)
	return lazyFile{f}, err
}

func (lazyDisk) SyncDir(string) error { return nil }

func (lazyFile) Sync() error { return nil }

func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, small)
	var refs []Ref
	for i := range 5 {
		refs = append(refs, appendT(t, l, fmt.Sprint(i), bodyOf(i, 50)))
	}
	l.Close()
	path := files(t, dir, segmentSuffix)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		for _, tail := range []string{"", "zeros", "noise"} {
			b := slices.Clone(whole[:cut])
			switch tail {
			case "zeros":
				b = append(b, make([]byte, 300)...)
			case "noise":
				b = append(b, bodyOf(cut, 300)...)
			}
			d := t.TempDir()
			if err := os.WriteFile(filepath.Join(d, filepath.Base(path)), b, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := open(d, Options{SegmentSize: small}, lazyDisk{})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for i, r := range refs {
				// Only padding may be missing.
				if int(r.Offset+r.Length) <= cut || tail != "" && int(r.Offset+r.Length)-padding(1, 50) <= cut {
					want = append(want, fmt.Sprint(i))
				}
			}
			if got := headers(l); !slices.Equal(got, want) {
				t.Fatalf("cut at %d, %s: got %q, want %q", cut, tail, got, want)
			}
			if len(l.Damage()) != 0 {
				t.Fatalf("cut at %d: a torn tail was told as damage: %v", cut, l.Damage())
			}
			if cut%20 == 0 {
				appendT(t, l, "next", []byte("body"))
				l.Close()
				if l, err = open(d, Options{SegmentSize: small}, lazyDisk{}); err != nil {
					t.Fatal(err)
				}
				if got := headers(l); !slices.Equal(got, append(want, "next")) {
					t.Fatalf("cut at %d: got %q after another append", cut, got)
				}
			}
			l.Close()
			os.RemoveAll(d)
		}
	}
}

func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, 4*small)
	var refs []Ref
	for i := range 5 {
		refs = append(refs, appendT(t, l, fmt.Sprint(i), bodyOf(i, 64)))
	}
	l.Close()
	path := files(t, dir, segmentSuffix)[0]
	whole, _ := os.ReadFile(path)
	sealed := slices.Clone(whole)
	sealed = appendFrame(sealed, mark(whole[:8]), kindSeal, nil, nil)
	sealed = append(sealed, zeros[:padding(0, 0)]...)
	for i := range int(refs[2].Length) - padding(1, 64) {
		for _, b := range [][]byte{whole, sealed} {
			b = slices.Clone(b)
			b[int(refs[2].Offset)+i] ^= 0x40
			d := t.TempDir()
			if err := os.WriteFile(filepath.Join(d, filepath.Base(path)), b, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := open(d, Options{SegmentSize: 4 * small}, lazyDisk{})
			if err != nil {
				t.Fatal(err)
			}
			got, want := headers(l), []string{"0", "1", "3", "4"}
			if i > frameSize && len(b) > len(whole) {
				// The body of a sealed segment is not read at open; Read tells.
				if _, _, err := l.Read(refs[2]); !errors.Is(err, ErrDamaged) {
					t.Fatalf("byte %d: %v", i, err)
				}
				want = []string{"0", "1", "2", "3", "4"}
			} else if dm := l.Damage(); len(dm) != 1 || dm[0] != (Damage{1, int64(refs[2].Offset), int64(refs[2].Length)}) {
				t.Fatalf("byte %d: damage %v", i, dm)
			} else if _, _, err := l.Read(refs[2]); !errors.Is(err, ErrNotFound) {
				t.Fatalf("byte %d: %v", i, err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("byte %d: %q", i, got)
			}
			l.Close()
			os.RemoveAll(d)
		}
	}
}

// A body that holds a copy of a record, as a stranger may send it, is never taken for one.
func TestBodyCannotPassForRecord(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, small)
	forged := appendFrame(nil, newMark(), kindData, []byte("forged"), nil)
	appendT(t, l, "first", nil)
	ref := appendT(t, l, "carrier", bytes.Repeat(forged, 10))
	appendT(t, l, "last", nil)
	l.Close()
	path := files(t, dir, segmentSuffix)[0]
	b, _ := os.ReadFile(path)
	b[ref.Offset] ^= 1
	os.WriteFile(path, b, 0o600)
	l = openT(t, dir, small)
	if got := headers(l); !slices.Equal(got, []string{"first", "last"}) {
		t.Fatalf("%q", got)
	}
}

func TestFree(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, small)
	var refs []Ref
	for i := range 40 {
		refs = append(refs, appendT(t, l, fmt.Sprint(i), bodyOf(i, 1000)))
	}
	before := len(files(t, dir, segmentSuffix))
	for _, r := range refs[:20] {
		l.Free(r)
		l.Free(r)
	}
	l.Free(Ref{Segment: 77})
	l.Free(refs[39])
	if _, _, err := l.Read(refs[3]); !errors.Is(err, ErrNotFound) {
		t.Fatalf("read of a freed record: %v", err)
	}
	if st := l.Status(); st.Records != 19 || st.LiveBytes != 19*int64(refs[20].Length) {
		t.Fatalf("status %+v", st)
	}
	l.Close()
	if after := len(files(t, dir, segmentSuffix)); after >= before-1 {
		t.Fatalf("%d segment files of %d remain", after, before)
	}
	l = openT(t, dir, small)
	var want []string
	for i := 20; i < 39; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if got := headers(l); !slices.Equal(got, want) {
		t.Fatalf("after reopening: %q", got)
	}
	for _, r := range refs {
		l.Free(r)
	}
	appendT(t, l, "end", nil)
	l.Close()
	if n := len(files(t, dir, segmentSuffix)); n > 1 {
		t.Fatalf("%d segments for one record", n)
	}
	if n := len(files(t, dir, notesSuffix)); n > 1 {
		t.Fatalf("%d notes for one segment", n)
	}
}

// Segments of which little is left are named, so that their owner can move it.
func TestSparse(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, small)
	var refs []Ref
	for i := range 40 {
		refs = append(refs, appendT(t, l, fmt.Sprint(i), bodyOf(i, 1000)))
	}
	if got := l.Sparse(0.3, 0); len(got) != 0 {
		t.Fatalf("sparse %v", got)
	}
	for i, r := range refs {
		if r.Segment <= 3 && i%7 != 0 && !(r.Segment == 2 && i%7 < 3) {
			l.Free(r)
		}
	}
	got := l.Sparse(0.3, 0)
	if more := l.Sparse(0, 0.9); len(more) != 3 || l.Status().DiskBytes != 40*l.Status().LiveBytes/int64(l.Status().Records) {
		t.Fatalf("sparse on the disk %v, %+v", more, l.Status())
	}
	if !slices.Equal(got, []uint32{1, 3}) && !slices.Equal(got, []uint32{3, 1}) {
		t.Fatalf("sparse %v", got)
	}
	for _, r := range refs {
		if slices.Contains(got, r.Segment) {
			if h, b, err := l.Read(r); err == nil {
				appendT(t, l, string(h), b)
				l.Free(r)
			}
		}
	}
	l.Close()
	for _, f := range files(t, dir, segmentSuffix) {
		if n, _, _ := parseName(filepath.Base(f)); slices.Contains(got, n) {
			t.Fatalf("segment %d is still there", n)
		}
	}
}

// Numbers are not used twice, so that a Ref kept elsewhere never names another record.
func TestRefsAreUnique(t *testing.T) {
	dir := t.TempDir()
	seen := make(map[Ref]bool)
	for range 20 {
		l := openT(t, dir, small)
		for range 9 {
			ref := appendT(t, l, "x", make([]byte, 1000))
			if seen[ref] {
				t.Fatalf("%v was given twice", ref)
			}
			seen[ref] = true
			l.Free(ref)
		}
		l.Close()
	}
}

// A note of a record that a crash took away must not speak for the record that is written in its place.
func TestStaleNote(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, small)
	appendT(t, l, "kept", nil)
	ref := appendT(t, l, "lost", nil)
	l.Free(ref)
	l.Close()
	path := files(t, dir, segmentSuffix)[0]
	if err := os.Truncate(path, int64(ref.Offset)); err != nil {
		t.Fatal(err)
	}
	l = openT(t, dir, small)
	appendT(t, l, "new", nil)
	l.Close()
	l = openT(t, dir, small)
	if got := headers(l); !slices.Equal(got, []string{"kept", "new"}) {
		t.Fatalf("%q", got)
	}
	stray := filepath.Join(dir, "000000aa-0011223344556677"+notesSuffix)
	os.WriteFile(stray, appendNote(nil, 0), 0o600)
	l.Close()
	openT(t, dir, small)
	if _, err := os.Stat(stray); err == nil {
		t.Fatal("notes without a segment were kept")
	}
}

// brokenDisk fails when told to.
type brokenDisk struct {
	osDisk
	create, write, sync, truncate atomic.Bool
	syncs                         atomic.Int64
	delay                         time.Duration
}

var errDisk = errors.New("the disk says no")

type brokenFile struct {
	file
	d *brokenDisk
}

func (d *brokenDisk) Create(path string) (file, error) {
	if d.create.Load() {
		return nil, errDisk
	}
	f, err := d.osDisk.Create(path)
	return brokenFile{f, d}, err
}

func (d *brokenDisk) Open(path string) (file, error) {
	f, err := d.osDisk.Open(path)
	return brokenFile{f, d}, err
}

func (f brokenFile) WriteAt(b []byte, off int64) (int, error) {
	if f.d.write.Load() {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, errDisk
	}
	return f.file.WriteAt(b, off)
}

func (f brokenFile) Sync() error {
	f.d.syncs.Add(1)
	time.Sleep(f.d.delay)
	if f.d.sync.Load() {
		return errDisk
	}
	return nil
}

func (f brokenFile) Truncate(n int64) error {
	if f.d.truncate.Load() {
		return errDisk
	}
	return f.file.Truncate(n)
}

func TestFailingDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		flag func(*brokenDisk) []*atomic.Bool
	}{
		{"write", func(d *brokenDisk) []*atomic.Bool { return []*atomic.Bool{&d.write} }},
		{"sync", func(d *brokenDisk) []*atomic.Bool { return []*atomic.Bool{&d.sync} }},
		{"sync and truncate", func(d *brokenDisk) []*atomic.Bool { return []*atomic.Bool{&d.sync, &d.truncate} }},
		{"create", func(d *brokenDisk) []*atomic.Bool { return []*atomic.Bool{&d.write, &d.create} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := &brokenDisk{}
			l, err := open(dir, Options{SegmentSize: small}, d)
			if err != nil {
				t.Fatal(err)
			}
			first := appendT(t, l, "first", []byte("body"))
			set := func(v bool) {
				for _, b := range c.flag(d) {
					b.Store(v)
				}
			}
			set(true)
			for range 3 {
				if _, err := l.Append(t.Context(), []byte("failed"), bodyOf(1, 500)); !errors.Is(err, errDisk) {
					t.Fatalf("append on a failing disk: %v", err)
				}
			}
			if got := headers(l); !slices.Equal(got, []string{"first"}) {
				t.Fatalf("while failing: %q", got)
			}
			set(false)
			second := appendT(t, l, "second", []byte("body"))
			if second.Segment == first.Segment {
				t.Fatal("a segment was used again after a failure")
			}
			if _, b, err := l.Read(first); err != nil || string(b) != "body" {
				t.Fatalf("first: %v", err)
			}
			if st := l.Status(); st.Failures != 3 || st.Segments != 2 || len(files(t, dir, segmentSuffix)) != 2 {
				t.Fatalf("status %+v, files %v", st, files(t, dir, segmentSuffix))
			}
			l.Close()
			l = openT(t, dir, small)
			got := headers(l)
			got = slices.DeleteFunc(got, func(h string) bool { return h == "failed" })
			if !slices.Equal(got, []string{"first", "second"}) {
				t.Fatalf("after reopening: %q", got)
			}
		})
	}
}

// What waits while a sync runs joins the next one, and its failure too.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &brokenDisk{delay: time.Millisecond}
		l, err := open(t.TempDir(), Options{}, d)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		start, syncs := time.Now(), d.syncs.Load()
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 50 {
					if _, err := l.Append(t.Context(), fmt.Appendf(nil, "%d/%d", w, i), bodyOf(i, 100)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := d.syncs.Load() - syncs; n > 110 {
			t.Errorf("%d syncs for 400 records of 8 writers", n)
		}
		if took := time.Since(start); took > 120*time.Millisecond {
			t.Errorf("took %v", took)
		}
		var waits []func() error
		d.sync.Store(true)
		for range 20 {
			_, wait := l.AppendAsync([]byte("x"), nil)
			waits = append(waits, wait)
		}
		for _, wait := range waits {
			if err := wait(); !errors.Is(err, errDisk) {
				t.Errorf("wait: %v", err)
			}
			if err := wait(); !errors.Is(err, errDisk) {
				t.Errorf("second wait: %v", err)
			}
		}
	})
}

// Copies of the directory taken while writers write hold all that was acknowledged before.
func TestCrashAtAnyInstant(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, 64<<10)
	var mu sync.Mutex
	acked := make(map[string]bool)
	freed := make(map[string]bool)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 150 {
				h := fmt.Sprintf("%d/%d", w, i)
				ref, err := l.Append(t.Context(), []byte(h), bodyOf(i, i*13%3000))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[h] = true
				if i%3 == 0 {
					freed[h] = true
				}
				mu.Unlock()
				if i%3 == 0 {
					l.Free(ref)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		mu.Lock()
		var want []string
		for h := range acked {
			if !freed[h] {
				want = append(want, h)
			}
		}
		mu.Unlock()
		c := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(c, os.DirFS(dir)); err != nil {
			continue // a segment was unlinked on the way
		}
		cl := openT(t, c, 64<<10)
		got := make(map[string]bool)
		for ref, h := range cl.Records() {
			if _, _, err := cl.Read(ref); err != nil {
				t.Fatalf("%s: %v", h, err)
			}
			got[string(h)] = true
		}
		for _, h := range want {
			if !got[h] {
				t.Fatalf("%s was acknowledged and is lost; %d of %d are there", h, len(got), len(want))
			}
		}
		cl.Close()
		os.RemoveAll(c)
	}
}

// Large bodies that are freed give their space back before their segment goes.
func TestPunch(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, 16<<20)
	var refs []Ref
	for i := range 40 {
		refs = append(refs, appendT(t, l, fmt.Sprint(i), bodyOf(i, 100<<10)))
	}
	for _, r := range refs[1:] {
		l.Free(r)
	}
	l.Close()
	if got := allocated(t, files(t, dir, segmentSuffix)[0]); got > 2<<20 {
		t.Errorf("%d bytes are still in use", got)
	}
	// Even when the notes are lost, what was given back is not called damage beyond those records.
	os.Remove(files(t, dir, notesSuffix)[0])
	l = openT(t, dir, 16<<20)
	if _, b, err := l.Read(refs[0]); err != nil || !bytes.Equal(b, bodyOf(0, 100<<10)) {
		t.Fatal(err)
	}
}

// Trim gives back what Free alone would let wait, and what could not be noted at first.
func TestTrim(t *testing.T) {
	dir := t.TempDir()
	l := openT(t, dir, 16<<20)
	l.Trim() // nothing is there
	var refs []Ref
	for i := range 40 {
		refs = append(refs, appendT(t, l, fmt.Sprint(i), bodyOf(i, 16<<10)))
	}
	segment := files(t, dir, segmentSuffix)[0]
	notes := strings.TrimSuffix(segment, segmentSuffix) + notesSuffix
	if err := os.Mkdir(notes, 0o700); err != nil { // notes cannot be written
		t.Fatal(err)
	}
	for _, r := range refs[1:21] {
		l.Free(r)
	}
	l.Trim()
	if err := os.Remove(notes); err != nil {
		t.Fatal(err)
	}
	for _, r := range refs[21:] {
		l.Free(r)
	}
	l.Trim()
	if got := allocated(t, segment); got > 300<<10 {
		t.Errorf("%d bytes are still in use", got)
	}
	if st := l.Status(); allocated(t, segment) > 0 && st.DiskBytes > 300<<10 {
		t.Errorf("status %+v", st)
	}
	l.Close()
	l.Trim()
	l = openT(t, dir, 16<<20)
	if got := headers(l); !slices.Equal(got, []string{"0"}) {
		t.Errorf("after reopening: %q", got)
	}
	if _, b, err := l.Read(refs[0]); err != nil || !bytes.Equal(b, bodyOf(0, 16<<10)) {
		t.Fatal(err)
	}
}

// syncedDisk notes which directories are synced.
type syncedDisk struct {
	osDisk
	dirs *[]string
}

func (d syncedDisk) SyncDir(path string) error {
	*d.dirs = append(*d.dirs, path)
	return d.osDisk.SyncDir(path)
}

// A journal's directory is on the disk as soon as what is in it, also when it was made and not synced before.
func TestDirectoryIsSynced(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "journal")
	for range 2 {
		var dirs []string
		l, err := open(dir, Options{SegmentSize: small}, syncedDisk{dirs: &dirs})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if !slices.Equal(dirs, []string{parent, dir}) {
			t.Fatalf("synced %q", dirs)
		}
	}
}

// What lies in a journal is nobody else's, and no file is larger than a segment can be.
func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	l := openT(t, dir, small)
	ref := appendT(t, l, "header", bodyOf(1, 100))
	appendT(t, l, "header", bodyOf(2, 100))
	l.Free(ref)
	l.Trim()
	l.Close()
	all, err := os.ReadDir(dir)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	for _, path := range []string{".", all[0].Name(), all[1].Name()} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	segment := files(t, dir, segmentSuffix)[0]
	if err := os.Truncate(segment, MaxSegmentSize+MaxBody+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{SegmentSize: small}); err == nil || !strings.Contains(err.Error(), "more than a segment") {
		t.Errorf("a segment without end: %v", err)
	}
}

func TestIsFull(t *testing.T) {
	for _, err := range append(slices.Clone(fullErrors), syscall.ENOSPC) {
		if !IsFull(fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: "x", Err: err})) {
			t.Errorf("%v is not full", err)
		}
	}
	if IsFull(errDisk) || IsFull(nil) {
		t.Error("full for another reason")
	}
}

func FuzzScanner(f *testing.F) {
	m := mark{1, 2, 3, 4, 5, 6, 7, 8}
	var seg []byte
	for i, body := range []string{"", "one", strings.Repeat("body", 50)} {
		h := fmt.Appendf(nil, "header %d", i)
		seg = appendFrame(seg, m, kindData, h, []byte(body))
		seg = append(seg, body...)
		seg = append(seg, zeros[:padding(len(h), len(body))]...)
	}
	f.Add(seg, false)
	f.Add(seg[:len(seg)-5], false)
	f.Add(append(slices.Clone(seg[3:]), seg...), true)
	f.Add(append(appendFrame(slices.Clone(seg), m, kindSeal, nil, nil), 0, 0, 0, 0), false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		s := &scanner{window: window{r: bytes.NewReader(b)}, size: int64(len(b)), mark: m, sealed: sealed}
		s.sealed = s.sealed || s.isSealed()
		end := int64(0)
		for {
			r, ok := s.next()
			if !ok {
				break
			}
			if r.offset-r.skipped != end {
				t.Fatalf("record at %d, %d skipped, after %d", r.offset, r.skipped, end)
			}
			end = r.offset + recordSize(r.header, r.body)
			if end > int64(len(b)) {
				t.Fatal("a record reaches over the end")
			}
			at := r.offset + frameSize
			h := b[at : at+int64(r.header)]
			body := b[at+int64(r.header) : at+int64(r.header)+int64(r.body)]
			if !s.sealed && !r.bad {
				again := appendFrame(nil, m, r.kind, h, body)
				if !bytes.Equal(again, b[r.offset:at+int64(r.header)]) {
					t.Fatal("another encoding of the same record was read")
				}
			}
		}
		if s.err != nil {
			t.Fatal(s.err)
		}
		if s.end != end {
			t.Fatalf("end %d, last record to %d", s.end, end)
		}
	})
}

func FuzzNotes(f *testing.F) {
	f.Add(appendNote(appendNote(nil, 0), 4096))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "notes")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		freed, err := readNotes(path)
		if err != nil || len(freed) > len(b)/noteSize {
			t.Fatal(len(freed), err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 75 << 10, 1 << 20} {
		for _, writers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKB/%dwriters", size>>10, writers), func(b *testing.B) {
				l := openT(b, b.TempDir(), 0)
				body := bodyOf(1, size)
				b.SetBytes(int64(size))
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							ref, err := l.Append(b.Context(), make([]byte, 200), body)
							if err != nil {
								b.Error(err)
							}
							l.Free(ref)
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				b.ReportMetric(float64(l.Status().Commits)/float64(b.N), "syncs/append")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	l := openT(b, b.TempDir(), 0)
	ref := appendT(b, l, "header", bodyOf(1, 1<<10))
	for b.Loop() {
		if _, _, err := l.Read(ref); err != nil {
			b.Fatal(err)
		}
	}
}
