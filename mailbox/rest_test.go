package mailbox

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// filesOf reads every file of a mailbox, as a thief would.
func filesOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	tcheck(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files[path] = b
		return err
	}))
	return files
}

// TestStolenDirectory plants texts everywhere and looks for them in the files.
func TestStolenDirectory(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	root := identity.Root{0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 1, 2, 3, 4, 5, 6, 7, 8}
	planted := map[string]string{
		"subject": "plantedsubject", "body": "plantedbody", "large": "plantedlarge", "folder": "plantedfolder", "keyword": "plantedkeyword",
		"contact": "plantedcontact", "setting": "plantedsetting", "recipient": "plantedrecipient", "return path": "plantedfrom",
		"error": "plantederror", "reason": "plantedreason", "address": "anna@example.org", "sender": string(root[:14]),
	}
	put(t, m, in.ID, text(planted["subject"], planted["body"]), mail.Flag(planted["keyword"]))
	large := text("x", strings.Repeat(planted["large"]+" ", smallMessage/10))
	uid := put(t, m, in.ID, large)
	_, err := m.CreateFolder(t.Context(), planted["folder"], mail.NoRole)
	tcheck(t, err)
	tcheck(t, m.PutContact(t.Context(), Contact{Root: root, Name: planted["contact"], Local: "anna"}))
	tcheck(t, m.SetSetting(t.Context(), "key", []byte(planted["setting"])))
	s := mail.Submission{From: planted["return path"], Recipients: []mail.Recipient{{Address: planted["recipient"]}}}
	out := outTo(1, planted["recipient"])
	tcheck(t, m.Accept(t.Context(), s, text(planted["subject"], planted["body"]), []Outgoing{out}))
	tcheck(t, m.UpdateOutgoing(t.Context(), out.MessageID, func(o *Outgoing) { o.LastError = planted["error"] }))
	tcheck(t, m.Refuse(t.Context(), root, [16]byte{1}, planted["reason"], 30000))
	_, _, err = m.File(t.Context(), Delivery{Message: text(planted["subject"], planted["body"]), Sender: root, MessageID: [16]byte{2}})
	tcheck(t, err)
	if got := search(t, m, in.ID, mail.Query{Text: []string{planted["body"]}}); len(got) != 2 {
		t.Fatalf("%v found", got)
	}
	m.text.step <- struct{}{}
	tcheck(t, m.flushText(t.Context()))
	<-m.text.step
	secrets := map[string][]byte{"page key": testKeys.PageKey(), "page key in hex": []byte(hex.EncodeToString(testKeys.PageKey())),
		"at-rest key": []byte(testKeys.ExportAtRest())}
	for what, s := range planted {
		secrets[what] = []byte(s)
	}
	tcheck(t, m.read(t.Context(), func(c *pages.Conn) error {
		return c.Query("SELECT id, key, name FROM content", nil, func(r *pages.Row) error {
			secrets[fmt.Sprintf("file key %d", r.ColumnInt64(0))] = r.ColumnBlob(1, nil)
			return nil
		})
	}))
	look := func(when string) {
		t.Helper()
		files := filesOf(t, dir)
		kinds := map[string]int{}
		for path, b := range files {
			kinds[filepath.Ext(path)]++
			for what, s := range secrets {
				if bytes.Contains(b, s) {
					t.Errorf("%s: %s holds the %s", when, path, what)
				}
				if strings.Contains(path, string(s)) {
					t.Errorf("%s: the name %s holds the %s", when, path, what)
				}
			}
			if st, err := os.Stat(path); err == nil && filepath.Ext(path) == ".age" && (st.Mode().Perm() != 0o600 || !st.ModTime().Equal(fileTime)) {
				t.Errorf("%s: %s has mode %v and time %v", when, path, st.Mode(), st.ModTime())
			}
		}
		if kinds[".db"] != 1 || kinds[".age"] == 0 {
			t.Fatalf("%s: files %v", when, kinds)
		}
	}
	look("open")
	tcheck(t, m.spool(t.Context()))
	tcheck(t, m.read(t.Context(), (*pages.Conn).Checkpoint))
	look("files made")

	// With the exported key the ordinary age tool reads the files.
	id, err := age.ParseHybridIdentity(testKeys.ExportAtRest())
	tcheck(t, err)
	found := false
	for path, b := range filesOf(t, dir) {
		if filepath.Ext(path) == ".age" {
			r, err := age.Decrypt(bytes.NewReader(b), id)
			tcheck(t, err)
			plain, err := io.ReadAll(r)
			tcheck(t, err)
			found = found || bytes.Equal(plain, large)
		}
	}
	if !found {
		t.Error("no file is the large message")
	}

	// Expunged mail leaves nothing behind but its ciphertext in the free blocks.
	_, _, err = m.SetFlags(t.Context(), in.ID, []mail.UID{uid}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(t, err)
	_, err = m.Expunge(t.Context(), in.ID, nil)
	tcheck(t, err)
	before := len(filesOf(t, dir))
	tcheck(t, m.collect(t.Context()))
	if n := len(filesOf(t, dir)); n != before-1 {
		t.Errorf("%d files after %d", n, before)
	}
	tcheck(t, m.Close())
	look("closed")
	other, err := identity.NewKeyring(identity.Seed{9}, 1, time.Unix(1_800_000_000, 0))
	tcheck(t, err)
	if _, err := Open(t.Context(), Config{Dir: dir, Keys: other}); !errors.Is(err, pages.ErrKey) {
		t.Errorf("with another key: %v", err)
	}
}

func TestOpenBodyStays(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	message := text("x", strings.Repeat("y", 100_000))
	uid := put(t, m, in.ID, message, mail.Deleted)
	b, err := m.Body(t.Context(), in.ID, uid)
	tcheck(t, err)
	_, err = m.Expunge(t.Context(), in.ID, nil)
	tcheck(t, err)
	tcheck(t, m.collect(t.Context()))
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	tcheck(t, b.Close())
	if _, err := b.ReadAt(make([]byte, 10), 50_000); err == nil {
		t.Error("read after Close")
	}
	tcheck(t, m.collect(t.Context()))
	if s := m.journal.Status(); s.Records != 0 {
		t.Errorf("%d records in the journal", s.Records)
	}
	if _, err := m.Body(t.Context(), in.ID, uid); !errors.Is(err, mail.ErrNoMessage) {
		t.Error(err)
	}
}

func TestMigrations(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	put(t, m, inboxOf(t, m).ID, text("old", "mail"))
	tcheck(t, m.Close())
	path, key := filepath.Join(dir, indexFile), testKeys.PageKey()

	// A step that fails changes nothing.
	c, err := pages.Open(t.Context(), path, key, pages.Options{})
	tcheck(t, err)
	steps := append(migrations[:len(migrations):len(migrations)], "CREATE TABLE extra(x); INSERT INTO extra VALUES(1); SELECT nonsense")
	if err := migrate(c, steps); err == nil {
		t.Error("nonsense was run")
	}
	steps[len(steps)-1] = "CREATE TABLE extra(x); INSERT INTO extra VALUES(1)"
	tcheck(t, migrate(c, steps))
	tcheck(t, migrate(c, steps))
	if n, err := c.Int("SELECT sum(x) FROM extra"); err != nil || n != 1 {
		t.Errorf("migrated %d times, %v", n, err)
	}
	tcheck(t, c.Close())

	// An older program leaves a newer index alone.
	if _, err := Open(t.Context(), Config{Dir: dir, Keys: testKeys}); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("opened a newer index: %v", err)
	}
}

