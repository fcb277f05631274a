package imaptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
)

// patience is how long the suite waits for a notice.
const patience = 10 * time.Second

// TestMailbox checks that a Mailbox keeps what its interface promises. open
// returns a new one, with INBOX and a folder of each role, for each test.
func TestMailbox(t *testing.T, open func(t *testing.T) imap.Mailbox) {
	for name, f := range map[string]func(s *suite){
		"Folders":  (*suite).folders,
		"Rename":   (*suite).rename,
		"Append":   (*suite).append,
		"Flags":    (*suite).flags,
		"Changes":  (*suite).changes,
		"Notify":   (*suite).notify,
		"Expunge":  (*suite).expunge,
		"Copy":     (*suite).copyAndMove,
		"Search":   (*suite).search,
		"Gone":     (*suite).gone,
		"AtOnce":   (*suite).atOnce,
		"Messages": (*suite).messages,
	} {
		t.Run(name, func(t *testing.T) { f(&suite{T: t, m: open(t), ctx: context.Background()}) })
	}
}

type suite struct {
	*testing.T
	m   imap.Mailbox
	ctx context.Context
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error %v, want %v", err, want)
	}
}

func (s *suite) equal(got, want any) {
	s.Helper()
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		s.Errorf("got  %s\nwant %s", g, w)
	}
}

func (s *suite) folder(name string) mail.Folder {
	s.Helper()
	f, err := s.m.Folder(s.ctx, name)
	s.must(err)
	return f
}

func (s *suite) create(name string) mail.Folder {
	s.Helper()
	f, err := s.m.CreateFolder(s.ctx, name, mail.NoRole)
	s.must(err)
	return f
}

func (s *suite) view(id int64) mail.View {
	s.Helper()
	v, err := s.m.View(s.ctx, id)
	s.must(err)
	return v
}

func (s *suite) put(id int64, text string, flags ...mail.Flag) mail.UID {
	s.Helper()
	uid, err := s.m.Append(s.ctx, id, strings.NewReader(text), int64(len(text)), flags, time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC))
	s.must(err)
	return uid
}

func (s *suite) fill(id int64, n int) {
	s.Helper()
	for i := range n {
		s.put(id, fmt.Sprintf("Subject: message %d\r\n\r\ntext %d\r\n", i+1, i+1))
	}
}

func (s *suite) names() (list []string) {
	s.Helper()
	folders, err := s.m.Folders(s.ctx)
	s.must(err)
	for _, f := range folders {
		list = append(list, f.Name)
	}
	return list
}

// flagsOf writes the flags of messages in order.
func (s *suite) flagsOf(id int64, uids ...mail.UID) string {
	s.Helper()
	entries, err := s.m.Entries(s.ctx, id, uids)
	s.must(err)
	var all []string
	for _, e := range entries {
		var list []string
		for _, f := range e.Flags {
			list = append(list, string(f))
		}
		slices.Sort(list)
		all = append(all, fmt.Sprintf("%d:%s", e.UID, strings.Join(list, ",")))
	}
	return strings.Join(all, " ")
}

