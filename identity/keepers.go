package identity

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/peerpost/peerpost/internal/durable"
)

const (
	keepersFile    = "keepers.cbor"
	maxKeepersFile = 8 << 10 // bytes; the longest list has 5 KB
)

// ErrKeepers reports a keeper too many for a record.
var ErrKeepers = fmt.Errorf("an account has at most %d keepers", MaxHosts)

type keepersPayload struct {
	Version uint8  `cbor:"1,keyasint"`
	Keepers []Host `cbor:"2,keyasint"`
}

// Keepers lists the keepers that the owner chose. Records name them, so they lie in clear.
func (v *Vault) Keepers() []Host {
	v.mu.Lock()
	defer v.mu.Unlock()
	return cloneHosts(v.keepers)
}

// AddKeeper adds a keeper, or gives the one with that peer id other addresses. It gives ErrKeepers when there are as
// many as a record may name.
func (v *Vault) AddKeeper(k Host) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := cloneHosts(v.keepers)
	if i := keeperIndex(next, k.Peer); i >= 0 {
		next[i] = k
	} else if next = append(next, k); len(next) > MaxHosts {
		return ErrKeepers
	}
	return v.saveKeepers(next)
}

// RemoveKeeper removes a keeper and reports whether it was one.
func (v *Vault) RemoveKeeper(peer []byte) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := keeperIndex(v.keepers, peer)
	if i < 0 {
		return false, nil
	}
	return true, v.saveKeepers(slices.Delete(cloneHosts(v.keepers), i, i+1))
}

func keeperIndex(keepers []Host, peer []byte) int {
	return slices.IndexFunc(keepers, func(k Host) bool { return bytes.Equal(k.Peer, peer) })
}

func (v *Vault) saveKeepers(next []Host) error {
	p := keepersPayload{vaultVersion, next}
	err := p.check()
	if err == nil {
		err = durable.WriteFile(v.path(keepersFile), encode(p))
	}
	if err != nil {
		return fmt.Errorf("save keepers: %w", err)
	}
	v.keepers = next
	return nil
}

func (p *keepersPayload) check() error {
	if p.Version != vaultVersion {
		return fmt.Errorf("version %d is not known", p.Version)
	}
	for i, k := range p.Keepers {
		if keeperIndex(p.Keepers, k.Peer) < i {
			return errors.New("a keeper is named twice")
		}
	}
	return checkHosts("keeper", p.Keepers)
}
