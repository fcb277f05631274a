package store

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/wire"
)

// PeerTime is how long a peer may take to be reached and to answer an offer.
const PeerTime = 4 * time.Second

// hangUpTime is how long the last words to a peer may take.
const hangUpTime = 2 * time.Second

// dialer opens streams for one asker, and waits for those that are still being ended.
type dialer struct {
	transport Transport
	ending    sync.WaitGroup
}

// conn is the asking end of a stream. When the context it was opened with ends, whatever is under way ends too.
type conn struct {
	s      Stream
	r      *bufio.Reader
	peer   peer.ID
	stop   func() bool
	ending *sync.WaitGroup
}

// dial opens a stream to a peer.
func (d *dialer) dial(ctx context.Context, p peer.ID, protocol string) (*conn, error) {
	opening, cancel := context.WithTimeout(ctx, PeerTime)
	defer cancel()
	s, err := d.transport.Open(opening, p, protocol)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	return &conn{s: s, r: bufio.NewReader(s), peer: p, stop: stop, ending: &d.ending}, nil
}

// close ends the stream in good order, without keeping the caller: the stream counts as open until the other side has
// ended it too, so that its limits and the transport's agree.
func (c *conn) close() {
	c.stop()
	c.ending.Go(func() {
		_ = c.s.SetDeadline(time.Now().Add(hangUpTime))
		if c.s.CloseWrite() == nil {
			if _, err := c.r.ReadByte(); err == io.EOF && c.s.Close() == nil {
				return
			}
		}
		_ = c.s.Reset()
	})
}

// end ends the stream after an error, or after none.
func (c *conn) end(err error) {
	if err == nil || isRefusal(err) {
		c.close()
	} else {
		c.abort()
	}
}

// abort ends the stream at once. A stream after an error is good for nothing else.
func (c *conn) abort() {
	c.stop()
	_ = c.s.Reset()
}

// ask sends a request and reads its answer. A *Refusal as the error leaves the stream in order, any other does not.
func (c *conn) ask(q *request, a answer, limit time.Duration) error {
	if err := c.s.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if err := wire.WriteFrame(c.s, q); err != nil {
		// It may have said why before it hung up.
		if refusal := new(Refusal); errors.As(c.read(a, limit), &refusal) {
			return refusal
		}
		return err
	}
	return c.read(a, limit)
}

// read reads one answer.
func (c *conn) read(a answer, limit time.Duration) error {
	if err := c.s.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if err := wire.ReadFrame(c.r, MaxAnswer, a); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read answer: %w", err)
	}
	if r := a.refusal(); r != nil {
		return r
	}
	return a.check()
}

// hostKey is the key that a peer's id is made of.
func hostKey(p peer.ID) (ed25519.PublicKey, error) {
	k, err := p.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("key of peer: %w", err)
	}
	raw, err := k.Raw()
	if err != nil {
		return nil, fmt.Errorf("key of peer: %w", err)
	}
	if len(raw) != ed25519.PublicKeySize {
		return nil, errors.New("key of peer is not Ed25519")
	}
	return raw, nil
}

// checkReceipt tells whether a receipt is the peer's word that it has the message on its disk.
func checkReceipt(p peer.ID, receipt []byte, o *sealed.Outer, id sealed.ID) error {
	key, err := hostKey(p)
	if err != nil {
		return err
	}
	r, err := identity.ParseStorageReceipt(receipt, key)
	if err != nil {
		return err
	}
	if r.ID != id || r.Inbox != o.Inbox || r.Expiry != o.Expiry {
		return errors.New("storage receipt is for another message")
	}
	return nil
}

// given is what a peer said to a message: a checked receipt, or a checked tombstone.
type given struct {
	receipt   []byte
	tombstone *identity.Tombstone
	blob      []byte // of the tombstone
	sent      bool   // the body was sent
}

// give offers a message and sends its body when it is wanted. body is asked for only then.
func (c *conn) give(o *sealed.Outer, id sealed.ID, upkeep bool, body func() (io.ReadCloser, error)) (g given, err error) {
	var a putAnswer
	if err := c.ask(&request{Put: &putRequest{Outer: o.Marshal(), Upkeep: upkeep}}, &a, PeerTime); err != nil {
		return given{}, err
	}
	if a.Want {
		r, err := body()
		if err != nil {
			return given{}, err
		}
		defer r.Close()
		limit := bodyTime(o.Size)
		if err := c.s.SetDeadline(time.Now().Add(limit)); err != nil {
			return given{}, err
		}
		n, sendErr := io.CopyN(c.s, r, int64(o.Size))
		a = putAnswer{}
		if err := c.read(&a, limit); err != nil {
			if sendErr != nil && !isRefusal(err) {
				err = fmt.Errorf("send body: %w after %d bytes", sendErr, n)
			}
			return given{}, err
		}
		if a.Want {
			return given{}, errors.New("peer wants the body twice")
		}
		g.sent = true
	}
	if a.Tombstone != nil {
		t, err := identity.ParseTombstone(a.Tombstone)
		if err != nil {
			return given{}, err
		}
		if !o.DeletedBy(t) {
			return given{}, errors.New("tombstone is for another message")
		}
		g.tombstone, g.blob = t, a.Tombstone
		return g, nil
	}
	if err := checkReceipt(c.peer, a.Receipt, o, id); err != nil {
		return given{}, err
	}
	g.receipt = a.Receipt
	return g, nil
}

func isRefusal(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}

// hashes tells whether the body is the one of the outer part.
func hashes(o *sealed.Outer, body []byte) bool {
	return uint64(len(body)) == o.Size && sha256.Sum256(body) == o.Hash
}
