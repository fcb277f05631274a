package nodetest_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/nodetest"
)

// TestLargest sends the largest message there may be: the recipient has room
// for the fields that come before it. One byte more is refused at submission.
func TestLargest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 2)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
		msg := fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nSubject: large\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <1@test>\r\n\r\n",
			alice.Address(), bob.Address())
		line := append(bytes.Repeat([]byte{'x'}, 76), '\r', '\n')
		msg = append(msg, bytes.Repeat(line, sealed.MaxMessage/len(line))...)
		msg = append(msg[:sealed.MaxMessage-2], '\r', '\n')
		id := alice.SendRaw(msg, bob.Address())
		got := bob.WaitMail(1)
		if !bytes.HasSuffix([]byte(got[0].Raw), msg[len(msg)/2:]) {
			t.Error("it is not what was sent")
		}
		alice.WaitState(id, "delivered")

		short := bytes.Replace(msg, []byte("Message-ID: <1@test>\r\n"), []byte("X: 1\r\n"), 1) // which is made up for
		short = append(short[:len(short)-2], "more text\r\n"...)
		_, err := c.Node[0].Running().Control().Send(context.Background(), control.Message{
			From: alice.Address(), To: []string{bob.Address()}, Raw: true, Body: short,
		})
		if err == nil {
			t.Error("a message that is too large when it is complete was accepted")
		}
	})
}
