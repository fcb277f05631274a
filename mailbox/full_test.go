package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// fullDisk is a disk that has room for so many more writes.
type fullDisk struct {
	vfs.VFS
	left    atomic.Int64 // writes; negative: no limit
	reserve *reserve     // nil: what it gives back does not make room
	size    atomic.Int64 // of it, in bytes
}

// reserveWrites is how many writes each part of the reserve that is given back makes room for.
const reserveWrites = 64

// given reports whether a part of the reserve was given back.
func (d *fullDisk) given() bool {
	if d.reserve == nil {
		return false
	}
	st, err := os.Stat(d.reserve.path)
	return err == nil && st.Size() < d.size.Swap(st.Size())
}

func (d *fullDisk) spend() error {
	for {
		n := d.left.Load()
		if n < 0 {
			return nil
		}
		if n == 0 && d.given() {
			d.left.Store(reserveWrites)
			continue
		}
		if n == 0 {
			return syscall.ENOSPC
		}
		if d.left.CompareAndSwap(n, n-1) {
			return nil
		}
	}
}

func (d *fullDisk) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := vfsutil.WrapOpenFilename(d.VFS, name, flags)
	if err != nil {
		return nil, flags, err
	}
	return &fullFile{f, d}, flags, nil
}

type fullFile struct {
	vfs.File
	disk *fullDisk
}

