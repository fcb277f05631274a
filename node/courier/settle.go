package courier

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
)

// receiving is how many items of a receipt are worked on at once: they share
// the commits of the outbox.
const receiving = 64

// Receive takes a receipt that a recipient's device signed. Items for messages
// that did not go to this person, or are unknown, mean nothing.
func (c *Courier) Receive(ctx context.Context, from identity.Root, items []sealed.ReceiptItem) error {
	var group errgroup.Group
	group.SetLimit(receiving)
	told := false
	for _, item := range items {
		c.mu.Lock()
		a, t := c.account, c.transits[item.MessageID]
		mine := t != nil && t.kind == sealed.KindMail && t.to.Root == from
		tell := mine && t.withRecord && !told
		c.mu.Unlock()
		if a == nil || !mine {
			continue
		}
		if tell {
			told = true
			a.Told(from)
		}
		group.Go(func() error { return c.receive(ctx, a, t, item) })
	}
	return group.Wait()
}

func (c *Courier) receive(ctx context.Context, a Account, t *transit, item sealed.ReceiptItem) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a receipt made the courier panic: %v", p)
		}
	}()
	switch item.Status {
	case sealed.StatusRefused:
		return c.fail(ctx, a, t, Reason{StatusRefused, "the recipient refused the message: " + item.Reason})
	case sealed.StatusDisplayed:
		return c.end(ctx, a, t, mailbox.Displayed, Reason{})
	default:
		return c.end(ctx, a, t, mailbox.Delivered, Reason{})
	}
}

// end settles a transit, tells the row and the sender, and takes it off the books.
func (c *Courier) end(ctx context.Context, a Account, t *transit, s mailbox.State, why Reason) error {
	if c.settle(t, s) {
		c.mu.Lock()
		t.lastError, t.reason = why.Text, why
		c.mu.Unlock()
	}
	err := c.tell(ctx, a, t)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !t.running {
			c.plan(t, time.Now().Add(tellAgain))
			c.kick()
		}
	}
	return err
}

// tell brings the end of a transit to the sender and into the row, unless that
// was done. It is tried until it works.
func (c *Courier) tell(ctx context.Context, a Account, t *transit) error {
	c.mu.Lock()
	s, why, due := t.state, t.reason, t.over() && t.told != t.state
	wanted := s == mailbox.Failed || t.notify.Wants(mail.NotifySuccess)
	c.mu.Unlock()
	if a == nil || !due || t.kind != sealed.KindMail {
		return nil
	}
	kind := mail.NotifySuccess
	if s == mailbox.Failed {
		kind = mail.NotifyFailure
	}
	// the DSN comes first: after a crash in between it is not made twice, for
	// it has an id, but a row that has ended is never looked at again
	if wanted {
		if err := a.Report(ctx, t.id, kind, why); err != nil {
			return err
		}
	}
	if err := c.record(ctx, a, t); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.told = s
	if !t.running && t.told == t.state {
		c.forget(t)
	}
	return nil
}

func (c *Courier) fail(ctx context.Context, a Account, t *transit, why Reason) error {
	return c.end(ctx, a, t, mailbox.Failed, why)
}

// sweep tells the senders of late mail, and ends what has expired.
func (c *Courier) sweep(ctx context.Context) {
	now, sure := time.Now(), c.clock.Sure() // what has failed cannot be taken back
	type late struct {
		t    *transit
		dead bool
	}
	var all []late
	c.mu.Lock()
	a, patient := c.account, now.Sub(c.unlocked) < GiveUp
	if a != nil {
		for _, t := range c.transits {
			if t.kind == sealed.KindReceipt {
				if sure.After(t.expires) && !t.running {
					c.forget(t)
				}
				continue
			}
			switch {
			case t.over() || !t.entombed.IsZero():
			case sure.After(t.expires.Add(Grace)):
				all = append(all, late{t, true})
			case now.Sub(t.accepted) >= DelayAfter && !t.delayTold:
				all = append(all, late{t, false})
			}
		}
	}
	c.mu.Unlock()
	for _, l := range all {
		var err error
		switch {
		case !l.dead:
			if err = a.Report(ctx, l.t.id, mail.NotifyDelay, Reason{Text: c.where(l.t)}); err == nil {
				c.mu.Lock()
				l.t.delayTold = true
				c.mu.Unlock()
			}
		case a.Drained(l.t.expires.Add(Grace)):
			err = c.fail(ctx, a, l.t, Reason{StatusExpired, "delivery was not confirmed before the message expired"})
		case !patient && sure.After(l.t.expires.Add(Grace+GiveUp)): // a holder that lists and never gives must not hold it up
			err = c.fail(ctx, a, l.t, Reason{StatusExpired, "delivery was not confirmed before the message expired, nor could all holders be asked for a confirmation"})
		}
		if err != nil {
			c.log.Warn("a sender could not be told", "err", err)
		}
	}
}

// where says in words how far a late message has come.
func (c *Courier) where(t *transit) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case t.state == mailbox.Replicated && t.replicas > 0:
		return fmt.Sprintf("it waits with %d of %d holders until the recipient's machine is on", t.replicas, t.wanted)
	case t.lastError != "":
		return t.lastError
	default:
		return "the recipient has not confirmed it yet"
	}
}
