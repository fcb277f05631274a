package submission

import (
	"context"
	"net"

	"github.com/peerpost/peerpost/internal/mail"
)

// Accounts knows who may log in.
type Accounts interface {
	// Login returns the outbox of a user. Its errors are mail.ErrCredentials,
	// mail.ErrThrottled or anything else (try later). The first login after a
	// start unlocks the account and may take a second. A Submitter that is
	// mail.Revocable may end the session.
	Login(ctx context.Context, user, password string, remote net.Addr) (Submitter, error)
}

// Submitter takes mail from one user. Errors that are a *mail.Error carry what
// the client is told; any other is answered as a temporary failure.
type Submitter interface {
	// CheckSender says whether the user may use this return path.
	CheckSender(ctx context.Context, address string) error
	// CheckRecipient says at RCPT time what can be known of a recipient: form
	// of the address, foreign domain, size (0 when not declared) above what the
	// recipient takes.
	CheckRecipient(ctx context.Context, address string, size int64) error
	// Submit takes responsibility for a message: when it returns nil, the
	// message is on disk in the outbox. The body is the RFC 5322 text with CRLF
	// line ends, as submitted; the Submitter completes and checks its header.
	Submit(ctx context.Context, s mail.Submission, body []byte) error
	// MaxMessage is the size in bytes of the largest message that Submit takes.
	MaxMessage() int64
}
