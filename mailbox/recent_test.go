package mailbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

func recentName(i int) (n contentName) {
	binary.BigEndian.PutUint32(n[:], uint32(i))
	return n
}

// TestRecentBounds adds more than is kept at hand: the oldest make room.
func TestRecentBounds(t *testing.T) {
	var r recent
	message := bytes.Repeat([]byte{'x'}, 100<<10)
	const n = 3 * recentBytes / (100 << 10)
	for i := range n {
		r.add(recentName(i), message)
		if r.size > recentBytes {
			t.Fatalf("%d bytes are kept, limit %d", r.size, recentBytes)
		}
	}
	if r.get(recentName(0)) != nil {
		t.Error("the oldest message is still there")
	}
	if !bytes.Equal(r.get(recentName(n-1)), message) {
		t.Error("the newest message is gone")
	}
	r.add(recentName(n), make([]byte, smallMessage+1))
	if r.get(recentName(n)) != nil {
		t.Error("a large message is kept")
	}
	for i := range n {
		r.forget(recentName(i))
	}
	if r.size != 0 || len(r.bytes) != 0 {
		t.Errorf("after all were forgotten %d bytes and %d messages are left", r.size, len(r.bytes))
	}
	r.add(recentName(-1), message) // stays
	for i := range 10_000 {
		r.add(recentName(i), message)
		r.forget(recentName(i))
	}
	if len(r.order) > 100 {
		t.Errorf("%d names are left of one message", len(r.order))
	}
}

// TestRecentIsLetGo files messages and waits until their words are indexed: none
// is kept in memory after that, and all read the same from the disk.
func TestRecentIsLetGo(t *testing.T) {
	m := openTest(t, t.TempDir())
	ctx := context.Background()
	text := []byte("Subject: one\r\n\r\nbody\r\n")
	if _, _, err := m.File(ctx, Delivery{Role: mail.Inbox, Message: text, Internal: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if m.recent.size != len(text) {
		t.Errorf("%d bytes are at hand after a message of %d was filed", m.recent.size, len(text))
	}
	if err := m.indexText(ctx); err != nil {
		t.Fatal(err)
	}
	if m.recent.size != 0 {
		t.Errorf("%d bytes are at hand after the words were indexed", m.recent.size)
	}
}
