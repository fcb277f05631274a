package mime

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// What is wrong with a message that is to be sent, in words for its sender.
var (
	ErrNUL      = errors.New("the message contains a NUL byte, which mail cannot carry")
	ErrHeader   = errors.New("the header of the message is larger than 1 MiB or has more than 10,000 fields")
	ErrNoFrom   = errors.New("the message has no From field")
	ErrManyFrom = errors.New("the message has more than one From field")
	ErrBadFrom  = errors.New("the From field does not hold a complete address")
	ErrSender   = errors.New("a Sender field names one address, and there must be one where the From field names several authors")
)

// CheckHeader says whether a header is within the limits. Beyond them a part of
// it would count as body.
func CheckHeader(msg []byte) error {
	if header, body := Split(msg); len(header) == MaxHeader && len(body) > 0 {
		return ErrHeader
	}
	n := 0
	for range rawFields(msg) {
		if n++; n > MaxFields {
			return ErrHeader
		}
	}
	return nil
}

// CheckFrom returns the addresses of the authors of a message about to be sent,
// and after them that of its sender where the message names one: mail clients
// show it beside the authors (RFC 5322, 3.6.2). Its errors are ErrHeader,
// ErrNoFrom, ErrManyFrom, ErrBadFrom and ErrSender.
func CheckFrom(msg []byte) ([]mail.Address, error) {
	if err := CheckHeader(msg); err != nil {
		return nil, err
	}
	var from, sender []string
	for f := range rawFields(msg) {
		if f.is("From") {
			from = append(from, unfold(f.value))
		} else if f.is("Sender") {
			sender = append(sender, unfold(f.value))
		}
	}
	switch {
	case len(from) == 0:
		return nil, ErrNoFrom
	case len(from) > 1:
		return nil, ErrManyFrom
	}
	var authors []mail.Address
	for _, a := range ParseAddresses(from[0]) {
		if a.Host == "" {
			continue // the mark of a group (RFC 6854)
		}
		if !IsComplete(a) {
			return nil, ErrBadFrom
		}
		authors = append(authors, a)
	}
	if len(authors) == 0 {
		return nil, ErrBadFrom
	}
	if len(sender) > 1 || len(sender) == 0 && len(authors) > 1 {
		return nil, ErrSender
	}
	if len(sender) == 1 {
		s := ParseAddresses(sender[0])
		if len(s) != 1 || !IsComplete(s[0]) {
			return nil, ErrSender
		}
		authors = append(authors, s[0])
	}
	return authors, nil
}

// Complete returns the message with Date and Message-ID put before its header
// where they are missing or empty (RFC 6409, 8.2 and 8.3). host is the right
// side of the new id.
func Complete(msg []byte, now time.Time, host string) []byte {
	var date, id bool
	for f := range rawFields(msg) {
		switch {
		case f.is("Date"):
			date = date || unfold(f.value) != ""
		case f.is("Message-ID"):
			id = id || unfold(f.value) != ""
		}
	}
	var add []Field
	var empty []string
	if !date {
		add = append(add, Field{"Date", FormatDate(now)})
		empty = append(empty, "Date")
	}
	if !id {
		add = append(add, Field{"Message-ID", NewMessageID(host)})
		empty = append(empty, "Message-ID")
	}
	if len(add) == 0 {
		return msg
	}
	return Prepend(Remove(msg, empty...), add...)
}

// NewMessageID returns a new random id, in angle brackets.
func NewMessageID(host string) string {
	return "<" + lower(rand.Text()) + "@" + host + ">"
}

// MessageIDs returns the ids of a References or In-Reply-To field, without
// their brackets, at most MaxAddresses of them.
func MessageIDs(value string) []string {
	var ids []string
	for len(ids) < MaxAddresses {
		_, rest, ok := strings.Cut(value, "<")
		if !ok {
			break
		}
		id, rest, ok := strings.Cut(rest, ">")
		if !ok {
			break
		}
		if id = strings.TrimSpace(id); id != "" && len(id) <= MaxValue {
			ids = append(ids, id)
		}
		value = rest
	}
	return ids
}

// bareID is the id of a Message-ID field without its brackets, or what there is instead.
func bareID(s string) string {
	if i := strings.IndexByte(s, '<'); i >= 0 {
		if n := strings.IndexByte(s[i:], '>'); n > 0 {
			return strings.TrimSpace(s[i+1 : i+n])
		}
	}
	return s
}

// Normalise returns the message with every bare CR and every bare LF made a
// CRLF; msg itself when there are none. Its only error is ErrNUL.
func Normalise(msg []byte) ([]byte, error) {
	if bytes.IndexByte(msg, 0) >= 0 {
		return nil, ErrNUL
	}
	pairs := bytes.Count(msg, []byte("\r\n"))
	bare := bytes.Count(msg, []byte("\n")) + bytes.Count(msg, []byte("\r")) - 2*pairs
	if bare == 0 {
		return msg, nil
	}
	out := make([]byte, 0, len(msg)+bare)
	for i := 0; i < len(msg); i++ {
		switch c := msg[i]; c {
		case '\r', '\n':
			out = append(out, '\r', '\n')
			if c == '\r' && i+1 < len(msg) && msg[i+1] == '\n' {
				i++
			}
		default:
			out = append(out, c)
		}
	}
	return out, nil
}
