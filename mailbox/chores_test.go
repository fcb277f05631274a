package mailbox

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// TestRun checks what Run does by itself, and when.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m, err := Open(t.Context(), Config{Dir: dir, Keys: testKeys, Log: testLog(t)})
		tcheck(t, err)
		in := inboxOf(t, m)
		put(t, m, in.ID, text("before", "run"))
		ran := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ran <- m.Run(ctx) }()
		uid := put(t, m, in.ID, text("after", "run"), mail.Deleted)
		time.Sleep(indexDelay)
		synctest.Wait()
		if got := m.text.done(); got != 2 {
			t.Errorf("indexed up to %d", got)
		}
		records := func() int { return m.journal.Status().Records }
		time.Sleep(spoolQuiet - indexDelay - time.Millisecond)
		synctest.Wait()
		if records() != 2 {
			t.Errorf("%d records in the journal while there is work", records())
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if records() != 0 {
			t.Errorf("%d records in the journal after a pause", records())
		}
		_, err = m.Expunge(t.Context(), in.ID, nil)
		tcheck(t, err)
		synctest.Wait()
		if files := filesOf(t, filepath.Join(dir, messagesDir)); len(files) != 1 {
			t.Errorf("%d files, message %d was expunged", len(files), uid)
		}
		time.Sleep(forgetAfter + lookEvery)
		synctest.Wait()
		if m.room(in.ID).now().roll != nil {
			t.Error("messages are still in memory")
		}
		wantUIDs(t, "after a rest", uidsOf(t, m, in.ID), 1)
		tcheck(t, m.Refuse(t.Context(), testKeys.Root(), [16]byte{1}, "x", 1))
		time.Sleep(pruneEvery + lookEvery)
		synctest.Wait()
		if _, ok, err := m.Settled(t.Context(), testKeys.Root(), [16]byte{1}); err != nil || ok {
			t.Errorf("an old mark is kept: %v, %v", ok, err)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		// Again, ended by Close.
		go func() { ran <- m.Run(t.Context()) }()
		synctest.Wait()
		tcheck(t, m.Close())
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := m.Run(t.Context()); !errors.Is(err, errClosed) {
			t.Errorf("Run after Close: %v", err)
		}
	})
}

func TestClosed(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	uid := put(t, m, in.ID, text("a", "b"))
	b, err := m.Body(t.Context(), in.ID, uid)
	tcheck(t, err)
	tcheck(t, m.Close())
	tcheck(t, m.Close())
	_, _, err = m.SetFlags(t.Context(), in.ID, []mail.UID{uid}, mail.AddFlags, []mail.Flag{mail.Seen}, 0)
	_, serr := m.Search(t.Context(), in.ID, &mail.Query{Text: []string{"x"}})
	_, berr := b.ReadAt(make([]byte, 10), b.Size()-10)
	for what, err := range map[string]error{
		"SetFlags": err, "Search": serr, "ReadAt": berr,
		"Accept": m.Accept(t.Context(), mail.Submission{}, text("a", "b"), []Outgoing{outTo(1, "a")}),
	} {
		if err == nil {
			t.Errorf("%s works after Close", what)
		}
	}
	tcheck(t, b.Close())
}

// TestLogIsBounded checks that the write-ahead log does not grow without end when nobody runs the chores.
func TestLogIsBounded(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	put(t, m, in.ID, text("a", "b"))
	_, err := m.Copy(t.Context(), in.ID, uidsOf(t, m, in.ID), "INBOX")
	tcheck(t, err)
	value := make([]byte, 200_000)
	for range 2 * checkpointAlonePages * 4096 / len(value) {
		tcheck(t, m.SetSetting(t.Context(), "large", value))
	}
	if n := m.chores.wal.Load(); n > checkpointAlonePages+200 {
		t.Errorf("%d pages in the log", n)
	}
	tcheck(t, m.read(t.Context(), (*pages.Conn).Checkpoint))
}

// A clock that is ahead makes the mailbox forget nothing, neither what it has filed nor what it has sent, before others
// have the same time.
func TestPruneWaitsForSureTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "clock")
		open := func() *clock.Clock { return clock.Open(path, slog.New(slog.DiscardHandler)) }
		past, stop := context.WithCancel(t.Context())
		stop()
		open().Run(past) // saves
		m, err := Open(t.Context(), Config{Dir: t.TempDir(), Keys: testKeys, Log: testLog(t)})
		tcheck(t, err)
		in := Delivery{
			Message: text("a letter", "once"), Sender: identity.Root{1}, MessageID: [16]byte{1},
			Expiry: identity.DayAt(time.Now().AddDate(0, 0, 30)),
		}
		_, _, err = m.File(t.Context(), in)
		tcheck(t, err)
		accept(t, m, text("hi", "there"), outTo(2, "anna"))
		tcheck(t, m.UpdateOutgoing(t.Context(), [16]byte{2}, func(o *Outgoing) { o.State = Failed }))

		time.Sleep(75 * 24 * time.Hour)
		m.clock = open()
		run := func() (filed, sent bool) {
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- m.Run(ctx) }()
			time.Sleep(2 * lookEvery)
			synctest.Wait()
			cancel()
			tcheck(t, <-ran)
			_, filed, err := m.Settled(t.Context(), in.Sender, in.MessageID)
			tcheck(t, err)
			_, err = m.Outgoing(t.Context(), [16]byte{2})
			return filed, err == nil
		}
		if filed, sent := run(); !filed || !sent {
			t.Errorf("with a clock that is ahead: filed %v, sent %v", filed, sent)
		}
		if _, duplicate, err := m.File(t.Context(), in); err != nil || !duplicate {
			t.Errorf("a second copy: duplicate %v, %v", duplicate, err)
		}
		m.clock.Agree(time.Now())
		if filed, sent := run(); filed || sent {
			t.Errorf("when others agree: filed %v, sent %v", filed, sent)
		}
		tcheck(t, m.Close())
	})
}
