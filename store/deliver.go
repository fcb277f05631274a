package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

// An Acceptor takes the messages that come straight to this machine.
type Acceptor interface {
	// Have tells whether the message is on the disk already, or was once taken. It must not say so of one whose
	// Accept has not returned.
	Have(id sealed.ID, o sealed.Outer) bool
	// Accept takes a message whose body was checked against its outer part. It returns nil once the message is on
	// the disk: the sender gets a receipt then. A *Refusal is told to the sender as it is, any other error as a
	// failure of this machine, to be tried again.
	Accept(ctx context.Context, m *sealed.Message, from peer.ID) error
}

// An Admitter is an Acceptor that refuses what it would not accept before the body is sent: a message for an inbox
// that nobody here has, a large one, or one for which there is no room. Admit returns nil or a *Refusal.
type Admitter interface {
	Admit(o sealed.Outer, from peer.ID) error
}

// ReceiverConfig of a Receiver.
type ReceiverConfig struct {
	HostKey *identity.HostKey // signs receipts
	Accept  Acceptor
	Log     *slog.Logger // nil means silence
	Limits  Limits       // only those of streams, of deliveries and BodyMemory matter here
}

// Receiver answers on DeliverProtocol.
type Receiver struct {
	cfg    ReceiverConfig
	limits Limits
	rate   *rate
	guests guests
	memory memory
}

// NewReceiver makes a Receiver.
func NewReceiver(cfg ReceiverConfig) *Receiver {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := cfg.Limits.withDefaults()
	return &Receiver{
		cfg: cfg, limits: l,
		rate:   newRate(l.DeliveryBurst, l.DeliveriesPerMinute),
		guests: newGuests(l.StreamsPerPeer, l.Streams),
		memory: memory{most: l.BodyMemory},
	}
}

// ServeDeliver answers one stream. It returns when the stream has ended, and ends it when ctx does.
func (r *Receiver) ServeDeliver(ctx context.Context, s Stream, remote peer.ID) {
	x := newSession(s, remote, r.cfg.Log)
	leave, refusal := r.guests.enter(ctx, remote)
	if refusal != nil {
		x.turnAway(refusal)
		return
	}
	defer leave()
	x.serve(ctx, func(ctx context.Context, q *request) error {
		if q.Put == nil || q.Put.Upkeep {
			return refuse(CodeMalformed, "only messages are taken here")
		}
		return x.put(ctx, q.Put, r.cfg.HostKey, &r.memory, func(o *sealed.Outer, id sealed.ID) (verdict, error) {
			if l := r.limits; !r.rate.take(remote, time.Now()) {
				return verdict{}, refuse(CodeRate, "%d deliveries a minute are taken from one peer, and %d at once", l.DeliveriesPerMinute, l.DeliveryBurst)
			}
			if r.cfg.Accept.Have(id, *o) {
				return verdict{have: true}, nil
			}
			if a, ok := r.cfg.Accept.(Admitter); ok {
				if err := a.Admit(*o, remote); err != nil {
					return verdict{}, r.explain(err)
				}
			}
			return verdict{take: func(ctx context.Context, body []byte) ([]byte, error) {
				err := r.cfg.Accept.Accept(ctx, &sealed.Message{Outer: *o, Body: body}, remote)
				return nil, r.explain(err)
			}}, nil
		})
	})
}

// explain turns an error of the acceptor into what the sender is told.
func (r *Receiver) explain(err error) error {
	if refusal := new(Refusal); err == nil || errors.As(err, &refusal) {
		return err
	}
	r.cfg.Log.Error("message not accepted", "error", err)
	return refuse(CodeInternal, "the message could not be kept; try again later")
}
