package mailbox

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

func outTo(id byte, name string) Outgoing {
	return Outgoing{
		MessageID: [16]byte{id}, To: identity.Address{Local: name, Root: identity.Root{id}}, Original: "rfc822;" + name,
		Notify: mail.NotifyFailure, Expires: time.UnixMilli(1_900_000_000_000),
	}
}

func accept(t testing.TB, m *Mailbox, message []byte, outs ...Outgoing) {
	t.Helper()
	s := mail.Submission{From: "me@x", EnvelopeID: "envid", HeadersOnly: true, UTF8: true}
	for _, o := range outs {
		s.Recipients = append(s.Recipients, mail.Recipient{Address: o.To.Local + "@y", Original: o.Original, Notify: o.Notify})
	}
	tcheck(t, m.Accept(t.Context(), s, message, outs))
}

func TestAccept(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	small := text("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "hello")
	large := text("large", strings.Repeat("x", smallMessage))
	accept(t, m, small, outTo(1, "anna"), outTo(2, "bob"))
	accept(t, m, large, outTo(3, "carol"))
	check := func() {
		t.Helper()
		all, err := m.Outbox(t.Context(), OutboxFilter{})
		tcheck(t, err)
		var got []string
		for _, o := range all {
			got = append(got, fmt.Sprintf("%s %s %s %s %d", o.To.Local, o.State, o.Subject, o.Original, o.Size))
			want := outTo(o.MessageID[0], o.To.Local)
			if o.To != want.To || !o.Expires.Equal(want.Expires) || o.Notify != want.Notify || o.Accepted.IsZero() || o.NextAttempt.IsZero() {
				t.Errorf("%+v", o)
			}
			s, err := m.SubmissionOf(t.Context(), o.Submission)
			tcheck(t, err)
			if s.From != "me@x" || s.EnvelopeID != "envid" || !s.HeadersOnly || !s.UTF8 || s.Recipients[0].Notify != mail.NotifyFailure {
				t.Errorf("%+v", s)
			}
			b, err := m.OutgoingMessage(t.Context(), o.MessageID)
			tcheck(t, err)
			if want := map[byte][]byte{1: small, 2: small, 3: large}[o.MessageID[0]]; !bytes.Equal(b, want) {
				t.Errorf("message of %s has %d bytes", o.To.Local, len(b))
			}
		}
		want := []string{
			fmt.Sprintf("anna accepted Grüße rfc822;anna %d", len(small)), fmt.Sprintf("bob accepted Grüße rfc822;bob %d", len(small)),
			fmt.Sprintf("carol accepted large rfc822;carol %d", len(large)),
		}
		if !slices.Equal(got, want) {
			t.Errorf("outbox %q", got)
		}
		sent := folderOf(t, m, "Sent")
		if sent.Messages != 2 || sent.Unseen != 0 {
			t.Errorf("%+v", sent)
		}
		if b := bodyOf(t, m, sent.ID, 2); !bytes.Equal(b, large) {
			t.Error("Sent copy differs")
		}
		counts, err := m.OutboxCounts(t.Context())
		tcheck(t, err)
		if !maps.Equal(counts, map[State]int{Accepted: 3}) {
			t.Errorf("%v", counts)
		}
	}
	check()
	tcheck(t, m.Close())
	m = openTest(t, dir)
	check()
	tcheck(t, m.spool(t.Context()))
	check()
	if s := m.journal.Status(); s.Records != 0 {
		t.Errorf("%d records in the journal", s.Records)
	}
	if _, err := m.Outgoing(t.Context(), [16]byte{9}); !errors.Is(err, mail.ErrNoMessage) {
		t.Error(err)
	}
	if _, err := m.SubmissionOf(t.Context(), 99); !errors.Is(err, mail.ErrNoMessage) {
		t.Error(err)
	}
	for _, outs := range [][]Outgoing{nil, {{}}, {outTo(7, "a"), outTo(7, "b")}} {
		if err := m.Accept(t.Context(), mail.Submission{}, small, outs); err == nil {
			t.Errorf("accepted for %v", outs)
		}
	}
}

func TestStatesMoveForward(t *testing.T) {
	for _, c := range []struct {
		from State
		to   []State
	}{
		{Accepted, []State{Accepted, Replicated, Delivered, Displayed, Failed}},
		{Replicated, []State{Replicated, Delivered, Displayed, Failed}},
		{Delivered, []State{Delivered, Displayed}},
		{Displayed, []State{Displayed}},
		{Failed, []State{Failed}},
	} {
		for s := range State(8) {
			if got := s.follows(c.from); got != slices.Contains(c.to, s) {
				t.Errorf("%s to %s: %v", c.from, s, got)
			}
		}
	}
}

func TestOutgoingUntilSettled(t *testing.T) {
	m := openTest(t, t.TempDir())
	message := text("hi", "there")
	a, b := outTo(1, "anna"), outTo(2, "bob")
	accept(t, m, message, a, b)
	sent := folderOf(t, m, "Sent")
	set := func(id [16]byte, s State) error {
		return m.UpdateOutgoing(t.Context(), id, func(o *Outgoing) { o.State = s })
	}
	tcheck(t, m.UpdateOutgoing(t.Context(), a.MessageID, func(o *Outgoing) {
		o.State, o.Replicas, o.Wanted, o.Attempts, o.LastError = Replicated, 6, 10, 2, strings.Repeat("e", 5000)
		o.NextAttempt, o.SealedID, o.Generation, o.DelayTold = time.UnixMilli(1_700_000_000_000), [32]byte{7}, 1<<63+1, true
		o.MessageID, o.To = [16]byte{99}, identity.Address{}
	}))
	o, err := m.Outgoing(t.Context(), a.MessageID)
	tcheck(t, err)
	if o.State != Replicated || o.Replicas != 6 || o.Wanted != 10 || o.Attempts != 2 || len(o.LastError) != maxLastError || !o.DelayTold ||
		o.NextAttempt.UnixMilli() != 1_700_000_000_000 || o.SealedID != [32]byte{7} || o.Generation != 1<<63+1 || o.To != a.To {
		t.Errorf("%+v", o)
	}
	due, err := m.Outbox(t.Context(), OutboxFilter{Unsettled: true, Due: time.UnixMilli(1_700_000_000_000), Limit: 5})
	tcheck(t, err)
	if len(due) != 1 || due[0].MessageID != a.MessageID {
		t.Errorf("due: %+v", due)
	}
	if err := set(a.MessageID, Accepted); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if err := set([16]byte{50}, Delivered); !errors.Is(err, mail.ErrNoMessage) {
		t.Error(err)
	}
	if err := m.UpdateOutgoings(t.Context(), [][16]byte{b.MessageID, a.MessageID}, func(o *Outgoing) {
		if o.State = Replicated; o.MessageID == a.MessageID {
			o.State = Accepted
		}
	}); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if o, err := m.Outgoing(t.Context(), b.MessageID); err != nil || o.State != Accepted {
		t.Errorf("all or none: %+v, %v", o, err)
	}

	// The Sent copy goes; the bytes stay until both are settled.
	_, _, err = m.SetFlags(t.Context(), sent.ID, []mail.UID{1}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(t, err)
	_, err = m.Expunge(t.Context(), sent.ID, nil)
	tcheck(t, err)
	tcheck(t, m.collect(t.Context()))
	tcheck(t, set(a.MessageID, Delivered))
	tcheck(t, set(a.MessageID, Displayed))
	tcheck(t, m.collect(t.Context()))
	if got, err := m.OutgoingMessage(t.Context(), b.MessageID); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	tcheck(t, set(b.MessageID, Failed))
	tcheck(t, m.UpdateOutgoing(t.Context(), b.MessageID, func(o *Outgoing) { o.FailureTold = true }))
	tcheck(t, m.collect(t.Context()))
	if _, err := m.OutgoingMessage(t.Context(), b.MessageID); !errors.Is(err, mail.ErrNoMessage) {
		t.Error(err)
	}
	if s := m.journal.Status(); s.Records != 0 {
		t.Errorf("%d records in the journal", s.Records)
	}
	if left, err := m.Outbox(t.Context(), OutboxFilter{Unsettled: true}); err != nil || len(left) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	o, err = m.Outgoing(t.Context(), b.MessageID)
	tcheck(t, err)
	if o.Settled.IsZero() || !o.NextAttempt.IsZero() || !o.FailureTold {
		t.Errorf("%+v", o)
	}

	// History ends.
	rows := func() (n int64) {
		tcheck(t, m.read(t.Context(), func(c *pages.Conn) (err error) {
			n, err = c.Int("SELECT (SELECT count(*) FROM outgoing) + (SELECT count(*) FROM submission)")
			return err
		}))
		return n
	}
	tcheck(t, m.prune(t.Context(), time.Now().Add(historyKeep-time.Hour)))
	if rows() != 3 {
		t.Errorf("%d rows", rows())
	}
	tcheck(t, m.prune(t.Context(), time.Now().Add(historyKeep+time.Hour)))
	if rows() != 0 {
		t.Errorf("%d rows kept for ever", rows())
	}
}

func TestSentCopyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := Open(t.Context(), Config{Dir: t.TempDir(), Keys: testKeys, Log: testLog(t)})
		tcheck(t, err)
		defer func() { tcheck(t, m.Close()) }()
		sent := folderOf(t, m, "Sent")
		message := text("hi", "there")
		copied := append([]byte("Bcc: x@y\r\n"), message...)
		accept(t, m, message, outTo(1, "anna"))
		drafts := put(t, m, folderOf(t, m, "Drafts").ID, copied)
		if drafts != 1 {
			t.Errorf("a draft got UID %d", drafts)
		}
		first := put(t, m, sent.ID, copied, mail.Seen, "$MDNSent")
		if first != 1 {
			t.Errorf("the client's copy got UID %d", first)
		}
		e, err := m.Entries(t.Context(), sent.ID, []mail.UID{1})
		tcheck(t, err)
		if !slices.Equal(e[0].Flags, []mail.Flag{"$MDNSent", mail.Seen}) {
			t.Errorf("%q", e[0].Flags)
		}
		if again := put(t, m, sent.ID, copied); again != 2 {
			t.Errorf("a second copy got UID %d", again)
		}
		// Another message with the same id was accepted twice: each is matched once.
		accept(t, m, message, outTo(2, "anna"))
		if uid := put(t, m, sent.ID, message); uid != 3 {
			t.Errorf("UID %d", uid)
		}
		// A copy that was deleted is no copy.
		accept(t, m, text("gone", ""), outTo(3, "anna"))
		tcheck(t, m.settleAccepts(t.Context()))
		_, err = m.Move(t.Context(), sent.ID, []mail.UID{4}, "Trash")
		tcheck(t, err)
		if uid := put(t, m, sent.ID, text("gone", "")); uid != 5 {
			t.Errorf("UID %d", uid)
		}
		// Nor is one of long ago.
		accept(t, m, text("late", ""), outTo(4, "anna"))
		tcheck(t, m.settleAccepts(t.Context()))
		time.Sleep(copyWithin + time.Minute)
		if uid := put(t, m, sent.ID, text("late", "")); uid != 7 {
			t.Errorf("UID %d", uid)
		}
	})
}
