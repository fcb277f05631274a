package sealed

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/wire"
)

const (
	// MaxReceipt is the size of an encoded receipt in bytes; one with all its items and long reasons has 120 KB.
	MaxReceipt = 128 << 10
	// MaxReceiptItems is how many messages one receipt may speak of.
	MaxReceiptItems = 500
	// MaxReason is the length of a reason in bytes.
	MaxReason = 200
)

// Status is what became of a message at its recipient.
type Status uint8

// The states that a receipt tells.
const (
	StatusDelivered Status = 1 // opened, and on disk in the mailbox
	StatusRefused   Status = 2 // opened, but not taken; the reason says why
	StatusDisplayed Status = 3 // shown, and the recipient agreed to tell
)

// Receipt is the body of a KindReceipt message: a person's device tells a sender what became of their messages. It
// is itself never receipted.
type Receipt struct {
	Items []ReceiptItem `cbor:"1,keyasint"`
}

// ReceiptItem tells about one message.
type ReceiptItem struct {
	_         struct{} `cbor:",toarray"`
	MessageID [16]byte
	Status    Status
	Reason    string // printable text, for StatusRefused only
	Time      int64  // Unix seconds
}

// Marshal encodes the receipt. It fails when the receipt exceeds the limits.
func (r *Receipt) Marshal() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return wire.Marshal(r)
}

// ParseReceipt reads a receipt and checks its limits.
func ParseReceipt(b []byte) (*Receipt, error) {
	if len(b) > MaxReceipt {
		return nil, fmt.Errorf("receipt has %d bytes, limit %d", len(b), MaxReceipt)
	}
	var r Receipt
	if err := wire.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &r, nil
}

func (r *Receipt) check() error {
	if len(r.Items) == 0 || len(r.Items) > MaxReceiptItems {
		return fmt.Errorf("receipt has %d items, and 1 to %d are allowed", len(r.Items), MaxReceiptItems)
	}
	for _, i := range r.Items {
		if !identity.ValidTime(i.Time) {
			return errors.New("receipt: an item is dated beyond all time")
		}
		if i.Status < StatusDelivered || i.Status > StatusDisplayed {
			return fmt.Errorf("receipt: status %d is not known", i.Status)
		}
		if i.Status != StatusRefused && i.Reason != "" || len(i.Reason) > MaxReason || !printable(i.Reason) {
			return fmt.Errorf("receipt: a reason is not printable text of at most %d bytes, or out of place", MaxReason)
		}
	}
	return nil
}

// printable keeps line ends and terminal controls of strangers out of our own bounces and logs.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
