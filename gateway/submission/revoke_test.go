package submission_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// The sessions of a password that is removed end, whatever they do. Others go on.
func TestRevoke(t *testing.T) {
	inVirtualTime(t, nil, func(f timed) {
		const removed = "421 4.7.0 The app password was removed"
		f.accounts.Add(bob, password)
		other := f.dial()
		other.expect("220 ")
		other.say("EHLO test", "250")
		other.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+bob+"\x00"+password)), "235 ")

		silent, sending, chunks, deaf := f.login(), f.login(), f.login(), f.login()
		sending.envelope()
		sending.say("DATA", "354 ")
		sending.send("From: " + alice + "\r\n\r\nhalf a mess")
		chunks.envelope()
		chunks.send("BDAT 10\r\n0123456789")
		chunks.expect("250 ")
		go deaf.Write([]byte("NOOP\r\nNOOP\r\n")) // and never reads
		time.Sleep(time.Second)
		if conns, _ := f.Open(); conns != 5 {
			t.Fatalf("%d connections", conns)
		}

		begun := time.Now()
		f.accounts.Remove(alice)
		for what, c := range map[string]*client{"silent": silent, "in DATA": sending, "in BDAT": chunks} {
			if got, _ := c.wait(); !strings.HasPrefix(got, removed) {
				t.Errorf("%s: %q", what, got)
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("they heard of it after %v", d)
		}
		time.Sleep(2 * time.Second)
		if conns, loggedIn := f.Open(); conns != 1 || loggedIn != 1 {
			t.Errorf("%d connections are left, %d logged in", conns, loggedIn)
		}
		f.wantBodies()
		again := f.dial()
		again.expect("220 ")
		again.say("EHLO test", "250")
		again.say(auth, "535 ")
		other.say("MAIL FROM:<"+bob+">", "250 ")
	})
}

// What was sent along, before the password was removed, is not taken any more.
func TestRevokePipelined(t *testing.T) {
	inVirtualTime(t, nil, func(f timed) {
		f.box.OnRecipient = func(context.Context, string, int64) error {
			f.accounts.Remove(alice)
			return nil
		}
		c := f.login()
		go c.Write([]byte("MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nBDAT 10 LAST\r\n0123456789"))
		var last string
		for {
			answer, _ := c.wait()
			if answer == "" {
				break
			}
			last = answer
		}
		if !strings.HasPrefix(last, "421 4.7.0") && !strings.HasPrefix(last, "535 ") {
			t.Errorf("the last answer is %q", last)
		}
		f.wantBodies()
	})
}
