package node

import (
	"log/slog"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/courier"
)

// TestBacklogIsOutgoing accepts mail that does not get its rows in the outbox, for
// an id among them is there already; a full disk does the same. It is shown and
// carried all the same, after a restart too.
func TestBacklogIsOutgoing(t *testing.T) {
	ctx := t.Context()
	h := home(t.TempDir())
	_, keys, err := create(ctx, h, identity.NewSeed(), 1, AccountOptions{Name: "alice", Password: "secret", PasswordWork: 4})
	if err != nil {
		t.Fatal(err)
	}
	bob := identity.Address{Local: "bob", Root: identity.NewSeed().Root()}
	row := func(id byte) mailbox.Outgoing {
		return mailbox.Outgoing{MessageID: [16]byte{id}, To: bob, Expires: time.Now().Add(courier.Lifetime)}
	}
	accept := func(o *open, rows ...mailbox.Outgoing) {
		t.Helper()
		text := []byte("From: alice\r\nSubject: x\r\n\r\ny\r\n")
		if err := o.box.Accept(ctx, mail.Submission{From: "alice"}, text, rows); err != nil {
			t.Fatal(err)
		}
	}
	for _, restarted := range []bool{false, true} {
		a, err := openAccount(h, keys.Root(), nil, 4, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := a.unlock(ctx, "secret")
		if err != nil {
			t.Fatal(err)
		}
		if !restarted {
			accept(o, row(1))
			accept(o, row(1), row(2))
		} else if _, there := a.courier.Waiting()[courier.MessageID{2}]; !there {
			t.Error("it is not carried after a restart")
		}
		entries, err := a.outgoing(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 2 || entries[1].ID != idString([16]byte{2}) || entries[1].To != bob.String() || entries[1].State != "accepted" {
			t.Errorf("restarted %v: the outbox shows %+v", restarted, entries)
		}
		if counts, err := a.counts(ctx); err != nil || counts[mailbox.Accepted] != 3 {
			t.Errorf("restarted %v: counted %v, %v", restarted, counts, err)
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}
}
