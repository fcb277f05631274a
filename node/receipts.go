package node

import (
	"context"
	"crypto/rand"
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
	due map[identity.Root][]sealed.ReceiptItem
}

func newReceipts(a *account) *receipts {
	return &receipts{account: a, wake: make(chan struct{}, 1), due: make(map[identity.Root][]sealed.ReceiptItem)}
}

// add notes a receipt for a message.
func (r *receipts) add(in *sealed.Inner, s sealed.Status, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due[in.From] = append(r.due[in.From], sealed.ReceiptItem{
		MessageID: in.MessageID, Status: s, Reason: reason, Time: time.Now().Unix(),
	})
	wakeUp(r.wake)
}

// again repeats the receipt of a message that came twice.
func (r *receipts) again(in *sealed.Inner, v mailbox.Verdict) {
	if !v.Delivered {
		r.add(in, sealed.StatusRefused, v.Reason)
		return
	}
	r.add(in, sealed.StatusDelivered, "")
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
	due := r.due
	r.due = make(map[identity.Root][]sealed.ReceiptItem)
	r.mu.Unlock()
	for to, items := range due {
		for len(items) > 0 {
			n := min(len(items), sealed.MaxReceiptItems)
			body, err := (&sealed.Receipt{Items: items[:n]}).Marshal()
			items = items[n:]
			if err != nil {
				r.account.log.Error("a receipt could not be written", "err", err)
				continue
			}
			var id [16]byte
			rand.Read(id[:])
			r.account.courier.SendReceipt(id, to, body)
		}
	}
}
