package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// TestChangesAtRandom follows a folder by Changes, as a session does, through
// random commands, restarts and evictions, and compares with the folder itself.
func TestChangesAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	dir := t.TempDir()
	m := openTest(t, dir)
	in := inboxOf(t, m)
	// Two sessions: one asks often, the other seldom.
	type session struct {
		modseq mail.ModSeq
		flags  map[mail.UID]string
	}
	show := func(e mail.Entry) string { return fmt.Sprint(e.Flags) }
	sessions := []*session{{flags: map[mail.UID]string{}}, {flags: map[mail.UID]string{}}}
	follow := func(s *session) {
		t.Helper()
		c, err := m.Changes(t.Context(), in.ID, s.modseq)
		tcheck(t, err)
		for _, e := range c.Entries {
			s.flags[e.UID] = show(e)
		}
		for _, uid := range c.Expunged {
			delete(s.flags, uid)
		}
		s.modseq = c.ModSeq
		v, err := m.View(t.Context(), in.ID)
		tcheck(t, err)
		if v.ModSeq != s.modseq || len(v.UIDs) != len(s.flags) {
			t.Fatalf("follower at %d has %d messages, folder at %d has %d", s.modseq, len(s.flags), v.ModSeq, len(v.UIDs))
		}
		entries, err := m.Entries(t.Context(), in.ID, v.UIDs)
		tcheck(t, err)
		for _, e := range entries {
			if s.flags[e.UID] != show(e) {
				t.Fatalf("message %d: follower has %q, folder %q", e.UID, s.flags[e.UID], show(e))
			}
		}
	}
	all := []mail.Flag{mail.Seen, mail.Flagged, mail.Deleted, "$Junk", "work"}
	highest := mail.UID(0)
	for step := range 250 {
		uids := uidsOf(t, m, in.ID)
		some := func() []mail.UID {
			var list []mail.UID
			for _, u := range uids {
				if r.IntN(3) == 0 {
					list = append(list, u)
				}
			}
			return append(list, highest+7)
		}
		switch r.IntN(9) {
		case 0, 1, 2:
			uid := put(t, m, in.ID, text("x", "y"), all[r.IntN(len(all))])
			if uid <= highest {
				t.Fatalf("UID %d after %d", uid, highest)
			}
			highest = uid
		case 3, 4:
			_, _, err := m.SetFlags(t.Context(), in.ID, some(), mail.FlagOp(r.IntN(3)), all[r.IntN(len(all)):], 0)
			tcheck(t, err)
		case 5:
			_, err := m.Expunge(t.Context(), in.ID, some())
			tcheck(t, err)
		case 6:
			_, err := m.Move(t.Context(), in.ID, some(), "Trash")
			tcheck(t, err)
		case 7:
			c, err := m.Copy(t.Context(), in.ID, some(), "INBOX")
			tcheck(t, err)
			for _, u := range c.To {
				highest = max(highest, u)
			}
		case 8:
			switch r.IntN(4) {
			case 0:
				tcheck(t, m.Close())
				m = openTest(t, dir)
			case 1:
				m.room(in.ID).used.Store(0)
				tcheck(t, m.forget(t.Context(), time.Now()))
				if m.room(in.ID).now().roll != nil {
					t.Fatal("still in memory")
				}
			}
		}
		follow(sessions[0])
		if step%40 == 39 {
			follow(sessions[1])
		}
	}
	f := inboxOf(t, m)
	unseen, deleted := uint32(0), uint32(0)
	entries, err := m.Entries(t.Context(), in.ID, uidsOf(t, m, in.ID))
	tcheck(t, err)
	for _, e := range entries {
		if !slices.Contains(e.Flags, mail.Seen) {
			unseen++
		}
		if slices.Contains(e.Flags, mail.Deleted) {
			deleted++
		}
	}
	if f.Unseen != unseen || f.Deleted != deleted || int(f.Messages) != len(entries) || f.UIDNext != highest+1 {
		t.Errorf("%+v, want %d unseen, %d deleted, %d in all, next %d", f, unseen, deleted, len(entries), highest+1)
	}
}

