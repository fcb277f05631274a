package node

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/courier"
)

// someAccount is an unlocked account of a node that does not run.
func someAccount(t *testing.T) (*account, *open) {
	t.Helper()
	h := home(t.TempDir())
	_, keys, err := create(t.Context(), h, identity.NewSeed(), 1, AccountOptions{Name: "bob", Password: "secret", PasswordWork: 4})
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAccount(h, keys.Root(), nil, 4, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	o, _, err := a.unlock(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	return a, o
}

// accept puts a message to one recipient into the outbox.
func accept(t *testing.T, a *account, o *open, id byte, expires time.Duration) mailbox.Outgoing {
	t.Helper()
	now := time.Now()
	row := mailbox.Outgoing{
		MessageID: [16]byte{id}, To: a.address, Accepted: now, Expires: now.Add(expires),
		State: mailbox.Accepted, Notify: mail.NotifySuccess | mail.NotifyFailure | mail.NotifyDelay,
	}
	text := "From: " + a.address.String() + "\r\nSubject: x\r\n\r\ny\r\n"
	if err := o.box.Accept(t.Context(), mail.Submission{From: a.address.String()}, []byte(text), []mailbox.Outgoing{row}); err != nil {
		t.Fatal(err)
	}
	return row
}

// inboxTexts reads all of the inbox.
func inboxTexts(t *testing.T, o *open) (texts []string) {
	t.Helper()
	f, err := o.box.Folder(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	view, err := o.box.View(t.Context(), f.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, uid := range view.UIDs {
		body, err := o.box.Body(t.Context(), f.ID, uid)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		texts = append(texts, string(b))
	}
	return texts
}

// TestNoFailureOfWhatArrived reports a failure about a row that has arrived.
func TestNoFailureOfWhatArrived(t *testing.T) {
	a, o := someAccount(t)
	row := accept(t, a, o, 1, time.Hour)
	b := &outbox{a, o}
	if err := b.Update(t.Context(), row.MessageID, func(r *mailbox.Outgoing) { r.State = mailbox.Delivered }); err != nil {
		t.Fatal(err)
	}
	if err := b.Report(t.Context(), row.MessageID, mail.NotifyFailure, courier.Reason{Status: courier.StatusExpired, Text: "late"}); err != nil {
		t.Fatal(err)
	}
	if got := inboxTexts(t, o); len(got) != 0 {
		t.Errorf("the sender is told:\n%s", strings.Join(got, "\n"))
	}
}

// TestCompleteCopiesNothing completes what is complete.
func TestCompleteCopiesNothing(t *testing.T) {
	a, o := someAccount(t)
	s := &submitter{a, o}
	header := "From: " + a.address.String() + "\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <1@test>\r\n"
	body := []byte(header + "\r\ny\r\n")
	text, err := s.complete(body)
	if err != nil || &text[0] != &body[0] {
		t.Errorf("a copy, %v", err)
	}
	text, err = s.complete([]byte("Return-Path: <x>\r\n" + header + "X-Peerpost-Y: z\r\n\r\ny\r\n"))
	if err != nil || string(text) != string(body) {
		t.Errorf("%q, %v", text, err)
	}
}

// TestReports reads what a sender is told, on either side of the expiry.
func TestReports(t *testing.T) {
	for _, status := range []string{courier.StatusTooLarge, courier.StatusRefused, courier.StatusExpired} {
		for _, expires := range []time.Duration{-time.Hour, time.Hour} {
			a, o := someAccount(t)
			row := accept(t, a, o, 1, expires)
			why := courier.Reason{Status: status, Text: "for this reason"}
			if err := (&outbox{a, o}).Report(t.Context(), row.MessageID, mail.NotifyFailure, why); err != nil {
				t.Fatal(err)
			}
			got := inboxTexts(t, o)
			if len(got) != 1 || !strings.Contains(got[0], "\r\nStatus: "+status+"\r\n") || !strings.Contains(got[0], "for this reason") {
				t.Errorf("%s, expiry in %v: %s", status, expires, strings.Join(got, "\n"))
			}
		}
	}
}
