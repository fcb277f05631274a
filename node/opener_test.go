package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/mailbox"
)

// TestOpenLateAndFuture opens what came after its expiry and what is dated ahead.
func TestOpenLateAndFuture(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	a, o := someAccount(t)
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
	early, err := arrive(2, ahead, today+5, now)
	if err != nil {
		t.Errorf("ahead: %v", err)
	}
	if n := a.incoming.waiting(); n != 0 || a.incoming.bytes != 0 {
		t.Errorf("ahead: %d wait, and take %d bytes", n, a.incoming.bytes)
	}
	if !a.known(early) || len(a.tombs) != 0 {
		t.Errorf("ahead: fetched by the next round: %v, deletions: %v", !a.known(early), a.tombs)
	}
	if _, err := arrive(3, ahead, today-1, now.AddDate(0, 0, -2)); err != nil || a.incoming.waiting() != 0 {
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

// TestOpenOnFailingDisk cannot read a message for a while, and then finds it damaged.
func TestOpenOnFailingDisk(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the journal's open file cannot be moved aside")
	}
	dir := t.TempDir()
	in, err := openIncoming(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	if err := in.accept(t.Context(), someMessage(1), ""); err != nil {
		t.Fatal(err)
	}
	a := &account{incoming: in, log: slog.New(slog.DiscardHandler), collectNow: make(chan struct{}, 1)}
	id, arr, _ := in.take()
	segments, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %q, %v", segments, err)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	if err := errors.Join(os.Rename(segments[0], aside), os.Mkdir(segments[0], 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := a.openOne(t.Context(), nil, id, arr); err == nil || !in.waits(id) {
		t.Errorf("unreadable: %v, it waits: %v", err, in.waits(id))
	}
	if err := errors.Join(os.Remove(segments[0]), os.Rename(aside, segments[0])); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.log.Read(arr.ref); err != nil {
		t.Fatalf("the message is gone from the disk: %v", err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b[int(arr.ref.Offset+arr.ref.Length)-9] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.openOne(t.Context(), nil, id, arr); err != nil || in.has(id) {
		t.Errorf("damaged: %v, known: %v, so it would not be fetched again", err, in.has(id))
	}
}

// TestRefusalBeforeDeletion refuses what holders have, who are to delete it
// when the refusal cannot be lost any more.
func TestRefusalBeforeDeletion(t *testing.T) {
	a := &account{tombs: make(map[identity.Inbox][]identity.TombstoneItem), withheld: make(map[sealed.ID]bool)}
	r := newReceipts(a)
	in, m := &sealed.Inner{From: identity.Root{1}, MessageID: [16]byte{1}}, someMessage(1)
	r.refused(in, m.Outer, "no")
	a.entomb(m.Outer)
	r.again(in, m.Outer, mailbox.Verdict{Reason: "no"})
	if n := len(a.tombs[m.Outer.Inbox]); n != 0 {
		t.Errorf("%d deletions before the refusal is safe", n)
	}
	r.due[in.From][0].safe()
	if n := len(a.tombs[m.Outer.Inbox]); n != 1 {
		t.Errorf("%d deletions after that", n)
	}
	other := someMessage(2)
	r.refused(in, other.Outer, "no")
	r.due[in.From][2].safe()
	if n := len(a.tombs[other.Outer.Inbox]); n != 1 {
		t.Errorf("%d deletions, with one of what no holder is known to have", n)
	}
}

// TestOpeningIsBounded opens a pile of large messages, one above the bound, and
// small ones.
func TestOpeningIsBounded(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	in, err := openIncoming(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	sizes := map[sealed.ID]uint64{}
	for i, size := range []uint64{40 << 20, 40 << 20, 30 << 20, 30 << 20, 4096, 4096, 4096, opening + 1, 20 << 20, 20 << 20, 20 << 20, 4096} {
		m := someMessage(byte(i + 1))
		m.Outer.Size = size
		in.add(m.Outer.ID(), arrival{outer: m.Outer})
		sizes[m.Outer.ID()] = size
	}
	synctest.Test(t, func(t *testing.T) {
		in.ready = make(chan struct{}, 1)
		a := &account{incoming: in, log: slog.New(slog.DiscardHandler)}
		var mu sync.Mutex
		var bytes, most uint64
		var count, together int
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.openEach(ctx, func(_ context.Context, id sealed.ID, arr arrival) error {
				mu.Lock()
				bytes, count = bytes+arr.outer.Size, count+1
				if most, together = max(most, bytes), max(together, count); arr.outer.Size <= opening && bytes > opening {
					t.Errorf("%d bytes in work", bytes)
				}
				mu.Unlock()
				<-time.After(time.Second)
				mu.Lock()
				bytes, count = bytes-arr.outer.Size, count-1
				delete(sizes, id)
				mu.Unlock()
				return nil
			})
		}()
		<-time.After(time.Minute)
		cancel()
		<-done
		if len(sizes) != 0 {
			t.Errorf("%d messages were not opened", len(sizes))
		}
		if most != opening+1 || together < 4 {
			t.Errorf("%d bytes at most and %d messages", most, together)
		}
	})
}
