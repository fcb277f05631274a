package imap_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
)

// searchable fills INBOX with four messages that differ in everything.
func searchable(b *bench) {
	b.t.Helper()
	ctx := context.Background()
	f, err := b.mailbox.Folder(ctx, "INBOX")
	check(b.t, err)
	for i, m := range []struct {
		text  string
		flags []mail.Flag
		day   int
	}{
		{"From: Bob <bob@example.org>\r\nTo: alice@x\r\nSubject: apples\r\nDate: Mon, 02 Nov 2026 23:30:00 -0800\r\n\r\nred and green\r\n", []mail.Flag{mail.Seen}, 3},
		{"From: Carol <carol@example.org>\r\nCc: bob@example.org\r\nSubject: =?utf-8?q?B=C3=A4ume?=\r\nDate: Tue, 03 Nov 2026 10:00:00 +0000\r\nX-Tag: z1\r\n\r\nGrün\r\n", []mail.Flag{mail.Seen, mail.Flagged, "work"}, 4},
		{"From: dave@example.net\r\nBcc: bob@example.org\r\nSubject: cherries\r\nDate: Wed, 04 Nov 2026 10:00:00 +0000\r\n\r\napples " + repeat("x", 1000), []mail.Flag{mail.Answered, mail.Draft}, 5},
		{"Subject: no date\r\n\r\nred\r\n", []mail.Flag{mail.Deleted, "Work"}, 6},
	} {
		uid, err := b.mailbox.Append(ctx, f.ID, strings.NewReader(m.text), int64(len(m.text)), m.flags, time.Date(2026, 11, m.day, 12, 0, 0, 0, time.UTC))
		check(b.t, err)
		if int(uid) != i+1 {
			b.t.Fatalf("UID %d", uid)
		}
	}
}

func TestSearch(t *testing.T) {
	b := start(t)
	searchable(b)
	c := b.selected()
	for _, s := range []struct{ keys, want string }{
		{"ALL", "1 2 3 4"}, {"1:2", "1 2"}, {"*", "4"}, {"2,4 SEEN", "2"}, {"9", ""}, {"UID 2:*", "2 3 4"}, {"UID 9:*", "4"},
		{"SEEN", "1 2"}, {"UNSEEN", "3 4"}, {"ANSWERED", "3"}, {"DRAFT", "3"}, {"UNDRAFT", "1 2 4"}, {"FLAGGED", "2"}, {"DELETED", "4"}, {"UNDELETED", "1 2 3"},
		{"RECENT", ""}, {"NEW", ""}, {"OLD", "1 2 3 4"}, {"NOT RECENT", "1 2 3 4"}, {"OR RECENT DELETED", "4"},
		{"KEYWORD work", "2 4"}, {"UNKEYWORD WORK", "1 3"},
		{"FROM bob", "1"}, {"TO ALICE", "1"}, {"CC bob", "2"}, {"BCC bob", "3"}, {"SUBJECT apples", "1"}, {"HEADER X-Tag z", "2"}, {`HEADER X-Tag ""`, "2"}, {"HEADER x-none a", ""},
		{"BODY apples", "3"}, {"TEXT apples", "1 3"}, {"TEXT red TEXT green", "1"}, {`TEXT ""`, "1 2 3 4"},
		{"CHARSET UTF-8 SUBJECT {6+}\r\nbäume", "2"}, {"CHARSET utf-8 BODY {5+}\r\nGRÜN", "2"}, {"CHARSET US-ASCII FROM dave", "3"},
		{"SINCE 4-Nov-2026", "2 3 4"}, {"BEFORE 4-Nov-2026", "1"}, {"ON 4-Nov-2026", "2"}, {`ON "04-Nov-2026"`, "2"}, {"SINCE 4-Nov-2026 BEFORE 6-Nov-2026", "2 3"},
		{"SENTSINCE 3-Nov-2026", "2 3"}, {"SENTBEFORE 3-Nov-2026", "1"}, {"SENTON 4-Nov-2026", "3"},
		{"LARGER 1000", "3"}, {"SMALLER 40", "4"},
		{"SMALLER 40 SINCE 1-Jan-2019", "4"}, {"SINCE 1-Jan-2019 SMALLER 40", "4"}, {"SMALLER 1000 LARGER 40", "1 2"}, {"SMALLER 40 SMALLER 1000", "4"}, {"SMALLER 1000 SENTON 3-Nov-2026", "2"},
		{"SMALLER 0", ""}, {"SMALLER 1", ""}, {"SMALLER 0 LARGER 0", ""}, {"LARGER 0", "1 2 3 4"}, {"NOT SMALLER 40", "1 2 3"}, {"OR SMALLER 40 FROM bob", "1 4"}, {"NOT (SMALLER 40 SINCE 1-Jan-2019)", "1 2 3"},
		{"smaller 40 BODY {3+}\r\nred SMALLER 9 ALL", ""}, {"SUBJECT smaller SEEN", ""}, {"KEYWORD smaller 1", ""}, {"NOT HEADER SMALLER 40 SMALLER 1000", "1 2 4"}, {"SMALLER 9223372036854775807", "1 2 3 4"},
		{"NOT SEEN", "3 4"}, {"NOT (SEEN FLAGGED)", "1 3 4"}, {"OR FROM bob FROM carol", "1 2"}, {"OR (FROM bob SEEN) (DELETED)", "1 4"}, {"OR 1 4 UNSEEN", "4"},
		{"(1:3) (2:4)", "2 3"}, {"NOT 1 NOT UID 4", "2 3"}, {"NOT NOT 1", "1"},
	} {
		want := "* SEARCH"
		if s.want != "" {
			want += " " + s.want
		}
		same(t, c.ok("SEARCH %s", s.keys), want)
		same(t, c.ok("UID SEARCH %s", s.keys), want) // UIDs are the numbers here
	}
	c.fails("NO [BADCHARSET]", "SEARCH CHARSET KOI8-R TEXT x")
	c.fails("NO [BADCHARSET]", "SEARCH CHARSET UTF-8 TEXT {1+}\r\n\xff")
	for _, s := range []string{"", "X-GM-RAW x", "SINCE 99-Foo-2026", "KEYWORD", "OR 1", "NOT", "(", "UID x", "LARGER a", "SMALLER a", "SMALLER", "SMALLER -1", "SMALLER +1", "SMALLER 9223372036854775808", "SMALLER  5", "SMALLER \"5\"", "0", "1:"} {
		c.fails("BAD", "SEARCH %s", s)
	}
	c.fails("NO [LIMIT]", "SEARCH %s ALL", strings.TrimSpace(repeat("NOT ", 40)))
	c.fails("NO [LIMIT]", "SEARCH %s", strings.TrimSpace(repeat("TEXT a ", 600)))
}

