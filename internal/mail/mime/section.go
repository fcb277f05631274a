package mime

import "github.com/peerpost/peerpost/internal/mail"

// Specifier is the last word of an IMAP section (RFC 9051, 6.4.5.1).
type Specifier uint8

// The specifiers. HEADER.FIELDS and HEADER.FIELDS.NOT are Header, filtered by SelectFields.
const (
	Whole   Specifier = iota // BODY[], BODY[1.2]
	Header                   // BODY[HEADER], BODY[3.HEADER]
	Content                  // BODY[TEXT], BODY[3.TEXT]
	MIME                     // BODY[1.2.MIME]
)

// Range is the bytes of a message from Start up to, not including, End.
type Range struct {
	Start, End int64
}

// Len is the number of bytes in the range.
func (r Range) Len() int64 { return r.End - r.Start }

// Find returns the part at an IMAP part number, nil when there is none. An
// empty path is the message itself. A message that is not multipart has one
// part, number 1, which is its text; so has a message within a message.
func Find(root *mail.Part, path []int) *mail.Part {
	p, message := root, true // message: p stands for a whole message, not for a part of one
	for _, n := range path {
		if p == nil || n < 1 {
			return nil
		}
		if !message {
			if p.Inner != nil {
				p, message = p.Inner, true
			} else if !p.IsMultipart() {
				return nil
			}
		}
		switch {
		case p == nil:
			return nil
		case p.IsMultipart():
			if n > len(p.Children) {
				return nil
			}
			p = p.Children[n-1]
		case n != 1:
			return nil
		}
		message = false
	}
	return p
}

// Section returns the bytes that an IMAP section names, false when the message
// has no such section.
func Section(root *mail.Part, path []int, s Specifier) (Range, bool) {
	p := Find(root, path)
	if p == nil {
		return Range{}, false
	}
	if len(path) == 0 {
		switch s {
		case Whole:
			return Range{p.Header, p.End}, true
		case Header:
			return Range{p.Header, p.Body}, true
		case Content:
			return Range{p.Body, p.End}, true
		}
		return Range{}, false
	}
	switch s {
	case Whole:
		return Range{p.Body, p.End}, true
	case MIME:
		return Range{p.Header, p.Body}, true
	}
	if p.Inner == nil {
		return Range{}, false
	}
	if s == Header {
		return Range{p.Inner.Header, p.Inner.Body}, true
	}
	return Range{p.Inner.Body, p.Inner.End}, true
}
