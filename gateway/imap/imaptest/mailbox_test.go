package imaptest

import (
	"testing"

	"github.com/peerpost/peerpost/gateway/imap"
)

func TestTwin(t *testing.T) {
	TestMailbox(t, func(*testing.T) imap.Mailbox { return New() })
}