func TestExtendedSearch(t *testing.T) {
	b := start(t)
	searchable(b)
	c := b.selected()
	answer := func(command string) string {
		t.Helper()
		tag := c.send("%s", command)
		lines, status := c.finish(tag)
		if len(lines) != 1 || !strings.HasPrefix(status, "OK") {
			t.Fatalf("%s: %q %q", command, lines, status)
		}
		return strings.Replace(lines[0], `(TAG "`+tag+`")`, "-", 1)
	}
	for _, s := range []struct{ command, want string }{
		{"SEARCH RETURN () 1:3", "* ESEARCH - ALL 1:3"},
		{"SEARCH RETURN (MIN MAX COUNT) UNSEEN", "* ESEARCH - MIN 3 MAX 4 COUNT 2"},
		{"UID SEARCH RETURN (ALL COUNT) OR 1 3", "* ESEARCH - UID ALL 1,3 COUNT 2"},
		{"SEARCH RETURN (ALL COUNT) FROM nobody", "* ESEARCH - COUNT 0"},
		{"SEARCH RETURN (MIN) FROM nobody", "* ESEARCH -"},
		{"SEARCH RETURN (SAVE COUNT) SEEN", "* ESEARCH - COUNT 2"},
		{"SEARCH RETURN (COUNT) $ FLAGGED", "* ESEARCH - COUNT 1"},
		{"UID SEARCH RETURN (ALL) $", "* ESEARCH - UID ALL 1:2"},
		{"SEARCH RETURN (SAVE MAX) ALL", "* ESEARCH - MAX 4"},
		{"UID SEARCH RETURN (ALL) $", "* ESEARCH - UID ALL 4"},
		{"SEARCH RETURN (SAVE COUNT) FROM nobody", "* ESEARCH - COUNT 0"},
		{"SEARCH RETURN (COUNT) $", "* ESEARCH - COUNT 0"},
		{"SEARCH RETURN (SAVE COUNT) 2:3", "* ESEARCH - COUNT 2"},
	} {
		if got := answer(s.command); got != s.want {
			t.Errorf("%s: %q, want %q", s.command, got, s.want)
		}
	}
	same(t, c.ok("FETCH $ UID"), "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)")
	same(t, c.ok("UID FETCH $ UID"), "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)")
	c.ok("STORE $ +FLAGS.SILENT \\Deleted")
	c.ok("COPY $ Archive")
	same(t, c.ok("UID EXPUNGE $"), "* 3 EXPUNGE", "* 2 EXPUNGE")
	same(t, c.ok("FETCH $ UID"))
	// Whoever only saves is not told (RFC 5182, 2.1).
	for _, s := range []string{"SEARCH RETURN (SAVE) SEEN", "uid search return (save) CHARSET UTF-8 SUBJECT {1+}\r\na", "SEARCH RETURN(SAVE) SEEN"} {
		same(t, c.ok("%s", s))
	}
	same(t, c.ok("SEARCH RETURN (COUNT) $"), `* ESEARCH (TAG "a`+itoa(c.tag)+`") COUNT 1`)
	answer("SEARCH RETURN (SAVE ALL) ALL")
	// A search that fails leaves nothing saved.
	answer("SEARCH RETURN (SAVE COUNT) ALL")
	c.fails("NO", "SEARCH RETURN (SAVE) CHARSET UTF-8 TEXT {1+}\r\n\xff")
	same(t, c.ok("FETCH $ UID"))
	c.fails("BAD", "SEARCH RETURN (WHAT) ALL")
}

