package store

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/clock"
)

// ErrNoHolders says that nobody was found who could hold mail: this node is alone, or the network is not reached yet.
var ErrNoHolders = errors.New("no holders found")

const (
	// nearTime is how long the lookup of a neighbourhood may take; what was found until then counts.
	nearTime = 4 * time.Second
	// collectFrom is how many of the nearest nodes are asked for mail, so that none of them can hide any.
	collectFrom = 20
)

// ClientConfig of NewClient.
type ClientConfig struct {
	Self  peer.ID
	Local *Holder // this node's own holder, which is asked without a stream; nil when there is none
	Near  Neighbourhood
	Dial  Transport
	Clock *clock.Clock // is told when others take what is dated by it
	Log   *slog.Logger
}

// Client puts messages into drops and collects from them. Its methods may be called at once from several goroutines.
type Client struct {
	cfg  ClientConfig
	log  *slog.Logger
	work sync.WaitGroup
	out  dialer
}

// FetchKey is one inbox to collect from.
type FetchKey struct {
	Inbox  identity.Inbox     // of the two keys
	Key    ed25519.PrivateKey // the fetch key
	Delete identity.Public    // that goes with it
	// Keepers are asked besides those who are near.
	Keepers []peer.ID
}

// NewClient makes a client. It starts nothing.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, log: cfg.Log, out: dialer{transport: cfg.Dial}}
}

// Close waits for the puts that go on after Put returned, whose contexts should have ended, and for streams that are
// being ended. It may be called twice.
func (c *Client) Close() error {
	c.work.Wait()
	c.out.ending.Wait()
	return nil
}

// nearest finds the nodes nearest to a drop.
func (c *Client) nearest(ctx context.Context, inbox identity.Inbox, n int) ([]peer.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, nearTime)
	defer cancel()
	peers, err := c.cfg.Near.Nearest(ctx, DropKey(inbox), n)
	if len(peers) == 0 {
		return nil, errors.Join(ErrNoHolders, err)
	}
	return peers[:min(n, len(peers))], nil
}

