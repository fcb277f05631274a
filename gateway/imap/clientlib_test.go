package imap_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// library logs in with a client of the library, which parses every answer.
func (b *bench) library(options *imapclient.Options) *imapclient.Client {
	b.t.Helper()
	c, err := imapclient.DialInsecure(b.addr, options)
	check(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	check(b.t, c.Login(user, password).Wait())
	return c
}

// TestAClientThatParsesEverything runs through a session with a client that
// understands what it reads, and does not merely compare it.
func TestAClientThatParsesEverything(t *testing.T) {
	b := start(t)
	c := b.library(nil)

	caps, err := c.Capability().Wait()
	check(t, err)
	for _, k := range []wire.Cap{wire.CapIMAP4rev1, wire.CapIdle, wire.CapMove, wire.CapUIDPlus, wire.CapESearch, wire.CapSearchRes, wire.CapListExtended,
		wire.CapListStatus, wire.CapStatusSize, wire.CapNamespace, wire.CapChildren, wire.CapSpecialUse, wire.CapCreateSpecialUse, wire.CapUnselect, wire.CapEnable, wire.CapSASLIR, wire.CapLiteralMinus, wire.CapAppendLimit} {
		if !caps.Has(k) {
			t.Errorf("%s is missing", k)
		}
	}
	for _, k := range []wire.Cap{wire.CapIMAP4rev2, wire.CapLiteralPlus, wire.CapUTF8Accept, wire.CapBinary, wire.CapStartTLS, wire.CapUnauthenticate} {
		if caps.Has(k) {
			t.Errorf("%s is offered", k)
		}
	}

	ns, err := c.Namespace().Wait()
	check(t, err)
	if len(ns.Personal) != 1 || ns.Personal[0].Delim != '/' {
		t.Errorf("%+v", ns)
	}

	check(t, c.Create("Grüße/& Co", nil).Wait())
	var told *wire.Error
	if err := c.Create("Letters", &wire.CreateOptions{SpecialUse: []wire.MailboxAttr{wire.MailboxAttrArchive}}).Wait(); !errors.As(err, &told) || told.Code != "USEATTR" {
		t.Errorf("a second folder for the archive: %v", err)
	}
	list, err := c.List("", "*", &wire.ListOptions{ReturnSpecialUse: true, ReturnStatus: &wire.StatusOptions{NumMessages: true, Size: true}}).Collect()
	check(t, err)
	var names []string
	for _, l := range list {
		names = append(names, l.Mailbox)
		if l.Status == nil || *l.Status.NumMessages != 0 || *l.Status.Size != 0 {
			t.Errorf("%s: %+v", l.Mailbox, l.Status)
		}
		if l.Mailbox == "Archive" && !slices.Contains(l.Attrs, wire.MailboxAttrArchive) {
			t.Errorf("%+v", l)
		}
	}
	if !slices.Contains(names, "Grüße/& Co") || len(names) != 8 {
		t.Errorf("%q", names)
	}

	when := time.Date(2026, 11, 1, 8, 0, 0, 0, time.FixedZone("", 3600))
	for i, text := range []string{nested, simple(1), simple(2)} {
		a := c.Append("INBOX", int64(len(text)), &wire.AppendOptions{Flags: []wire.Flag{wire.FlagFlagged, "work"}, Time: when})
		_, err := io.WriteString(a, text)
		check(t, err)
		check(t, a.Close())
		data, err := a.Wait()
		check(t, err)
		if data.UID != wire.UID(i+1) || data.UIDValidity != 1001 {
			t.Errorf("%+v", data)
		}
	}

	sel, err := c.Select("INBOX", nil).Wait()
	check(t, err)
	if sel.NumMessages != 3 || sel.UIDNext != 4 || sel.UIDValidity != 1001 || !slices.Contains(sel.PermanentFlags, wire.FlagWildcard) {
		t.Errorf("%+v", sel)
	}

	section := &wire.FetchItemBodySection{Part: []int{2, 1}, Peek: true}
	msgs, err := c.Fetch(wire.SeqSetNum(1), &wire.FetchOptions{
		UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true,
		BodyStructure: &wire.FetchItemBodyStructure{Extended: true}, BodySection: []*wire.FetchItemBodySection{section},
	}).Collect()
	check(t, err)
	if len(msgs) != 1 {
		t.Fatalf("%d messages", len(msgs))
	}
	m := msgs[0]
	if m.UID != 1 || m.RFC822Size != int64(len(nested)) || !m.InternalDate.Equal(when) || !slices.Equal(m.Flags, []wire.Flag{wire.FlagFlagged, "work"}) {
		t.Errorf("%+v", m)
	}
	if m.Envelope.Subject != "Grüße" || m.Envelope.MessageID != "outer@example.org" || len(m.Envelope.InReplyTo) != 2 || len(m.Envelope.To) != 5 {
		t.Errorf("%+v", m.Envelope)
	}
	if got := string(m.FindBodySection(section)); got != "inner text" {
		t.Errorf("%q", got)
	}
	var types []string
	m.BodyStructure.Walk(func(path []int, p wire.BodyStructure) bool {
		types = append(types, fmt.Sprint(path, p.MediaType()))
		return true
	})
	if got := strings.Join(types, " "); got != "[]multipart/mixed [1]text/plain [2]message/rfc822 [3]image/png" {
		t.Error(got)
	}
	if p := m.BodyStructure.(*wire.BodyStructureMultiPart).Children[1].(*wire.BodyStructureSinglePart); p.Filename() != "fwd.eml" || p.MessageRFC822.Envelope.Subject != "inner" {
		t.Errorf("%+v", p)
	}

	stored, err := c.Store(wire.SeqSetNum(1, 2), &wire.StoreFlags{Op: wire.StoreFlagsAdd, Flags: []wire.Flag{wire.FlagSeen}}, nil).Collect()
	check(t, err)
	if len(stored) != 2 {
		t.Errorf("%d answers", len(stored))
	}

	found, err := c.UIDSearch(&wire.SearchCriteria{NotFlag: []wire.Flag{wire.FlagSeen}}, &wire.SearchOptions{ReturnAll: true, ReturnCount: true, ReturnMin: true, ReturnMax: true, ReturnSave: true}).Wait()
	check(t, err)
	if found.Count != 1 || found.Min != 3 || found.Max != 3 || !slices.Equal(found.AllUIDs(), []wire.UID{3}) {
		t.Errorf("%+v", found)
	}
	plain, err := c.Search(&wire.SearchCriteria{Header: []wire.SearchCriteriaHeaderField{{Key: "Subject", Value: "message"}}}, nil).Wait()
	check(t, err)
	if !slices.Equal(plain.AllSeqNums(), []uint32{2, 3}) {
		t.Errorf("%+v", plain)
	}

	copied, err := c.Copy(wire.SeqSetNum(1, 3), "Grüße/& Co").Wait()
	check(t, err)
	if copied.SourceUIDs.String() != "1,3" || copied.DestUIDs.String() != "1:2" {
		t.Errorf("%+v", copied)
	}
	moved, err := c.Move(wire.UIDSetNum(2), "Trash").Wait()
	check(t, err)
	if moved.SourceUIDs.(wire.UIDSet).String() != "2" {
		t.Errorf("%+v", moved)
	}
	check(t, c.Store(wire.SeqSetNum(2), &wire.StoreFlags{Op: wire.StoreFlagsAdd, Silent: true, Flags: []wire.Flag{wire.FlagDeleted}}, nil).Close())
	gone, err := c.UIDExpunge(wire.UIDSetNum(3)).Collect()
	check(t, err)
	if !slices.Equal(gone, []uint32{2}) {
		t.Errorf("%v", gone)
	}
	status, err := c.Status("INBOX", &wire.StatusOptions{NumMessages: true, NumUnseen: true, NumDeleted: true, Size: true, UIDNext: true, UIDValidity: true, AppendLimit: true}).Wait()
	check(t, err)
	if *status.NumMessages != 1 || *status.NumUnseen != 0 || *status.NumDeleted != 0 || *status.Size != int64(len(nested)) || status.UIDNext != 4 || *status.AppendLimit != 40<<20 {
		t.Errorf("%+v", status)
	}
	check(t, c.UnselectAndExpunge().Wait())
	check(t, c.Rename("Grüße/& Co", "Kisten", nil).Wait())
	check(t, c.Subscribe("Kisten").Wait())
	check(t, c.Unsubscribe("Kisten").Wait())
	check(t, c.Delete("Kisten").Wait())
	check(t, c.Noop().Wait())
	check(t, c.Logout().Wait())
}

func TestAClientInIdle(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	exists := make(chan uint32, 10)
	expunged := make(chan uint32, 10)
	c := b.library(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		},
		Expunge: func(n uint32) { expunged <- n },
	}})
	_, err := c.Select("INBOX", nil).Wait()
	check(t, err)
	for len(exists) > 0 {
		<-exists
	}
	idle, err := c.Idle()
	check(t, err)
	told := func(c chan uint32, want uint32) {
		t.Helper()
		select {
		case n := <-c:
			if n != want {
				t.Errorf("got %d, want %d", n, want)
			}
		case <-time.After(patience):
			t.Fatal("not told")
		}
	}
	b.fill("INBOX", simple(4))
	told(exists, 4) // else both changes may be told as one
	other := b.selected()
	other.ok("STORE 2 +FLAGS.SILENT \\Deleted")
	other.ok("EXPUNGE")
	told(expunged, 2)
	check(t, idle.Close())
	check(t, idle.Wait())
}
