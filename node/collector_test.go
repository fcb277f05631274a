package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
)

// TestWatches changes the choice of holders.
func TestWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &watches{of: make(map[peer.ID]watching), ended: make(chan struct{}, 1), lasting: func(peer.ID) bool { return false }}
		defer w.group.Wait()
		defer cancel()
		var mu sync.Mutex
		begun := make(map[peer.ID]int)
		choose := func(whole bool, inbox byte, holders ...peer.ID) []peer.ID {
			chosen := make(map[peer.ID][]store.FetchKey)
			for _, p := range holders {
				chosen[p] = []store.FetchKey{{Inbox: identity.Inbox{inbox}}}
			}
			w.choose(ctx, chosen, whole, func(ctx context.Context, p peer.ID, _ []store.FetchKey) {
				mu.Lock()
				begun[p]++
				mu.Unlock()
				<-ctx.Done()
			})
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Sorted(maps.Keys(w.of))
		}
		steps := []struct {
			whole   bool
			inbox   byte
			holders string
			want    string
		}{
			{true, 1, "abcd", "abcd"},
			{true, 1, "bcde", "bcde"},  // a is no longer near
			{false, 1, "fg", "bcdefg"}, // some could not be looked up
			{true, 1, "bcfg", "bcfg"},
			{true, 2, "bcfg", ""}, // a new week
			{true, 2, "bcfg", "bcfg"},
		}
		for i, s := range steps {
			var holders []peer.ID
			for _, c := range s.holders {
				holders = append(holders, peer.ID(c))
			}
			got := ""
			for _, p := range choose(s.whole, s.inbox, holders...) {
				got += string(p)
			}
			if got != s.want {
				t.Errorf("step %d: %q are watched, not %q", i, got, s.want)
			}
		}
		if begun["b"] != 2 || begun["a"] != 1 {
			t.Errorf("begun %v times", begun)
		}
	})
}

// TestKeeperOfANewWeek watches a keeper, whose watch ends by itself and for a new week.
func TestKeeperOfANewWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &watches{of: make(map[peer.ID]watching), ended: make(chan struct{}, 1), lasting: func(peer.ID) bool { return true }}
		defer w.group.Wait()
		defer cancel()
		off := make(chan struct{})
		choose := func(inbox byte) (asked bool) {
			w.choose(ctx, map[peer.ID][]store.FetchKey{"keeper": {{Inbox: identity.Inbox{inbox}}}}, true,
				func(ctx context.Context, _ peer.ID, _ []store.FetchKey) {
					select {
					case <-ctx.Done():
					case <-off:
					}
				})
			synctest.Wait()
			select {
			case <-w.ended:
				return true
			default:
				return false
			}
		}
		if choose(1) {
			t.Error("another choice is asked for while it is watched")
		}
		if !choose(2) {
			t.Error("its watch was ended for a new week, and it is not chosen again soon")
		}
		choose(2)
		off <- struct{}{}
		synctest.Wait()
		if len(w.of) != 0 || len(w.ended) != 0 {
			t.Errorf("it went off: %d are watched, asked for another: %v", len(w.of), len(w.ended) != 0)
		}
	})
}

// TestNoRoomForWhatWaits collects from holders who have mail while the account
// is full, or gets full.
func TestNoRoomForWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, err := openIncoming(t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer in.close()
		var log bytes.Buffer
		a := &account{
			incoming: in, vault: new(identity.Vault), // without keepers
			log: slog.New(slog.NewTextHandler(&log, nil)), collectNow: make(chan struct{}, 1),
			keys: make(map[identity.Inbox]inbox), keysOf: identity.EpochAt(time.Now()),
		}
		fill := func(bytes int64) {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.bytes = bytes
		}
		var mu sync.Mutex
		rounds, asked, fetched, gets, first := 0, 0, 0, false, byte(1) // gets: full after the listing
		collect := func(ctx context.Context, _ []store.FetchKey, have func(sealed.ID) bool, accept func(context.Context, *sealed.Message, peer.ID) error) (store.CollectReport, error) {
			mu.Lock()
			defer mu.Unlock()
			rounds++
			for i := range byte(3) {
				m := someMessage(first + i)
				if asked++; !have(m.Outer.ID()) {
					if fetched++; gets {
						fill(MaxIncoming)
					}
					_ = accept(ctx, m, "")
				}
				if ctx.Err() != nil {
					break
				}
			}
			return store.CollectReport{Holders: 20}, ctx.Err()
		}
		fill(MaxIncoming - sealed.MaxBody + 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.rounds(ctx, collect)
		}()
		defer func() {
			cancel()
			<-done
		}()
		after := func(d time.Duration) (r, asks, f int) {
			<-time.After(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			r, asks, f = rounds, asked, fetched
			rounds, asked, fetched = 0, 0, 0
			return r, asks, f
		}

		for range 60 {
			a.neighboursChanged()
			<-time.After(time.Minute)
		}
		if r, asks, f := after(time.Hour); r < 6 || r > 10 || asks != r || f != 0 {
			t.Errorf("full: %d rounds, %d messages looked at, %d fetched", r, asks, f)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings: %s", n, &log)
		}
		a.roomAgain()
		if len(a.collectNow) != 0 {
			t.Error("a round is asked for without room")
		}
		fill(0)
		a.roomAgain()
		if r, _, f := after(10 * time.Second); r == 0 || f != 3 || in.waiting() != 3 {
			t.Errorf("room again: %d rounds, %d fetched, %d wait", r, f, in.waiting())
		}

		mu.Lock()
		gets, first = true, 10
		mu.Unlock()
		wakeUp(a.collectNow)
		if r, asks, f := after(50 * time.Second); r != 1 || asks != 1 || f != 1 {
			t.Errorf("gets full: %d rounds, %d messages looked at, %d fetched", r, asks, f)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings: %s", n, &log)
		}
	})
	if !noRoom(fmt.Errorf("append: %w", syscall.ENOSPC)) {
		t.Error("a full disk is not seen as one")
	}
}
