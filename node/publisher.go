package node

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

// The times of publishing (design 5).
const (
	PublishEvery = 12 * time.Hour
	publishRetry = time.Minute     // when nobody took the record
	publishPause = 5 * time.Second // between two that somebody asked for
)

// publish keeps the account's record in the DHT: at every start, every 12
// hours, after an unlock and when the node's addresses have changed.
func (a *account) publish(ctx context.Context) {
	for {
		pause := PublishEvery - PublishEvery/10 + rand.N(PublishEvery/5)
		if err := a.publishOnce(ctx); err != nil {
			pause = publishRetry
			if ctx.Err() == nil {
				a.log.Debug("the record could not be published", "err", err)
			}
		} else {
			select { // a start brings several reasons
			case <-ctx.Done():
				return
			case <-time.After(publishPause):
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-a.publishNow:
		}
	}
}

func (a *account) publishOnce(ctx context.Context) error {
	raw, err := a.sign(time.Now())
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.record = raw
	a.mu.Unlock()
	result, err := a.network.dht.Publish(ctx, raw)
	if err != nil {
		return err
	}
	a.log.Debug("record published", "acks", result.Acks, "asked", result.Asked)
	return nil
}

// sign makes the record of now: a new one when unlocked, else the one that was
// signed in advance for this week.
func (a *account) sign(now time.Time) ([]byte, error) {
	o := a.opened()
	if o == nil { // what was signed in advance
		if raw := a.vault.PresignedAt(now); raw != nil {
			return raw, nil
		}
		return nil, errNoRecord
	}
	if err := a.roll(o.keys, now); err != nil {
		return nil, err
	}
	seq, err := a.vault.NextSequence(now)
	if err != nil {
		return nil, err
	}
	return signAhead(a.vault, o.keys, identity.RecordParams{
		Now: now, Sequence: seq, Hosts: []identity.Host{a.network.hostEntry()}, Keepers: a.vault.Keepers(),
		Policy: identity.Policy{MaxMessage: sealed.MaxMessage},
	})
}

// signAhead signs the record of now, and with it those of the coming weeks,
// which the node publishes when nobody has logged in by then.
func signAhead(v *identity.Vault, keys *identity.Keyring, p identity.RecordParams) ([]byte, error) {
	raw, err := keys.SignRecord(p)
	if err != nil {
		return nil, err
	}
	ahead, err := keys.Presign(p)
	if err != nil {
		return nil, err
	}
	return raw, v.SetPresigned(append([][]byte{raw}, ahead...))
}
