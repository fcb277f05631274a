package storetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/store"
)

// Inbox is the keys of one inbox, and makes messages for it. Their bodies are noise: nobody here opens them.
type Inbox struct {
	Fetch, Delete ed25519.PrivateKey
}

// NewInbox draws the keys.
func NewInbox(t testing.TB) *Inbox {
	_, fetch, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, del, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Inbox{Fetch: fetch, Delete: del}
}

// Name is what its mail waits under.
func (in *Inbox) Name() identity.Inbox { return identity.InboxOf(public(in.Fetch), public(in.Delete)) }

// Key is what its owner collects with.
func (in *Inbox) Key() store.FetchKey {
	return store.FetchKey{Inbox: in.Name(), Key: in.Fetch, Delete: public(in.Delete)}
}

// Message makes a message with a body of that many bytes that expires in 30 days. It has a stamp that is worth
// nothing, so that nobody makes a better one unasked.
func (in *Inbox) Message(size int) *sealed.Message {
	return in.MessageFor(size, identity.DayAt(time.Now().Add(30*24*time.Hour)))
}

// MessageFor makes a message that expires on a day.
func (in *Inbox) MessageFor(size int, expiry identity.Day) *sealed.Message {
	body := make([]byte, size)
	rand.Read(body)
	return &sealed.Message{
		Outer: sealed.Outer{
			Version: 1, Suite: 1, Inbox: in.Name(), Epoch: identity.EpochAt(time.Now()), Expiry: expiry,
			Hash: sha256.Sum256(body), Size: uint64(size), Stamp: &sealed.Stamp{},
		},
		Body: body,
	}
}

// Tombstone deletes messages of the inbox.
func (in *Inbox) Tombstone(ms ...*sealed.Message) []byte {
	t := identity.Tombstone{Fetch: public(in.Fetch), Time: time.Now().Unix()}
	for _, m := range ms {
		t.Items = append(t.Items, identity.TombstoneItem{ID: m.Outer.ID(), Expiry: m.Outer.Expiry})
	}
	return identity.SignTombstone(in.Delete, t)
}

func public(k ed25519.PrivateKey) identity.Public {
	return identity.Public(k.Public().(ed25519.PublicKey))
}
