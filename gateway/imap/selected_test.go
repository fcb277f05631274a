package imap_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestSelect(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(5)...)
	c := b.login()
	c.fails("BAD", "FETCH 1 FLAGS")
	first := c.ok("SELECT INBOX")
	same(t, first,
		"* 5 EXISTS", "* 0 RECENT", "* OK [UNSEEN 1] First unseen message",
		"* OK [UIDVALIDITY 1001] UIDs valid", "* OK [UIDNEXT 6] Predicted next UID",
		`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Forwarded $MDNSent $Junk $NotJunk $Phishing $Important)`,
		`* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft \*)] Permanent flags`)
	c.ok("STORE 1:3 +FLAGS.SILENT \\Seen")
	if lines := c.ok("SELECT inbox"); lines[0] != "* OK [CLOSED] Previous mailbox is now closed" || !containsLine(lines, "[UNSEEN 4]") {
		t.Errorf("%q", lines)
	}
	c.ok("STORE 1:* +FLAGS.SILENT \\Seen")
	_, status := c.do("EXAMINE INBOX")
	if !strings.HasPrefix(status, "OK [READ-ONLY]") {
		t.Error(status)
	}
	lines := c.ok("EXAMINE INBOX")
	if containsLine(lines, "[UNSEEN") || !containsLine(lines, "[PERMANENTFLAGS ()]") {
		t.Errorf("%q", lines)
	}
	c.ok("UNSELECT")
	c.fails("BAD", "FETCH 1 FLAGS")
	c.fails("NO [NONEXISTENT]", "SELECT nowhere")
	c.fails("BAD", "SEARCH ALL")
	c.ok("SELECT Trash")
	c.fails("NO [NONEXISTENT]", "SELECT nowhere")
	c.fails("BAD", "FETCH 1 FLAGS")
}

func TestTheFirstUnseenIsFoundFarBehind(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3000)...)
	c := b.selected()
	c.ok("STORE 1:2990 +FLAGS.SILENT \\Seen")
	if !containsLine(c.ok("SELECT INBOX"), "[UNSEEN 2991]") {
		t.Error("not found")
	}
}

func TestExamineChangesNothing(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c := b.selected()
	c.ok("STORE 2 +FLAGS.SILENT \\Deleted")
	c.ok("EXAMINE INBOX")
	for _, s := range []string{"STORE 1 +FLAGS \\Seen", "UID STORE 1 FLAGS ()", "EXPUNGE", "UID EXPUNGE 2", "MOVE 1 Trash", "UID MOVE 1 Trash"} {
		c.fails("NO [READ-ONLY]", "%s", s)
	}
	same(t, c.ok("FETCH 1:2 (BODY[TEXT])"),
		"* 1 FETCH (BODY[TEXT] {19}\r\ntext of message 1\r\n)", "* 2 FETCH (BODY[TEXT] {19}\r\ntext of message 2\r\n)")
	same(t, c.ok("FETCH 1:* FLAGS"), "* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS (\\Deleted))", "* 3 FETCH (FLAGS ())")
	c.ok("COPY 1 Trash")
	c.ok("CLOSE")
	same(t, c.ok("STATUS INBOX (MESSAGES DELETED)"), "* STATUS INBOX (MESSAGES 3 DELETED 1)")
}

func TestCloseExpunges(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c := b.selected()
	c.ok("STORE 2 +FLAGS.SILENT \\Deleted")
	same(t, c.ok("UNSELECT"))
	same(t, c.ok("STATUS INBOX (MESSAGES)"), "* STATUS INBOX (MESSAGES 3)")
	c.ok("SELECT INBOX")
	same(t, c.ok("CLOSE"))
	same(t, c.ok("STATUS INBOX (MESSAGES)"), "* STATUS INBOX (MESSAGES 2)")
}

// What one session does is told to another after its next command, except for
// numbers that would change under it.
func TestOthersAreTold(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(6)...)
	c, d := b.selected(), b.selected()

	d.ok("STORE 2,4 +FLAGS.SILENT \\Flagged")
	same(t, c.ok("NOOP"), "* 2 FETCH (UID 2 FLAGS (\\Flagged))", "* 4 FETCH (UID 4 FLAGS (\\Flagged))")
	same(t, d.ok("NOOP"))

	d.ok("STORE 1,3,6 +FLAGS.SILENT \\Deleted")
	same(t, d.ok("EXPUNGE"), "* 6 EXPUNGE", "* 3 EXPUNGE", "* 1 EXPUNGE")
	b.fill("INBOX", many(2)...)

	// Not while numbers are in use: the gone ones are passed over.
	same(t, c.ok("FETCH 1:6 (UID)"), "* 2 FETCH (UID 2)", "* 4 FETCH (UID 4)", "* 5 FETCH (UID 5)")
	same(t, c.ok("STORE 3:4 +FLAGS \\Seen"), "* 4 FETCH (FLAGS (\\Flagged \\Seen))")
	same(t, c.ok("SEARCH SEEN"), "* SEARCH 4")
	same(t, c.ok("FETCH 3 BODY[]"))

	same(t, c.ok("NOOP"), "* 6 EXPUNGE", "* 3 EXPUNGE", "* 1 EXPUNGE", "* 5 EXISTS")
	same(t, c.ok("FETCH 1:* UID"), "* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)", "* 3 FETCH (UID 5)", "* 4 FETCH (UID 7)", "* 5 FETCH (UID 8)")
	same(t, d.ok("CHECK"), "* 5 EXISTS", "* 2 FETCH (UID 4 FLAGS (\\Flagged \\Seen))")
	same(t, d.ok("FETCH 1:* UID"), "* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)", "* 3 FETCH (UID 5)", "* 4 FETCH (UID 7)", "* 5 FETCH (UID 8)")

	// With UIDs, numbers may change at once.
	c.ok("UID STORE 2 +FLAGS.SILENT \\Deleted")
	c.ok("UID EXPUNGE 2")
	same(t, d.ok("UID FETCH 4 (UID)"), "* 2 FETCH (UID 4)", "* 1 EXPUNGE")
}

