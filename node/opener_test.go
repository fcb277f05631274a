package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
)

// TestOpenLateAndFuture opens what came after its expiry and what is dated ahead.
func TestOpenLateAndFuture(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	h := home(t.TempDir())
	_, keys, err := create(ctx, h, identity.NewSeed(), 1, AccountOptions{Name: "bob", Password: "secret", PasswordWork: 4})
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAccount(h, keys.Root(), nil, 4, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	o, _, err := a.unlock(ctx, "secret")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := identity.NewKeyring(identity.NewSeed(), 1, now)
	if err != nil {
		t.Fatal(err)
	}
	to, ok := o.keys.SecretsFor(identity.EpochAt(now))
	if !ok {
		t.Fatal("no keys for this week")
	}
	from := identity.Address{Local: "alice", Root: sender.Root()}.String()
	arrive := func(id byte, dated time.Time, expiry identity.Day, at time.Time) (sealed.ID, error) {
		t.Helper()
		m, err := sealed.Seal(sender, &sealed.Inner{
			Kind: sealed.KindMail, To: a.address.Root, MessageID: [16]byte{id}, Time: dated.Unix(), Expiry: expiry,
			Recipient: "bob", Body: []byte("From: " + from + "\r\nSubject: x\r\n\r\ny\r\n"),
		}, to.Public(), identity.EpochAt(now))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.incoming.accept(ctx, m, "a host"); err != nil {
			t.Fatal(err)
		}
		sid, arr, ok := a.incoming.take()
		if !ok {
			t.Fatal("it did not arrive")
		}
		arr.at = at
		return sid, a.openOne(ctx, o, sid, arr)
	}

	today := identity.DayAt(now)
	if _, err := arrive(1, now, today-1, now); err != nil {
		t.Fatal(err)
	}
	v, settled, err := o.box.Settled(ctx, sender.Root(), [16]byte{1})
	if err != nil || !settled || v.Delivered {
		t.Errorf("late: verdict %+v, %v, %v", v, settled, err)
	}
	if due := o.receipts.due[sender.Root()]; len(due) != 1 || due[0].Status != sealed.StatusRefused {
		t.Errorf("late: receipts %+v", due)
	}

	ahead := now.AddDate(0, 0, 9)
	if _, err := arrive(2, ahead, today+5, now); !errors.Is(err, sealed.ErrFuture) {
		t.Errorf("ahead: %v", err)
	}
	if n := a.incoming.waiting(); n != 1 {
		t.Errorf("ahead: %d wait", n)
	}
	if _, err := arrive(3, ahead, today-1, now.AddDate(0, 0, -2)); err != nil || a.incoming.waiting() != 1 {
		t.Errorf("ahead of its own expiry: %v, %d wait", err, a.incoming.waiting())
	}
	if f, err := o.box.Folder(ctx, "INBOX"); err != nil || f.Messages != 0 {
		t.Errorf("the inbox has %d messages, %v", f.Messages, err)
	}

	// by a clock that was ahead when it came, and is right again
	if _, err := arrive(4, now, today, now.AddDate(0, 2, 0)); err != nil {
		t.Error(err)
	}
	if v, settled, err := o.box.Settled(ctx, sender.Root(), [16]byte{4}); err != nil || !settled || !v.Delivered {
		t.Errorf("by a clock that was ahead: verdict %+v, %v, %v", v, settled, err)
	}
	// by a clock of which nothing is sure
	unsure := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(unsure, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.clock = clock.Open(unsure, a.log)
	id, err := arrive(5, now, today-1, now)
	if _, settled, _ := o.box.Settled(ctx, sender.Root(), [16]byte{5}); settled || !errors.Is(err, errUnsure) {
		t.Errorf("by a clock of which nothing is sure: %v, settled %v", err, settled)
	}
	a.clock.Agree(now)
	if err := a.openOne(ctx, o, id, a.incoming.pending[id]); err != nil {
		t.Fatal(err)
	}
	if v, settled, err := o.box.Settled(ctx, sender.Root(), [16]byte{5}); err != nil || !settled || v.Delivered {
		t.Errorf("by a clock that others agree with: verdict %+v, %v, %v", v, settled, err)
	}
}
