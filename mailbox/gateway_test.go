package mailbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/imap/imaptest"
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/mailbox"
)

// TestAsGatewayExpects runs the suite of the IMAP gateway: a mailbox is what it asks for, though neither knows the other.
func TestAsGatewayExpects(t *testing.T) {
	keys, err := identity.NewKeyring(identity.Seed{1}, 1, time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	imaptest.TestMailbox(t, func(t *testing.T) imap.Mailbox {
		m, err := mailbox.Open(t.Context(), mailbox.Config{Dir: t.TempDir(), Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.Run(ctx)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		return m
	})
}
