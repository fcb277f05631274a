package mailbox

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

// TestRealFullDisk fills a small file system to the last byte while the mailbox is closed. Mounting one takes rights
// that not everybody has.
func TestRealFullDisk(t *testing.T) {
	top := t.TempDir()
	if err := syscall.Mount("none", top, "tmpfs", 0, "size=8m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { tcheck(t, syscall.Unmount(top, syscall.MNT_DETACH)) })
	fillUp := func() {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(top, "other"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		tcheck(t, err)
		if _, err := io.CopyBuffer(f, rand.Reader, make([]byte, 512)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		tcheck(t, f.Close())
	}
	dir := filepath.Join(top, "mailbox")
	m := openTest(t, dir)
	in := inboxOf(t, m)
	uid := put(t, m, in.ID, text("a", "b"))
	for range 20 {
		put(t, m, in.ID, append(text("large", ""), make([]byte, 50_000)...), mail.Flagged)
	}
	spoolAll(t, m)
	for round := range 3 {
		tcheck(t, m.Close())
		fillUp()
		m = openTest(t, dir)
		bodyOf(t, m, in.ID, uid)
		gone := uidsOf(t, m, in.ID)[round+1 : round+2]
		_, _, err := m.SetFlags(t.Context(), in.ID, gone, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
		tcheck(t, err)
		_, err = m.Expunge(t.Context(), in.ID, nil)
		tcheck(t, err)
		tcheck(t, m.collect(t.Context()))
	}
	if n := len(uidsOf(t, m, in.ID)); n != 18 {
		t.Errorf("%d messages are left", n)
	}
	checkTidy(t, m)
}