// What others did just before a silent change is told: the client cannot know it (RFC 3501, 6.4.6).
func TestSilentChangesHideNobodysElse(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(4)...)
	c, d := b.selected(), b.selected()

	d.ok("STORE 1 +FLAGS (\\Seen)")
	d.ok("STORE 2:3 +FLAGS (\\Flagged)")
	same(t, c.ok("STORE 1,2,4 +FLAGS.SILENT (\\Flagged)"),
		"* 1 FETCH (UID 1 FLAGS (\\Seen \\Flagged))", "* 2 FETCH (UID 2 FLAGS (\\Flagged))", "* 3 FETCH (UID 3 FLAGS (\\Flagged))")
	same(t, c.ok("NOOP"))

	// One silent change after another, and after one that was answered, hides nothing.
	b.fill("INBOX", simple(5))
	d.ok("STORE 4 +FLAGS.SILENT (\\Deleted)")
	d.ok("EXPUNGE")
	same(t, c.ok("STORE 1 -FLAGS (\\Seen)"), "* 1 FETCH (FLAGS (\\Flagged))")
	same(t, c.ok("STORE 1 +FLAGS.SILENT (\\Answered)"))
	same(t, c.ok("STORE 1 +FLAGS.SILENT (\\Draft)"))
	same(t, c.ok("NOOP"), "* 4 EXPUNGE", "* 4 EXISTS")
	same(t, c.ok("FETCH 1 FLAGS"), "* 1 FETCH (FLAGS (\\Flagged \\Answered \\Draft))")
}

func TestComingAndGoingBetweenTwoLooks(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(2)...)
	c, d := b.selected(), b.selected()
	b.fill("INBOX", simple(3))
	d.ok("NOOP")
	d.ok("STORE 3 +FLAGS.SILENT \\Deleted")
	d.ok("EXPUNGE")
	same(t, c.ok("NOOP"))
	b.fill("INBOX", simple(4))
	same(t, c.ok("NOOP"), "* 3 EXISTS")
	same(t, c.ok("FETCH 3 UID"), "* 3 FETCH (UID 4)")
}

