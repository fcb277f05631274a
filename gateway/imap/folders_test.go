package imap_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestList(t *testing.T) {
	b := start(t)
	c := b.login()
	for _, f := range []string{"Work", "Work/2026/November", "Grüße & Co", `with "quotes"`, "a(b)"} {
		_, err := b.mailbox.CreateFolder(context.Background(), f, mail.NoRole)
		check(t, err)
	}
	check(t, b.mailbox.Subscribe(context.Background(), "Work", false))
	for _, s := range []struct {
		command string
		want    []string
	}{
		{`LIST "" ""`, []string{`* LIST (\Noselect) "/" ""`}},
		{`LIST "" inbox`, []string{`* LIST (\HasNoChildren) "/" INBOX`}},
		{`LIST "" %`, []string{
			`* LIST (\HasNoChildren) "/" INBOX`,
			`* LIST (\HasNoChildren \Archive) "/" "Archive"`,
			`* LIST (\HasNoChildren \Drafts) "/" "Drafts"`,
			`* LIST (\HasNoChildren) "/" "Gr&APwA3w-e &- Co"`,
			`* LIST (\HasNoChildren \Junk) "/" "Junk"`,
			`* LIST (\HasNoChildren \Sent) "/" "Sent"`,
			`* LIST (\HasNoChildren \Trash) "/" "Trash"`,
			`* LIST (\HasChildren) "/" "Work"`,
			`* LIST (\HasNoChildren) "/" "a(b)"`,
			`* LIST (\HasNoChildren) "/" "with \"quotes\""`,
		}},
		{`LIST "Work/" %`, []string{`* LIST (\HasChildren) "/" "Work/2026"`}},
		{`LIST "" Work*`, []string{`* LIST (\HasChildren) "/" "Work"`, `* LIST (\HasChildren) "/" "Work/2026"`, `* LIST (\HasNoChildren) "/" "Work/2026/November"`}},
		{`LIST "" Gr&APwA3w-e*`, []string{`* LIST (\HasNoChildren) "/" "Gr&APwA3w-e &- Co"`}},
		{`LIST "" (inbox Sent)`, []string{`* LIST (\HasNoChildren) "/" INBOX`, `* LIST (\HasNoChildren \Sent) "/" "Sent"`}},
		{`LIST (SPECIAL-USE) "" *`, []string{
			`* LIST (\HasNoChildren \Archive) "/" "Archive"`, `* LIST (\HasNoChildren \Drafts) "/" "Drafts"`, `* LIST (\HasNoChildren \Junk) "/" "Junk"`,
			`* LIST (\HasNoChildren \Sent) "/" "Sent"`, `* LIST (\HasNoChildren \Trash) "/" "Trash"`}},
		{`LIST "" Sent RETURN (SPECIAL-USE SUBSCRIBED CHILDREN)`, []string{`* LIST (\HasNoChildren \Subscribed \Sent) "/" "Sent"`}},
		{`LIST (SUBSCRIBED) "" W*`, []string{`* LIST (\HasChildren \Subscribed) "/" "Work/2026"`, `* LIST (\HasNoChildren \Subscribed) "/" "Work/2026/November"`}},
		{`LIST (SUBSCRIBED RECURSIVEMATCH) "" W%`, []string{`* LIST (\HasChildren) "/" "Work" (CHILDINFO ("SUBSCRIBED"))`}},
		{`LSUB "" W*`, []string{`* LSUB (\HasChildren \Subscribed) "/" "Work/2026"`, `* LSUB (\HasNoChildren \Subscribed) "/" "Work/2026/November"`}},
		{`LIST "" nothing`, nil},
	} {
		same(t, c.ok("%s", s.command), s.want...)
	}
	c.fails("BAD", `LIST (RECURSIVEMATCH) "" *`)
	c.fails("BAD", `LIST "" * RETURN (STATUS (DELETED-STORAGE))`)
	c.fails("NO [LIMIT]", `LIST "" (%s)`, strings.Repeat("a ", 33)+"a")
}

func TestListStatus(t *testing.T) {
	b := start(t)
	b.fill("Sent", many(3)...)
	c := b.login()
	same(t, c.ok(`LIST "" S%% RETURN (STATUS (MESSAGES UNSEEN UIDNEXT UIDVALIDITY SIZE DELETED RECENT APPENDLIMIT))`),
		`* LIST (\HasNoChildren \Sent) "/" "Sent"`,
		fmt.Sprintf(`* STATUS "Sent" (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 1005 UNSEEN 3 DELETED 0 SIZE %d APPENDLIMIT 41943040 RECENT 0)`, 3*len(simple(1))))
}

