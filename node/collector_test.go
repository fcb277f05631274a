package node

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/store"
)

// TestWatches changes the choice of holders.
func TestWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &watches{of: make(map[peer.ID]watching), ended: make(chan struct{}, 1)}
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
