package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// Inbox is what the mail for one key set waits under. It commits to the keys that fetch and delete: whoever signs with
// one of them names both, so nobody can have another delete key for the same inbox. Until then it says nothing of
// either.
type Inbox [32]byte

// InboxOf is SHA-256("peerpost inbox" ‖ fetch ‖ delete).
func InboxOf(fetch, delete Public) Inbox {
	return sha256.Sum256(slices.Concat([]byte("peerpost inbox"), fetch[:], delete[:]))
}

// String is the name in hexadecimal.
func (i Inbox) String() string { return hex.EncodeToString(i[:]) }
