package mailbox

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// spoolAll makes files of all that the journal holds.
func spoolAll(t testing.TB, m *Mailbox) {
	t.Helper()
	for {
		count, _ := m.backlog.counted()
		if count == 0 {
			return
		}
		tcheck(t, m.spool(t.Context()))
		if left, _ := m.backlog.counted(); left >= count {
			t.Fatalf("%d of %d messages are in the journal still", left, count)
		}
	}
}

// TestNewestGoesAndOthersCome deletes the newest message once it is in its file, as the Run of a quiet mailbox
// would, and restarts: what comes then must not be taken for it.
func TestNewestGoesAndOthersCome(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	settled, open := outTo(7, "anna"), outTo(8, "bob")
	put(t, m, in.ID, text("one", "first"))
	accept(t, m, text("settled", "settled"), settled)
	tcheck(t, m.settleAccepts(ctx))
	tcheck(t, m.UpdateOutgoing(ctx, settled.MessageID, func(o *Outgoing) { o.State = Delivered }))
	spoolAll(t, m)
	sent := folderOf(t, m, "Sent")
	_, _, err := m.SetFlags(ctx, sent.ID, uidsOf(t, m, sent.ID), mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(t, err)
	_, err = m.Expunge(ctx, sent.ID, nil)
	tcheck(t, err)
	tcheck(t, m.collect(ctx))
	tcheck(t, m.Close())

	m = openTest(t, dir)
	uid := put(t, m, in.ID, text("three", "the third"))
	// The row of the outbox is kept for a while, and what it names is gone.
	if b, err := m.OutgoingMessage(ctx, settled.MessageID); !errors.Is(err, mail.ErrNoMessage) {
		t.Errorf("the message that is gone is %q, %v", b, err)
	}
	accept(t, m, text("out", "outgoing"), open)
	tcheck(t, m.settleAccepts(ctx))
	spoolAll(t, m)
	tcheck(t, m.Close())

	m = openTest(t, dir)
	if b := bodyOf(t, m, in.ID, uid); !bytes.Equal(b, text("three", "the third")) {
		t.Errorf("the message has become %q", b)
	}
	if b, err := m.OutgoingMessage(ctx, open.MessageID); err != nil || !bytes.Equal(b, text("out", "outgoing")) {
		t.Errorf("the accepted message has become %q, %v", b, err)
	}
	checkTidy(t, m)
}

// TestContentBelowTheOldMark opens a mailbox of the first version of the index, in which a number was given twice:
// the new content lies below the mark that was to tell which ones are in their files, and is in the journal still.
func TestContentBelowTheOldMark(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	uid := put(t, m, in.ID, text("a", "b"))
	tcheck(t, m.Close())
	c, err := pages.Open(t.Context(), filepath.Join(dir, indexFile), testKeys.PageKey(), pages.Options{})
	tcheck(t, err)
	tcheck(t, c.Script(`DROP TABLE subscription; DROP INDEX content_logged; DELETE FROM meta WHERE key='content';
		INSERT INTO meta(key, value) VALUES('spooled', 50); PRAGMA user_version=1`))
	tcheck(t, c.Close())

	m = openTest(t, dir)
	bodyOf(t, m, in.ID, uid)
	checkTidy(t, m)
	spoolAll(t, m)
	if n := m.journal.Status().Records; n != 0 {
		t.Errorf("%d records are in the journal still", n)
	}
	bodyOf(t, m, in.ID, uid)
	checkTidy(t, m)
	put(t, m, in.ID, text("c", "d"))
	tcheck(t, m.read(t.Context(), func(c *pages.Conn) error {
		n, err := c.Int("SELECT max(id) FROM content")
		if n <= 50 {
			t.Errorf("content %d was given, and 50 was in use before", n)
		}
		return err
	}))
}
