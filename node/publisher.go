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
	if a.outdone(ctx, raw) {
		return nil // trying again changes nothing
	}
	if err != nil {
		return err
	}
	a.log.Debug("record published", "acks", result.Acks, "asked", result.Asked)
	return nil
}

// outdoneText is what the owner of an outdone account reads in the status.
const outdoneText = "other nodes know newer keys of this account and take no record from here: it was restored elsewhere since, or the clock " +
	"was behind when it was restored here; to have it on this machine, restore it from the recovery words into a new home, " +
	"while a node with neighbours runs there"

// outdone tells whether the network knows a higher generation of the account's
// roster than its record has. Then nobody takes that record, nor any that this
// machine can sign: only the root key makes a roster, and it is in the words.
func (a *account) outdone(ctx context.Context, raw []byte) bool {
	own, err := identity.ParseRecord(raw)
	if err != nil {
		return false
	}
	a.mu.Lock()
	was := a.problem != ""
	a.mu.Unlock()
	known, _, err := a.network.dht.ResolveKey(ctx, identity.RecordKeyHash(own.Root()))
	if err != nil {
		return was // nobody could be asked
	}
	is := known.Roster.Generation > own.Roster.Generation
	if is && !was {
		a.log.Error("the network knows newer keys of this account; restore it from its words into a new home, while online",
			"account", a.address, "generation", own.Roster.Generation, "known", known.Roster.Generation)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.problem = ""; is {
		a.problem = outdoneText
	}
	return is
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
