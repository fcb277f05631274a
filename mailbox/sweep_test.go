package mailbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// TestSweepSparesAccepted crashes with a large accepted message that is not
// indexed, and starts again while the disk is still full.
func TestSweepSparesAccepted(t *testing.T) {
	dir := t.TempDir()
	m, disk := openFull(t, dir)
	disk.left.Store(1) // the journal's record
	big := append(text("big", "b"), bytes.Repeat([]byte("x"), smallMessage)...)
	if err := m.Accept(t.Context(), mail.Submission{From: "me"}, big, []Outgoing{outTo2(1)}); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	tcheck(t, os.CopyFS(crashed, os.DirFS(dir)))
	hit := 0
	for n := int64(2); n < 40; n += 6 { // writes until the disk is full
		again := t.TempDir()
		tcheck(t, os.CopyFS(again, os.DirFS(crashed)))
		d := &fullDisk{VFS: vfs.Find("")}
		d.left.Store(n)
		name := fmt.Sprintf("fullx%d", n)
		pages.Register(name, d)
		m, err := open(t.Context(), Config{Dir: again, Keys: testKeys}, options{
			vfs: name, journal: func(l *journal.Log) journalLog { return fullJournal{l, d} },
		})
		if err == nil {
			if !m.accepts.empty() {
				hit++
				// The rest of the outbox goes on, but nobody is told that there is no such message.
				if rows, err := m.Outbox(t.Context(), OutboxFilter{}); err != nil || len(rows) != 0 {
					t.Errorf("n=%d: %d rows, %v", n, len(rows), err)
				}
				if _, err := m.Outgoing(t.Context(), outTo2(1).MessageID); err == nil || errors.Is(err, mail.ErrNoMessage) {
					t.Errorf("n=%d: %v", n, err)
				}
			}
			d.left.Store(-1)
			_ = m.Close()
		}
		d.left.Store(-1)
		vfs.Unregister(name)
		m = openTest(t, again)
		rows, err := m.Outbox(t.Context(), OutboxFilter{})
		if err != nil || len(rows) != 1 {
			t.Errorf("n=%d: %d rows, %v", n, len(rows), err)
			continue
		}
		if _, err := m.OutgoingMessage(t.Context(), rows[0].MessageID); err != nil {
			t.Errorf("n=%d: %v", n, err)
		}
	}
	if hit == 0 {
		t.Error("never opened with it waiting")
	}
}

// TestSweepSeesWholeJournal crashes with a large accepted message that is not indexed, and starts again while the
// journal cannot be read.
func TestSweepSeesWholeJournal(t *testing.T) {
	dir := t.TempDir()
	m, disk := openFull(t, dir)
	disk.left.Store(1) // the journal's record
	big := append(text("big", "b"), bytes.Repeat([]byte("x"), smallMessage)...)
	tcheck(t, m.Accept(t.Context(), mail.Submission{From: "me"}, big, []Outgoing{outTo2(1)}))
	crashed := t.TempDir()
	tcheck(t, os.CopyFS(crashed, os.DirFS(dir)))
	segments, err := filepath.Glob(filepath.Join(crashed, journalDir, "*.seg*"))
	tcheck(t, err)
	if len(segments) != 1 {
		t.Fatalf("segments: %q", segments)
	}
	aside := filepath.Join(t.TempDir(), "segment")
	m, err = open(t.Context(), Config{Dir: crashed, Keys: testKeys}, options{journal: func(l *journal.Log) journalLog {
		tcheck(t, errors.Join(os.Rename(segments[0], aside), os.Mkdir(segments[0], 0o700))) // its bytes cannot be read
		return l
	}})
	if err == nil {
		tcheck(t, m.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "try again when the files in "+filepath.Join(crashed, journalDir)) {
		t.Errorf("opened: %v", err)
	}
	tcheck(t, errors.Join(os.Remove(segments[0]), os.Rename(aside, segments[0])))
	m = openTest(t, crashed)
	if got, err := m.OutgoingMessage(t.Context(), outTo2(1).MessageID); err != nil || !bytes.Equal(got, big) {
		t.Errorf("accepted message: %d bytes, %v", len(got), err)
	}
}