func TestStore(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c := b.selected()
	same(t, c.ok("STORE 1:2 FLAGS (\\Seen $Forwarded \\seen)"), "* 1 FETCH (FLAGS (\\Seen $Forwarded))", "* 2 FETCH (FLAGS (\\Seen $Forwarded))")
	same(t, c.ok("UID STORE 2 +FLAGS \\Flagged work"), "* 2 FETCH (UID 2 FLAGS (\\Seen $Forwarded \\Flagged work))")
	same(t, c.ok("STORE 1:3 -FLAGS (\\Seen)"), "* 1 FETCH (FLAGS ($Forwarded))", "* 2 FETCH (FLAGS ($Forwarded \\Flagged work))", "* 3 FETCH (FLAGS ())")
	same(t, c.ok("STORE 1:3 FLAGS.SILENT ()"))
	same(t, c.ok("FETCH 1:3 FLAGS"), "* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS ())", "* 3 FETCH (FLAGS ())")
	same(t, c.ok("UID STORE 7:9 +FLAGS \\Seen"))
	same(t, c.ok("STORE 1 +FLAGS (\\Recent)"), "* 1 FETCH (FLAGS ())")
	c.fails("BAD", "STORE 4 +FLAGS \\Seen")
	c.fails("BAD", "STORE 1 +FLAGS \\Foo")
	c.fails("BAD", "STORE 1 +FLAGS \\*")
	c.fails("BAD", "STORE 1 +LABELS a")
	c.fails("BAD", "STORE 1 +FLAGS (a\xe4)")
	c.fails("NO [LIMIT]", "STORE 1 +FLAGS %s", repeat("k", imap.MaxKeyword+1))
	c.ok("STORE 1 +FLAGS %s", repeat("k", imap.MaxKeyword))
	var keywords []string
	for i := range imap.MaxKeywords {
		keywords = append(keywords, fmt.Sprint("k", i))
	}
	c.ok("STORE 2 +FLAGS.SILENT (%s \\Seen)", strings.Join(keywords, " "))
	c.ok("STORE 2 +FLAGS.SILENT (K1 k2 \\Flagged)")
	c.fails("NO [LIMIT]", "STORE 2 +FLAGS.SILENT (one)")
	c.fails("NO [LIMIT]", "STORE 3 FLAGS.SILENT (%s more)", strings.Join(keywords, " "))
	c.ok("STORE 2 -FLAGS.SILENT (k1)")
	c.ok("STORE 2 +FLAGS.SILENT (one)")
}

func TestSilentChangesAreNotEchoed(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(5)...)
	c, d := b.selected(), b.selected()
	c.ok("STORE 1:5 +FLAGS.SILENT \\Seen")
	same(t, c.ok("NOOP"))
	// What another changes in the same message is told, also if both did.
	c.ok("STORE 2 +FLAGS.SILENT a")
	d.ok("STORE 2 +FLAGS.SILENT b")
	same(t, c.ok("NOOP"), "* 2 FETCH (UID 2 FLAGS (\\Seen a b))")
	// Also while expunges wait to be told.
	d.ok("STORE 5 +FLAGS.SILENT \\Deleted")
	d.ok("EXPUNGE")
	for range 70 {
		same(t, c.ok("STORE 3 +FLAGS.SILENT c"))
		same(t, c.ok("STORE 3 -FLAGS.SILENT c"))
	}
	same(t, c.ok("NOOP"), "* 5 EXPUNGE")
}

