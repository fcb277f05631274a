package nodetest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/nodetest"
	"github.com/peerpost/peerpost/store"
)

// TestHostileStreams talks nonsense to a node on each of its protocols, and
// looks whether mail still gets through.
func TestHostileStreams(t *testing.T) {
	c := nodetest.New(t, 2, nodetest.Options{Sockets: true})
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	addr, err := multiaddr.NewMultiaddr(c.Node[1].Running().Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	target, err := peer.AddrInfoFromP2pAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	if err := h.Connect(ctx, *target); err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, 1<<20)
	rand.Read(garbage)
	for _, proto := range []protocol.ID{store.DropProtocol, store.DeliverProtocol} {
		for name, bytesSent := range map[string][]byte{
			"nothing":     {},
			"garbage":     garbage,
			"long frame":  {0xff, 0xff, 0xff, 0xff, 0x7f},
			"empty frame": {0x00},
			"half frame":  {0x20, 0xa1, 0x01},
			"nested":      append([]byte{0x80, 0x40}, bytes.Repeat([]byte{0x81}, 8192)...),
		} {
			s, err := h.NewStream(ctx, target.ID, proto)
			if err != nil {
				t.Fatalf("%s, %s: %v", proto, name, err)
			}
			s.SetDeadline(time.Now().Add(5 * time.Second)) // the node stops reading what makes no sense
			s.Write(bytesSent)
			s.CloseWrite()
			if answer, _ := io.ReadAll(io.LimitReader(s, 1<<20)); len(answer) > 1<<10 {
				t.Errorf("%s, %s: an answer of %d bytes", proto, name, len(answer))
			}
			s.Reset()
		}
	}
	id := alice.Send(bob.Address(), "still there", "\n")
	bob.WaitMail(1)
	alice.WaitState(id, "delivered")
}

// TestForeignSender submits mail that would show "somebody on behalf of me".
func TestForeignSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 1)
		defer c.Close()
		alice, bob := c.Person(0, "alice"), c.Person(0, "bob")
		for _, fields := range []string{
			"From: " + bob.Address(),
			"From: " + alice.Address() + "\r\nSender: " + bob.Address(),
			"From: " + alice.Address() + "\r\nSender: " + alice.Address() + "\r\nSender: " + bob.Address(),
		} {
			_, err := c.Node[0].Running().Control().Send(t.Context(), control.Message{
				From: alice.Address(), To: []string{bob.Address()}, Raw: true, Body: []byte(fields + "\r\n\r\ntext\r\n"),
			})
			if err == nil {
				t.Errorf("accepted: %q", fields)
			}
		}
		_, domain, _ := strings.Cut(alice.Address(), "@")
		alice.SendRaw([]byte("From: "+alice.Address()+"\r\nSender: other@"+domain+"\r\n\r\ntext\r\n"), bob.Address())
	})
}
