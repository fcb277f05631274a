// Package dsn writes delivery status notifications (RFC 3464): what the owner
// of a mailbox is told about mail that is late, failed or arrived.
package dsn

import "time"

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
	Original       string    // ORCPT with its type ("rfc822;a@b"); empty when not given
	Action         Action    // empty: the one that fits the Kind
	Status         string    // enhanced status code, "5.4.7"
	Diagnostic     string    // one line for the technically minded; empty when there is none
	Remedy         string    // a sentence on what the sender can do; empty when there is none
	Remote         string    // name of the node that answered; empty when none did
	LastAttempt    time.Time // zero when there was none
	WillRetryUntil time.Time // of a delay; zero when not known
}

// Report is everything a notification says.
type Report struct {
	Kind         Kind
	From         string // header form, "Mail Delivery <postmaster@…>"
	To           string // the return path of the original, an address
	ReportingMTA string // host name of the node
	EnvelopeID   string // ENVID, decoded; empty when not given
	ArrivalDate  time.Time
	Recipients   []Recipient
	Original     []byte    // the message, or its header only
	HeadersOnly  bool      // give back the header, not the message (RET=HDRS)
	Now          time.Time // date of the notification
	MessageID    string    // of the notification, in angle brackets; empty: a random one
	Boundary     string    // of the multipart; empty: a random one
}

// Compose writes the notification as an RFC 5322 message with CRLF line ends.
func Compose(r Report) []byte { panic("soon") }