func (s *suite) folders() {
	list, err := s.m.Folders(s.ctx)
	s.must(err)
	if len(list) == 0 || list[0].Name != "INBOX" {
		s.Fatalf("INBOX is not first: %v", s.names())
	}
	roles := map[mail.Role]bool{}
	validities := map[mail.UIDValidity]bool{}
	for i, f := range list {
		roles[f.Role] = true
		validities[f.UIDValidity] = true
		if f.UIDValidity == 0 || f.UIDNext == 0 || f.Messages != 0 {
			s.Errorf("%+v", f)
		}
		if i > 1 && list[i-1].Name >= f.Name {
			s.Errorf("not in order: %v", s.names())
		}
	}
	for _, r := range []mail.Role{mail.Inbox, mail.Archive, mail.Drafts, mail.Junk, mail.Sent, mail.Trash} {
		if !roles[r] {
			s.Errorf("no folder is %q", r)
		}
	}
	s.equal(s.folder("inbox").ID, list[0].ID)

	f := s.create("a/b/c")
	for _, n := range []string{"a", "a/b", "a/b/c"} {
		s.folder(n)
	}
	if f.ID == 0 || f.Name != "a/b/c" {
		s.Errorf("%+v", f)
	}
	for name, want := range map[string]error{
		"a": mail.ErrFolderExists, "INBOX": mail.ErrFolderExists, "inbox": mail.ErrFolderExists,
		"": mail.ErrFolderName, "/x": mail.ErrFolderName, "x//y": mail.ErrFolderName, "x\r\n": mail.ErrFolderName, "\xff": mail.ErrFolderName,
	} {
		_, err := s.m.CreateFolder(s.ctx, name, mail.NoRole)
		s.is(err, want)
	}
	for _, name := range []string{"Grüße & Co", `"quoted" \ name`, "日本"} {
		s.create(name)
		s.equal(s.folder(name).Name, name)
	}
	r, err := s.m.CreateFolder(s.ctx, "Letters", mail.Archive)
	s.must(err)
	s.equal(r.Role, mail.Archive)
	_, err = s.m.Folder(s.ctx, "nowhere")
	s.is(err, mail.ErrNoFolder)

	s.must(s.m.Subscribe(s.ctx, "a", true))
	s.equal(s.folder("a").Subscribed, true)
	s.must(s.m.Subscribe(s.ctx, "a", false))
	s.equal(s.folder("a").Subscribed, false)
	s.is(s.m.Subscribe(s.ctx, "nowhere", true), mail.ErrNoFolder)

	// The subscription of a folder outlives it, and comes to who takes its name.
	names := func(want ...string) {
		s.Helper()
		got, err := s.m.Subscriptions(s.ctx)
		s.must(err)
		if !slices.Equal(got, want) {
			s.Errorf("%q are subscribed, want %q", got, want)
		}
	}
	for _, name := range []string{"gone", "later", "renamed", "unwanted"} {
		s.create(name)
		s.must(s.m.Subscribe(s.ctx, name, name != "unwanted"))
		s.must(s.m.DeleteFolder(s.ctx, name))
	}
	names("gone", "later", "renamed")
	s.is(s.m.Subscribe(s.ctx, "unwanted", false), mail.ErrNoFolder)
	s.must(s.m.Subscribe(s.ctx, "gone", false))
	s.is(s.m.Subscribe(s.ctx, "gone", false), mail.ErrNoFolder)
	s.create("later")
	names("renamed")
	s.create("other")
	s.must(s.m.Subscribe(s.ctx, "other", false))
	s.must(s.m.RenameFolder(s.ctx, "other", "renamed"))
	s.equal(s.folder("renamed").Subscribed, true)
	names()
	for _, name := range []string{"later", "renamed"} {
		s.must(s.m.Subscribe(s.ctx, name, false))
		s.must(s.m.DeleteFolder(s.ctx, name))
	}
	names()

	s.must(s.m.DeleteFolder(s.ctx, "a/b/c"))
	_, err = s.m.Folder(s.ctx, "a/b/c")
	s.is(err, mail.ErrNoFolder)
	again := s.create("a/b/c")
	if again.ID == f.ID || again.UIDValidity == f.UIDValidity {
		s.Error("a folder made again is the same as before")
	}
	s.is(s.m.DeleteFolder(s.ctx, "nowhere"), mail.ErrNoFolder)
	s.is(s.m.DeleteFolder(s.ctx, "INBOX"), mail.ErrRoleFolder)
	s.is(s.m.DeleteFolder(s.ctx, "Sent"), mail.ErrRoleFolder)
}

