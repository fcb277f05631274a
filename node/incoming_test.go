package node

import (
	"encoding/binary"
	"log/slog"
	"testing"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

func someMessage(b byte) *sealed.Message {
	body := make([]byte, sealed.MinBody)
	body[0] = b
	return &sealed.Message{Body: body, Outer: sealed.Outer{
		Version: 1, Suite: 1, Inbox: identity.Inbox{1}, Epoch: 2900, Expiry: 20500,
		Hash: [32]byte{b}, Size: uint64(len(body)),
	}}
}

// TestIncoming takes messages in, opens them, and meets them again.
func TestIncoming(t *testing.T) {
	dir := t.TempDir()
	in, err := openIncoming(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	first, second := someMessage(1), someMessage(2)
	for range 2 { // twice is once
		for _, m := range []*sealed.Message{first, second} {
			if err := in.accept(t.Context(), m, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := in.waiting(); n != 2 {
		t.Fatalf("%d messages wait", n)
	}
	id, arr, ok := in.take()
	if !ok || id != first.Outer.ID() || !arr.collected {
		t.Fatal("the first is not first")
	}
	in.done(id)
	if o, ok := in.opened(id); !ok || o.Inbox != first.Outer.Inbox {
		t.Error("it is not remembered as opened, so holders would never be told to delete it")
	}
	if err := in.accept(t.Context(), first, true); err != nil || in.waits(id) {
		t.Error("a holder brought it again, and it was taken again")
	}
	if err := in.accept(t.Context(), first, false); err != nil || !in.waits(id) {
		t.Error("its sender brought it again for want of a receipt, and it was not taken")
	}
	if err := in.close(); err != nil {
		t.Fatal(err)
	}
	if in, err = openIncoming(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer in.close()
	if n := in.waiting(); n != 2 {
		t.Fatalf("%d messages wait after a restart", n)
	}
}

// TestIncomingIsBounded fills the room for sealed mail of a locked account.
func TestIncomingIsBounded(t *testing.T) {
	in, err := openIncoming(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	in.bytes = MaxIncoming - sealed.MinBody
	if err := in.accept(t.Context(), someMessage(1), false); err != nil {
		t.Fatal(err)
	}
	if err := in.accept(t.Context(), someMessage(2), false); err == nil {
		t.Error("more than MaxIncoming was taken")
	}
}

// TestTheOldestIsForgotten opens more than is remembered.
func TestTheOldestIsForgotten(t *testing.T) {
	const more = maxSeen / 2
	in := &incoming{seen: make(map[sealed.ID]sealed.Outer)}
	id := func(i int) (id sealed.ID) {
		binary.BigEndian.PutUint32(id[:], uint32(i))
		return id
	}
	outer := someMessage(1).Outer
	for i := range maxSeen + more {
		in.remember(id(i), outer)
		in.remember(id(i), outer) // what comes again takes no more room
	}
	if len(in.seen) != maxSeen || len(in.ring) != maxSeen {
		t.Errorf("%d are remembered", len(in.seen))
	}
	for i := range maxSeen + more {
		if _, ok := in.opened(id(i)); ok != (i >= more) {
			t.Fatalf("message %d of %d is remembered: %v", i, maxSeen+more, ok)
		}
	}
}
