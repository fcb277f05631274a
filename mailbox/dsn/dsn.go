// Package dsn writes delivery status notifications: what the owner of a mailbox
// is told about mail that is late, failed or arrived.
//
// A notification is a multipart/report (RFC 3464, RFC 6533) of three parts:
//
//	text/plain               what happened and what the sender can do, in plain words
//	message/delivery-status  the same for programs; message/global-delivery-status
//	                         when an address is not ASCII
//	message/rfc822           the message it is about, or text/rfc822-headers: its header only;
//	                         message/global and message/global-headers when that is not ASCII
//
// It is filed in the mailbox of the sender, never sent, and never answered: it
// has a null return path and says that it is automatic (RFC 3834).
package dsn

import "time"

// MaxOriginal is the size in bytes of the largest message that a notification
// gives back whole, and of the most it gives back of a header.
const MaxOriginal = 64 << 10

// Kind is what a notification is about as a whole.
type Kind uint8

// The kinds.
const (
	Failure Kind = iota + 1
	Delay
	Success
)

// Action is what became of the message for one recipient (RFC 3464, 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"
	Expanded  Action = "expanded"
)

// Recipient is the fate of the message for one recipient.
type Recipient struct {
	Address        string    // final recipient, an address
	Original       string    // ORCPT, decoded, with its type ("rfc822;a@b"); empty when not given
	Action         Action    // empty: the one that fits the Kind
	Status         string    // enhanced status code, "5.4.7"; empty: the general one of the Action
	Diagnostic     string    // one line for the technically minded; empty when there is none
	Remedy         string    // what the sender can do, a sentence; empty: what fits the Status
	Remote         string    // name or id of the node that answered; empty when none did
	LastAttempt    time.Time // zero when there was none
	WillRetryUntil time.Time // of a delay; zero when not known
}

// Report is everything a notification says.
type Report struct {
	Kind         Kind
	From         string // as in a header, "Mail Delivery <postmaster@…>"; empty: that, at ReportingMTA
	To           string // return path of the original, an address; when that is empty, nobody may be told
	ReportingMTA string // host name of the node
	EnvelopeID   string // ENVID, decoded; empty when not given
	ArrivalDate  time.Time
	Recipients   []Recipient
	Original     []byte    // the message, or its header only; nil when it is gone
	HeadersOnly  bool      // give back the header, not the message (RET=HDRS)
	Now          time.Time // date of the notification
	MessageID    string    // of the notification, in angle brackets; empty: a random one
	Boundary     string    // of the multipart; empty: a random one
}
