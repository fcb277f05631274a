package mailbox_test

import (
	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/mailbox"
)

// A mailbox is what the IMAP gateway asks for, without either knowing the other.
var _ imap.Mailbox = (*mailbox.Mailbox)(nil)
