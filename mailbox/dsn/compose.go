package dsn

import (
	"bytes"
	"crypto/rand"
	stdmime "mime"
	"strings"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
)

const (
	maxField      = 900 // bytes of one value or line of text from outside; with its name a line stays below 998
	maxSubject    = 200 // bytes of the subject that is repeated
	maxReferences = 20  // ids that are repeated
)

// Compose writes the notification as an RFC 5322 message with CRLF line ends.
// It is at most MaxOriginal bytes and some 10 KiB for each recipient.
func Compose(r Report) []byte {
	r.complete()
	original, originalType := returned(r.Original, r.HeadersOnly)
	text := explain(&r, original != nil, strings.HasSuffix(originalType, "headers"))
	status, statusType := deliveryStatus(&r)
	boundary := unused(r.Boundary, original)

	var body []byte
	part := func(contentType, description string, content []byte) {
		body = append(body, "--"+boundary+"\r\nContent-Type: "+contentType+"\r\nContent-Description: "+description+"\r\n"...)
		if !isASCII(content) {
			body = append(body, "Content-Transfer-Encoding: 8bit\r\n"...)
		}
		body = append(body, "\r\n"...)
		body = append(body, content...)
		body = append(body, "\r\n"...)
	}
	part("text/plain; charset=utf-8", "Notification", text)
	part(statusType, "Delivery report", status)
	if original != nil {
		part(originalType, "Your message", original)
	}
	body = append(body, "--"+boundary+"--\r\n"...)

	header := []mime.Field{
		{Name: "Return-Path", Value: "<>"},
		{Name: "Date", Value: mime.FormatDate(r.Now)},
		{Name: "From", Value: r.From},
		{Name: "To", Value: "<" + r.To + ">"},
		{Name: "Subject", Value: subject(&r)},
		{Name: "Message-ID", Value: r.MessageID},
	}
	header = append(header, thread(r.Original)...)
	header = append(header,
		mime.Field{Name: "Auto-Submitted", Value: "auto-replied"},
		mime.Field{Name: "MIME-Version", Value: "1.0"},
		mime.Field{Name: "Content-Type", Value: `multipart/report; report-type=delivery-status; boundary="` + boundary + `"`},
	)
	if !isASCII(body) {
		header = append(header, mime.Field{Name: "Content-Transfer-Encoding", Value: "8bit"})
	}
	out := make([]byte, 0, len(body)+2048)
	for _, f := range header {
		out = mime.AppendField(out, f)
	}
	out = append(out, "\r\n"...)
	return append(out, body...)
}

// complete fills in what the caller left out and takes line ends out of the rest.
func (r *Report) complete() {
	r.ReportingMTA = line(r.ReportingMTA)
	r.To = line(r.To)
	r.EnvelopeID = line(r.EnvelopeID)
	if r.Kind < Failure || r.Kind > Success {
		r.Kind = Failure
	}
	if r.From == "" {
		r.From = mime.FormatAddress(mail.Address{Name: "Mail Delivery", Mailbox: "postmaster", Host: r.ReportingMTA})
	}
	if r.MessageID == "" {
		r.MessageID = mime.NewMessageID(r.ReportingMTA)
	}
	if r.Boundary == "" {
		r.Boundary = "report-" + strings.ToLower(rand.Text())
	}
	recipients := make([]Recipient, len(r.Recipients)) // the caller's stay as they are
	for i, x := range r.Recipients {
		if x.Action == "" {
			x.Action = map[Kind]Action{Failure: Failed, Delay: Delayed, Success: Delivered}[r.Kind]
		}
		if !isStatus(x.Status, x.Action) {
			x.Status = string(classOf(x.Action)) + ".0.0"
		}
		x.Address, x.Original, x.Remote = line(x.Address), line(x.Original), line(x.Remote)
		x.Diagnostic, x.Remedy = line(x.Diagnostic), line(x.Remedy)
		recipients[i] = x
	}
	r.Recipients = recipients
}

// line makes one line of bounded length, in UTF-8, of a text from outside.
func line(s string) string {
	if len(s) > maxField {
		s = s[:maxField]
	}
	s = strings.ToValidUTF8(s, "")
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s))
}

// classOf is the first digit of the status that goes with an action.
func classOf(a Action) byte {
	switch a {
	case Failed:
		return '5'
	case Delayed:
		return '4'
	}
	return '2'
}

// isStatus says whether s is an enhanced status code (RFC 3463) that can go with the action.
func isStatus(s string, a Action) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 {
		return false
	}
	for _, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	// What was temporary for too long has failed with a 4.x.x, too (RFC 3464, 2.3.4).
	return s[0] == classOf(a) || a == Failed && s[0] == '4'
}

