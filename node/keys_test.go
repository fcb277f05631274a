package node

import (
	"os"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/store"
)

// TestDestroyKeys destroys the keys of a past week: after a whole look into its
// inbox that others took part in, with nothing unopened in it, and for good.
func TestDestroyKeys(t *testing.T) {
	ctx := t.Context()
	a, o := someAccount(t)
	past := o.keys.Epochs()[0]
	secrets, _ := o.keys.SecretsFor(past)
	inbox := secrets.Inbox()
	began := (past + 8).Start()
	held := func() bool {
		_, ok := o.keys.SecretsFor(past)
		return ok
	}
	saved := func() bool {
		v, err := identity.OpenVault(a.dir)
		if err != nil {
			t.Fatal(err)
		}
		kr, _, err := v.Unlock(t.Context(), "secret")
		if err != nil {
			t.Fatal(err)
		}
		_, ok := kr.SecretsFor(past)
		return ok
	}
	whole := store.InboxReport{Inbox: inbox, Ten: 10, AnsweredTen: 7, Asked: 20, Answered: 7}
	report := func(change func(*store.InboxReport)) store.CollectReport {
		r := whole
		change(&r)
		return store.CollectReport{Holders: 20, Inboxes: []store.InboxReport{r}}
	}
	as := func(*store.InboxReport) {}

	a.destroyKeys(o, began.AddDate(0, 0, -7), report(as)) // a message may still need them
	a.destroyKeys(o, began, store.CollectReport{})
	a.destroyKeys(o, began, report(func(r *store.InboxReport) { r.AnsweredTen = 6 }))
	a.destroyKeys(o, began, report(func(r *store.InboxReport) { r.Failed = 1 }))
	a.destroyKeys(o, began, report(func(r *store.InboxReport) { r.Ten, r.AnsweredTen, r.Answered = 1, 1, 1 }))
	if !held() || !saved() {
		t.Fatal("destroyed without a whole look")
	}

	m := someMessage(1)
	m.Outer.Inbox = inbox
	if err := a.incoming.accept(ctx, m, ""); err != nil {
		t.Fatal(err)
	}
	id, _, _ := a.incoming.take()
	a.destroyKeys(o, began, report(as))
	if !held() {
		t.Fatal("destroyed while a message is being opened")
	}
	a.incoming.putBack(id)
	a.destroyKeys(o, began, report(as))
	if !held() || !saved() {
		t.Fatal("destroyed while a message waits")
	}
	a.incoming.done(id)

	// the disk is gone for a moment
	if err := os.Rename(a.dir, a.dir+".away"); err != nil {
		t.Fatal(err)
	}
	a.destroyKeys(o, began, report(as))
	if err := os.Rename(a.dir+".away", a.dir); err != nil {
		t.Fatal(err)
	}
	if held() || !saved() {
		t.Fatal("the keys are still in memory, or not on the disk that could not be written")
	}
	a.destroyKeys(o, began, store.CollectReport{})
	if saved() {
		t.Error("the destruction was not made durable when it could be")
	}
	if n := len(o.keys.Fallbacks()); n != 1 {
		t.Errorf("%d fallback sets", n)
	}

	// a fallback set goes like a week
	first := o.keys.Fallbacks()[0].Inbox()
	year := time.Now().AddDate(1, 0, 1)
	o.keys.Roll(year)
	whole.Inbox = first
	a.destroyKeys(o, year.AddDate(1, 0, 0), report(as))
	if n := len(o.keys.Fallbacks()); n != 2 {
		t.Fatalf("%d fallback sets, a year after the old one was replaced", n)
	}
	a.destroyKeys(o, year.AddDate(1, 0, 38), report(as))
	if all := o.keys.Fallbacks(); len(all) != 1 || all[0].Inbox() == first {
		t.Errorf("%d fallback sets, a year and 38 days after the old one was replaced", len(all))
	}
}
