package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/clock"
)

// TestMailboxForgetsBySureTime has a mailbox whose node is not sure of the time: it forgets nothing.
func TestMailboxForgetsBySureTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := home(t.TempDir()), slog.New(slog.DiscardHandler)
		_, keys, err := create(t.Context(), h, identity.NewSeed(), 1, AccountOptions{Name: "bob", Password: "secret", PasswordWork: 4})
		if err != nil {
			t.Fatal(err)
		}
		a, err := openAccount(h, keys.Root(), nil, 4, log)
		if err != nil {
			t.Fatal(err)
		}
		defer a.close()
		unsure := filepath.Join(t.TempDir(), "clock")
		if err := os.WriteFile(unsure, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.clock = clock.Open(unsure, log)
		o, _, err := a.unlock(t.Context(), "secret")
		if err != nil {
			t.Fatal(err)
		}
		if err := o.box.Refuse(t.Context(), keys.Root(), [16]byte{1}, "too late", 1); err != nil {
			t.Fatal(err)
		}
		for _, sure := range []bool{false, true} {
			if sure {
				a.clock.Agree(time.Now())
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Hour)
			if err := o.box.Run(ctx); err != nil {
				t.Error(err)
			}
			stop()
			if _, known, err := o.box.Settled(t.Context(), keys.Root(), [16]byte{1}); err != nil || known == sure {
				t.Errorf("sure %v: the refusal is known: %v, %v", sure, known, err)
			}
		}
	})
}