func subject(r *Report) string {
	s := map[Kind]string{Failure: "Not delivered", Delay: "Delayed", Success: "Delivered"}[r.Kind]
	if about := originalSubject(r.Original); about != "" {
		s += ": " + about
	}
	return stdmime.QEncoding.Encode("utf-8", s)
}

// originalSubject is the subject of the message, decoded.
func originalSubject(original []byte) string {
	s := mime.DecodeHeader(mime.Get(original, "Subject"))
	if len(s) > maxSubject {
		s = strings.ToValidUTF8(s[:maxSubject], "") + "..."
	}
	return strings.Join(strings.Fields(s), " ")
}

// thread names the message as the one this is an answer to (RFC 5322, 3.6.4).
func thread(original []byte) []mime.Field {
	ids := mime.MessageIDs(mime.Get(original, "Message-ID"))
	if len(ids) == 0 {
		return nil
	}
	before := mime.MessageIDs(mime.Get(original, "References"))
	if len(before) == 0 {
		if before = mime.MessageIDs(mime.Get(original, "In-Reply-To")); len(before) > 1 {
			before = nil
		}
	}
	if len(before) >= maxReferences { // the first names the thread
		before = append(before[:1:1], before[len(before)-maxReferences+2:]...)
	}
	return []mime.Field{
		{Name: "In-Reply-To", Value: "<" + ids[0] + ">"},
		{Name: "References", Value: "<" + strings.Join(append(before, ids[0]), "> <") + ">"},
	}
}

// deliveryStatus writes the part for programs.
func deliveryStatus(r *Report) (content []byte, contentType string) {
	contentType = "message/delivery-status"
	addressType := "rfc822; "
	for _, x := range r.Recipients {
		if !isASCII([]byte(x.Address)) || !isASCII([]byte(x.Original)) || !isASCII([]byte(x.Diagnostic)) {
			contentType, addressType = "message/global-delivery-status", "utf-8; "
		}
	}
	add := func(name, value string) {
		if value != "" {
			content = mime.AppendField(content, mime.Field{Name: name, Value: value})
		}
	}
	add("Original-Envelope-Id", ascii(r.EnvelopeID))
	add("Reporting-MTA", "dns; "+ascii(r.ReportingMTA))
	add("Arrival-Date", date(r.ArrivalDate))
	for _, x := range r.Recipients {
		content = append(content, "\r\n"...)
		if typ, address, ok := strings.Cut(x.Original, ";"); ok {
			if !isASCII([]byte(address)) {
				typ = "utf-8"
			}
			add("Original-Recipient", typ+"; "+address)
		}
		add("Final-Recipient", addressType+x.Address)
		add("Action", string(x.Action))
		add("Status", x.Status)
		add("Remote-MTA", typed(ascii(x.Remote), "dns", strings.Contains(x.Remote, ".")))
		add("Diagnostic-Code", typed(x.Diagnostic, "smtp", isReply(x.Diagnostic)))
		add("Last-Attempt-Date", date(x.LastAttempt))
		if x.Action == Delayed {
			add("Will-Retry-Until", date(x.WillRetryUntil))
		}
	}
	return content, contentType
}

// typed puts the type before a value: the usual one, or ours.
func typed(value, usual string, isUsual bool) string {
	switch {
	case value == "":
		return ""
	case isUsual:
		return usual + "; " + value
	}
	return "x-peerpost; " + value
}

// isReply says that s begins like a reply of SMTP: three digits.
func isReply(s string) bool {
	return len(s) > 3 && strings.Trim(s[:3], "0123456789") == "" && (s[3] == ' ' || s[3] == '-')
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return mime.FormatDate(t)
}

// returned is the original as it is given back, with CRLF line ends, and its type.
func returned(original []byte, headersOnly bool) (content []byte, contentType string) {
	if original == nil {
		return nil, ""
	}
	header, _ := mime.Split(original)
	headersOnly = headersOnly || len(original) > MaxOriginal
	if headersOnly {
		original = header
		if len(header) > MaxOriginal {
			original = header[:bytes.LastIndexByte(header[:MaxOriginal], '\n')+1]
		}
	}
	contentType = "message/rfc822"
	switch global := !isASCII(header); {
	case global && headersOnly:
		contentType = "message/global-headers"
	case global:
		contentType = "message/global"
	case headersOnly:
		contentType = "text/rfc822-headers"
	}
	content, err := mime.Normalise(original)
	if err != nil { // its only error: a NUL, which cannot be given back
		content, _ = mime.Normalise(bytes.ReplaceAll(original, []byte{0}, []byte{'?'}))
	}
	return content, contentType
}

// unused is the boundary, made longer as long as the original has it.
func unused(boundary string, original []byte) string {
	for bytes.Contains(original, []byte("--"+boundary)) {
		boundary += "x"
	}
	return boundary
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// ascii leaves out what a field of ASCII cannot carry.
func ascii(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 0x80 {
			return -1
		}
		return c
	}, s)
}
