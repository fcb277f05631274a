package imap_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
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

// searching is a mailbox that searches for as long as it may.
type searching struct {
	imap.Mailbox
	begun, ended chan struct{}
}

func (m searching) Search(ctx context.Context, _ int64, _ *mail.Query) ([]mail.UID, error) {
	close(m.begun)
	<-ctx.Done()
	close(m.ended)
	return nil, ctx.Err()
}

// What the mailbox does for such a session ends at once, and what was sent along is not done.
func TestRevokeEndsCommands(t *testing.T) {
	b := start(t)
	m := searching{b.mailbox, make(chan struct{}), make(chan struct{})}
	b.accounts.Add(user, password, m)
	c := b.selected()
	c.write("a SEARCH TEXT x\r\nb CREATE later\r\n")
	<-m.begun
	b.accounts.Remove(user)
	select {
	case <-m.ended:
	case <-time.After(patience):
		t.Fatal("it is still searched")
	}
	c.closed()
	if f, err := b.mailbox.Folder(t.Context(), "later"); err == nil {
		t.Errorf("a folder was made: %+v", f)
	}
}