func (f *fullFile) Unwrap() vfs.File               { return f.File }
func (f *fullFile) SharedMemory() vfs.SharedMemory { return vfsutil.WrapSharedMemory(f.File) }
func (f *fullFile) Sync(flags vfs.SyncFlag) error {
	return errors.Join(f.disk.spend(), f.File.Sync(flags))
}
func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.spend(); err != nil {
		// What is there needs no new room and stays as it is; what is new may be torn.
		if size, serr := f.Size(); serr == nil && off >= size {
			n, _ := f.File.WriteAt(p[:len(p)/2], off)
			return n, err
		}
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

// fullJournal is a journal on such a disk.
type fullJournal struct {
	journalLog
	disk *fullDisk
}

func (j fullJournal) Append(ctx context.Context, header, body []byte) (journal.Ref, error) {
	if err := j.disk.spend(); err != nil {
		return journal.Ref{}, &os.PathError{Op: "write", Path: "segment", Err: err}
	}
	return j.journalLog.Append(ctx, header, body)
}

var fullDisks atomic.Int64

func openFull(t *testing.T, dir string) (*Mailbox, *fullDisk) { return openFullWith(t, dir, -1) }

// openFullWith opens a mailbox on a disk with room for so many writes.
func openFullWith(t *testing.T, dir string, left int64) (*Mailbox, *fullDisk) {
	t.Helper()
	d := &fullDisk{VFS: vfs.Find("")}
	d.left.Store(left)
	name := fmt.Sprintf("full%d", fullDisks.Add(1))
	pages.Register(name, d)
	t.Cleanup(func() { vfs.Unregister(name) })
	m, err := open(t.Context(), Config{Dir: dir, Keys: testKeys}, options{
		vfs: name, journal: func(l *journal.Log) journalLog { return fullJournal{l, d} },
	})
	tcheck(t, err)
	t.Cleanup(func() { d.left.Store(-1); _ = m.Close() })
	return m, d
}

// TestFullDisk lets the disk fill up at every place of a random run: what
// fails says so, what was acknowledged stays, and all goes on once there is room.
func TestFullDisk(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	dir := t.TempDir()
	m, disk := openFull(t, dir)
	in := inboxOf(t, m)
	want := map[mail.UID]string{} // subject
	flags := map[mail.UID]bool{}
	accepted := 0
	full, fine := 0, 0
	ctx := t.Context()
	// What failed at the commit may be found done after a crash, until another commit succeeds.
	doubt, extra := map[mail.UID]bool{}, 0
	check := func(m *Mailbox, crashed bool) {
		t.Helper()
		if got := uidsOf(t, m, in.ID); len(got) != len(want) && !crashed || len(got) > len(want)+extra {
			t.Errorf("%d messages, want %d, and perhaps %d more", len(got), len(want), extra)
		}
		for uid, name := range want {
			e, err := m.Entries(ctx, in.ID, []mail.UID{uid})
			tcheck(t, err)
			if crashed && doubt[uid] && len(e) == 0 {
				continue
			}
			if on := len(e) == 1 && len(e[0].Flags) == 1; on != flags[uid] && !(crashed && doubt[uid]) {
				t.Errorf("message %d: flags %v, want %v", uid, e, flags[uid])
			}
			if b := bodyOf(t, m, in.ID, uid); !bytes.Contains(b, []byte("Subject: "+name+"\r\n")) {
				t.Errorf("message %d is not %s", uid, name)
			}
		}
		for _, uid := range uidsOf(t, m, in.ID) {
			bodyOf(t, m, in.ID, uid)
		}
		rows, err := m.Outbox(ctx, OutboxFilter{})
		tcheck(t, err)
		if sent := folderOf(t, m, "Sent"); len(rows) != accepted || int(sent.Messages) != accepted {
			t.Errorf("%d rows and %d copies of %d accepted", len(rows), sent.Messages, accepted)
		}
	}
	for i := range 400 {
		if r.IntN(3) == 0 {
			disk.left.Store(int64(r.IntN(12)))
		}
		var err error
		switch k := r.IntN(10); {
		case k < 4:
			name := fmt.Sprintf("m%d", i)
			b := text(name, name)
			var uid mail.UID
			if uid, err = m.Append(ctx, in.ID, bytes.NewReader(b), int64(len(b)), nil, time.Time{}); err == nil {
				if want[uid] != "" {
					t.Fatalf("UID %d again", uid)
				}
				want[uid] = name
				clear(doubt)
				extra = 0
			} else {
				extra++
			}
		case k < 6:
			uids := uidsOf(t, m, in.ID)
			if len(uids) == 0 {
				continue
			}
			uid, on := uids[r.IntN(len(uids))], r.IntN(2) == 0
			op := mail.RemoveFlags
			if on {
				op = mail.AddFlags
			}
			if _, _, err = m.SetFlags(ctx, in.ID, []mail.UID{uid}, op, []mail.Flag{mail.Flagged}, 0); err == nil {
				flags[uid] = on
			} else {
				doubt[uid] = true
			}
		case k < 7:
			_, _, err = m.File(ctx, Delivery{Role: mail.Junk, Message: text("x", "y"), Sender: identity.Root{1}, MessageID: [16]byte{byte(i), byte(i >> 8)}})
		case k < 8:
			if err = m.Accept(ctx, mail.Submission{From: "me"}, text("x", "y"), []Outgoing{outTo2(i)}); err == nil {
				accepted++
			}
		case k < 9:
			uids := uidsOf(t, m, in.ID)
			if len(uids) == 0 {
				continue
			}
			uid := uids[r.IntN(len(uids))]
			if _, err = m.Move(ctx, in.ID, []mail.UID{uid}, "Trash"); err == nil {
				delete(want, uid)
				delete(flags, uid)
			} else {
				doubt[uid] = true
			}
		default:
			disk.left.Store(-1)
			switch r.IntN(4) {
			case 0:
				err = m.spool(ctx)
			case 1:
				err = m.read(ctx, (*pages.Conn).Checkpoint)
			case 2:
				err = m.Close()
				m, disk = openFull(t, dir)
				clear(doubt)
				extra = 0
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case errors.Is(err, mail.ErrNoSpace):
			if full++; full%16 == 0 {
				// The machine dies just then.
				crashed := t.TempDir()
				m.writer.turn <- struct{}{}
				tcheck(t, os.CopyFS(crashed, os.DirFS(dir)))
				<-m.writer.turn
				c := openTest(t, crashed)
				check(c, true)
				checkTidy(t, c)
				tcheck(t, c.Close())
			}
		case err != nil:
			t.Fatalf("step %d: %v", i, err)
		default:
			fine++
		}
	}
	t.Logf("%d times full, %d times fine", full, fine)
	if full < 40 || fine < 100 {
		t.Errorf("%d times full, %d times fine", full, fine)
	}
	disk.left.Store(-1)
	for !m.accepts.empty() {
		m.retryAccepts()
		runtime.Gosched()
	}
	check(m, false)
	tcheck(t, m.Close())
	m = openTest(t, dir)
	check(m, false)
	checkTidy(t, m)
}

// TestBacklog accepts a message for which the journal has room and the index has not.
func TestBacklog(t *testing.T) {
	m, disk := openFull(t, t.TempDir())
	ctx := t.Context()
	disk.left.Store(1)
	sent := outTo2(1)
	tcheck(t, m.Accept(ctx, mail.Submission{From: "me"}, text("x", "y"), []Outgoing{sent}))
	rows, err := m.Outbox(ctx, OutboxFilter{})
	tcheck(t, err)
	waiting, err := m.Backlog(ctx)
	tcheck(t, err)
	if len(rows) != 0 || len(waiting) != 1 {
		t.Fatalf("%d rows, %d in the backlog", len(rows), len(waiting))
	}
	w := waiting[0]
	if w.MessageID != sent.MessageID || w.To != sent.To || w.State != Accepted || w.Size == 0 || w.LastError == "" || !w.Expires.Equal(sent.Expires.Truncate(time.Millisecond)) {
		t.Errorf("backlog %+v", w)
	}
	disk.left.Store(-1)
	for !m.accepts.empty() {
		m.retryAccepts()
		runtime.Gosched()
	}
	if waiting, err = m.Backlog(ctx); err != nil || len(waiting) != 0 {
		t.Errorf("%d in the backlog when there is room, %v", len(waiting), err)
	}
	if rows, err = m.Outbox(ctx, OutboxFilter{}); err != nil || len(rows) != 1 {
		t.Errorf("%d rows when there is room, %v", len(rows), err)
	}
}

func outTo2(i int) Outgoing {
	o := outTo(1, "anna")
	o.MessageID = [16]byte{1, byte(i), byte(i >> 8)}
	return o
}

// checkTidy checks that rows, files and journal agree.
func checkTidy(t testing.TB, m *Mailbox) {
	t.Helper()
	tcheck(t, m.collect(t.Context()))
	files, records := map[contentName]bool{}, 0
	tcheck(t, m.read(t.Context(), func(c *pages.Conn) error {
		bad, err := c.Int(`SELECT count(*) FROM content WHERE refs != (SELECT count(*) FROM message WHERE message.content=content.id)
			+ (SELECT count(*) FROM submission WHERE submission.content=content.id AND open>0)`)
		if err != nil || bad != 0 {
			t.Errorf("%d contents with wrong references, %v", bad, err)
		}
		if check, err := c.Int("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check != 'ok'"); err != nil || check != 0 {
			t.Errorf("index damaged: %d, %v", check, err)
		}
		return c.Query("SELECT "+contentColumns+" FROM content", nil, func(r *pages.Row) error {
			x, err := scanContent(r)
			if x.inJournal() {
				records++
			} else {
				files[x.name] = true
			}
			return err
		})
	}))
	if s := m.journal.Status(); s.Records != records {
		t.Errorf("%d records in the journal, want %d", s.Records, records)
	}
	for path := range filesOf(t, filepath.Join(m.dir, messagesDir)) {
		n, ok := parseContentName(filepath.Base(filepath.Dir(path)), filepath.Base(path))
		if !ok || !files[n] {
			t.Errorf("%s belongs to no message", path)
		}
		delete(files, n)
	}
	if len(files) > 0 {
		t.Errorf("%d files are missing", len(files))
	}
}

// TestOpenOnFullDisk opens a mailbox while the disk is full: reading works, and what cannot be done says why.
func TestOpenOnFullDisk(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	m, _ := openFull(t, dir)
	in := inboxOf(t, m)
	filed := put(t, m, in.ID, text("filed", "b"))
	spoolAll(t, m)
	logged := put(t, m, in.ID, text("logged", "b"))
	tcheck(t, m.Close())

	m, disk := openFullWith(t, dir, 0)
	for _, uid := range []mail.UID{filed, logged} {
		bodyOf(t, m, in.ID, uid)
	}
	wantUIDs(t, "search", search(t, m, in.ID, mail.Query{Text: []string{"logged"}}), logged)
	if err := m.Accept(ctx, mail.Submission{From: "me"}, text("x", "y"), []Outgoing{outTo(1, "anna")}); !errors.Is(err, mail.ErrNoSpace) {
		t.Errorf("accepted on a full disk: %v", err)
	}
	for _, size := range []int64{10, smallMessage + 1} {
		if _, err := m.Append(ctx, in.ID, bytes.NewReader(make([]byte, size)), size, nil, time.Time{}); !errors.Is(err, mail.ErrNoSpace) {
			t.Errorf("stored %d bytes on a full disk: %v", size, err)
		}
	}
	if _, _, err := m.SetFlags(ctx, in.ID, []mail.UID{filed}, mail.AddFlags, []mail.Flag{mail.Flagged}, 0); !errors.Is(err, mail.ErrNoSpace) {
		t.Errorf("flagged on a full disk: %v", err)
	}

	// Once there is room the mark of the last Close does not hide what a crash leaves behind.
	disk.left.Store(-1)
	if _, err := m.take(ctx, bytes.NewReader(make([]byte, smallMessage+1)), smallMessage+1); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	tcheck(t, os.CopyFS(crashed, os.DirFS(dir)))
	checkTidy(t, openTest(t, crashed))

	// It can be closed when it is full again.
	disk.left.Store(0)
	tcheck(t, m.Close())
	m, _ = openFull(t, dir)
	checkTidy(t, m)
	bodyOf(t, m, in.ID, filed)
}

// TestDeleteOnFullDisk deletes mail with the room that is set aside for it.
func TestDeleteOnFullDisk(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	m, _ := openFull(t, dir)
	in := inboxOf(t, m)
	for range 5 {
		put(t, m, in.ID, text("a", "b"))
	}
	spoolAll(t, m)
	tcheck(t, m.Close())
	m, disk := openFullWith(t, dir, 0)
	disk.size.Store(reserveSize)
	disk.reserve = &m.reserve
	full := func() {
		t.Helper()
		disk.left.Store(0)
		if _, _, err := m.SetFlags(ctx, in.ID, uidsOf(t, m, in.ID), mail.AddFlags, []mail.Flag{mail.Flagged}, 0); !errors.Is(err, mail.ErrNoSpace) {
			t.Fatalf("what is set aside went into flags: %v", err)
		}
	}
	full()
	_, _, err := m.SetFlags(ctx, in.ID, []mail.UID{1, 2}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(t, err)
	full()
	gone, err := m.Expunge(ctx, in.ID, nil)
	tcheck(t, err)
	wantUIDs(t, "expunged", gone, 1, 2)
	full()
	_, err = m.Move(ctx, in.ID, []mail.UID{3}, "Trash")
	tcheck(t, err)
	full()
	tcheck(t, m.collect(ctx))
	files := 0
	for range filesOf(t, filepath.Join(dir, messagesDir)) {
		files++
	}
	if files != 3 {
		t.Errorf("%d files are left", files)
	}
	// Half of what is left each time, and filled up again when there is room.
	if st, err := os.Stat(filepath.Join(dir, reserveFile)); err != nil || st.Size() != reserveSize>>4 {
		t.Errorf("the reserve has %v, %v", st, err)
	}
	for m.reserve.spend() {
	}
	disk.size.Store(0)
	full()
	if _, err := m.Move(ctx, in.ID, []mail.UID{4}, "Trash"); !errors.Is(err, mail.ErrNoSpace) {
		t.Errorf("moved without room: %v", err)
	}
	disk.left.Store(-1)
	tcheck(t, m.reserve.fill())
	if st, err := os.Stat(filepath.Join(dir, reserveFile)); err != nil || st.Size() != reserveSize {
		t.Errorf("the reserve has %v, %v", st, err)
	}
	wantUIDs(t, "left", uidsOf(t, m, in.ID), 4, 5)
	checkTidy(t, m)
}

// TestFilesCannotBeMade keeps mail readable while no file can be made.
func TestFilesCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	uid := put(t, m, in.ID, text("a", "b"))
	top := filepath.Join(dir, messagesDir)
	tcheck(t, os.Remove(top))
	tcheck(t, os.WriteFile(top, nil, 0o600))
	for range 3 {
		if err := m.spool(t.Context()); err == nil {
			t.Fatal("files were made")
		}
	}
	big := make([]byte, smallMessage+1)
	if _, err := m.Append(t.Context(), in.ID, bytes.NewReader(big), int64(len(big)), nil, time.Time{}); err == nil {
		t.Fatal("a large message was stored")
	}
	bodyOf(t, m, in.ID, uid)
	tcheck(t, os.Remove(top))
	tcheck(t, os.Mkdir(top, 0o700))
	tcheck(t, m.spool(t.Context()))
	bodyOf(t, m, in.ID, uid)
	put(t, m, in.ID, big)
	checkTidy(t, m)
}

// TestSweep leaves files and records behind as a crash would.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	uid := put(t, m, in.ID, text("a", "b"))
	for _, size := range []int{10, smallMessage + 1} {
		if _, err := m.take(t.Context(), bytes.NewReader(make([]byte, size)), int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	// A file that was begun for a message that is in the journal still.
	var c content
	tcheck(t, m.read(t.Context(), func(conn *pages.Conn) (err error) {
		c, err = contentOf(conn, 1)
		return err
	}))
	tcheck(t, m.makeMessageDir(t.Context(), c.name.path(dir)))
	tcheck(t, os.WriteFile(c.name.path(dir), []byte("half"), 0o600))
	crashed := t.TempDir()
	tcheck(t, os.CopyFS(crashed, os.DirFS(dir)))
	m = openTest(t, crashed)
	checkTidy(t, m)
	bodyOf(t, m, in.ID, uid)
	tcheck(t, m.spool(t.Context()))
	bodyOf(t, m, in.ID, uid)
	checkTidy(t, m)
}
