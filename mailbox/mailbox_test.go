package mailbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
)

// testKeys is one keyring for all tests: making one costs milliseconds.
var testKeys = func() *identity.Keyring {
	var seed identity.Seed
	copy(seed[:], "a seed for the tests of mailboxes")
	k, err := identity.NewKeyring(seed, 1, time.Unix(1_800_000_000, 0))
	if err != nil {
		panic(err)
	}
	return k
}()

func tcheck(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var discard = slog.New(slog.DiscardHandler)

// testLog shows what a mailbox logs in the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func openTest(t testing.TB, dir string) *Mailbox {
	t.Helper()
	m, err := Open(t.Context(), Config{Dir: dir, Keys: testKeys, Log: testLog(t)})
	tcheck(t, err)
	t.Cleanup(func() { tcheck(t, m.Close()) })
	return m
}

// run runs the chores until the test ends, or stop is called.
func run(t testing.TB, m *Mailbox) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func inboxOf(t testing.TB, m *Mailbox) mail.Folder {
	t.Helper()
	f, err := m.Folder(t.Context(), "inbox")
	tcheck(t, err)
	return f
}

func folderOf(t testing.TB, m *Mailbox, name string) mail.Folder {
	t.Helper()
	f, err := m.Folder(t.Context(), name)
	tcheck(t, err)
	return f
}

// text makes a message with a subject and a body.
func text(subject, body string) []byte {
	return []byte(fmt.Sprintf("From: Anna <anna@example.org>\r\nTo: bob@example.org\r\nSubject: %s\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\n"+
		"Message-ID: <%x@example.org>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n", subject, subject, body))
}

func put(t testing.TB, m *Mailbox, folder int64, message []byte, flags ...mail.Flag) mail.UID {
	t.Helper()
	uid, err := m.Append(t.Context(), folder, bytes.NewReader(message), int64(len(message)), flags, time.Unix(1_750_000_000, 0))
	tcheck(t, err)
	return uid
}

func bodyOf(t testing.TB, m *Mailbox, folder int64, uid mail.UID) []byte {
	t.Helper()
	b, err := m.Body(t.Context(), folder, uid)
	tcheck(t, err)
	defer func() { tcheck(t, b.Close()) }()
	all, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	tcheck(t, err)
	return all
}

func uidsOf(t testing.TB, m *Mailbox, folder int64) []mail.UID {
	t.Helper()
	v, err := m.View(t.Context(), folder)
	tcheck(t, err)
	return v.UIDs
}

func search(t testing.TB, m *Mailbox, folder int64, q mail.Query) []mail.UID {
	t.Helper()
	uids, err := m.Search(t.Context(), folder, &q)
	tcheck(t, err)
	return uids
}

func wantUIDs(t testing.TB, what string, got []mail.UID, want ...mail.UID) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: UIDs %v, want %v", what, got, want)
	}
}

func TestFirstFolders(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	all, err := m.Folders(t.Context())
	tcheck(t, err)
	var names []string
	validities := map[mail.UIDValidity]bool{}
	for _, f := range all {
		names = append(names, fmt.Sprintf("%s=%s", f.Name, f.Role))
		validities[f.UIDValidity] = true
		if f.UIDNext != 1 || !f.Subscribed || f.HighestModSeq == 0 {
			t.Errorf("%+v", f)
		}
	}
	want := []string{`INBOX=Inbox`, `Archive=\Archive`, `Drafts=\Drafts`, `Junk=\Junk`, `Sent=\Sent`, `Trash=\Trash`}
	if !slices.Equal(names, want) || len(validities) != len(want) {
		t.Fatalf("folders %v, validities %v", names, validities)
	}
	tcheck(t, m.Close())
	again, err := openTest(t, dir).Folders(t.Context())
	tcheck(t, err)
	if !slices.Equal(all, again) {
		t.Fatalf("after a restart %v", again)
	}
}

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	small := text("a small one", "hello")
	large := text("a large one", strings.Repeat("all work and no play\r\n", 40_000))
	u1 := put(t, m, in.ID, small, mail.Seen, "$Forwarded", `\Recent`)
	u2 := put(t, m, in.ID, large)
	empty := put(t, m, in.ID, nil)
	wantUIDs(t, "view", uidsOf(t, m, in.ID), u1, u2, empty)
	check := func(m *Mailbox) {
		t.Helper()
		for uid, want := range map[mail.UID][]byte{u1: small, u2: large, empty: nil} {
			if got := bodyOf(t, m, in.ID, uid); !bytes.Equal(got, want) {
				t.Errorf("message %d has %d bytes, want %d", uid, len(got), len(want))
			}
		}
		b, err := m.Body(t.Context(), in.ID, u2)
		tcheck(t, err)
		part := make([]byte, 100)
		_, err = b.ReadAt(part, 500_000)
		tcheck(t, err)
		if !bytes.Equal(part, large[500_000:500_100]) {
			t.Error("partial read differs")
		}
		tcheck(t, b.Close())
		tcheck(t, b.Close())
		n := 0
		tcheck(t, m.Messages(t.Context(), in.ID, []mail.UID{u1, u2, empty, 99}, mail.Want{Envelope: true, Structure: true}, func(x *mail.Message) error {
			n++
			if x.UID == u1 && (x.Envelope.Subject != "a small one" || x.Structure.Type != "text" || x.Size != int64(len(small)) ||
				x.Internal.Unix() != 1_750_000_000 || !slices.Equal(x.Flags, []mail.Flag{"$Forwarded", mail.Seen})) {
				t.Errorf("%+v", x)
			}
			return nil
		}))
		if n != 3 {
			t.Errorf("%d messages", n)
		}
		f := inboxOf(t, m)
		if f.Messages != 3 || f.Unseen != 2 || f.UIDNext != 4 || f.Size != int64(len(small)+len(large)) {
			t.Errorf("%+v", f)
		}
		if all, unseen := m.Counts(); all != 3 || unseen != 2 {
			t.Errorf("counts %d, %d", all, unseen)
		}
	}
	check(m)
	tcheck(t, m.spool(t.Context()))
	if s := m.journal.Status(); s.Records != 0 {
		t.Errorf("%d records left in the journal", s.Records)
	}
	check(m)
	tcheck(t, m.Close())
	check(openTest(t, dir))
}