// Deliver brings a message straight to a machine of its recipient and returns that machine's storage receipt, which
// was checked. A *Refusal says why it was not taken.
func (c *Client) Deliver(ctx context.Context, p peer.ID, m *sealed.Message) (receipt []byte, err error) {
	var g given
	err = later(ctx, func() error {
		conn, err := c.out.dial(ctx, p, DeliverProtocol)
		if err != nil {
			return err
		}
		if g, err = conn.give(&m.Outer, m.Outer.ID(), false, bodyOf(m)); err != nil {
			conn.abort()
			return err
		}
		conn.close()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	if g.receipt == nil {
		return nil, errors.New("deliver: the answer has no receipt")
	}
	return g.receipt, nil
}

// Delete shows a tombstone to the nodes nearest to the drop and to the owner's keepers, and returns how many took it.
// The rest learn of it by upkeep. An error says why none or not all did.
func (c *Client) Delete(ctx context.Context, tombstone []byte, keepers ...peer.ID) (acks int, err error) {
	t, err := identity.ParseTombstone(tombstone)
	if err != nil {
		return 0, fmt.Errorf("delete: %w", err)
	}
	peers, err := c.nearest(ctx, t.Inbox(), collectFrom)
	if err != nil {
		err = fmt.Errorf("delete: %w", err)
	}
	peers = with(peers, keepers)
	errs := make([]error, len(peers))
	var work sync.WaitGroup
	for i, p := range peers {
		work.Go(func() { errs[i] = c.deleteAt(ctx, p, t, tombstone) })
	}
	work.Wait()
	for i, e := range errs {
		if e == nil {
			acks++
		} else {
			err = errors.Join(err, fmt.Errorf("delete at %s: %w", peers[i], e))
		}
	}
	return acks, err
}

// with adds those of more that are not among the peers yet.
func with(peers, more []peer.ID) []peer.ID {
	peers = slices.Clip(peers)
	for _, p := range more {
		if !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	return peers
}

func (c *Client) deleteAt(ctx context.Context, p peer.ID, t *identity.Tombstone, tombstone []byte) error {
	if p == c.cfg.Self && c.cfg.Local != nil {
		_, err := c.cfg.Local.bury(ctx, t, tombstone, c.cfg.Self)
		return err
	}
	conn, err := c.out.dial(ctx, p, DropProtocol)
	if err != nil {
		return err
	}
	var a deleteAnswer
	if err := conn.ask(&request{Delete: &deleteRequest{Tombstone: tombstone}}, &a, AnswerTime); err != nil {
		conn.abort()
		return err
	}
	conn.close()
	return nil
}

// prover makes access proofs for one holder on one stream.
type prover struct {
	holder peer.ID
	nonce  [32]byte
}

// hello asks a holder for the nonce that the proofs on this stream need.
func (c *conn) hello() (prover, error) {
	var a nonceAnswer
	if err := c.ask(&request{Nonce: &nonceRequest{}}, &a, PeerTime); err != nil {
		return prover{}, err
	}
	return prover{c.peer, [32]byte(a.Nonce)}, nil
}

func (p prover) prove(op string, k FetchKey, ids []sealed.ID) []byte {
	a := identity.Access{Op: op, Delete: k.Delete, Holder: []byte(p.holder), Nonce: p.nonce, Time: time.Now().Unix()}
	for _, id := range ids {
		a.IDs = append(a.IDs, id)
	}
	return identity.SignAccess(k.Key, a)
}

// Listed is one message that a holder says it has.
type Listed struct {
	ID   sealed.ID
	Size uint64 // of the body, by the holder's word
}

// list asks for all messages of some inboxes and tells each page. It stops after as many as a holder may keep.
func (c *conn) list(p prover, keys []FetchKey, page func(k FetchKey, items []Listed)) error {
	for chunk := range slices.Chunk(keys, MaxInboxes) {
		after := make([]sealed.ID, len(chunk))
		counts := make([]int, len(chunk))
		open := make([]int, len(chunk))
		for i := range open {
			open[i] = i
		}
		for len(open) > 0 {
			q := &listRequest{}
			for _, i := range open {
				q.Inboxes = append(q.Inboxes, listInbox{Proof: p.prove(identity.OpList, chunk[i], nil), After: after[i]})
			}
			var a listAnswer
			if err := c.ask(&request{List: q}, &a, AnswerTime); err != nil {
				return err
			}
			if len(a.Inboxes) != len(open) {
				return errors.New("list is of other inboxes")
			}
			var more []int
			for j, listed := range a.Inboxes {
				i := open[j]
				var items []Listed
				for _, item := range listed.Items {
					if after[i] != (sealed.ID{}) && !less(after[i], item.ID) {
						return errors.New("list goes backwards")
					}
					after[i] = item.ID
					items = append(items, Listed{item.ID, item.Size})
				}
				if len(items) > 0 {
					page(chunk[i], items)
				}
				if counts[i] += len(items); listed.More && counts[i] < listMost {
					more = append(more, i)
				}
			}
			open = more
		}
	}
	return nil
}

// listMost is how many messages of one inbox are listed of one holder, so that its lies cost bounded memory. Holders
// of our kind have no more; what others have besides is listed once these are collected.
const listMost = InboxMessages

// get asks for messages and hands each to item, after its id, its size and its hash were checked. It returns those
// that the holder does not have; what neither came nor is missing did not fit into one answer.
func (c *conn) get(p prover, k FetchKey, ids []sealed.ID, room func(id sealed.ID, size uint64) (release func()), item func(id sealed.ID, m *sealed.Message)) (missing []sealed.ID, err error) {
	asked := make(map[sealed.ID]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	q := &request{Get: &getRequest{Proof: p.prove(identity.OpGet, k, ids)}}
	var a getItem
	err = c.ask(q, &a, AnswerTime)
	for ; err == nil; err = c.read(&a, AnswerTime) {
		if a.Outer != nil {
			if err := c.getOne(&a, k, asked, room, item); err != nil {
				return nil, err
			}
		}
		if a.Last {
			for _, id := range a.Missing {
				if asked[id] {
					missing = append(missing, id)
				}
			}
			return missing, nil
		}
		a = getItem{}
	}
	return nil, err
}

func (c *conn) getOne(a *getItem, k FetchKey, asked map[sealed.ID]bool, room func(sealed.ID, uint64) func(), item func(sealed.ID, *sealed.Message)) error {
	o, err := sealed.ParseOuter(a.Outer)
	if err != nil {
		return err
	}
	id := o.ID()
	if !asked[id] || o.Inbox != k.Inbox {
		return errors.New("message was not asked for")
	}
	delete(asked, id)
	release := room(id, o.Size)
	defer release()
	free, err := c.s.ReserveMemory(int(o.Size))
	if err != nil {
		return fmt.Errorf("memory for a body: %w", err)
	}
	defer free()
	body, err := readBody(c.s, c.r, o.Size, func(int) error { return nil })
	if err != nil {
		return err
	}
	if !hashes(&o, body) {
		return errors.New("body is not the one of its message")
	}
	item(id, &sealed.Message{Outer: o, Body: body})
	return nil
}

func bodyOf(m *sealed.Message) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return newBody(m.Body), nil }
}
