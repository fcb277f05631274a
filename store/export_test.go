package store

import (
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
)

// Has tells whether a holder keeps a message.
func (h *Holder) Has(inbox identity.Inbox, id sealed.ID) bool {
	_, ok := h.spool.size(inbox, id)
	return ok
}