func (s *suite) rename() {
	f := s.create("a/b")
	s.create("a/b/c")
	s.fill(f.ID, 2)
	s.must(s.m.RenameFolder(s.ctx, "a/b", "x/y"))
	s.equal(s.folder("x/y").ID, f.ID)
	s.equal(s.folder("x/y").UIDValidity, f.UIDValidity)
	s.equal(s.folder("x/y").Messages, 2)
	s.folder("x")
	s.folder("x/y/c")
	_, err := s.m.Folder(s.ctx, "a/b")
	s.is(err, mail.ErrNoFolder)
	s.is(s.m.RenameFolder(s.ctx, "nowhere", "z"), mail.ErrNoFolder)
	s.is(s.m.RenameFolder(s.ctx, "x/y", "a"), mail.ErrFolderExists)
	s.is(s.m.RenameFolder(s.ctx, "x/y", ""), mail.ErrFolderName)

	inbox := s.folder("INBOX")
	s.fill(inbox.ID, 3)
	s.must(s.m.RenameFolder(s.ctx, "INBOX", "old"))
	s.equal(s.folder("INBOX").ID, inbox.ID)
	s.equal(s.folder("INBOX").Messages, 0)
	s.equal(s.folder("old").Messages, 3)
}

func (s *suite) append() {
	f := s.folder("INBOX")
	empty := s.view(f.ID)
	s.equal(len(empty.UIDs), 0)
	text := "Subject: x\r\n\r\n\x00\xff any bytes\n"
	when := time.Date(2026, 11, 20, 10, 30, 0, 0, time.FixedZone("", 3600))
	uid, err := s.m.Append(s.ctx, f.ID, strings.NewReader(text), int64(len(text)), []mail.Flag{mail.Seen, "work"}, when)
	s.must(err)
	s.equal(uid, f.UIDNext)
	v := s.view(f.ID)
	s.equal(v.UIDs, []mail.UID{uid})
	if v.ModSeq <= empty.ModSeq {
		s.Errorf("mod-sequence went from %d to %d", empty.ModSeq, v.ModSeq)
	}
	s.equal(len(empty.UIDs), 0)
	s.equal(s.flagsOf(f.ID, uid), fmt.Sprintf(`%d:\Seen,work`, uid))
	b, err := s.m.Body(s.ctx, f.ID, uid)
	s.must(err)
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	s.must(err)
	s.must(b.Close())
	s.equal(string(got), text)
	s.must(s.m.Messages(s.ctx, f.ID, []mail.UID{uid}, mail.Want{}, func(m *mail.Message) error {
		if !m.Internal.Equal(when) || m.Size != int64(len(text)) || m.UID != uid || m.Envelope != nil || m.Structure != nil {
			s.Errorf("%+v", m)
		}
		return nil
	}))
	second := s.put(f.ID, text)
	if second <= uid {
		s.Errorf("UID %d after %d", second, uid)
	}
	s.equal(v.UIDs, []mail.UID{uid}) // a view never changes
	now := s.folder("INBOX")
	s.equal([]any{now.Messages, now.Unseen, now.Deleted, now.Size, now.UIDNext}, []any{2, 1, 0, 2 * len(text), second + 1})

	_, err = s.m.Append(s.ctx, f.ID, io.MultiReader(strings.NewReader("Subject: cut"), broken{}), 1000, nil, when)
	if err == nil {
		s.Error("a message that broke off was stored")
	}
	s.equal(len(s.view(f.ID).UIDs), 2)
	_, err = s.m.Append(s.ctx, f.ID, strings.NewReader("x"), s.m.MaxMessage()+1, nil, when)
	s.is(err, mail.ErrTooLarge)
}

