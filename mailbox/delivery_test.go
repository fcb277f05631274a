package mailbox

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
)

func TestFileOnce(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	now := time.Now()
	d := Delivery{
		Role: mail.Junk, Message: text("offer", "buy"), Sender: identity.Root{1}, MessageID: [16]byte{2},
		Expiry: identity.DayAt(now.AddDate(0, 0, 30)), Flags: []mail.Flag{mail.Flagged},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	filed, again := 0, 0
	for range 8 { // the same message from several holders at once
		wg.Go(func() {
			uid, duplicate, err := m.File(t.Context(), d)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil || uid != 1:
				t.Errorf("UID %d, %v", uid, err)
			case duplicate:
				again++
			default:
				filed++
			}
		})
	}
	wg.Wait()
	if filed != 1 || again != 7 {
		t.Errorf("filed %d times, duplicate %d times", filed, again)
	}
	check := func() {
		t.Helper()
		if f := folderOf(t, m, "Junk"); f.Messages != 1 {
			t.Errorf("%d messages", f.Messages)
		}
		if _, duplicate, err := m.File(t.Context(), d); err != nil || !duplicate {
			t.Errorf("again: %v, %v", duplicate, err)
		}
		if v, ok, err := m.Settled(t.Context(), d.Sender, d.MessageID); err != nil || !ok || !v.Delivered {
			t.Errorf("%+v, %v, %v", v, ok, err)
		}
	}
	check()
	if s := m.journal.Status(); s.Records != 1 {
		t.Errorf("%d records in the journal", s.Records)
	}
	tcheck(t, m.Close())
	m = openTest(t, dir)
	check()

	// A refusal stays one.
	tcheck(t, m.Refuse(t.Context(), identity.Root{1}, [16]byte{3}, "From does not match", d.Expiry))
	tcheck(t, m.Refuse(t.Context(), identity.Root{1}, [16]byte{3}, "another reason", d.Expiry))
	tcheck(t, m.Refuse(t.Context(), d.Sender, d.MessageID, "too late", d.Expiry))
	check()
	if v, ok, err := m.Settled(t.Context(), identity.Root{1}, [16]byte{3}); err != nil || !ok || v != (Verdict{Reason: "From does not match"}) {
		t.Errorf("%+v, %v, %v", v, ok, err)
	}
	refused := d
	refused.MessageID = [16]byte{3}
	if uid, duplicate, err := m.File(t.Context(), refused); err != nil || !duplicate || uid != 0 {
		t.Errorf("refused before: %d, %v, %v", uid, duplicate, err)
	}
	if _, ok, err := m.Settled(t.Context(), identity.Root{9}, [16]byte{3}); err != nil || ok {
		t.Errorf("unknown: %v, %v", ok, err)
	}

	// Messages of our own leave no mark, and go to INBOX without a folder of the role.
	own := Delivery{Role: `\Unheard`, Message: text("dsn", "failed")}
	for range 2 {
		if _, duplicate, err := m.File(t.Context(), own); err != nil || duplicate {
			t.Errorf("own: %v, %v", duplicate, err)
		}
	}
	if f := inboxOf(t, m); f.Messages != 2 {
		t.Errorf("%d messages in INBOX", f.Messages)
	}

	// Marks end.
	tcheck(t, m.prune(t.Context(), now.AddDate(0, 0, 30+markKeep-1)))
	check()
	tcheck(t, m.prune(t.Context(), now.AddDate(0, 0, 30+markKeep+2)))
	if _, ok, err := m.Settled(t.Context(), identity.Root{1}, [16]byte{2}); err != nil || ok {
		t.Errorf("kept for ever: %v, %v", ok, err)
	}
}

func TestTooLarge(t *testing.T) {
	m, err := Open(t.Context(), Config{Dir: t.TempDir(), Keys: testKeys, MaxMessage: 1000})
	tcheck(t, err)
	defer func() { tcheck(t, m.Close()) }()
	big := bytes.Repeat([]byte("x"), 1001)
	if _, err := m.Append(t.Context(), inboxOf(t, m).ID, bytes.NewReader(big), 1001, nil, time.Time{}); !errors.Is(err, mail.ErrTooLarge) {
		t.Error(err)
	}
	if _, _, err := m.File(t.Context(), Delivery{Message: big}); !errors.Is(err, mail.ErrTooLarge) {
		t.Error(err)
	}
	if err := m.Accept(t.Context(), mail.Submission{}, big, []Outgoing{{MessageID: [16]byte{1}}}); !errors.Is(err, mail.ErrTooLarge) {
		t.Error(err)
	}
	// Less than was promised is no message.
	if _, err := m.Append(t.Context(), inboxOf(t, m).ID, bytes.NewReader(big[:10]), 100, nil, time.Time{}); err == nil {
		t.Error("a torn message was stored")
	}
	if f := inboxOf(t, m); f.Messages != 0 {
		t.Errorf("%d messages", f.Messages)
	}
}
