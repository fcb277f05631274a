package mime

import (
	"strings"
	"unicode/utf8"

	"github.com/peerpost/peerpost/internal/mail"
)

// maxType is the length in bytes of the longest type or subtype (RFC 6838, 4.2), and of an encoding's name.
const maxType = 127

// maxLanguages is how many tags of a Content-Language are kept.
const maxLanguages = 16

// budget is what may still be kept of the strings and addresses of a message.
type budget struct {
	text      int
	addresses int
}

// keep returns s, cut to max bytes, or nothing when the budget is used up.
func (b *budget) keep(s string, max int) string {
	s = cut(s, max)
	if len(s) > b.text {
		b.text = 0
		return ""
	}
	b.text -= len(s)
	return s
}

// cut shortens s to at most max bytes, not within a rune.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for i := max; i > max-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:max]
}

// header is the fields of one header that an index is made of; of those that
// can be there once only, the first.
type header struct {
	fields int

	date, subject, from, sender, replyTo, inReplyTo, messageID []byte
	to, cc, bcc                                                [][]byte

	contentType, encoding, id, description, disposition, language, location, md5 []byte
}

func readHeader(b []byte) header {
	var h header
	var lower [32]byte
	for f := range rawFields(b) {
		if f.name == nil {
			continue
		}
		if h.fields++; h.fields > MaxFields {
			break
		}
		if len(f.name) > len(lower) {
			continue
		}
		for i, c := range f.name {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			lower[i] = c
		}
		var to *[]byte
		switch string(lower[:len(f.name)]) {
		case "date":
			to = &h.date
		case "subject":
			to = &h.subject
		case "from":
			to = &h.from
		case "sender":
			to = &h.sender
		case "reply-to":
			to = &h.replyTo
		case "in-reply-to":
			to = &h.inReplyTo
		case "message-id":
			to = &h.messageID
		case "to":
			h.to = append(h.to, f.value)
		case "cc":
			h.cc = append(h.cc, f.value)
		case "bcc":
			h.bcc = append(h.bcc, f.value)
		case "content-type":
			to = &h.contentType
		case "content-transfer-encoding":
			to = &h.encoding
		case "content-id":
			to = &h.id
		case "content-description":
			to = &h.description
		case "content-disposition":
			to = &h.disposition
		case "content-language":
			to = &h.language
		case "content-location":
			to = &h.location
		case "content-md5":
			to = &h.md5
		}
		if to != nil && *to == nil {
			*to = f.value
		}
	}
	return h
}

// envelope reads the heading.
func (h *header) envelope(b *budget) *mail.Envelope {
	e := &mail.Envelope{
		RawDate:   b.keep(unfold(h.date), MaxValue),
		Subject:   b.keep(unfold(h.subject), MaxText),
		InReplyTo: b.keep(unfold(h.inReplyTo), MaxText),
		MessageID: b.keep(bareID(unfold(h.messageID)), MaxValue),
	}
	e.Date, _ = ParseDate(e.RawDate)
	e.From = b.list(h.from)
	if e.Sender = b.list(h.sender); e.Sender == nil {
		e.Sender = e.From
	}
	if e.ReplyTo = b.list(h.replyTo); e.ReplyTo == nil {
		e.ReplyTo = e.From
	}
	e.To = b.list(h.to...)
	e.Cc = b.list(h.cc...)
	e.Bcc = b.list(h.bcc...)
	return e
}

// list reads the addresses of a field, or of all fields of a name.
func (b *budget) list(values ...[]byte) []mail.Address {
	var all []mail.Address
	for _, v := range values {
		if v == nil || b.addresses == 0 {
			continue
		}
		list := parseAddresses(unfold(v), b.addresses)
		b.addresses -= len(list)
		for i := range list {
			a := &list[i]
			n := len(a.Name) + len(a.Mailbox) + len(a.Host)
			if n > b.text {
				// An address that is not kept whole is not kept: half of one is another's.
				list = closeGroup(list[:i])
				b.text, b.addresses = 0, 0
				break
			}
			b.text -= n
		}
		if all == nil {
			all = list
		} else {
			all = append(all, list...)
		}
	}
	return all
}

// describe fills in what the header says of its part and returns the boundary of a multipart.
func (h *header) describe(p *mail.Part, inDigest bool, b *budget) (boundary string) {
	p.Encoding = "7bit"
	if e := token(lower(unfold(h.encoding))); e != "" && len(e) <= maxType {
		p.Encoding = e
	}
	p.ID = b.keep(unfold(h.id), MaxValue)
	p.Description = b.keep(unfold(h.description), MaxText)
	p.Location = b.keep(unfold(h.location), MaxValue)
	p.MD5 = b.keep(unfold(h.md5), MaxValue)
	if h.language != nil {
		for tag := range strings.SplitSeq(unfold(h.language), ",") {
			if tag = b.keep(token(strings.TrimSpace(tag)), maxType); tag != "" && len(p.Language) < maxLanguages {
				p.Language = append(p.Language, tag)
			}
		}
	}
	if h.disposition != nil {
		value, params := splitParams(unfold(h.disposition))
		if value = lower(token(value)); value != "" && len(value) <= maxType {
			p.Disposition = value
			p.DispositionParams = b.params(params)
		}
	}

	if h.contentType == nil {
		if inDigest {
			p.Type, p.Subtype = "message", "rfc822"
			return ""
		}
		makePlain(p)
		return ""
	}
	value, params := splitParams(unfold(h.contentType))
	var ok bool
	p.Type, p.Subtype, ok = splitType(value)
	p.Params = b.params(params)
	if !ok {
		if p.Encoding == "base64" {
			makeOpaque(p)
		} else {
			makePlain(p)
		}
		return ""
	}
	if !p.IsMultipart() {
		return ""
	}
	// The boundary is needed even when the budget kept no parameters.
	for _, param := range params {
		if param.Name == "boundary" {
			return strings.TrimRight(param.Value, " \t")
		}
	}
	return ""
}

// params keeps the parameters that the budget allows.
func (b *budget) params(list []mail.Param) []mail.Param {
	const overhead = 16 // bytes, so that many short ones cost something
	for i, p := range list {
		n := len(p.Name) + len(p.Value) + overhead
		if n > b.text {
			b.text = 0
			list = list[:i:i]
			break
		}
		b.text -= n
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

func splitType(s string) (typ, subtype string, ok bool) {
	typ, subtype, ok = strings.Cut(lower(s), "/")
	typ, subtype = strings.TrimSpace(typ), strings.TrimSpace(subtype)
	if !ok || typ == "" || subtype == "" || len(typ) > maxType || len(subtype) > maxType || token(typ) != typ || token(subtype) != subtype {
		return "", "", false
	}
	return typ, subtype, true
}

// token returns the token (RFC 2045, 5.1) at the beginning of s.
func token(s string) string {
	for i := range len(s) {
		if !isToken(s[i]) {
			return s[:i]
		}
	}
	return s
}

func isToken(c byte) bool {
	return c > 32 && c < 127 && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// lower is strings.ToLower for ASCII; other bytes stay as they are.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
