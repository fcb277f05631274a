package courier

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/internal/clock"
	"github.com/peerpost/peerpost/mailbox"
)

// TestFailureNeedsSureTime has a node be off for two months, or its clock say
// so: no mail is declared failed before others have that time too, or the node
// has run for so long.
func TestFailureNeedsSureTime(t *testing.T) {
	const day = 24 * time.Hour
	for _, drained := range []bool{true, false} {
		for _, agree := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				dir, saved := t.TempDir(), filepath.Join(t.TempDir(), "clock")
				open := func() *clock.Clock { return clock.Open(saved, slog.New(slog.DiscardHandler)) }
				now, stop := context.WithCancel(t.Context())
				stop()
				open().Run(now) // saves

				w := newWorld(t)
				w.drained, w.clock = drained, open()
				c, end := w.carry(t, dir, true)
				c.Send(w.accept(1))
				pass(time.Minute)
				end()
				time.Sleep(60 * day)

				w.clock = open()
				_, end = w.carry(t, dir, true)
				defer end()
				pass(8 * day)
				if s := w.row(1).State; s == mailbox.Failed {
					t.Fatalf("drained %v: failed on the word of the own clock", drained)
				}
				if agree {
					w.clock.Agree(time.Now())
					pass(5 * time.Minute)
				} else {
					pass(Lifetime + Grace - 7*day)
					if s := w.row(1).State; s == mailbox.Failed && !drained {
						t.Error("given up too early")
					}
					pass(GiveUp)
				}
				if s := w.row(1).State; s != mailbox.Failed {
					t.Errorf("drained %v, agreed %v: %s", drained, agree, s)
				}
			})
		}
	}
}