func TestStatus(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c := b.selected()
	c.ok("STORE 1 +FLAGS.SILENT (\\Deleted \\Seen)")
	same(t, c.ok("STATUS inbox (UNSEEN DELETED MESSAGES)"), "* STATUS INBOX (MESSAGES 3 UNSEEN 2 DELETED 1)")
	same(t, c.ok("STATUS INBOX ()"), "* STATUS INBOX ()")
	c.fails("NO [NONEXISTENT]", "STATUS nowhere (MESSAGES)")
	c.fails("BAD", "STATUS INBOX (DELETED-STORAGE)")
	c.fails("BAD", "STATUS INBOX (HIGHESTMODSEQ)")
}

func TestCreateRenameDelete(t *testing.T) {
	b := start(t)
	c := b.login()
	c.ok("CREATE a/b/c/")
	same(t, c.ok(`LIST "" a*`), `* LIST (\HasChildren) "/" "a"`, `* LIST (\HasChildren) "/" "a/b"`, `* LIST (\HasNoChildren) "/" "a/b/c"`)
	c.fails("NO [ALREADYEXISTS]", "CREATE a")
	c.fails("NO [ALREADYEXISTS]", "CREATE Inbox")
	for _, name := range []string{`""`, "a//b", "/a", `"a*"`, `"a%"`, `"&AAc-"`, repeat("x", 300)} {
		if _, status := c.do("CREATE %s", name); !strings.HasPrefix(status, "NO [CANNOT]") && !strings.HasPrefix(status, "BAD") {
			t.Errorf("CREATE %.20s: %s", name, status)
		}
	}
	b.fill("a/b", many(2)...)
	c.ok("RENAME a/b x/y")
	same(t, c.ok(`LIST "" *y*`), `* LIST (\HasChildren) "/" "x/y"`, `* LIST (\HasNoChildren) "/" "x/y/c"`)
	same(t, c.ok("STATUS x/y (MESSAGES)"), `* STATUS "x/y" (MESSAGES 2)`)
	c.fails("NO [NONEXISTENT]", "RENAME a/b z")
	c.fails("NO [ALREADYEXISTS]", "RENAME x/y INBOX")
	c.fails("NO [CANNOT]", "RENAME Sent Gone")
	c.fails("NO [CANNOT]", "DELETE Sent")
	c.fails("NO [CANNOT]", "DELETE INBOX")
	c.fails("NO [NONEXISTENT]", "DELETE nowhere")
	c.ok("DELETE x/y/c")
	c.ok("DELETE x/y")
	c.fails("NO [NONEXISTENT]", "SELECT x/y")

	b.fill("INBOX", many(3)...)
	c.ok("RENAME INBOX old-inbox")
	same(t, c.ok("STATUS INBOX (MESSAGES)"), "* STATUS INBOX (MESSAGES 0)")
	same(t, c.ok("STATUS old-inbox (MESSAGES)"), `* STATUS "old-inbox" (MESSAGES 3)`)
}

func TestCreateSpecialUse(t *testing.T) {
	b := start(t)
	c := b.login()
	// One is enough of each (RFC 6154, 3).
	c.fails("NO [USEATTR] Another folder has that special use", `CREATE Letters (USE (\Archive))`)
	c.fails("NO [USEATTR]", `CREATE Odds (USE (\trash))`)
	same(t, c.ok(`LIST "" (Letters Odds)`))
	c.fails("NO [USEATTR]", `CREATE All (USE (\All))`)
	c.fails("NO [USEATTR]", `CREATE Both (USE (\Archive \Junk))`)
	c.fails("BAD", `CREATE What (FOR (x))`)
	same(t, c.ok(`LIST "" (All Both What)`))
}

// LSUB shows the way to what is subscribed (RFC 3501, 6.3.9).
func TestSubscriptionsBelowOthers(t *testing.T) {
	b := start(t)
	c := b.login()
	c.ok("CREATE u/v/w")
	c.ok("UNSUBSCRIBE u")
	c.ok("UNSUBSCRIBE u/v")
	const way, below, end = `* LSUB (\Noselect) "/" "u"`, `* LSUB (\Noselect) "/" "u/v"`, `* LSUB (\HasNoChildren \Subscribed) "/" "u/v/w"`
	same(t, c.ok(`LSUB "" u%%`), way)
	same(t, c.ok(`LSUB "u/" %%`), below)
	same(t, c.ok(`LSUB "" u/%%/%%`), end)
	same(t, c.ok(`LSUB "" u*`), end)
	same(t, c.ok(`LSUB "" u`))
	same(t, c.ok(`LIST (SUBSCRIBED) "" u%%`))
	c.ok("SUBSCRIBE u")
	same(t, c.ok(`LSUB "" u%%`), `* LSUB (\HasChildren \Subscribed) "/" "u"`)
	c.ok("UNSUBSCRIBE u/v/w")
	same(t, c.ok(`LSUB "" u/%%`))
}

