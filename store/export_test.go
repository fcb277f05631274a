package store

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

// Has tells whether a holder keeps a message.
func (h *Holder) Has(inbox identity.Inbox, id sealed.ID) bool {
	_, ok := h.spool.size(inbox, id)
	return ok
}

// Slow is a holder that lacks whatever it is offered, and takes it as slowly as it may.
func Slow(key *identity.HostKey) func(ctx context.Context, s Stream, remote peer.ID) {
	return func(ctx context.Context, s Stream, remote peer.ID) {
		x := newSession(s, remote, slog.New(slog.DiscardHandler))
		x.serve(ctx, func(_ context.Context, q *request) error {
			switch {
			case q.Digest != nil:
				var a digestAnswer
				for range q.Digest.Inboxes {
					a.Results = append(a.Results, digestDiffers)
				}
				return x.answer(&a)
			case q.Offer != nil:
				var a offerAnswer
				for i := range q.Offer.Items {
					a.Lacks = append(a.Lacks, uint64(i))
				}
				return x.answer(&a)
			case q.Put != nil:
				o, err := sealed.ParseOuter(q.Put.Outer)
				if err != nil {
					return err
				}
				time.Sleep(PeerTime - time.Second)
				if err := x.answer(&putAnswer{Want: true}); err != nil {
					return err
				}
				if _, err := io.CopyN(io.Discard, x.r, int64(o.Size)); err != nil {
					return err
				}
				time.Sleep(bodyTime(o.Size) - time.Second)
				r := identity.StorageReceipt{ID: o.ID(), Inbox: o.Inbox, Expiry: o.Expiry, Time: time.Now().Unix()}
				return x.answer(&putAnswer{Receipt: identity.SignStorageReceipt(key, r)})
			}
			return refuse(CodeInternal, "no")
		})
	}
}
