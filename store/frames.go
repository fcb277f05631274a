package store

import (
	"errors"
	"fmt"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

// request is what the opener of a stream sends; exactly one field is set.
type request struct {
	Put    *putRequest    `cbor:"1,keyasint,omitempty"`
	Nonce  *nonceRequest  `cbor:"2,keyasint,omitempty"`
	List   *listRequest   `cbor:"3,keyasint,omitempty"`
	Get    *getRequest    `cbor:"4,keyasint,omitempty"`
	Watch  *watchRequest  `cbor:"5,keyasint,omitempty"`
	Delete *deleteRequest `cbor:"6,keyasint,omitempty"`
	Digest *digestRequest `cbor:"7,keyasint,omitempty"`
	Offer  *offerRequest  `cbor:"8,keyasint,omitempty"`
}

// putRequest offers a message. When the answer wants it, its body follows.
type putRequest struct {
	Outer  []byte `cbor:"1,keyasint"`           // of the message, with its stamp
	Upkeep bool   `cbor:"2,keyasint,omitempty"` // the answer to an offer on this stream named it
}

type nonceRequest struct{}

// listRequest asks for the messages of inboxes, ids ascending.
type listRequest struct {
	Inboxes []listInbox `cbor:"1,keyasint"`
}

type listInbox struct {
	Proof []byte   `cbor:"1,keyasint"` // identity.Access for OpList
	After [32]byte `cbor:"2,keyasint"` // only ids above this one
}

// getRequest asks for messages; their ids are in the proof.
type getRequest struct {
	Proof []byte `cbor:"1,keyasint"` // identity.Access for OpGet
}

type watchRequest struct {
	Proofs [][]byte `cbor:"1,keyasint"` // identity.Access for OpWatch
}

type deleteRequest struct {
	Tombstone []byte `cbor:"1,keyasint"`
}

// digestRequest compares inboxes without naming their messages.
type digestRequest struct {
	Inboxes []digest `cbor:"1,keyasint"`
}

// digest sums up the ids of one inbox.
type digest struct {
	Inbox identity.Inbox `cbor:"1,keyasint"`
	Count uint64         `cbor:"2,keyasint"`
	XOR   [32]byte       `cbor:"3,keyasint"`
}

// offerRequest names messages that the asker has.
type offerRequest struct {
	Inbox identity.Inbox `cbor:"1,keyasint"`
	Items []offerItem    `cbor:"2,keyasint"`
	Last  bool           `cbor:"3,keyasint,omitempty"` // nothing more of this inbox comes
}

type offerItem struct {
	_      struct{} `cbor:",toarray"`
	ID     sealed.ID
	Expiry identity.Day
}

// The answers. Refused is alone when it is set.

type putAnswer struct {
	Refused   *Refusal `cbor:"1,keyasint,omitempty"`
	Want      bool     `cbor:"2,keyasint,omitempty"` // send the body
	Receipt   []byte   `cbor:"3,keyasint,omitempty"` // identity.StorageReceipt: it is on the disk
	Tombstone []byte   `cbor:"4,keyasint,omitempty"` // it was deleted
}

type nonceAnswer struct {
	Refused *Refusal `cbor:"1,keyasint,omitempty"`
	Nonce   []byte   `cbor:"2,keyasint,omitempty"` // 32 bytes
}

type listAnswer struct {
	Refused *Refusal     `cbor:"1,keyasint,omitempty"`
	Inboxes []listedPage `cbor:"2,keyasint,omitempty"` // in the order of the request
}

type listedPage struct {
	Items []listItem `cbor:"1,keyasint"`
	More  bool       `cbor:"2,keyasint,omitempty"` // ask again, after the last of these
}

type listItem struct {
	_    struct{} `cbor:",toarray"`
	ID   sealed.ID
	Size uint64
}

// getItem is followed by the body when it has an outer part.
type getItem struct {
	Refused *Refusal    `cbor:"1,keyasint,omitempty"`
	Outer   []byte      `cbor:"2,keyasint,omitempty"`
	Missing []sealed.ID `cbor:"3,keyasint,omitempty"` // in the last item: ids that are not here, or not any more
	Last    bool        `cbor:"4,keyasint,omitempty"` // nothing follows; ask again for what did not come
}

// watchNotice tells of new messages. The first one is empty and says that the watch began; later empty ones say that
// the holder is still there.
type watchNotice struct {
	Refused *Refusal    `cbor:"1,keyasint,omitempty"`
	Inbox   []byte      `cbor:"2,keyasint,omitempty"`
	IDs     []sealed.ID `cbor:"3,keyasint,omitempty"`
}

type deleteAnswer struct {
	Refused *Refusal `cbor:"1,keyasint,omitempty"`
	Deleted uint64   `cbor:"2,keyasint,omitempty"` // messages that were there
}

type digestAnswer struct {
	Refused *Refusal      `cbor:"1,keyasint,omitempty"`
	Results []digestState `cbor:"2,keyasint,omitempty"` // one byte for each inbox, in the order of the request
}

type digestState uint8

const (
	digestDiffers digestState = 1
	digestSame    digestState = 2
	digestNotNear digestState = 3
)

type offerAnswer struct {
	Refused    *Refusal `cbor:"1,keyasint,omitempty"`
	Lacks      []uint64 `cbor:"2,keyasint,omitempty"` // places in the offer of what should be put
	Tombstones [][]byte `cbor:"3,keyasint,omitempty"` // of what was deleted
}

func (a *putAnswer) refusal() *Refusal    { return a.Refused }
func (a *nonceAnswer) refusal() *Refusal  { return a.Refused }
func (a *listAnswer) refusal() *Refusal   { return a.Refused }
func (a *getItem) refusal() *Refusal      { return a.Refused }
func (a *watchNotice) refusal() *Refusal  { return a.Refused }
func (a *deleteAnswer) refusal() *Refusal { return a.Refused }
func (a *digestAnswer) refusal() *Refusal { return a.Refused }
func (a *offerAnswer) refusal() *Refusal  { return a.Refused }

// answer is any of the answers.
type answer interface {
	refusal() *Refusal
	// check tells whether the answer makes sense and keeps the bounds.
	check() error
}

// check tells whether exactly one thing is asked, within the bounds. What is asked is looked at where it is answered.
func (r *request) check() error {
	set := 0
	for _, b := range []bool{
		r.Put != nil, r.Nonce != nil, r.List != nil, r.Get != nil,
		r.Watch != nil, r.Delete != nil, r.Digest != nil, r.Offer != nil,
	} {
		if b {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("%d things are asked at once, and 1 is allowed", set)
	}
	inboxes, ids := 1, 0
	switch {
	case r.List != nil:
		inboxes = len(r.List.Inboxes)
	case r.Watch != nil:
		inboxes = len(r.Watch.Proofs)
	case r.Digest != nil:
		inboxes = len(r.Digest.Inboxes)
	case r.Offer != nil:
		ids = len(r.Offer.Items)
	}
	if inboxes < 1 || inboxes > MaxInboxes {
		return fmt.Errorf("%d inboxes are named, and 1 to %d are allowed", inboxes, MaxInboxes)
	}
	if ids > MaxIDs {
		return fmt.Errorf("%d messages are named, and %d are allowed", ids, MaxIDs)
	}
	return nil
}

var errNoAnswer = errors.New("answer says nothing")

func (a *putAnswer) check() error {
	set := 0
	for _, b := range []bool{a.Want, a.Receipt != nil, a.Tombstone != nil} {
		if b {
			set++
		}
	}
	if set != 1 {
		return errNoAnswer
	}
	return nil
}

func (a *nonceAnswer) check() error {
	if len(a.Nonce) != 32 {
		return fmt.Errorf("nonce of %d bytes, and 32 are needed", len(a.Nonce))
	}
	return nil
}

func (a *listAnswer) check() error {
	ids := 0
	for _, p := range a.Inboxes {
		ids += len(p.Items)
		for i := range p.Items {
			if i > 0 && !less(p.Items[i-1].ID, p.Items[i].ID) {
				return errors.New("list is not in order")
			}
		}
		if p.More && len(p.Items) == 0 && ids == 0 {
			return errors.New("list does not go on")
		}
	}
	if ids > MaxIDs {
		return fmt.Errorf("list of %d messages, and %d are allowed", ids, MaxIDs)
	}
	return nil
}

func (a *getItem) check() error {
	if a.Outer == nil && !a.Last {
		return errNoAnswer
	}
	if len(a.Missing) > MaxIDs {
		return fmt.Errorf("%d messages are missing, and %d are allowed", len(a.Missing), MaxIDs)
	}
	return nil
}

func (a *watchNotice) check() error {
	if len(a.Inbox) != 0 && len(a.Inbox) != len(identity.Inbox{}) {
		return errors.New("notice names no inbox")
	}
	if len(a.IDs) > MaxIDs {
		return fmt.Errorf("notice of %d messages, and %d are allowed", len(a.IDs), MaxIDs)
	}
	return nil
}

func (a *deleteAnswer) check() error { return nil }

func (a *digestAnswer) check() error {
	if len(a.Results) == 0 || len(a.Results) > MaxInboxes {
		return errNoAnswer
	}
	return nil
}

func (a *offerAnswer) check() error {
	if len(a.Lacks) > MaxIDs {
		return fmt.Errorf("%d messages are lacking, and %d are allowed", len(a.Lacks), MaxIDs)
	}
	return nil
}