func TestSubscribe(t *testing.T) {
	b := start(t)
	c := b.login()
	c.ok("UNSUBSCRIBE Trash")
	c.ok("UNSUBSCRIBE neverwas")
	if containsLine(c.ok(`LSUB "" *`), "Trash") {
		t.Error("still subscribed")
	}
	c.ok("SUBSCRIBE Trash")
	if !containsLine(c.ok(`LSUB "" *`), "Trash") {
		t.Error("not subscribed")
	}
	c.fails("NO [NONEXISTENT]", "SUBSCRIBE nowhere")
}

// A subscription is the client's to end (RFC 3501, 6.3.9).
func TestSubscriptionsOutliveTheirFolder(t *testing.T) {
	b := start(t)
	c := b.login()
	c.ok("CREATE a/x")
	c.ok("DELETE a/x")
	c.ok("DELETE a")
	same(t, c.ok(`LSUB "" a*`), `* LSUB (\NonExistent \HasNoChildren \Subscribed) "/" "a"`, `* LSUB (\NonExistent \HasNoChildren \Subscribed) "/" "a/x"`)
	same(t, c.ok(`LIST (SUBSCRIBED) "" %%/x RETURN (STATUS (MESSAGES))`), `* LIST (\NonExistent \HasNoChildren \Subscribed) "/" "a/x"`)
	same(t, c.ok(`LIST "" a* RETURN (SUBSCRIBED)`))
	c.ok("UNSUBSCRIBE a")
	same(t, c.ok(`LSUB "" a*`), `* LSUB (\NonExistent \HasNoChildren \Subscribed) "/" "a/x"`)
	same(t, c.ok(`LIST (SUBSCRIBED RECURSIVEMATCH) "" a`), `* LIST (\NonExistent \Noselect \HasNoChildren) "/" "a" (CHILDINFO ("SUBSCRIBED"))`)
	c.ok("CREATE a")
	same(t, c.ok(`LSUB "" a*`), `* LSUB (\HasNoChildren \Subscribed) "/" "a"`, `* LSUB (\NonExistent \HasNoChildren \Subscribed) "/" "a/x"`)
	c.ok("UNSUBSCRIBE a/x")
	c.ok("UNSUBSCRIBE a/x")
	same(t, c.ok(`LSUB "" a/*`))
}

// Folder names that hold "&" come and go in modified UTF-7. The capability
// under which the library gets them wrong is not offered.
func TestAmpersand(t *testing.T) {
	b := start(t)
	c := b.login()
	c.ok(`CREATE "R&-D"`)
	if _, err := b.mailbox.Folder(context.Background(), "R&D"); err != nil {
		t.Error(err)
	}
	same(t, c.ok(`LIST "" R*`), `* LIST (\HasNoChildren) "/" "R&-D"`)
	c.ok(`SELECT "R&-D"`)
	c.fails("BAD", `SELECT "R&D"`)
	if containsLine(c.ok("CAPABILITY"), "UTF8") {
		t.Error("UTF8=ACCEPT is offered")
	}
	// Nor is it enabled for a client that asks all the same.
	same(t, c.ok("ENABLE UTF8=ACCEPT"), "* ENABLED")
	c.ok(`CREATE "Grüße"`)
	same(t, c.ok(`LIST "" Gr*`), `* LIST (\HasNoChildren) "/" "Gr&APwA3w-e"`)
	same(t, c.ok(`LIST "" R*`), `* LIST (\HasNoChildren) "/" "R&-D"`)
	c.ok(`SELECT "R&-D"`)
}

func TestParentsThatAreMissing(t *testing.T) {
	b := start(t)
	ctx := context.Background()
	_, err := b.mailbox.CreateFolder(ctx, "x/y/z", mail.NoRole)
	check(t, err)
	check(t, b.mailbox.DeleteFolder(ctx, "x"))
	check(t, b.mailbox.DeleteFolder(ctx, "x/y"))
	c := b.login()
	same(t, c.ok(`LIST "" x%%`), `* LIST (\NonExistent \Noselect \HasChildren) "/" "x"`)
	same(t, c.ok(`LIST "x/" %% RETURN (STATUS (MESSAGES))`), `* LIST (\NonExistent \Noselect \HasChildren) "/" "x/y"`)
	same(t, c.ok(`LIST "x/y/" %%`), `* LIST (\HasNoChildren) "/" "x/y/z"`)
	same(t, c.ok(`LSUB "" x*`), `* LSUB (\NonExistent \HasChildren \Subscribed) "/" "x"`,
		`* LSUB (\NonExistent \HasChildren \Subscribed) "/" "x/y"`, `* LSUB (\HasNoChildren \Subscribed) "/" "x/y/z"`)
}

func TestNamespace(t *testing.T) {
	same(t, start(t).login().ok("NAMESPACE"), `* NAMESPACE (("" "/")) NIL NIL`)
}
