package imap

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
)

// maxDepth bounds the recursion over parts. The index is not as deep.
const maxDepth = 2 * mime.MaxDepth

// envelope says what the library is to write for ENVELOPE. It encodes 8-bit
// texts itself, writes From for an empty Sender and Reply-To, and a date in a
// form of its own: see envelopeDate.
func envelope(e *mail.Envelope) *imap.Envelope {
	if e == nil {
		return &imap.Envelope{}
	}
	w := &imap.Envelope{
		Date:      e.Date,
		Subject:   e.Subject,
		From:      addresses(e.From),
		Sender:    addresses(e.Sender),
		ReplyTo:   addresses(e.ReplyTo),
		To:        addresses(e.To),
		Cc:        addresses(e.Cc),
		Bcc:       addresses(e.Bcc),
		MessageID: e.MessageID,
	}
	if e.InReplyTo != "" {
		w.InReplyTo = mime.MessageIDs(e.InReplyTo)
	}
	return w
}

// envelopeDate says how an ENVELOPE begins in the library's writing, and how it
// should: with the text of the Date field (RFC 3501, 7.4.2). What is no date
// gets one in e, for there must be something to be replaced.
func envelopeDate(e *imap.Envelope, text string) (from, to string) {
	const (
		opening = "ENVELOPE ("
		layout  = "Mon, 02 Jan 2006 15:04:05 -0700"
	)
	if text == "" {
		return "", "" // there is no such field, and NIL is right
	}
	if e.Date.IsZero() {
		e.Date = time.Unix(0, 0).UTC()
	}
	return opening + quote(e.Date.Format(layout)), opening + quote(text)
}

// quote writes a string for the wire.
func quote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		s = strings.ReplaceAll(s, "\x00", "")
		return fmt.Sprintf("{%d}\r\n%s", len(s), s)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func addresses(list []mail.Address) []imap.Address {
	if len(list) == 0 {
		return nil
	}
	out := make([]imap.Address, len(list))
	for i, a := range list {
		out[i] = imap.Address(a)
	}
	return out
}

// emptyText stands for a part that must be there by the grammar and is not.
var emptyText = &mail.Part{Type: "text", Subtype: "plain", Encoding: "7bit"}

// describer says what the library is to write for BODY and BODYSTRUCTURE. The
// zero value can be used; one for many messages spares memory.
type describer struct {
	charsets map[string]map[string]string // parameter lists that are nothing but a charset
}

// maxCharsets bounds describer.charsets.
const maxCharsets = 64

// leaf is a part with all that may hang on it, in one piece of memory.
type leaf struct {
	imap.BodyStructureSinglePart
	extended imap.BodyStructureSinglePartExt
	text     imap.BodyStructureText
	message  imap.BodyStructureMessageRFC822
}

// branch is the same for a multipart.
type branch struct {
	imap.BodyStructureMultiPart
	extended imap.BodyStructureMultiPartExt
}

// structure describes a message. All parts get their extended data: the
// library panics without it.
func (d *describer) structure(p *mail.Part) imap.BodyStructure {
	if p == nil {
		p = emptyText
	}
	return d.part(p, 0)
}

func (d *describer) part(p *mail.Part, depth int) imap.BodyStructure {
	if p.IsMultipart() && depth < maxDepth {
		w := &branch{
			BodyStructureMultiPart: imap.BodyStructureMultiPart{Subtype: p.Subtype},
			extended: imap.BodyStructureMultiPartExt{
				Params:      d.params(p.Params),
				Disposition: d.disposition(p),
				Language:    p.Language,
				Location:    p.Location,
			},
		}
		w.Extended = &w.extended
		w.Children = make([]imap.BodyStructure, 0, max(1, len(p.Children)))
		for _, c := range p.Children {
			w.Children = append(w.Children, d.part(c, depth+1))
		}
		if len(w.Children) == 0 { // the library panics over none
			w.Children = append(w.Children, d.part(emptyText, depth+1))
		}
		return &w.BodyStructureMultiPart
	}
	w := &leaf{
		BodyStructureSinglePart: imap.BodyStructureSinglePart{
			Type:        p.Type,
			Subtype:     p.Subtype,
			Params:      d.params(p.Params),
			ID:          p.ID,
			Description: p.Description,
			Encoding:    p.Encoding,
			Size:        uint32(min(max(p.End-p.Body, 0), math.MaxUint32)),
		},
		extended: imap.BodyStructureSinglePartExt{
			Disposition: d.disposition(p),
			Language:    p.Language,
			Location:    p.Location,
		},
	}
	w.Extended = &w.extended
	message := p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
	switch {
	case depth >= maxDepth, p.IsMultipart(), message && p.Inner == nil:
		// The grammar wants more of these than is known.
		w.Type, w.Subtype = "application", "octet-stream"
	case message:
		w.message = imap.BodyStructureMessageRFC822{
			Envelope:      envelope(p.Envelope),
			BodyStructure: d.part(p.Inner, depth+1),
			NumLines:      p.Lines,
		}
		w.MessageRFC822 = &w.message
	case p.Type == "text":
		w.text.NumLines = p.Lines
		w.Text = &w.text
	}
	return &w.BodyStructureSinglePart
}

// params makes the map that the library wants. Of equal names the first counts.
func (d *describer) params(list []mail.Param) map[string]string {
	switch {
	case len(list) == 0:
		return nil
	case len(list) == 1 && list[0].Name == "charset":
		m, ok := d.charsets[list[0].Value]
		if ok {
			return m
		}
		m = map[string]string{"charset": list[0].Value}
		if d.charsets == nil {
			d.charsets = make(map[string]map[string]string)
		}
		if len(d.charsets) < maxCharsets {
			d.charsets[list[0].Value] = m
		}
		return m
	}
	m := make(map[string]string, len(list))
	for _, p := range list {
		k := strings.ToLower(p.Name)
		if _, ok := m[k]; !ok {
			m[k] = p.Value
		}
	}
	return m
}

func (d *describer) disposition(p *mail.Part) *imap.BodyStructureDisposition {
	if p.Disposition == "" {
		return nil
	}
	return &imap.BodyStructureDisposition{Value: p.Disposition, Params: d.params(p.DispositionParams)}
}
