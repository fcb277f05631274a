package node

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/mailbox"
)

// receiptDelay gathers receipts to one sender, so that a burst of mail is
// answered by a few messages; it is well below the two seconds after which the
// sender makes copies.
const receiptDelay = 100 * time.Millisecond

// receipts gathers what senders are told about their messages.
type receipts struct {
	account *account
	wake    chan struct{}

	mu  sync.Mutex
	due map[identity.Root][]due
}

// due is what a sender is to be told.
type due struct {
	sealed.ReceiptItem
	safe func() // of a refusal: called when it cannot be lost any more
}

func newReceipts(a *account) *receipts {
	return &receipts{account: a, wake: make(chan struct{}, 1), due: make(map[identity.Root][]due)}
}

// delivered notes the receipt of a message that was filed.
func (r *receipts) delivered(in *sealed.Inner) {
	r.add(in.From, due{ReceiptItem: sealed.ReceiptItem{
		MessageID: in.MessageID, Status: sealed.StatusDelivered, Time: time.Now().Unix(),
	}})
}

// refused notes the receipt of a message that was not. Until it is on a disk the
// holders are not told to delete the message: a sender who saw the tombstone and
// no refusal would take it for delivered.
func (r *receipts) refused(in *sealed.Inner, outer sealed.Outer, reason string) {
	r.account.withhold(outer)
	r.add(in.From, due{
		ReceiptItem: sealed.ReceiptItem{
			MessageID: in.MessageID, Status: sealed.StatusRefused, Reason: reason, Time: time.Now().Unix(),
		},
		safe: func() { r.account.release(outer) },
	})
}

func (r *receipts) add(to identity.Root, d due) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due[to] = append(r.due[to], d)
	wakeUp(r.wake)
}

// again repeats the receipt of a message that came twice.
func (r *receipts) again(in *sealed.Inner, outer sealed.Outer, v mailbox.Verdict) {
	if v.Delivered {
		r.delivered(in)
	} else {
		r.refused(in, outer, v.Reason)
	}
}

// run sends what is gathered until ctx ends.
func (r *receipts) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			r.flush() // the courier may still get them out, else they are asked for again
			return
		case <-r.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(receiptDelay):
		}
		r.flush()
	}
}

func (r *receipts) flush() {
	r.mu.Lock()
	all := r.due
	r.due = make(map[identity.Root][]due)
	r.mu.Unlock()
	for to, list := range all {
		for part := range slices.Chunk(list, sealed.MaxReceiptItems) {
			var items []sealed.ReceiptItem
			var safe []func()
			for _, d := range part {
				items = append(items, d.ReceiptItem)
				if d.safe != nil {
					safe = append(safe, d.safe)
				}
			}
			body, err := (&sealed.Receipt{Items: items}).Marshal()
			if err != nil {
				r.account.log.Error("a receipt could not be written", "err", err)
				continue
			}
			var id [16]byte
			rand.Read(id[:])
			if len(safe) == 0 {
				r.account.courier.SendReceipt(id, to, body)
				continue
			}
			r.account.courier.SendRefusal(id, to, body, func() {
				for _, f := range safe {
					f()
				}
			})
		}
	}
}
