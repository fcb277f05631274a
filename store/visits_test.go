package store

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

func visitsT(h *Holder, visit func(ctx context.Context, p peer.ID, due []identity.Inbox) ([]identity.Inbox, error)) *visits {
	v := &h.upkeep.visits
	v.visit = visit
	return v
}

// A holder has one visit at a time; what comes meanwhile is for the next, and what is left over comes after a pause.
func TestOneVisitAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen [][]identity.Inbox
		left := []identity.Inbox{{9}}
		v := visitsT(holderT(t, Limits{}), func(_ context.Context, _ peer.ID, due []identity.Inbox) (l []identity.Inbox, _ error) {
			time.Sleep(time.Second)
			seen = append(seen, due)
			l, left = left, nil
			return l, nil
		})
		start := time.Now()
		v.add(t.Context(), "a", []identity.Inbox{{1}})
		synctest.Wait()
		v.add(t.Context(), "a", []identity.Inbox{{2}, {3}})
		v.add(t.Context(), "a", []identity.Inbox{{3}, {4}})
		v.work.Wait()
		want := [][]identity.Inbox{{{1}}, {{2}, {3}, {4}, {9}}}
		if took := time.Since(start); !slices.EqualFunc(seen, want, slices.Equal) || took < visitPause*9/10 || took > visitPause*11/10+2*time.Second {
			t.Fatalf("%v after %v", seen, took)
		}
		if len(v.due) != 0 || len(v.quick) != 0 {
			t.Fatal("visits are left behind")
		}
	})
}

// Slow visits make room for others, as long as they are not too many.
func TestSlowVisitsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var now, cut atomic.Int64
		v := visitsT(holderT(t, Limits{}), func(ctx context.Context, p peer.ID, _ []identity.Inbox) ([]identity.Inbox, error) {
			now.Add(1)
			defer now.Add(-1)
			<-ctx.Done()
			cut.Add(1)
			return nil, ctx.Err()
		})
		for i := range 2 * slowVisits {
			v.add(ctx, peer.ID(fmt.Sprint(i)), []identity.Inbox{{}})
		}
		synctest.Wait()
		if now.Load() != quickVisits {
			t.Fatalf("%d visits at once", now.Load())
		}
		time.Sleep(slowVisits / quickVisits * quickTime)
		synctest.Wait()
		if now.Load() != slowVisits+quickVisits || cut.Load() != 0 {
			t.Fatalf("%d visits at once, %d cut short", now.Load(), cut.Load())
		}
		time.Sleep(quickTime)
		synctest.Wait()
		if now.Load() != slowVisits+quickVisits || cut.Load() != quickVisits {
			t.Fatalf("%d visits at once, %d cut short", now.Load(), cut.Load())
		}
		cancel()
		v.work.Wait()
		if len(v.due)+len(v.quick)+len(v.slow) != 0 {
			t.Fatal("visits are left behind")
		}
		// The next run begins anew.
		visited := false
		v.visit = func(context.Context, peer.ID, []identity.Inbox) ([]identity.Inbox, error) {
			visited = true
			return nil, nil
		}
		v.add(t.Context(), "0", []identity.Inbox{{}})
		if v.work.Wait(); !visited {
			t.Fatal("a holder is not visited any more")
		}
	})
}

// A visit to a holder that takes its time ends, after the message that is under way, and leaves the rest for later.
func TestVisitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := holderT(t, Limits{})
		k := newKeys(t)
		for i := range 30 {
			storeT(t, h.spool, k.letter(i, sealed.MinBody, month()), "peer")
		}
		key, id := hostOf(t)
		a, b := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Slow(key)(t.Context(), pipe{b, new(int), new(int), 0, new(sync.Mutex)}, h.cfg.Self)
			b.Close()
		}()
		h.out.transport = one{pipe{a, new(int), new(int), 0, new(sync.Mutex)}}
		start := time.Now()
		left, err := h.upkeep.visit(t.Context(), id, []identity.Inbox{k.inbox()})
		if took := time.Since(start); err != nil || len(left) != 1 || took < visitTime || took > visitTime+PeerTime+bodyTime(sealed.MinBody) {
			t.Fatalf("%d left after %v, %v", len(left), took, err)
		}
		a.Close()
		h.out.ending.Wait()
		<-ended
	})
}