// broken is a reader that fails.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (s *suite) flags() {
	f := s.folder("INBOX")
	s.fill(f.ID, 4)
	v := s.view(f.ID)
	u := v.UIDs
	set := func(op mail.FlagOp, since mail.ModSeq, uids []mail.UID, flags ...mail.Flag) ([]mail.Entry, []mail.UID) {
		s.Helper()
		e, m, err := s.m.SetFlags(s.ctx, f.ID, uids, op, flags, since)
		s.must(err)
		return e, m
	}
	e, _ := set(mail.SetFlags, 0, []mail.UID{u[0], u[1]}, mail.Seen, "work")
	s.equal(len(e), 2)
	if e[0].ModSeq <= v.ModSeq || e[0].ModSeq != e[1].ModSeq {
		s.Errorf("%v after %d", e, v.ModSeq)
	}
	first := e[0].ModSeq
	if e[0].Before == 0 || e[0].Before > v.ModSeq {
		s.Errorf("%v follows %d", e[0], e[0].Before)
	}
	e, _ = set(mail.AddFlags, 0, []mail.UID{u[0], u[1]}, mail.Seen)
	s.equal([]any{e[0].ModSeq, e[0].Before}, []any{first, first}) // it had the flag
	e, _ = set(mail.AddFlags, 0, []mail.UID{u[0]}, mail.Draft)
	s.equal(e[0].Before, first)
	set(mail.RemoveFlags, 0, []mail.UID{u[0]}, mail.Draft)
	set(mail.AddFlags, 0, []mail.UID{u[0], u[2]}, mail.Flagged, "WORK")
	set(mail.RemoveFlags, 0, []mail.UID{u[1]}, "Work")
	entries, err := s.m.Entries(s.ctx, f.ID, u)
	s.must(err)
	s.equal(len(entries), 4)
	s.equal(len(entries[0].Flags), 3) // keywords are the same in any case
	s.equal(s.flagsOf(f.ID, u[1]), fmt.Sprintf(`%d:\Seen`, u[1]))
	s.equal(s.flagsOf(f.ID, u[3]), fmt.Sprintf(`%d:`, u[3]))

	// Gone ones are passed over, also in Entries.
	e, _ = set(mail.AddFlags, 0, []mail.UID{u[3], u[3] + 1000}, mail.Seen)
	s.equal(len(e), 1)
	s.equal(s.flagsOf(f.ID, u[3], u[3]+1000), fmt.Sprintf(`%d:\Seen`, u[3]))

	// On condition.
	before := s.view(f.ID).ModSeq
	set(mail.AddFlags, 0, []mail.UID{u[0]}, mail.Answered)
	e, m := set(mail.AddFlags, before, []mail.UID{u[0], u[1]}, mail.Draft)
	s.equal(len(e), 1)
	s.equal(m, []mail.UID{u[0]})

	now := s.folder("INBOX")
	s.equal([]any{now.Messages, now.Unseen}, []any{4, 1})
}

