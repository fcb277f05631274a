package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
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
			if err := in.accept(t.Context(), m, ""); err != nil {
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
	if err := in.accept(t.Context(), first, ""); err != nil || in.waits(id) {
		t.Error("a holder brought it again, and it was taken again")
	}
	if err := in.accept(t.Context(), first, "a host"); err != nil || !in.waits(id) {
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

// TestEarlyIsLeftToHolders takes in what is dated in the future, and meets it
// again at once and later.
func TestEarlyIsLeftToHolders(t *testing.T) {
	in, err := openIncoming(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	synctest.Test(t, func(t *testing.T) {
		m := someMessage(1)
		id := m.Outer.ID()
		in.ready = make(chan struct{}, 1)
		in.add(id, arrival{outer: m.Outer, from: "stranger"})
		in.charge("stranger", int64(m.Outer.Size))
		in.early(id)
		if in.waiting() != 0 || in.bytes != 0 || len(in.shares) != 0 {
			t.Errorf("%d wait, %d bytes, %d hosts", in.waiting(), in.bytes, len(in.shares))
		}
		<-time.After(earlyFor - time.Second)
		if _, opened := in.opened(id); !in.has(id) || opened {
			t.Errorf("known: %v, to be deleted at the holders: %v", in.has(id), opened)
		}
		<-time.After(time.Second)
		if _, opened := in.opened(id); in.has(id) || opened {
			t.Errorf("later: known: %v, to be deleted at the holders: %v", in.has(id), opened)
		}
		in.add(id, arrival{outer: m.Outer, collected: true})
		in.done(id)
		if _, opened := in.opened(id); !opened {
			t.Error("opened in the end, and not to be deleted")
		}
	})
}

// TestIncomingIsBounded fills the room for sealed mail of a locked account.
func TestIncomingIsBounded(t *testing.T) {
	in, err := openIncoming(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	in.bytes = MaxIncoming - sealed.MinBody
	if err := in.accept(t.Context(), someMessage(1), "a host"); err != nil {
		t.Fatal(err)
	}
	if err := in.accept(t.Context(), someMessage(2), "a host"); err == nil {
		t.Error("more than MaxIncoming was taken")
	}
}

// TestIncomingShare fills the room of a locked account as far as one host may.
func TestIncomingShare(t *testing.T) {
	const half, eighth = MaxIncoming / 2, MaxIncoming / store.PeerShare
	dir, size := t.TempDir(), int64(sealed.MinBody)
	in, err := openIncoming(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(err error, most int64) {
		t.Helper()
		r := new(store.Refusal)
		if !errors.As(err, &r) || r.Code != store.CodePeerBytes || !strings.Contains(r.Text, fmt.Sprint(most)) {
			t.Errorf("%v, want code %d that names %d", err, store.CodePeerBytes, most)
		}
	}
	// Alone, a host has one half.
	in.charge("greedy", half-size)
	if err := in.accept(t.Context(), someMessage(1), "greedy"); err != nil {
		t.Fatal(err)
	}
	refused(in.admit(sealed.MinBody, "greedy"), half)
	refused(in.accept(t.Context(), someMessage(2), "greedy"), half)
	// Another has half of the rest, and what is collected is nobody's.
	if err := in.admit(half/2, "friend"); err != nil {
		t.Error(err)
	}
	refused(in.admit(half/2+1, "friend"), half/2)
	if err := in.accept(t.Context(), someMessage(2), ""); err != nil {
		t.Error(err)
	}
	if len(in.shares) != 1 {
		t.Errorf("%d hosts are counted, want the one that delivered", len(in.shares))
	}
	// However much others left, one has an eighth.
	in.charge("", half/2+eighth/2-size)
	if err := in.admit(eighth, "friend"); err != nil {
		t.Error(err)
	}
	in.charge("friend", size)
	refused(in.admit(eighth-sealed.MinBody+1, "friend"), eighth)
	in.charge("friend", -size)
	// What was opened is not counted any more, nor is a host of which nothing waits.
	id, _, _ := in.take()
	in.done(id)
	in.charge("greedy", size-half)
	if len(in.shares) != 0 {
		t.Errorf("%d hosts are counted, of which nothing waits", len(in.shares))
	}
	// What is forgotten, or could not be written, is given back.
	if err := in.accept(t.Context(), someMessage(3), "friend"); err != nil || in.shares["friend"] != size {
		t.Fatal("not counted", err)
	}
	before := in.bytes
	in.forget(someMessage(3).Outer.ID())
	if err := in.close(); err != nil {
		t.Fatal(err)
	}
	if err := in.accept(t.Context(), someMessage(4), "friend"); err == nil || len(in.shares) != 0 || in.bytes != before-size {
		t.Errorf("%v, %d hosts, %d bytes", err, len(in.shares), in.bytes)
	}
	// After a restart what waits counts, but not to anybody.
	if in, err = openIncoming(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer in.close()
	if in.bytes != size || len(in.shares) != 0 {
		t.Errorf("%d bytes and %d hosts after a restart", in.bytes, len(in.shares))
	}
}

// TestDoorKnowsWhoDelivers takes a message in at the door, which asks for room
// in the name of who brings it.
func TestDoorKnowsWhoDelivers(t *testing.T) {
	in, err := openIncoming(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	d := &door{func(sealed.Outer, time.Time) *account { return &account{incoming: in} }}
	m := someMessage(1)
	m.Outer.Expiry = identity.DayAt(time.Now()) + 1
	in.charge("greedy", MaxIncoming/2-sealed.MinBody)
	if err := d.Admit(m.Outer, "greedy"); err != nil {
		t.Fatal(err)
	}
	if err := d.Accept(t.Context(), m, "greedy"); err != nil {
		t.Fatal(err)
	}
	if n := in.shares["greedy"]; n != MaxIncoming/2 {
		t.Errorf("what it brought was not counted: %d bytes", n)
	}
	r := new(store.Refusal)
	if err := d.Admit(m.Outer, "greedy"); !errors.As(err, &r) || r.Code != store.CodePeerBytes {
		t.Errorf("one host was let in beyond its share: %v", err)
	}
	if err := d.Admit(m.Outer, "friend"); err != nil {
		t.Error(err)
	}
}

// TestIncomingKeepsNoNames looks for the one who delivered on the disk, where a
// thief would look for who writes to the owner.
func TestIncomingKeepsNoNames(t *testing.T) {
	dir := t.TempDir()
	in, err := openIncoming(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const host = "a host that delivered"
	if err := in.accept(t.Context(), someMessage(1), host); err != nil {
		t.Fatal(err)
	}
	if err := in.close(); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(host)) {
			t.Errorf("%s names it", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestTheOldestIsForgotten opens more than is remembered.
func TestTheOldestIsForgotten(t *testing.T) {
	const more = maxSeen / 2
	in := &incoming{seen: make(map[sealed.ID]sight)}
	id := func(i int) (id sealed.ID) {
		binary.BigEndian.PutUint32(id[:], uint32(i))
		return id
	}
	outer := someMessage(1).Outer
	for i := range maxSeen + more {
		in.remember(id(i), sight{outer: outer})
		in.remember(id(i), sight{outer: outer}) // what comes again takes no more room
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