func TestChangesOfLongAgo(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	first := put(t, m, in.ID, text("a", "b"))
	v, err := m.View(t.Context(), in.ID)
	tcheck(t, err)
	for range 9 { // 512 messages
		_, err := m.Copy(t.Context(), in.ID, uidsOf(t, m, in.ID), "Archive")
		tcheck(t, err)
		_, err = m.Move(t.Context(), folderOf(t, m, "Archive").ID, uidsOf(t, m, folderOf(t, m, "Archive").ID), "INBOX")
		tcheck(t, err)
	}
	for i := range keepUIDs/512 + 2 {
		_, _, err := m.SetFlags(t.Context(), in.ID, uidsOf(t, m, in.ID), mail.FlagOp(1+i%2), []mail.Flag{mail.Flagged}, 0)
		tcheck(t, err)
	}
	_, err = m.Move(t.Context(), in.ID, uidsOf(t, m, in.ID)[1:], "Archive")
	tcheck(t, err)
	second := put(t, m, in.ID, text("c", "d"), mail.Deleted)
	_, err = m.Expunge(t.Context(), in.ID, nil)
	tcheck(t, err)
	third := put(t, m, in.ID, text("e", "f"))
	for range 2 { // the second answer is remembered
		c, err := m.Changes(t.Context(), in.ID, v.ModSeq)
		tcheck(t, err)
		if len(c.Entries) != 2 || c.Entries[0].UID != first || c.Entries[1].UID != third ||
			len(c.Expunged) != 512 || c.Expunged[511] != second {
			t.Fatalf("%d and %d: %+v", len(c.Entries), len(c.Expunged), c)
		}
	}
	if n := m.room(in.ID).logUIDs; n > keepUIDs {
		t.Errorf("%d UIDs kept", n)
	}
}

func TestUnchangedSince(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	a, b := put(t, m, in.ID, text("a", "")), put(t, m, in.ID, text("b", ""))
	v, err := m.View(t.Context(), in.ID)
	tcheck(t, err)
	_, _, err = m.SetFlags(t.Context(), in.ID, []mail.UID{a}, mail.AddFlags, []mail.Flag{mail.Seen}, 0)
	tcheck(t, err)
	entries, modified, err := m.SetFlags(t.Context(), in.ID, []mail.UID{a, b}, mail.AddFlags, []mail.Flag{mail.Answered}, v.ModSeq)
	tcheck(t, err)
	wantUIDs(t, "modified", modified, a)
	if len(entries) != 1 || entries[0].UID != b || !slices.Equal(entries[0].Flags, []mail.Flag{mail.Answered}) {
		t.Errorf("%+v", entries)
	}
	// What is so already is no change.
	v, err = m.View(t.Context(), in.ID)
	tcheck(t, err)
	_, _, err = m.SetFlags(t.Context(), in.ID, []mail.UID{b}, mail.AddFlags, []mail.Flag{`\ANSWERED`}, 0)
	tcheck(t, err)
	if w, _ := m.View(t.Context(), in.ID); w.ModSeq != v.ModSeq {
		t.Error("mod-sequence moved without a change")
	}
}

func TestKeywordsKeepTheirSpelling(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	a := put(t, m, in.ID, text("a", ""), "$Forwarded", "$FORWARDED", `\seen`, `\Strange`, "with space")
	e, err := m.Entries(t.Context(), in.ID, []mail.UID{a})
	tcheck(t, err)
	if !slices.Equal(e[0].Flags, []mail.Flag{"$Forwarded", mail.Seen}) {
		t.Errorf("%q", e[0].Flags)
	}
	var many []mail.Flag
	for i := range maxFlags + 1 {
		many = append(many, mail.Flag(fmt.Sprintf("k%d", i)))
	}
	var refused *mail.Error
	if _, _, err := m.SetFlags(t.Context(), in.ID, []mail.UID{a}, mail.AddFlags, many, 0); !errors.As(err, &refused) {
		t.Errorf("too many flags: %v", err)
	}
	if _, _, err := m.SetFlags(t.Context(), in.ID, []mail.UID{a}, mail.AddFlags, []mail.Flag{mail.Flag(strings.Repeat("x", 1000))}, 0); !errors.As(err, &refused) {
		t.Errorf("long flag: %v", err)
	}
}

func TestNotify(t *testing.T) {
	m := openTest(t, t.TempDir())
	f, err := m.CreateFolder(t.Context(), "x", mail.NoRole)
	tcheck(t, err)
	c, stop := m.Notify(f.ID)
	defer stop()
	other, stopOther := m.Notify(inboxOf(t, m).ID)
	defer stopOther()
	for range 3 {
		put(t, m, f.ID, text("a", "b"))
	}
	<-c
	select {
	case <-c:
		t.Error("values do not coalesce")
	case <-other:
		t.Error("told of another folder")
	default:
	}
	tcheck(t, m.Subscribe(t.Context(), "x", false))
	select {
	case <-c:
		t.Error("told of a subscription")
	default:
	}
	tcheck(t, m.DeleteFolder(t.Context(), "x"))
	if _, ok := <-c; ok {
		t.Error("not closed")
	}
	gone, stopGone := m.Notify(f.ID)
	defer stopGone()
	if _, ok := <-gone; ok {
		t.Error("not closed for a folder that is gone")
	}
}