func TestContacts(t *testing.T) {
	m := openTest(t, t.TempDir())
	now := time.Unix(1_800_000_000, 0)
	sign := func(k *identity.Keyring, sequence uint64, bits uint8) []byte {
		b, err := k.SignRecord(identity.RecordParams{Now: now, Sequence: sequence, Policy: identity.Policy{StampBits: bits}})
		tcheck(t, err)
		return b
	}
	root := testKeys.Root()
	r5, r6 := sign(testKeys, 5, 18), sign(testKeys, 6, 18)
	tcheck(t, m.PinRecord(t.Context(), root, r5))
	tcheck(t, m.PinRecord(t.Context(), root, r5))
	tcheck(t, m.PinRecord(t.Context(), root, r6))
	if err := m.PinRecord(t.Context(), root, r5); !errors.Is(err, identity.ErrRollback) {
		t.Errorf("older record: %v", err)
	}
	if err := m.PinRecord(t.Context(), root, sign(testKeys, 6, 20)); !errors.Is(err, identity.ErrFork) {
		t.Errorf("another record of the same number: %v", err)
	}
	if err := m.PinRecord(t.Context(), identity.Root{1}, r6); err == nil {
		t.Error("record of somebody else")
	}
	if err := m.PinRecord(t.Context(), root, []byte("rubbish")); err == nil {
		t.Error("rubbish")
	}
	if b, err := m.Record(t.Context(), root); err != nil || !bytes.Equal(b, r6) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, ok, err := m.Contact(t.Context(), root); err != nil || ok {
		t.Errorf("a record makes a contact: %v, %v", ok, err)
	}
	tcheck(t, m.PutContact(t.Context(), Contact{Root: root, Name: "Anna", Local: "anna"}))
	tcheck(t, m.PutContact(t.Context(), Contact{Root: identity.Root{2}, Name: "Aaron"}))
	tcheck(t, m.PutContact(t.Context(), Contact{Root: root, Local: "a.nna"}))
	all, err := m.Contacts(t.Context())
	tcheck(t, err)
	if len(all) != 2 || all[0].Name != "Aaron" || all[0].Record != nil || all[1].Name != "Anna" || all[1].Local != "a.nna" ||
		!bytes.Equal(all[1].Record, r6) || all[1].Added.IsZero() || all[1].Updated.Before(all[1].Added) {
		t.Errorf("%+v", all)
	}
	if err := m.PutContact(t.Context(), Contact{Name: "nobody"}); err == nil {
		t.Error("contact without a root")
	}

	tcheck(t, m.SetSetting(t.Context(), "theme", []byte("dark")))
	tcheck(t, m.SetSetting(t.Context(), "empty", []byte{}))
	tcheck(t, m.SetSetting(t.Context(), "theme", []byte("light")))
	for key, want := range map[string]string{"theme": "light", "empty": ""} {
		if v, err := m.Setting(t.Context(), key); err != nil || v == nil || string(v) != want {
			t.Errorf("%s: %q, %v", key, v, err)
		}
	}
	tcheck(t, m.SetSetting(t.Context(), "theme", nil))
	if v, err := m.Setting(t.Context(), "theme"); err != nil || v != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestExport(t *testing.T) {
	m := openTest(t, t.TempDir())
	put(t, m, inboxOf(t, m).ID, []byte("Subject: a\r\n\r\nFrom here\r\n>From there\r\nlone\rCR\nlast"), mail.Seen, mail.Flagged, "work")
	put(t, m, folderOf(t, m, "Archive").ID, []byte("Subject: b\r\n\r\n"+strings.Repeat("x", 64<<10-1)+"\r\n"+strings.Repeat("x", 100_000)+"From not at the begin\r\n"))
	var b strings.Builder
	var told []string
	tcheck(t, m.Export(t.Context(), &b, func(done, total int) { told = append(told, fmt.Sprintf("%d/%d", done, total)) }))
	want := "From MAILER-DAEMON Sun Jun 15 15:06:40 2025\nX-Folder: INBOX\nStatus: RO\nX-Status: F\nX-Keywords: work\n" +
		"Subject: a\n\n>From here\n>>From there\nlone\rCR\nlast\n\n" +
		"From MAILER-DAEMON Sun Jun 15 15:06:40 2025\nX-Folder: Archive\nStatus: O\nSubject: b\n\n" +
		strings.Repeat("x", 64<<10-1) + "\n" + strings.Repeat("x", 100_000) + "From not at the begin\n\n"
	if b.String() != want {
		t.Errorf("got  %.400q\nwant %.400q", b.String(), want)
	}
	if fmt.Sprint(told) != "[1/2 2/2]" {
		t.Error(told)
	}
}
