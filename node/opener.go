package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox"
)

// openers is how many messages are opened at once: enough to share commits, and
// not so many that others wait long for the processor who ask it for little.
func openers() int { return 2 * max(2, runtime.GOMAXPROCS(0)) }

// opening is how many bytes of sealed mail are in work at once, but for a message
// that is larger by itself. Opening takes about three times as much memory.
const opening = 64 << 20

// maxHeading is how many bytes the fields that are put before a message may take.
const maxHeading = 16 << 10

// retryOpen is the wait after a message could not be filed, the disk being full say.
const retryOpen = 30 * time.Second

// openAll opens what comes in, until ctx ends.
func (a *account) openAll(ctx context.Context, o *open) {
	a.openEach(ctx, func(ctx context.Context, id sealed.ID, arr arrival) error { return a.openOne(ctx, o, id, arr) })
}

// openEach has everything that comes in opened by open.
func (a *account) openEach(ctx context.Context, open func(context.Context, sealed.ID, arrival) error) {
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan struct{}, openers())
	room := semaphore.NewWeighted(opening)
	retry := time.NewTicker(retryOpen)
	defer retry.Stop()
	for {
		id, arr, ok := a.incoming.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-a.incoming.ready:
			case <-retry.C:
				a.incoming.again()
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		size := int64(min(arr.outer.Size, opening))
		if room.Acquire(ctx, size) != nil {
			return
		}
		group.Go(func() {
			defer func() { <-slots }()
			defer room.Release(size)
			defer func() {
				if p := recover(); p != nil { // keep the message: a later version may do better
					a.log.Error("opening a message panicked", "panic", p)
					a.incoming.putBack(id)
				}
			}()
			if err := open(ctx, id, arr); err != nil {
				if ctx.Err() == nil {
					a.log.Warn("a message could not be filed, it will be tried again", "err", err)
				}
				a.incoming.putBack(id)
			}
			a.roomAgain()
		})
	}
}

// openOne opens, checks and files one message. An error means "try again".
func (a *account) openOne(ctx context.Context, o *open, id sealed.ID, arr arrival) error {
	late, err := a.late(arr, time.Now())
	if err != nil {
		return err
	}
	_, body, err := a.incoming.log.Read(arr.ref)
	if err != nil && !errors.Is(err, journal.ErrDamaged) && !errors.Is(err, journal.ErrNotFound) {
		return fmt.Errorf("read a waiting message: %w", err) // it is on the disk, and that was promised
	}
	if err != nil {
		a.log.Error("a waiting message is damaged, it will be fetched again", "err", err)
		a.incoming.forget(id)
		wakeUp(a.collectNow)
		return nil
	}
	in, err := sealed.Open(o.keys, &sealed.Message{Outer: arr.outer, Body: body})
	switch {
	case errors.Is(err, sealed.ErrNoKey):
		a.log.Info("a message is sealed to a key that is gone")
		a.incoming.done(id)
		return nil
	case errors.Is(err, sealed.ErrFuture) && time.Now().Before(arr.outer.Expiry.End()): // the sender's clock, or ours, is wrong
		a.log.Info("a message is dated in the future, it is left to its holders")
		a.incoming.early(id) // no receipt was sent, so its sender makes copies
		return nil
	case err != nil:
		a.log.Info("a message cannot be opened", "err", err)
		a.finish(id, arr, true)
		return nil
	}
	if late {
		a.log.Info("a message came after it had expired")
	}
	switch {
	case in.Kind == sealed.KindReceipt && !late:
		err = a.openReceipt(ctx, o, in)
	case in.Kind == sealed.KindMail:
		err = a.openMail(ctx, o, in, arr.outer, late)
	}
	if err != nil {
		return err
	}
	a.finish(id, arr, arr.collected || late)
	return nil
}

// errUnsure puts a refusal off that cannot be taken back.
var errUnsure = errors.New("it may have expired before it came, but the clock may be ahead")

// late says whether a message came after it had expired: then its sender has
// counted it as failed, or will. It is not said before that time is sure to have
// come.
func (a *account) late(arr arrival, now time.Time) (bool, error) {
	at, end := arr.at, arr.outer.Expiry.End()
	if at.After(now) { // by a clock that was wrong
		at = now
	}
	switch {
	case at.Before(end):
		return false, nil
	case a.clock.Sure().Before(end):
		return false, errUnsure
	}
	return true, nil
}