func TestFoldersThroughRestarts(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	seen := map[string]map[mail.UIDValidity]bool{}
	highest := mail.ModSeq(0)
	note := func() {
		all, err := m.Folders(t.Context())
		tcheck(t, err)
		for _, f := range all {
			highest = max(highest, f.HighestModSeq)
		}
	}
	for round := range 6 {
		f, err := m.CreateFolder(t.Context(), "Büro/Akten", mail.NoRole)
		tcheck(t, err)
		if seen[f.Name] == nil {
			seen[f.Name] = map[mail.UIDValidity]bool{}
		}
		if seen[f.Name][f.UIDValidity] {
			t.Fatalf("UIDVALIDITY %d again", f.UIDValidity)
		}
		seen[f.Name][f.UIDValidity] = true
		put(t, m, f.ID, text("x", "y"))
		put(t, m, f.ID, text("x", "z"))
		note()
		if round%2 == 0 {
			tcheck(t, m.DeleteFolder(t.Context(), "Bu\u0308ro/Akten"))
		} else {
			tcheck(t, m.RenameFolder(t.Context(), "Büro", fmt.Sprintf("Alt%d", round)))
			if g := folderOf(t, m, fmt.Sprintf("Alt%d/Akten", round)); g.ID != f.ID || g.UIDValidity != f.UIDValidity || g.Messages != 2 {
				t.Errorf("%+v", g)
			}
		}
		if round%3 == 0 {
			tcheck(t, m.Close())
			m = openTest(t, dir)
		}
		if round%2 == 0 { // what the deleted folder had is not given again
			f := inboxOf(t, m)
			put(t, m, f.ID, text("x", "y"))
			if g := inboxOf(t, m); g.HighestModSeq <= highest {
				t.Errorf("mod-sequence %d after %d", g.HighestModSeq, highest)
			}
		}
	}
	if err := m.RenameFolder(t.Context(), "Alt1", "Alt1/Akten/x"); !errors.Is(err, mail.ErrFolderName) {
		t.Errorf("below itself: %v", err)
	}
	inbox := inboxOf(t, m)
	tcheck(t, m.RenameFolder(t.Context(), "INBOX", "Old mail/2026"))
	if f := inboxOf(t, m); f.ID != inbox.ID || f.Messages != 0 || f.UIDNext != inbox.UIDNext {
		t.Errorf("%+v", f)
	}
	if f := folderOf(t, m, "Old mail/2026"); f.Messages != inbox.Messages {
		t.Errorf("%+v", f)
	}
}

// TestOneCommitForMany has many callers at once, of whom some fail and some panic: nobody notices the others.
func TestOneCommitForMany(t *testing.T) {
	dir := t.TempDir()
	m := openTest(t, dir)
	m.log = discard
	in := inboxOf(t, m)
	first := put(t, m, in.ID, text("a", ""))
	errOops := errors.New("oops")
	var wg sync.WaitGroup
	var mu sync.Mutex
	uids := map[mail.UID]string{}
	started, hold := make(chan struct{}), make(chan struct{})
	wg.Go(func() { // keeps the turn until all others wait
		tcheck(t, m.write(context.Background(), func(*tx) error { close(started); <-hold; return nil }))
	})
	<-started
	for i := range 40 {
		wg.Go(func() {
			switch i % 4 {
			case 0, 1:
				name := fmt.Sprintf("m%d", i)
				b := text(name, name)
				uid, err := m.Append(context.Background(), in.ID, bytes.NewReader(b), int64(len(b)), nil, time.Time{})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				uids[uid] = name
				mu.Unlock()
			case 2:
				err := m.write(context.Background(), func(t *tx) error {
					f, err := t.loaded(in.ID)
					if err == nil {
						err = t.remove(f, []mail.UID{first}, true)
					}
					return errors.Join(err, errOops)
				})
				if !errors.Is(err, errOops) {
					t.Error(err)
				}
			case 3:
				err := m.write(context.Background(), func(t *tx) error {
					if _, err := t.create(fmt.Sprintf("f%d", i), mail.NoRole); err != nil {
						return err
					}
					panic("deliberate")
				})
				if err == nil || !strings.Contains(err.Error(), "deliberate") {
					t.Error(err)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.write(ctx, func(*tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for {
		m.writer.mu.Lock()
		n := len(m.writer.queue)
		m.writer.mu.Unlock()
		if n == 40 {
			break
		}
		runtime.Gosched()
	}
	close(hold)
	wg.Wait()
	check := func(m *Mailbox) {
		t.Helper()
		if got := uidsOf(t, m, in.ID); len(got) != 21 || got[0] != first || int(got[20]) != 21 {
			t.Errorf("UIDs %v", got)
		}
		for uid, name := range uids {
			if b := bodyOf(t, m, in.ID, uid); !bytes.Contains(b, []byte("Subject: "+name+"\r\n")) {
				t.Errorf("message %d is not %s", uid, name)
			}
		}
		if all, err := m.Folders(t.Context()); err != nil || len(all) != len(firstFolders) {
			t.Errorf("%d folders, %v", len(all), err)
		}
	}
	check(m)
	tcheck(t, m.Close())
	check(openTest(t, dir))
}
