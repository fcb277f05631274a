package store

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/wire"
)

// session is the answering end of a stream.
type session struct {
	s      Stream
	r      *bufio.Reader
	w      *bufio.Writer
	remote peer.ID
	log    *slog.Logger
}

func newSession(s Stream, remote peer.ID, log *slog.Logger) *session {
	return &session{s: s, r: bufio.NewReader(s), w: bufio.NewWriter(s), remote: remote, log: log}
}

// serve answers requests until the other side ends the stream, breaks a rule, or is silent for too long.
func (x *session) serve(ctx context.Context, handle func(context.Context, *request) error) {
	stop := context.AfterFunc(ctx, func() { _ = x.s.Reset() })
	defer stop()
	for range RequestsPerStream {
		q, err := x.next()
		if err == io.EOF {
			_ = x.s.SetDeadline(time.Now().Add(hangUpTime))
			_ = x.s.Close()
			return
		}
		if err == nil {
			err = handle(ctx, q)
		}
		if errors.Is(err, errHungUp) {
			return
		}
		if refusal := new(Refusal); errors.As(err, &refusal) {
			x.log.Debug("request refused", "peer", x.remote, "code", refusal.Code, "reason", refusal.Text)
			err = x.answer(&refusedAnswer{refusal})
		}
		if err != nil {
			x.log.Debug("stream ended", "peer", x.remote, "error", err)
			_ = x.s.Reset()
			return
		}
	}
	x.hangUp(refuse(CodeRequests, "%d requests are answered on one stream", RequestsPerStream))
}

// errHungUp says that the stream was ended in good order, with a reason.
var errHungUp = errors.New("hung up")

// refusedAnswer is what every answer looks like when it is a refusal.
type refusedAnswer struct {
	Refused *Refusal `cbor:"1,keyasint"`
}

// next reads a request. What cannot be read as one ends the stream, since nobody knows where the next would begin.
func (x *session) next() (*request, error) {
	if err := x.s.SetDeadline(time.Now().Add(IdleTime)); err != nil {
		return nil, err
	}
	// The first byte may take its time; the rest may not.
	if _, err := x.r.Peek(1); err != nil {
		return nil, err
	}
	if err := x.s.SetDeadline(time.Now().Add(AnswerTime)); err != nil {
		return nil, err
	}
	var q request
	if err := wire.ReadFrame(x.r, MaxRequest, &q); err != nil {
		x.log.Debug("request not readable", "peer", x.remote, "error", err)
		x.hangUp(refuse(CodeMalformed, "the request cannot be read"))
		return nil, errHungUp
	}
	if err := q.check(); err != nil {
		return nil, refuse(CodeMalformed, "%v", err)
	}
	return &q, nil
}

// answer writes one answer and sends it.
func (x *session) answer(a any) error {
	if err := x.write(a, 0); err != nil {
		return err
	}
	return x.w.Flush()
}

// write writes one answer without sending it yet; so many bytes follow.
func (x *session) write(a any, follow uint64) error {
	if err := x.s.SetDeadline(time.Now().Add(bodyTime(follow))); err != nil {
		return err
	}
	return wire.WriteFrame(x.w, a)
}

// turnAway hears a stranger's first request and answers it with a refusal. Nothing of the request is looked at.
func (x *session) turnAway(r *Refusal) {
	_ = x.s.SetDeadline(time.Now().Add(hangUpTime))
	var q request
	_ = wire.ReadFrame(x.r, MaxRequest, &q)
	x.hangUp(r)
}

// hangUp says why and ends the stream.
func (x *session) hangUp(r *Refusal) {
	_ = x.s.SetDeadline(time.Now().Add(hangUpTime))
	if wire.WriteFrame(x.s, &refusedAnswer{r}) != nil || x.s.Close() != nil {
		_ = x.s.Reset()
	}
}

// verdict is what a taker says to an offer: it has the message, or it was deleted, or it takes it.
type verdict struct {
	have      bool
	tombstone []byte
	// take puts the checked body on the disk and returns after the sync, with a tombstone when the message was
	// deleted meanwhile.
	take func(ctx context.Context, body []byte) (tombstone []byte, err error)
	// done is called in any case, once the offer is dealt with.
	done func()
}

// put deals with one offer: it looks at the outer part, asks the taker, reads and checks the body, and answers with a
// receipt after the taker has it on the disk. Drops and accounts take messages in this one way.
func (x *session) put(ctx context.Context, q *putRequest, key *identity.HostKey, memory *memory,
	offer func(o *sealed.Outer, id sealed.ID) (verdict, error),
) error {
	o, err := sealed.ParseOuter(q.Outer)
	if err != nil {
		return refuse(CodeMalformed, "%v", err)
	}
	if err := o.Check(time.Now()); err != nil {
		return refuse(CodeExpiry, "%v", err)
	}
	id := o.ID()
	v, err := offer(&o, id)
	if err != nil {
		return err
	}
	if v.done != nil {
		defer v.done()
	}
	receipt := func() error {
		r := identity.StorageReceipt{ID: id, Inbox: o.Inbox, Expiry: o.Expiry, Time: time.Now().Unix()}
		return x.answer(&putAnswer{Receipt: identity.SignStorageReceipt(key, r)})
	}
	if v.tombstone != nil {
		return x.answer(&putAnswer{Tombstone: v.tombstone})
	}
	if v.have {
		return receipt()
	}
	room, err := memory.admit(x.s, x.remote, int(o.Size))
	if err != nil {
		return err
	}
	defer room.release()
	if err := x.answer(&putAnswer{Want: true}); err != nil {
		return err
	}
	body, err := readBody(x.s, x.r, o.Size, room.grow)
	if refusal := new(Refusal); errors.As(err, &refusal) {
		// The rest of the body would pass for requests.
		x.hangUp(refusal)
		return errors.Join(errHungUp, refusal)
	}
	if err != nil {
		// Who takes an offer back has learned that others have the message. What was kept for it is free again.
		if isTimeout(err) {
			room.broken()
		}
		return err
	}
	if !hashes(&o, body) {
		room.broken()
		return refuse(CodeHash, "the body is not the one that the outer part names")
	}
	tombstone, err := v.take(ctx, body)
	if err != nil {
		return err
	}
	if tombstone != nil {
		return x.answer(&putAnswer{Tombstone: tombstone})
	}
	return receipt()
}

// bodyStep is how many bytes of a body must have come before more time is given for the next, and bodyAhead how many
// there is memory for before any has come; then there is for as many again as have.
const (
	bodyStep  = 256 << 10
	bodyAhead = 64 << 10
)

// readBody reads a body, as long as it comes at MinRate. grow is asked before there is memory for so many bytes of it.
func readBody(s Stream, r io.Reader, size uint64, grow func(n int) error) ([]byte, error) {
	var body []byte
	start := time.Now()
	for at := uint64(0); at < size; {
		next := min(size, at+bodyStep, max(2*at, bodyAhead))
		if next > uint64(len(body)) {
			n := min(size, max(2*at, bodyAhead))
			if err := grow(int(n)); err != nil {
				return nil, err
			}
			larger := make([]byte, n)
			copy(larger, body[:at])
			body = larger
		}
		if err := s.SetDeadline(start.Add(bodyTime(next))); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(r, body[at:next]); err != nil {
			return nil, fmt.Errorf("read body: %w", err)
		}
		at = next
	}
	return body, nil
}

// isTimeout tells whether the other side was too slow, or silent, rather than gone.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}

// newNonce draws what the proofs on one stream must contain.
func newNonce() (n [32]byte) {
	rand.Read(n[:])
	return n
}
