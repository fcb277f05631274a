package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/wire"
)

// watchSilence is how long a watched holder may say nothing before it is taken for gone.
const watchSilence = 2*WatchBeat + AnswerTime

// Watch has a holder tell of new messages as they come, until the stream ends, which is always an error, or ctx does.
// notice is called for one notice at a time. What the holder had before is not told: begin to watch, then collect.
func (c *Client) Watch(ctx context.Context, holder peer.ID, keys []FetchKey, notice func(identity.Inbox, []sealed.ID)) error {
	if len(keys) == 0 {
		return errors.New("watch: no inboxes")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	one := func(in identity.Inbox, ids []sealed.ID) {
		mu.Lock()
		defer mu.Unlock()
		notice(in, ids)
	}
	// One stream watches so many inboxes; when one of them ends, all do.
	chunks := slices.Collect(slices.Chunk(keys, MaxInboxes))
	ends := make(chan error, len(chunks))
	for _, chunk := range chunks {
		go func() { ends <- c.watch(ctx, holder, chunk, one) }()
	}
	err := <-ends
	cancel()
	for range len(chunks) - 1 {
		<-ends
	}
	return fmt.Errorf("watch: %w", err)
}

func (c *Client) watch(ctx context.Context, holder peer.ID, keys []FetchKey, notice func(identity.Inbox, []sealed.ID)) error {
	if holder == c.cfg.Self && c.cfg.Local != nil {
		return c.cfg.Local.watchLocal(ctx, keys, notice)
	}
	conn, err := c.out.dial(ctx, holder, DropProtocol)
	if err != nil {
		return err
	}
	defer conn.abort()
	p, err := conn.hello()
	if err != nil {
		return err
	}
	q := &watchRequest{}
	mine := make(map[identity.Inbox]bool)
	for _, k := range keys {
		q.Proofs = append(q.Proofs, p.prove(identity.OpWatch, k, nil))
		mine[k.Inbox] = true
	}
	var n watchNotice
	for err = conn.ask(&request{Watch: q}, &n, PeerTime); err == nil; err = conn.read(&n, watchSilence) {
		if len(n.IDs) > 0 {
			if len(n.Inbox) == 0 || !mine[identity.Inbox(n.Inbox)] {
				return errors.New("notice is of another inbox")
			}
			notice(identity.Inbox(n.Inbox), n.IDs)
		}
		n = watchNotice{}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// watcher waits for messages on behalf of one watch.
type watcher struct {
	ready chan struct{}

	mu    sync.Mutex
	news  map[identity.Inbox][]sealed.ID
	count int
}

// tell notes a new message. Beyond MaxIDs that were not passed on yet it is lost to the watcher, who collects from
// time to time anyway.
func (w *watcher) tell(inbox identity.Inbox, id sealed.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count >= MaxIDs {
		return
	}
	w.count++
	w.news[inbox] = append(w.news[inbox], id)
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) take() map[identity.Inbox][]sealed.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := w.news
	w.news, w.count = make(map[identity.Inbox][]sealed.ID), 0
	return news
}

// watchInboxes begins to tell a watcher of new messages; end stops that.
func (h *Holder) watchInboxes(inboxes []identity.Inbox) (w *watcher, end func()) {
	w = &watcher{news: make(map[identity.Inbox][]sealed.ID), ready: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range inboxes {
		if h.watchers[in] == nil {
			h.watchers[in] = make(map[*watcher]bool)
		}
		h.watchers[in][w] = true
	}
	return w, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, in := range inboxes {
			if delete(h.watchers[in], w); len(h.watchers[in]) == 0 {
				delete(h.watchers, in)
			}
		}
	}
}

func (h *Holder) notify(inbox identity.Inbox, id sealed.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers[inbox] {
		w.tell(inbox, id)
	}
}

// watchLocal watches this node's own holder, until ctx ends.
func (h *Holder) watchLocal(ctx context.Context, keys []FetchKey, notice func(identity.Inbox, []sealed.ID)) error {
	var inboxes []identity.Inbox
	for _, k := range keys {
		inboxes = append(inboxes, k.Inbox)
	}
	w, end := h.watchInboxes(inboxes)
	defer end()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ready:
			for in, ids := range w.take() {
				notice(in, ids)
			}
		}
	}
}

// errUnwatched says that a watch has ended, as every watch does.
var errUnwatched = errors.New("watch ended")

// watch turns the stream into one that only tells of new messages.
func (v *visit) watch(ctx context.Context, q *watchRequest) error {
	h, x := v.holder, v.session
	var inboxes []identity.Inbox
	known := v.solved
	for _, p := range q.Proofs {
		access, err := v.access(p, identity.OpWatch)
		if err != nil {
			return err
		}
		inboxes = append(inboxes, access.Inbox())
		known = known || h.spool.digest(access.Inbox()).Count > 0
	}
	leave, refusal := h.watches.admit(ctx, &seat{peer: x.remote, known: known, end: v.end})
	if refusal != nil {
		return refusal
	}
	defer leave()
	v.leave() // it counts as a watch from here on

	w, end := h.watchInboxes(inboxes)
	defer end()
	if err := x.answer(&watchNotice{}); err != nil {
		return err
	}
	// The other side says nothing more; a read tells when it hangs up. It has no deadline of its own: the writes are
	// what shows that the other side is there.
	if err := x.s.SetDeadline(time.Time{}); err != nil {
		return err
	}
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		_, err := x.r.ReadByte()
		if err != io.EOF {
			_ = x.s.Reset()
		}
	}()
	err := v.watching(ctx, w, hungUp)
	_ = x.s.Reset()
	<-hungUp
	return err
}

func (v *visit) watching(ctx context.Context, w *watcher, hungUp <-chan struct{}) error {
	x := v.session
	beat := time.NewTicker(WatchBeat)
	defer beat.Stop()
	for {
		var notices []*watchNotice
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hungUp:
			return errUnwatched
		case <-beat.C:
			notices = append(notices, &watchNotice{})
		case <-w.ready:
			for in, ids := range w.take() {
				notices = append(notices, &watchNotice{Inbox: in[:], IDs: ids})
			}
		}
		if err := x.s.SetDeadline(time.Now().Add(AnswerTime)); err != nil {
			return err
		}
		for _, n := range notices {
			if err := wire.WriteFrame(x.w, n); err != nil {
				return err
			}
		}
		if err := x.w.Flush(); err != nil {
			return err
		}
		if err := x.s.SetDeadline(time.Time{}); err != nil {
			return err
		}
	}
}
