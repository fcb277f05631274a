package mail

// Submission is the envelope of a submitted message (RFC 6409, RFC 3461).
type Submission struct {
	From        string // return path
	Recipients  []Recipient
	EnvelopeID  string // ENVID, decoded
	HeadersOnly bool   // RET=HDRS: a DSN gives back the header, not the message
	UTF8        bool   // SMTPUTF8 was asked for
}

// Recipient is one RCPT TO and what its sender wants to hear about it.
type Recipient struct {
	Address  string
	Original string // ORCPT, decoded, with its type ("rfc822;a@b"); empty when not given
	Notify   Notify
}

// Notify says which DSNs are wanted (RFC 3461, 4.1). The zero value is the default: failure and delay.
type Notify uint8

// The bits of Notify.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Wants reports whether a DSN of the kind is to be made.
func (n Notify) Wants(kind Notify) bool {
	if n == 0 {
		return kind == NotifyFailure || kind == NotifyDelay
	}
	return n&NotifyNever == 0 && n&kind != 0
}