func TestIdle(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c, d := b.selected(), b.selected()
	b.fill("INBOX", simple(4)) // before IDLE begins
	tag := c.send("IDLE")
	c.expect("+ idling")
	c.expect("* 4 EXISTS")
	b.fill("INBOX", simple(5))
	c.expect("* 5 EXISTS")
	d.ok("STORE 2 +FLAGS.SILENT (\\Seen work)")
	c.expect("* 2 FETCH (UID 2 FLAGS (\\Seen work))")
	d.ok("STORE 1,5 +FLAGS.SILENT \\Deleted")
	c.expect("* 1 FETCH (UID 1 FLAGS (\\Deleted))")
	c.expect("* 5 FETCH (UID 5 FLAGS (\\Deleted))")
	d.ok("EXPUNGE")
	c.expect("* 5 EXPUNGE")
	c.expect("* 1 EXPUNGE")
	c.write("DONE\r\n")
	lines, status := c.finish(tag)
	if len(lines) != 0 || !strings.HasPrefix(status, "OK") {
		t.Errorf("%q %q", lines, status)
	}
	same(t, c.ok("FETCH 1:* UID"), "* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)", "* 3 FETCH (UID 4)")
	if n := b.mailbox.Watchers(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

func TestIdleWithoutFolder(t *testing.T) {
	b := start(t)
	c := b.login()
	for range 2 {
		tag := c.send("IDLE")
		c.expect("+ idling")
		c.write("DONE\r\n")
		c.finish(tag)
	}
	// In one packet, as some clients do.
	c.write("x1 SELECT INBOX\r\nx2 NOOP\r\nx3 IDLE\r\nDONE\r\nx4 LOGOUT\r\n")
	if l := c.closed(); !containsLine(l, "x3 OK") || !containsLine(l, "x4 OK") {
		t.Errorf("%q", l)
	}
}

func TestIdleIsNotEndedByDone(t *testing.T) {
	b := start(t)
	for range 20 {
		c := b.selected()
		tag := c.send("IDLE")
		c.expect("+ idling")
		c.write("NOOP\r\n")
		b.fill("INBOX", simple(1))
		if _, status := c.finish(tag); !strings.HasPrefix(status, "BAD") {
			t.Error(status)
		}
		// The library goes on beside the IDLE that was not ended.
		c.ok("CAPABILITY")
		c.ok("SELECT Trash")
		c.ok("FETCH 1:* FLAGS")
		c.c.Close()
	}
	await(t, "watchers are gone", func() bool { return b.mailbox.Watchers() == 0 && b.server.Sessions() == 0 })
}

func TestDroppedConnectionsEndIdle(t *testing.T) {
	b := start(t)
	for range 20 {
		c := b.selected()
		c.send("IDLE")
		c.expect("+ idling")
		c.c.Close()
		b.fill("INBOX", simple(1))
	}
	await(t, "sessions are gone", func() bool { return b.mailbox.Watchers() == 0 && b.server.Sessions() == 0 })
}

func TestTheSelectedFolderIsDeleted(t *testing.T) {
	b := start(t)
	ctx := context.Background()
	_, err := b.mailbox.CreateFolder(ctx, "x", mail.NoRole)
	check(t, err)
	b.fill("x", many(2)...)
	own, idle, other := b.login(), b.login(), b.login()
	for _, c := range []*client{own, idle, other} {
		c.ok("SELECT x")
	}
	idle.send("IDLE")
	idle.expect("+ idling")

	own.ok("DELETE x")
	own.fails("NO [NONEXISTENT]", "FETCH 1 FLAGS")
	own.fails("NO [NONEXISTENT]", "STORE 1 FLAGS ()")
	own.ok("NOOP")
	own.ok("SELECT INBOX")
	if l := idle.closed(); len(l) != 1 || l[0] != "* BYE The selected folder has been deleted" {
		t.Errorf("%q", l)
	}
	other.fails("NO [NONEXISTENT]", "FETCH 1 FLAGS")
	other.send("NOOP")
	if l := other.closed(); len(l) != 2 || !strings.Contains(l[0], " OK ") || l[1] != "* BYE The selected folder has been deleted" {
		t.Errorf("%q", l)
	}
}

func TestUpdatesThatFailAreToldLater(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(2)...)
	c := b.selected()
	b.fill("INBOX", simple(3))
	for _, failing := range []string{"Changes", "View"} {
		b.mailbox.Intercept(func(method string) error {
			if method == failing {
				return errors.New("busy")
			}
			return nil
		})
		same(t, c.ok("NOOP"))
	}
	b.mailbox.Intercept(nil)
	same(t, c.ok("NOOP"), "* 3 EXISTS")
}

func TestCloseTwiceAndReselect(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(2)...)
	c := b.selected()
	c.ok("CLOSE")
	c.fails("BAD", "CLOSE")
	c.ok("SELECT INBOX")
	c.ok("SELECT Trash")
	same(t, c.ok("FETCH 1:* FLAGS"))
}

// What happens between the mailbox's two answers to an update is told, by this
// update or by the next.
func TestChangesDuringAnUpdate(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(4)...)
	ctx := context.Background()
	f, err := b.mailbox.Folder(ctx, "INBOX")
	check(t, err)
	c := b.selected()
	armed := atomic.Bool{}
	b.mailbox.Intercept(func(method string) error {
		if method != "View" || !armed.CompareAndSwap(true, false) {
			return nil
		}
		_, _, err := b.mailbox.SetFlags(ctx, f.ID, []mail.UID{1, 2}, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
		check(t, err)
		_, err = b.mailbox.Expunge(ctx, f.ID, []mail.UID{2})
		check(t, err)
		b.fill("INBOX", simple(5))
		_, _, err = b.mailbox.SetFlags(ctx, f.ID, []mail.UID{3, 5, 6}, mail.AddFlags, []mail.Flag{"late"}, 0)
		check(t, err)
		return nil
	})
	b.fill("INBOX", simple(6))
	armed.Store(true)
	same(t, c.ok("NOOP"), "* 2 EXPUNGE", "* 5 EXISTS")
	same(t, c.ok("NOOP"), "* 1 FETCH (UID 1 FLAGS (\\Deleted))", "* 2 FETCH (UID 3 FLAGS (late))", "* 4 FETCH (UID 5 FLAGS (late))", "* 5 FETCH (UID 6 FLAGS (late))")
	same(t, c.ok("NOOP"))
	same(t, c.ok("FETCH 1:* UID"), "* 1 FETCH (UID 1)", "* 2 FETCH (UID 3)", "* 3 FETCH (UID 4)", "* 4 FETCH (UID 5)", "* 5 FETCH (UID 6)")
}