// finish ends with a message that is in the mailbox, or never will be, and has
// the holders delete it. One that came straight from its sender is with no
// holder, as far as we know; should it be, they will name it.
func (a *account) finish(id sealed.ID, arr arrival, delete bool) {
	a.incoming.done(id)
	if delete {
		a.entomb(arr.outer)
	}
}

func (a *account) openReceipt(ctx context.Context, o *open, in *sealed.Inner) error {
	if err := a.trust(ctx, o, in); err != nil {
		var no refusal
		if errors.As(err, &no) {
			return nil
		}
		return err
	}
	r, err := sealed.ParseReceipt(in.Body)
	if err != nil {
		a.log.Info("a receipt cannot be read", "err", err)
		return nil
	}
	return a.courier.Receive(ctx, in.From, r.Items)
}

// refusal is why a message is not filed; its sender is told.
type refusal string

func (r refusal) Error() string { return string(r) }

func (a *account) openMail(ctx context.Context, o *open, in *sealed.Inner, outer sealed.Outer, late bool) error {
	settled, before, err := o.box.Settled(ctx, in.From, in.MessageID)
	if err != nil {
		return err
	}
	if before { // its receipt may have been lost
		o.receipts.again(in, outer, settled)
		return nil
	}
	text, err := a.check(ctx, o, in)
	in.Body = nil           // the largest thing in memory, and text is another
	if late && err == nil { // by our clock: a sender whose clock is behind must not take it for delivered
		err = refusal("it came after it had expired")
	}
	var no refusal
	if errors.As(err, &no) {
		if err := o.box.Refuse(ctx, in.From, in.MessageID, string(no), in.Expiry); err != nil {
			return err
		}
		o.receipts.refused(in, outer, string(no))
		return nil
	}
	if err != nil {
		return err
	}
	_, _, err = o.box.File(ctx, mailbox.Delivery{
		Role: mail.Inbox, Message: text, Internal: time.Now(),
		Sender: in.From, MessageID: in.MessageID, Expiry: in.Expiry,
	})
	if err != nil {
		return fmt.Errorf("file a message: %w", err)
	}
	o.receipts.delivered(in)
	return nil
}

// check decides whether a message is what it says, and gives it the heading
// under which it is filed.
func (a *account) check(ctx context.Context, o *open, in *sealed.Inner) ([]byte, error) {
	if err := a.trust(ctx, o, in); err != nil {
		return nil, err
	}
	text, err := mime.Normalise(in.Body)
	if err != nil {
		return nil, refusal("the message holds a NUL byte")
	}
	if len(text) > sealed.MaxMessage { // with the line ends that it lacked
		return nil, refusal("the message is too large")
	}
	from, err := mime.CheckFrom(text)
	if err != nil {
		return nil, refusal(err.Error())
	}
	for _, f := range from {
		author, err := identity.ParseAddress(f.Mailbox + "@" + f.Host)
		if err != nil || author.Root != in.From {
			return nil, refusal("the From or Sender field names somebody who did not sign the message")
		}
	}
	sender := identity.Address{Local: strings.ToLower(from[0].Mailbox), Root: in.From}
	recipient := identity.Address{Local: in.Recipient, Root: a.address.Root}
	return mime.Rewrite(text, func(header []byte) []byte {
		header = mime.Remove(header, "Return-Path", "Delivered-To", "Authentication-Results", "Bcc", "X-Peerpost-*")
		return mime.Prepend(header,
			mime.Field{Name: "Return-Path", Value: "<" + sender.String() + ">"},
			mime.Field{Name: "Delivered-To", Value: recipient.String()},
			mime.Field{Name: "Authentication-Results", Value: a.address.Domain() + "; peerpost=pass header.from=" + sender.Domain()},
		)
	}), nil
}

// trust holds the sender of a message against what is known of that person,
// and learns from it.
func (a *account) trust(ctx context.Context, o *open, in *sealed.Inner) error {
	roster, err := in.SenderRoster()
	if err != nil {
		return refusal("the roster cannot be read")
	}
	if r, err := in.Record(); err == nil && r != nil {
		if r.Root() == in.From && r.Valid(time.Now()) == nil {
			if err := a.pin(ctx, o, in.From, in.SenderRecord); err != nil && !pinRefused(err) {
				return err
			}
		}
	}
	known, err := o.record(ctx, in.From)
	if err != nil {
		return err
	}
	if known == nil || roster.Generation >= known.Roster.Generation {
		return nil
	}
	if !known.Roster.Allows(in.Device, time.Unix(in.Time, 0)) {
		return refusal("the sending device has been replaced by its owner")
	}
	return nil
}
