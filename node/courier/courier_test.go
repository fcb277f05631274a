package courier

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/store"
)

// world is a network and an account that do as they are told.
type world struct {
	sender, recipient *identity.Keyring
	record            []byte

	mu        sync.Mutex
	hostUp    bool
	holders   int // that take a message
	tombstone bool
	unknown   bool // the record cannot be found
	alone     bool // nobody can be asked for it
	rows      map[MessageID]*mailbox.Outgoing
	delivered []*sealed.Message // by the host
	put       []*sealed.Message
	reports   []string
	drained   bool
	clock     *clock.Clock
	sequence  uint64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{rows: make(map[MessageID]*mailbox.Outgoing), drained: true}
	var err error
	if w.sender, err = identity.NewKeyring(identity.NewSeed(), 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	if w.recipient, err = identity.NewKeyring(identity.NewSeed(), 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.publish(t)
	return w
}

func (w *world) publish(t *testing.T) {
	t.Helper()
	w.recipient.Roll(time.Now())
	w.sequence++
	raw, err := w.recipient.SignRecord(identity.RecordParams{
		Now: time.Now(), Sequence: w.sequence, Hosts: []identity.Host{{Peer: []byte("bob's host")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.record = raw })
}

func (w *world) Resolve(context.Context, identity.Root) (*identity.Record, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.alone:
		return nil, nil, store.ErrNoHolders
	case w.unknown:
		return nil, nil, errors.New("no record found")
	}
	r, err := identity.ParseRecord(w.record)
	return r, w.record, err
}

func (w *world) ResolveKey(ctx context.Context, _ [32]byte) (*identity.Record, []byte, error) {
	return w.Resolve(ctx, identity.Root{})
}

func (w *world) Deliver(_ context.Context, _ identity.Host, m *sealed.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.hostUp {
		return errors.New("no answer")
	}
	w.delivered = append(w.delivered, m)
	return nil
}

func (w *world) Put(_ context.Context, m *sealed.Message, _ []identity.Host, _ func(store.PutState)) (store.PutResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := store.PutResult{Receipts: make(map[peer.ID][]byte), Wanted: 10, Needed: 6}
	if w.tombstone {
		r.Tombstone = new(identity.Tombstone)
		return r, nil
	}
	for i := range w.holders {
		r.Receipts[peer.ID(rune('a'+i))] = []byte("receipt")
	}
	w.put = append(w.put, m)
	if w.holders < r.Needed {
		return r, errors.New("too few holders: the inbox is over its 512 MiB")
	}
	return r, nil
}

func (w *world) StampBits(int64) int { return 0 }

func (w *world) Seal(in *sealed.Inner, to identity.KeySet, e identity.Epoch) (*sealed.Message, error) {
	return sealed.Seal(w.sender, in, to, e)
}
func (w *world) OwnRecord() []byte          { return nil }
func (w *world) KnowsUs(identity.Root) bool { return true }
func (w *world) Told(identity.Root)         {}

func (w *world) Drained(time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drained
}

func (w *world) Pinned(context.Context, identity.Root) (*identity.Record, error) { return nil, nil }
func (w *world) Pin(context.Context, identity.Root, []byte) error                { return nil }
func (w *world) Text(context.Context, MessageID) ([]byte, error) {
	return []byte("Subject: x\r\n\r\ny\r\n"), nil
}
func (w *world) Unsettled(context.Context) (rows []mailbox.Outgoing, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.rows {
		if !r.State.Settled() {
			rows = append(rows, *r)
		}
	}
	return rows, nil
}

func (w *world) Update(_ context.Context, id MessageID, f func(*mailbox.Outgoing)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.rows[id])
	return nil
}

func (w *world) Report(_ context.Context, id MessageID, kind mail.Notify, why Reason) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	row := w.rows[id]
	if kind == mail.NotifyDelay && row.DelayTold || kind == mail.NotifyFailure && row.FailureTold {
		return nil
	}
	row.DelayTold = row.DelayTold || kind == mail.NotifyDelay
	row.FailureTold = row.FailureTold || kind == mail.NotifyFailure
	w.reports = append(w.reports, map[mail.Notify]string{
		mail.NotifyDelay: "delayed", mail.NotifyFailure: "failed", mail.NotifySuccess: "delivered",
	}[kind]+": "+strings.TrimSpace(why.Status+" "+why.Text))
	return nil
}

// accept puts a row into the outbox.
func (w *world) accept(id byte) mailbox.Outgoing {
	row := mailbox.Outgoing{
		MessageID: MessageID{id}, To: identity.Address{Local: "bob", Root: w.recipient.Root()},
		Accepted: time.Now(), Expires: time.Now().Add(Lifetime), State: mailbox.Accepted,
		Notify: mail.NotifySuccess | mail.NotifyFailure | mail.NotifyDelay,
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[row.MessageID] = &row
	return row
}

func (w *world) row(id byte) mailbox.Outgoing {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.rows[MessageID{id}]
}

func (w *world) counts() (delivered, put int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.delivered), len(w.put)
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// carry runs a courier until the test or end says otherwise.
func (w *world) carry(t *testing.T, dir string, unlocked bool) (c *Courier, end func()) {
	t.Helper()
	c, end = carry(t, dir, w, w.clock)
	if unlocked {
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	return c, end
}

func carry(t *testing.T, dir string, n Network, now *clock.Clock) (c *Courier, end func()) {
	t.Helper()
	c, err := New(Config{Dir: dir, Network: n, Clock: now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return c, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func receipt(id byte, s sealed.Status) []sealed.ReceiptItem {
	return []sealed.ReceiptItem{{MessageID: MessageID{id}, Status: s, Reason: "the mailbox is closed"}}
}

func TestDirectNeedsNoHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp, w.holders = true, 10
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		pass(time.Second)
		if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, sealed.StatusDelivered)); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if d, p := w.counts(); d != 1 || p != 0 {
			t.Errorf("%d direct deliveries and %d puts", d, p)
		}
		if r := w.row(1); r.State != mailbox.Delivered || r.Attempts != 1 {
			t.Errorf("state %d after %d attempts", r.State, r.Attempts)
		}
	})
}

// TestAttemptsAreCounted looks at what the outbox says of attempts: one is being
// made, one was made with host and holders, and so on.
func TestAttemptsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp, w.holders = true, 10 // the host takes it, and says no more
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		defer func() { end() }()
		c.Send(w.accept(1))
		shown := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := c.Waiting()[MessageID{1}].Attempts; n != want {
				t.Errorf("%d attempts are shown, want %d", n, want)
			}
		}
		shown(1)
		pass(DropAfter + time.Second)
		shown(1)
		if d, p := w.counts(); d != 1 || p != 1 || w.row(1).Attempts != 1 {
			t.Errorf("%d direct deliveries, %d puts, %d attempts", d, p, w.row(1).Attempts)
		}
		pass(20 * time.Minute) // 15 min after the first
		shown(2)
		if d, p := w.counts(); d != 2 || p != 2 || w.row(1).Attempts != 2 {
			t.Errorf("%d direct deliveries, %d puts, %d attempts", d, p, w.row(1).Attempts)
		}
		end()
		c, end = w.carry(t, dir, true) // tries at once
		pass(DropAfter + time.Second)
		shown(3)
		if n := w.row(1).Attempts; n != 3 {
			t.Errorf("%d attempts after a restart, want 3", n)
		}
	})
}

func TestHoldersAfterTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.hostUp, w.holders = true, 10 // the host takes it, and says no more
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		pass(DropAfter - time.Millisecond)
		if _, p := w.counts(); p != 0 {
			t.Error("put too early")
		}
		pass(2 * time.Millisecond)
		if _, p := w.counts(); p != 1 {
			t.Error("not put in time")
		}
		if r := w.row(1); r.State != mailbox.Replicated || r.Replicas != 10 || r.Wanted != 10 {
			t.Errorf("row %+v", r)
		}
	})
}

func TestHoldersAtOnceWithoutHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 7
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		synctest.Wait()
		if _, p := w.counts(); p != 1 {
			t.Error("it waited although no host could be reached")
		}
	})
}

func TestLimitStandsInLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 3
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		synctest.Wait()
		r := w.row(1)
		if r.State != mailbox.Accepted || r.LastError != "too few holders: the inbox is over its 512 MiB" || r.Attempts != 1 {
			t.Errorf("row %+v", r)
		}
		w.set(func() { w.holders = 10 })
		pass(2 * time.Minute)
		if r := w.row(1); r.State != mailbox.Replicated || r.LastError != "" {
			t.Errorf("row %+v", r)
		}
	})
}

func TestTombstoneSettlesUnlessRefused(t *testing.T) {
	for _, refused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.tombstone = true
			c, end := w.carry(t, t.TempDir(), true)
			defer end()
			c.Send(w.accept(1))
			pass(refuseTime / 2)
			if s := w.row(1).State; s.Settled() {
				t.Fatal("settled before a refusal could come")
			}
			want := mailbox.Delivered
			if refused {
				want = mailbox.Failed
				if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, sealed.StatusRefused)); err != nil {
					t.Fatal(err)
				}
			}
			pass(refuseTime)
			if s := w.row(1).State; s != want {
				t.Errorf("state %d, not %d", s, want)
			}
		})
	}
}

func TestOthersReceiptsMeanNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		synctest.Wait()
		if err := c.Receive(t.Context(), w.sender.Root(), receipt(1, sealed.StatusDelivered)); err != nil {
			t.Fatal(err)
		}
		if s := w.row(1).State; s.Settled() {
			t.Error("a stranger settled the message")
		}
	})
}

func TestStatesOnlyMoveForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		synctest.Wait()
		for _, s := range []sealed.Status{sealed.StatusDelivered, sealed.StatusRefused, sealed.StatusDelivered} {
			if err := c.Receive(t.Context(), w.recipient.Root(), receipt(1, s)); err != nil {
				t.Fatal(err)
			}
			if s := w.row(1).State; s != mailbox.Delivered {
				t.Fatalf("state %d", s)
			}
		}
	})
}

func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		pass(DelayAfter + 2*sweepEvery)
		if len(w.reports) != 1 || w.reports[0] != "delayed: it waits with 10 of 10 holders until the recipient's machine is on" {
			t.Fatalf("reports %q", w.reports)
		}
		w.set(func() { w.drained = false }) // the receipt may be waiting for us
		pass(Lifetime + Grace)
		if s := w.row(1).State; s == mailbox.Failed {
			t.Fatal("failed before the own drop was drained")
		}
		w.set(func() { w.drained = true })
		pass(2 * sweepEvery)
		if s := w.row(1).State; s != mailbox.Failed || len(w.reports) != 2 || w.reports[1] != "failed: 5.4.7 delivery was not confirmed before the message expired" {
			t.Fatalf("state %d, reports %q", s, w.reports)
		}
	})
}

func TestNothingExpiredIsPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.unknown = true
		w.drained = false
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		pass(Lifetime + time.Hour)
		w.set(func() { w.unknown, w.hostUp, w.holders = false, true, 10 })
		pass(Grace)
		if d, p := w.counts(); d+p != 0 {
			t.Error("an expired message went out")
		}
	})
}

func TestLockedCourierGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1))
		pass(time.Second) // sealed; nobody takes it
		w.set(func() { w.unknown = true })
		second := w.accept(2)
		c.Send(second)
		synctest.Wait()
		end()

		w.set(func() { w.holders, w.unknown = 10, false })
		c, end = w.carry(t, dir, false)
		pass(time.Second)
		if _, p := w.counts(); p < 1 || w.put[len(w.put)-1].Outer.ID() != w.put[0].Outer.ID() {
			t.Fatalf("%d puts by the locked courier", p)
		}
		if n := len(c.Waiting()); n != 1 {
			t.Errorf("%d messages under way, the other was never sealed", n)
		}
		w.set(func() { w.tombstone = true })
		pass(7 * time.Hour) // the next look finds the tombstone
		if s := w.row(1).State; s.Settled() {
			t.Error("the row changed while locked")
		}
		if err := c.Unlock(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if s := w.row(1).State; s != mailbox.Delivered {
			t.Errorf("state %d after the unlock", s)
		}
		end()
		c, end = w.carry(t, dir, false)
		defer end()
		if n := len(c.Waiting()); n != 0 {
			t.Errorf("%d parcels are left", n)
		}
	})
}

func TestNewKeysAreSealedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		c.Send(w.accept(1))
		synctest.Wait()
		old := w.put[0]
		seed := identity.NewSeed()
		restored, err := identity.NewKeyring(seed, 2, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.recipient = restored
		w.publish(t)
		pass(time.Hour)
		last := w.put[len(w.put)-1]
		if last.Outer.Inbox == old.Outer.Inbox {
			t.Fatal("still sealed to the old keys")
		}
		if _, _, ok := restored.SecretsByInbox(last.Outer.Inbox); !ok {
			t.Error("sealed to keys that nobody has")
		}
	})
}

func TestBackoffGrows(t *testing.T) {
	for _, replicated := range []bool{false, true} {
		before := time.Duration(0)
		for n := 1; n <= 6; n++ {
			d := backoff(n, replicated)
			if d < before*8/10 || d > 7*time.Hour || d < 4*time.Second {
				t.Errorf("attempt %d: %v", n, d)
			}
			before = d
		}
	}
}

// TestReplicatedStays restarts without a login while nobody is there.
func TestReplicatedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.holders = 10
		dir := t.TempDir()
		c, end := w.carry(t, dir, true)
		c.Send(w.accept(1))
		pass(time.Second)
		end()
		w.set(func() { w.holders = 0 })
		c, end = w.carry(t, dir, false)
		defer end()
		pass(time.Minute)
		if s := c.Waiting()[MessageID{1}].State; s != mailbox.Replicated {
			t.Errorf("state %d: it moved back", s)
		}
	})
}

// TestNews has a neighbour come just after an attempt that found nobody, late
// in the backoff.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c, end := w.carry(t, t.TempDir(), true)
		defer end()
		row := w.accept(1)
		row.Attempts = 8 // before a restart
		c.Send(row)
		pass(time.Second)
		w.set(func() { w.holders = 10 })
		c.Nudge()
		pass(nudgeAfter)
		if s := w.row(1).State; s != mailbox.Replicated {
			t.Errorf("state %d: the news was missed", s)
		}
	})
}