func (s *suite) changes() {
	f := s.folder("INBOX")
	s.fill(f.ID, 3)
	v := s.view(f.ID)
	since := func(m mail.ModSeq) (told [2][]mail.UID, now mail.ModSeq) {
		s.Helper()
		c, err := s.m.Changes(s.ctx, f.ID, m)
		s.must(err)
		for _, e := range c.Entries {
			told[0] = append(told[0], e.UID)
			if e.ModSeq <= m || e.ModSeq > c.ModSeq {
				s.Errorf("entry with mod-sequence %d between %d and %d", e.ModSeq, m, c.ModSeq)
			}
		}
		told[1] = c.Expunged
		return told, c.ModSeq
	}
	got, m := since(v.ModSeq)
	s.equal(got, [2][]mail.UID{})
	s.equal(m, v.ModSeq)
	_, _, err := s.m.SetFlags(s.ctx, f.ID, v.UIDs[2:], mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	s.must(err)
	got, m1 := since(m)
	s.equal(got, [2][]mail.UID{{v.UIDs[2]}})
	n := s.put(f.ID, "x")
	got, m2 := since(m1)
	s.equal(got, [2][]mail.UID{{n}})
	_, err = s.m.Expunge(s.ctx, f.ID, nil)
	s.must(err)
	got, _ = since(m2)
	s.equal(got, [2][]mail.UID{nil, {v.UIDs[2]}})
	got, m3 := since(m)
	s.equal(got, [2][]mail.UID{{n}, {v.UIDs[2]}})
	s.equal(s.view(f.ID).ModSeq, m3)
	// Setting what is set is no change that must be told.
	e, _, err := s.m.SetFlags(s.ctx, f.ID, []mail.UID{n}, mail.RemoveFlags, []mail.Flag{mail.Deleted}, 0)
	s.must(err)
	s.equal(len(e), 1)
}

func (s *suite) notify() {
	f := s.create("x")
	c, stop := s.m.Notify(f.ID)
	other, stopOther := s.m.Notify(s.folder("INBOX").ID)
	wait := func(what string) bool {
		s.Helper()
		select {
		case _, ok := <-c:
			return ok
		case <-time.After(patience):
			s.Fatalf("no notice of %s", what)
			return false
		}
	}
	uid := s.put(f.ID, "x")
	wait("a message")
	for range 10 { // values coalesce, nobody blocks
		s.put(f.ID, "y")
	}
	wait("more messages")
	for len(c) > 0 {
		<-c
	}
	_, _, err := s.m.SetFlags(s.ctx, f.ID, []mail.UID{uid}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	s.must(err)
	wait("flags")
	_, err = s.m.Expunge(s.ctx, f.ID, nil)
	s.must(err)
	wait("an expunge")
	select {
	case <-other:
		s.Error("notice for another folder")
	default:
	}
	s.must(s.m.DeleteFolder(s.ctx, "x"))
	for wait("the end") {
	}
	stop()
	stopOther()
	gone, stop := s.m.Notify(f.ID)
	stop()
	select {
	case <-gone:
	case <-time.After(patience):
		s.Error("the channel of a folder that is gone is open")
	}
}

func (s *suite) expunge() {
	f := s.folder("INBOX")
	s.fill(f.ID, 6)
	v := s.view(f.ID)
	u := v.UIDs
	_, _, err := s.m.SetFlags(s.ctx, f.ID, []mail.UID{u[0], u[2], u[5]}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	s.must(err)
	gone, err := s.m.Expunge(s.ctx, f.ID, []mail.UID{u[0], u[1], u[5] + 9})
	s.must(err)
	s.equal(gone, []mail.UID{u[0]})
	gone, err = s.m.Expunge(s.ctx, f.ID, nil)
	s.must(err)
	s.equal(gone, []mail.UID{u[2], u[5]})
	s.equal(s.view(f.ID).UIDs, []mail.UID{u[1], u[3], u[4]})
	s.equal(len(u), 6)
	next := s.put(f.ID, "x")
	if next <= u[5] {
		s.Errorf("UID %d was given out again", next)
	}
	_, err = s.m.Body(s.ctx, f.ID, u[0])
	s.is(err, mail.ErrNoMessage)
	gone, err = s.m.Expunge(s.ctx, f.ID, nil)
	s.must(err)
	s.equal(len(gone), 0)
}

func (s *suite) copyAndMove() {
	f, to := s.folder("INBOX"), s.create("to")
	s.fill(f.ID, 4)
	u := s.view(f.ID).UIDs
	_, _, err := s.m.SetFlags(s.ctx, f.ID, u[:1], mail.AddFlags, []mail.Flag{mail.Flagged, "work"}, 0)
	s.must(err)
	c, err := s.m.Copy(s.ctx, f.ID, []mail.UID{u[0], u[2], u[3] + 100}, "to")
	s.must(err)
	s.equal(c.From, []mail.UID{u[0], u[2]})
	s.equal(c.UIDValidity, to.UIDValidity)
	s.equal(c.To, s.view(to.ID).UIDs)
	s.equal(s.flagsOf(to.ID, c.To[0]), fmt.Sprintf(`%d:\Flagged,work`, c.To[0]))
	s.equal(len(s.view(f.ID).UIDs), 4)
	b, err := s.m.Body(s.ctx, to.ID, c.To[1])
	s.must(err)
	text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	s.must(err)
	s.must(b.Close())
	s.equal(string(text), "Subject: message 3\r\n\r\ntext 3\r\n")

	before := s.view(f.ID).ModSeq
	c, err = s.m.Move(s.ctx, f.ID, []mail.UID{u[0], u[1]}, "to")
	s.must(err)
	s.equal(c.From, u[:2])
	s.equal(s.view(f.ID).UIDs, u[2:])
	s.equal(len(s.view(to.ID).UIDs), 4)
	ch, err := s.m.Changes(s.ctx, f.ID, before)
	s.must(err)
	s.equal(ch.Expunged, u[:2])

	c, err = s.m.Copy(s.ctx, f.ID, []mail.UID{u[2]}, "INBOX") // into itself
	s.must(err)
	s.equal(len(s.view(f.ID).UIDs), 3)
	_, err = s.m.Copy(s.ctx, f.ID, u[2:], "nowhere")
	s.is(err, mail.ErrNoFolder)
	_, err = s.m.Move(s.ctx, f.ID, u[2:], "nowhere")
	s.is(err, mail.ErrNoFolder)
	c, err = s.m.Move(s.ctx, f.ID, u[:2], "to") // gone already
	s.must(err)
	s.equal(len(c.From), 0)
}

func (s *suite) search() {
	f := s.folder("INBOX")
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	put := func(d int, text string, flags ...mail.Flag) mail.UID {
		s.Helper()
		uid, err := s.m.Append(s.ctx, f.ID, strings.NewReader(text), int64(len(text)), flags, day(d).Add(12*time.Hour))
		s.must(err)
		return uid
	}
	a := put(3, "From: Bob <bob@example.org>\r\nSubject: apples\r\nDate: Mon, 02 Nov 2026 12:00:00 +0000\r\n\r\nred and green\r\n", mail.Seen)
	b := put(4, "From: Carol <carol@example.org>\r\nSubject: =?utf-8?q?B=C3=A4ume?=\r\nDate: Tue, 03 Nov 2026 12:00:00 +0000\r\n\r\nLeaves\r\n", mail.Flagged, "work")
	c := put(5, "Subject: no date\r\nCc: bob@example.org\r\n\r\napples and "+strings.Repeat("more ", 300)+"\r\n", mail.Deleted)
	for _, x := range []struct {
		name string
		q    mail.Query
		want []mail.UID
	}{
		{"all", mail.Query{}, []mail.UID{a, b, c}},
		{"UIDs", mail.Query{UIDs: []mail.UIDRange{{First: a, Last: a}, {First: c}}}, []mail.UID{a, c}},
		{"no UID", mail.Query{UIDs: []mail.UIDRange{{First: 1<<32 - 1, Last: 1<<32 - 1}}}, nil},
		{"flags", mail.Query{Flags: []mail.Flag{mail.Flagged, "WORK"}}, []mail.UID{b}},
		{"no flags", mail.Query{NotFlags: []mail.Flag{mail.Seen, mail.Deleted}}, []mail.UID{b}},
		{"since", mail.Query{Since: day(4)}, []mail.UID{b, c}},
		{"before", mail.Query{Before: day(4)}, []mail.UID{a}},
		{"sent since", mail.Query{SentSince: day(3), SentBefore: day(4)}, []mail.UID{b}},
		{"sent before", mail.Query{SentBefore: day(3)}, []mail.UID{a}},
		{"larger", mail.Query{Larger: 1000}, []mail.UID{c}},
		{"smaller", mail.Query{Smaller: 1000}, []mail.UID{a, b}},
		{"from", mail.Query{Header: []mail.HeaderQuery{{Name: "FROM", Value: "BOB"}}}, []mail.UID{a}},
		{"subject", mail.Query{Header: []mail.HeaderQuery{{Name: "Subject", Value: "bäume"}}}, []mail.UID{b}},
		{"has cc", mail.Query{Header: []mail.HeaderQuery{{Name: "Cc"}}}, []mail.UID{c}},
		{"body", mail.Query{Body: []string{"APPLES"}}, []mail.UID{c}},
		{"part of a word", mail.Query{Body: []string{"eave"}}, []mail.UID{b}},
		{"text", mail.Query{Text: []string{"apples"}}, []mail.UID{a, c}},
		{"two texts", mail.Query{Text: []string{"apples", "green"}}, []mail.UID{a}},
		{"not", mail.Query{Not: []mail.Query{{Text: []string{"apples"}}}}, []mail.UID{b}},
		{"or", mail.Query{Or: [][2]mail.Query{{{Flags: []mail.Flag{mail.Seen}}, {Larger: 1000}}}}, []mail.UID{a, c}},
		{"and or", mail.Query{Flags: []mail.Flag{mail.Deleted}, Or: [][2]mail.Query{{{Flags: []mail.Flag{mail.Seen}}, {Larger: 1000}}}}, []mail.UID{c}},
	} {
		got, err := s.m.Search(s.ctx, f.ID, &x.q)
		if err != nil || !slices.Equal(got, x.want) {
			s.Errorf("%s: %v, %v, want %v", x.name, got, err, x.want)
		}
	}
}

func (s *suite) gone() {
	f := s.create("x")
	uid := s.put(f.ID, "x")
	s.must(s.m.DeleteFolder(s.ctx, "x"))
	uids := []mail.UID{uid}
	for name, call := range map[string]func() error{
		"View":    func() error { _, err := s.m.View(s.ctx, f.ID); return err },
		"Entries": func() error { _, err := s.m.Entries(s.ctx, f.ID, uids); return err },
		"Changes": func() error { _, err := s.m.Changes(s.ctx, f.ID, 1); return err },
		"Messages": func() error {
			return s.m.Messages(s.ctx, f.ID, uids, mail.Want{}, func(*mail.Message) error { return nil })
		},
		"Body":   func() error { _, err := s.m.Body(s.ctx, f.ID, uid); return err },
		"Search": func() error { _, err := s.m.Search(s.ctx, f.ID, new(mail.Query)); return err },
		"Append": func() error {
			_, err := s.m.Append(s.ctx, f.ID, strings.NewReader("x"), 1, nil, time.Now())
			return err
		},
		"SetFlags": func() error { _, _, err := s.m.SetFlags(s.ctx, f.ID, uids, mail.AddFlags, nil, 0); return err },
		"Expunge":  func() error { _, err := s.m.Expunge(s.ctx, f.ID, nil); return err },
		"Copy":     func() error { _, err := s.m.Copy(s.ctx, f.ID, uids, "INBOX"); return err },
		"Move":     func() error { _, err := s.m.Move(s.ctx, f.ID, uids, "INBOX"); return err },
	} {
		if err := call(); !errors.Is(err, mail.ErrNoFolder) {
			s.Errorf("%s: %v", name, err)
		}
	}
}

func (s *suite) atOnce() {
	f := s.folder("INBOX")
	const workers, each = 8, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[mail.UID]bool{}
	for range workers {
		wg.Go(func() {
			for range each {
				uid, err := s.m.Append(s.ctx, f.ID, strings.NewReader("A: b\r\n\r\n"), 8, nil, time.Now())
				if err != nil {
					s.Error(err)
					return
				}
				mu.Lock()
				if seen[uid] {
					s.Errorf("UID %d twice", uid)
				}
				seen[uid] = true
				mu.Unlock()
				v, err := s.m.View(s.ctx, f.ID)
				if _, ok := slices.BinarySearch(v.UIDs, uid); err != nil || !ok || !slices.IsSorted(v.UIDs) {
					s.Errorf("view without UID %d: %v", uid, err)
				}
			}
		})
	}
	wg.Wait()
	s.equal(len(s.view(f.ID).UIDs), workers*each)
}

func (s *suite) messages() {
	f := s.folder("INBOX")
	s.fill(f.ID, 5)
	u := s.view(f.ID).UIDs
	var kept []*mail.Message
	s.must(s.m.Messages(s.ctx, f.ID, []mail.UID{u[0], u[2], u[4], u[4] + 7}, mail.Want{Envelope: true, Structure: true}, func(m *mail.Message) error {
		kept = append(kept, m)
		return nil
	}))
	s.equal(len(kept), 3)
	for i, m := range kept { // they are the caller's
		if m.UID != u[2*i] || m.Envelope.Subject != fmt.Sprintf("message %d", 2*i+1) || m.Structure.Type != "text" || m.Structure.End != m.Size || m.ModSeq == 0 {
			s.Errorf("%+v", m)
		}
	}
	enough := errors.New("enough")
	n := 0
	err := s.m.Messages(s.ctx, f.ID, u, mail.Want{Envelope: true}, func(m *mail.Message) error {
		if n++; n == 2 {
			return enough
		}
		return nil
	})
	s.is(err, enough)
	s.equal(n, 2)
}
