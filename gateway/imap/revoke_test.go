package imap_test

import (
	"strings"
	"testing"
	"time"
)

// The sessions of a password that is removed end, whatever they do. Others go on.
func TestRevoke(t *testing.T) {
	const bye = "* BYE The app password was removed"
	b := start(t)
	b.fill("INBOX", simple(1))
	const other = "laptop@example.peerpost.alt"
	b.accounts.Add(other, password, b.mailbox)
	laptop := b.dial()
	laptop.greeting()
	laptop.ok("LOGIN %q %q", other, password)
	laptop.ok("SELECT INBOX")

	silent, idle, upload := b.login(), b.selected(), b.login()
	idle.send("IDLE")
	idle.expect("+ idling")
	upload.send("APPEND INBOX {1000}")
	if l := upload.line(); !strings.HasPrefix(l, "+") {
		t.Fatal(l)
	}
	upload.write("From: half a message")

	b.accounts.Remove(user)
	for what, c := range map[string]*client{"silent": silent, "in IDLE": idle, "uploading": upload} {
		begun := time.Now()
		lines := c.closed()
		if what != "uploading" && !containsLine(lines, bye) {
			t.Errorf("%s: %q", what, lines)
		}
		if d := time.Since(begun); d > patience/2 {
			t.Errorf("%s: cut off after %v", what, d)
		}
	}
	again := b.dial()
	again.greeting()
	again.fails("NO [AUTHENTICATIONFAILED]", "LOGIN %q %q", user, password)
	lines := laptop.ok("STATUS INBOX (MESSAGES)")
	same(t, lines, "* STATUS INBOX (MESSAGES 1)")
	await(t, "the sessions to be gone", func() bool { return b.server.Sessions() == 2 })
}

// A client that takes its time to read a mailbox is cut off all the same.
func TestRevokeWhoDoesNotRead(t *testing.T) {
	b := start(t)
	b.fill("INBOX", simple(1)+repeat("0123456789abcdef", 2<<20))
	c := b.selected()
	c.send("FETCH 1 (BODY.PEEK[])")
	if l, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "* 1 FETCH") { // and no more
		t.Fatalf("%q, %v", l, err)
	}
	b.accounts.Remove(user)
	await(t, "the session to be gone", func() bool { return b.server.Sessions() == 0 })
}
