package imap_test

import "testing"

func TestSmoke(t *testing.T) {
	b := start(t)
	b.fill("INBOX", many(3)...)
	c := b.login()
	for _, s := range []string{"CAPABILITY", "NAMESPACE", "LIST \"\" *", "SELECT INBOX", "FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE)", "FETCH 2 BODY[]",
		"STORE 1:2 +FLAGS (\\Deleted foo)", "EXPUNGE", "SEARCH ALL", "STATUS INBOX (MESSAGES SIZE UNSEEN DELETED RECENT)", "FOO", "SEARCH BLA", "LOGOUT"} {
		l, st := c.do("%s", s)
		for _, x := range l {
			t.Log(x)
		}
		t.Log(st)
	}
}
