package identity

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Chain gives every epoch its keys. It runs one way: from the state of an epoch follow the keys of that epoch and of
// all later ones, but of no earlier one.
//
//	state(e+1)         = HKDF-Expand(SHA-256, state(e), "peerpost chain",   32)
//	sealing seed (e)   = HKDF-Expand(SHA-256, state(e), "peerpost sealing", 32)
//	fetch key seed (e) = HKDF-Expand(SHA-256, state(e), "peerpost fetch",   32)
//	delete key seed(e) = HKDF-Expand(SHA-256, state(e), "peerpost delete",  32)
//
// The first state is random. A Chain is not safe for concurrent use.
type Chain struct {
	epoch Epoch
	state [32]byte
}

// maxAhead bounds how far beyond the head Leaf derives, in epochs (20 years).
const maxAhead = 20 * 52

// NewChain starts a chain at the epoch, from a random state.
func NewChain(e Epoch) *Chain {
	c := &Chain{epoch: e}
	rand.Read(c.state[:])
	return c
}

// Head is the earliest epoch whose keys can still be derived.
func (c *Chain) Head() Epoch { return c.epoch }

// Leaf derives the secrets of an epoch and leaves the chain where it is. It reports false for an epoch before the
// head, and for one more than 20 years after it.
func (c *Chain) Leaf(e Epoch) (*Secrets, bool) {
	seeds, ok := c.leaf(e)
	if !ok {
		return nil, false
	}
	return newSecrets(seeds), true
}

// Advance destroys the state of the head and moves on to the next epoch.
func (c *Chain) Advance() {
	c.state = expand(c.state, "peerpost chain")
	c.epoch++
}

// Format keeps the state out of every verb of fmt.
func (c *Chain) Format(f fmt.State, _ rune) { fmt.Fprint(f, "chain(redacted)") }

func (c *Chain) leaf(e Epoch) (secretSeeds, bool) {
	if e < c.epoch || e-c.epoch > maxAhead {
		return secretSeeds{}, false
	}
	state := c.state
	for range e - c.epoch {
		state = expand(state, "peerpost chain")
	}
	return secretSeeds{
		Sealing: expand(state, "peerpost sealing"),
		Fetch:   expand(state, "peerpost fetch"),
		Delete:  expand(state, "peerpost delete"),
	}, true
}

func expand(state [32]byte, label string) [32]byte {
	b, err := hkdf.Expand(sha256.New, state[:], label, 32)
	if err != nil {
		panic("identity: hkdf: " + err.Error())
	}
	return [32]byte(b)
}