func TestExpunge(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(6)...)
	c := b.selected()
	c.ok("STORE 1,3,4,6 +FLAGS.SILENT \\Deleted")
	same(t, c.ok("UID EXPUNGE 2:4"), "* 4 EXPUNGE", "* 3 EXPUNGE")
	same(t, c.ok("UID EXPUNGE 99"))
	same(t, c.ok("EXPUNGE"), "* 4 EXPUNGE", "* 1 EXPUNGE")
	same(t, c.ok("EXPUNGE"))
	same(t, c.ok("FETCH 1:* UID"), "* 1 FETCH (UID 2)", "* 2 FETCH (UID 5)")
	c.fails("BAD", "UID EXPUNGE")
}

func TestCopy(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(5)...)
	b.fill("Archive", simple(9))
	c := b.selected()
	c.ok("STORE 2 +FLAGS.SILENT (\\Seen keep)")
	_, status := c.do("COPY 2:3,5 Archive")
	if status != "OK [COPYUID 1002 2:3,5 2:4] COPY completed" {
		t.Error(status)
	}
	_, status = c.do("UID COPY 1,4 archive")
	if status != "NO [TRYCREATE] There is no such folder" {
		t.Error(status)
	}
	c.fails("BAD", "COPY 6 Archive")
	same(t, c.ok("UID COPY 77 Archive"))
	// Into the folder itself.
	lines, status := c.do("UID COPY 1 INBOX")
	if status != "OK [COPYUID 1001 1 6] COPY completed" {
		t.Error(status)
	}
	same(t, lines, "* 6 EXISTS")
	c.ok("SELECT Archive")
	same(t, c.ok("FETCH 2 (FLAGS INTERNALDATE)"), `* 2 FETCH (FLAGS (\Seen keep) INTERNALDATE "20-Nov-2026 10:30:00 +0000")`)

	// Of messages that are gone none is copied.
	d := b.selected()
	c.ok("SELECT INBOX")
	d.ok("STORE 1:3 +FLAGS.SILENT \\Deleted")
	d.ok("EXPUNGE")
	lines, status = c.do("COPY 1:2 Trash")
	if status != "OK COPY completed" {
		t.Error(status)
	}
	same(t, lines, "* 3 EXPUNGE", "* 2 EXPUNGE", "* 1 EXPUNGE")
}

func TestMove(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(5)...)
	c, d := b.selected(), b.selected()
	same(t, c.ok("MOVE 2,4 Trash"), "* OK [COPYUID 1006 2,4 1:2] COPY completed", "* 4 EXPUNGE", "* 2 EXPUNGE")
	same(t, c.ok("UID MOVE 5 Trash"), "* OK [COPYUID 1006 5 3] COPY completed", "* 3 EXPUNGE")
	same(t, c.ok("UID MOVE 5 Trash"))
	c.fails("NO [TRYCREATE]", "MOVE 1 nowhere")
	c.fails("BAD", "MOVE 3 Trash")
	same(t, d.ok("NOOP"), "* 5 EXPUNGE", "* 4 EXPUNGE", "* 2 EXPUNGE")
	same(t, d.ok("FETCH 1:* UID"), "* 1 FETCH (UID 1)", "* 2 FETCH (UID 3)")
}

func TestAppend(t *testing.T) {
	b := start(t)
	c := b.selected()
	lines, status := c.upload("INBOX", `(\Seen work) "18-Nov-2026 09:00:00 +0100" `, simple(1))
	if status != "OK [APPENDUID 1001 1] APPEND completed" {
		t.Error(status)
	}
	same(t, lines, "* 1 EXISTS")
	same(t, c.ok("FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[])"), `* 1 FETCH (FLAGS (\Seen work) INTERNALDATE "18-Nov-2026 09:00:00 +0100" BODY[] {162}`+"\r\n"+simple(1)+")")
	// Without flags or date, and with a small literal that is not waited for.
	before := time.Now().Add(-2 * time.Second)
	lines, status = c.do("APPEND Sent {%d+}\r\n%s", len(simple(2)), simple(2))
	if status != "OK [APPENDUID 1005 1] APPEND completed" || len(lines) != 0 {
		t.Errorf("%q %s", lines, status)
	}
	c.ok("SELECT Sent")
	l := c.ok("FETCH 1 (INTERNALDATE FLAGS)")[0]
	_, rest, _ := strings.Cut(l, `INTERNALDATE "`)
	s, _, _ := strings.Cut(rest, `"`)
	when, err := time.Parse("_2-Jan-2006 15:04:05 -0700", s)
	if err != nil || when.Before(before) || when.After(time.Now().Add(time.Second)) || !strings.Contains(l, "FLAGS ()") {
		t.Errorf("%q %v", l, err)
	}
	// Any bytes come back as they were.
	odd := "A: b\r\n\r\n\x01\xff\n\r)\r\nx9 LOGOUT\r\n"
	if _, status := c.upload("Sent", "", odd); !strings.HasPrefix(status, "OK") {
		t.Error(status)
	}
	same(t, c.ok("FETCH 2 BODY.PEEK[]"), fmt.Sprintf("* 2 FETCH (BODY[] {%d}\r\n%s)", len(odd), odd))
}

