package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/peerpost/peerpost/internal/wire"
)

// MaxStorageReceipt is the size of a signed storage receipt in bytes; one has about 160.
const MaxStorageReceipt = 256

// StorageReceipt is a host's word that it has a sealed message on its disk and means to keep it until the end of the
// expiry day. It says nothing about the recipient.
type StorageReceipt struct {
	ID     [32]byte `cbor:"1,keyasint"` // of the sealed message
	Inbox  Inbox    `cbor:"2,keyasint"`
	Expiry Day      `cbor:"3,keyasint"`
	Time   int64    `cbor:"4,keyasint"` // Unix seconds
}

// SignStorageReceipt signs a receipt with the host's key.
func SignStorageReceipt(h *HostKey, r StorageReceipt) []byte {
	return Sign(ContextStorageReceipt, h.private, encode(r))
}

// ParseStorageReceipt reads a receipt and checks that the host with this public key has signed it. Whether it names
// the message that was sent is the caller's to compare.
func ParseStorageReceipt(b []byte, host ed25519.PublicKey) (StorageReceipt, error) {
	if len(b) > MaxStorageReceipt {
		return StorageReceipt{}, fmt.Errorf("storage receipt has %d bytes, limit %d", len(b), MaxStorageReceipt)
	}
	if len(host) != ed25519.PublicKeySize {
		return StorageReceipt{}, errors.New("storage receipt: the host has no Ed25519 key")
	}
	payload, err := Verify(ContextStorageReceipt, Public(host), b)
	if err != nil {
		return StorageReceipt{}, fmt.Errorf("storage receipt: %w", err)
	}
	var r StorageReceipt
	if err := wire.Unmarshal(payload, &r); err != nil {
		return StorageReceipt{}, fmt.Errorf("storage receipt: %w", err)
	}
	if !ValidTime(r.Time) {
		return StorageReceipt{}, errors.New("storage receipt: it is dated beyond all time")
	}
	return r, nil
}