func TestAppendIsRefused(t *testing.T) {
	b := start(t)
	b.mailbox.Limit = 10_000
	c := b.selected()
	for _, s := range []struct{ folder, options, msg, want string }{
		{"nowhere", "", simple(1), "NO [TRYCREATE]"},
		{"INBOX", "(\\Foo) ", simple(1), "BAD"},
		{"INBOX", "(" + repeat("k", 65) + ") ", simple(1), "NO [LIMIT]"},
		{"INBOX", "", "", "NO [CANNOT]"},
		{"INBOX", "", repeat("x", 10_001), "NO [TOOBIG]"},
		{"INBOX", `"yesterday" `, simple(1), "BAD"},
		{"INBOX", "what ", simple(1), "BAD"},
		{"INBOX", "", "A: b\r\n\r\n\x00", "BAD [CLIENTBUG] A message must not hold NUL"},
		{"INBOX", "", "\x00" + repeat("x", 9_000), "BAD [CLIENTBUG] A message must not hold NUL"},
	} {
		lines, status := c.upload(s.folder, s.options, s.msg)
		if !strings.HasPrefix(status, s.want) || len(lines) != 0 {
			t.Errorf("%v: %q %s", s.folder+s.options, lines, status)
		}
	}
	c.fails("BAD [CLIENTBUG] A message must not hold NUL", "APPEND INBOX {3+}\r\na\x00b")
	same(t, c.ok("STATUS INBOX (MESSAGES)"), "* STATUS INBOX (MESSAGES 0)")
	if _, status := c.upload("INBOX", "", repeat("x", 10_000)); !strings.HasPrefix(status, "OK") {
		t.Error(status)
	}
	b.mailbox.Intercept(func(method string) error {
		if method == "Append" {
			return mail.ErrNoSpace
		}
		return nil
	})
	if _, status := c.upload("INBOX", "", repeat("x", 9_000)); !strings.HasPrefix(status, "NO [OVERQUOTA]") {
		t.Error(status)
	}
	c.ok("NOOP")
}

func TestNobodyUploadsBeforeLogin(t *testing.T) {
	b := start(t)
	c := b.dial()
	c.greeting()
	tag := c.send("APPEND INBOX {1000000}")
	if l := c.line(); !strings.HasPrefix(l, tag+" NO [TOOBIG]") {
		t.Errorf("%q", l)
	}
	c.ok("LOGIN %q %q", user, password)
	d := b.dial()
	d.greeting()
	const text = "y LOGIN nobody x\r\n"
	d.write("x APPEND INBOX {" + itoa(len(text)) + "+}\r\n" + text + "\r\n")
	if l := d.line(); !strings.HasPrefix(l, "x NO [TOOBIG]") {
		t.Errorf("%q", l)
	}
	d.ok("LOGIN %q %q", user, password)
}

func TestAppendThatBreaksOff(t *testing.T) {
	b := start(t)
	for _, n := range []int{0, 1, 50_000} {
		c := b.login()
		c.send("APPEND INBOX {100000}")
		c.line()
		c.write(repeat("x", n))
		c.c.Close()
	}
	await(t, "sessions are gone", func() bool { return b.server.Sessions() == 0 })
	f, err := b.mailbox.Folder(context.Background(), "INBOX")
	if err != nil || f.Messages != 0 {
		t.Errorf("%d messages, %v", f.Messages, err)
	}
}

func TestUnknownCommands(t *testing.T) {
	b := start(t)
	c := b.selected()
	for _, s := range []string{"XYZZY", "ID NIL", "SORT (DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "GETQUOTAROOT INBOX", "COMPRESS DEFLATE", "UID FOO", "SELECT", "FETCH", "STORE 1", "IDLE now", "SELECT INBOX (CONDSTORE)", "CREATE \"&\"", "LIST"} {
		c.fails("BAD", "%s", s)
	}
	same(t, c.ok("ENABLE CONDSTORE"), "* ENABLED")
	same(t, c.ok("ENABLE IMAP4rev2 utf8=accept UTF8=ACCEPT"), "* ENABLED")
	c.ok("NOOP")
}
