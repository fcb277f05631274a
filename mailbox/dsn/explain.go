package dsn

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/peerpost/peerpost/internal/mail/mime"
)

const (
	textWidth  = 72  // characters of a line of the text for people
	maxInWords = 100 // recipients that the text names; the report for programs names all
)

// explain writes the part for people.
func explain(r *Report, hasOriginal, headerOnly bool) []byte {
	t := prose{}
	node := "your mail node"
	if r.ReportingMTA != "" {
		node += " (" + r.ReportingMTA + ")"
	}
	t.paragraph(0, "This is "+node+". "+about(r))
	for _, a := range [...]struct {
		is       func(Action) bool
		headline string
		closing  string
	}{
		{func(a Action) bool { return a == Failed }, "Not delivered to:", "Your node does not try again."},
		{func(a Action) bool { return a == Delayed }, "Not delivered yet to:",
			"Your node keeps trying and tells you if it gives up. You need not do anything now."},
		{func(a Action) bool { return a != Failed && a != Delayed }, "Delivered to:", ""},
	} {
		t.recipients(r, a.is, a.headline, a.closing)
	}
	switch {
	case !hasOriginal:
	case headerOnly:
		t.paragraph(0, "The header of your message is attached. The message itself is in your Sent folder, if your mail program keeps copies there.")
	default:
		t.paragraph(0, "Your message is attached.")
	}
	return []byte(t.String())
}

// about says which message it is.
func about(r *Report) string {
	s := "It writes about the message that you sent"
	if !r.ArrivalDate.IsZero() {
		s += " on " + day(r.ArrivalDate)
	}
	if subject := originalSubject(r.Original); subject != "" {
		s += " with the subject \"" + subject + "\""
	}
	return s + "."
}

// prose is text in paragraphs with a blank line between them.
type prose struct {
	strings.Builder
}

// paragraph adds text, indented and broken into lines.
func (t *prose) paragraph(indent int, text string) {
	if t.Len() > 0 {
		t.WriteString("\r\n")
	}
	t.text(indent, text)
}

func (t *prose) text(indent int, text string) {
	width := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case width == 0:
			t.WriteString(strings.Repeat(" ", indent))
			width = indent
		case width+1+n > textWidth:
			t.WriteString("\r\n" + strings.Repeat(" ", indent))
			width = indent
		default:
			t.WriteByte(' ')
			width++
		}
		t.WriteString(word)
		width += n
	}
	t.WriteString("\r\n")
}

// recipients adds those of one fate.
func (t *prose) recipients(r *Report, is func(Action) bool, headline, closing string) {
	n := 0
	for _, x := range r.Recipients {
		if !is(x.Action) {
			continue
		}
		if n++; n > maxInWords {
			continue
		}
		if n == 1 {
			t.paragraph(0, headline)
		}
		t.paragraph(2, x.Address)
		reason, remedy := words(x.Status, x.Action)
		if x.Remedy != "" {
			remedy = x.Remedy
		}
		t.text(4, reason)
		if remedy != "" {
			t.text(4, "What you can do: "+remedy)
		}
		if x.Action == Delayed && !x.WillRetryUntil.IsZero() {
			t.text(4, "It is tried until "+day(x.WillRetryUntil)+".")
		}
		if x.Diagnostic != "" {
			t.text(4, fmt.Sprintf("Technical detail (%s): %s", x.Status, x.Diagnostic))
		}
	}
	if n > maxInWords {
		t.paragraph(2, fmt.Sprintf("and %d more, whom the attached report names.", n-maxInWords))
	}
	if n > 0 && closing != "" {
		t.paragraph(0, closing)
	}
}

// day is a time for people.
func day(t time.Time) string { return mime.FormatDate(t) }

// words says what a status (RFC 3463, and the IANA registry) means to a person, and what helps.
func words(status string, a Action) (reason, remedy string) {
	if a != Failed && a != Delayed {
		if a == Relayed {
			return "It was passed on to a system that does not report back.", ""
		}
		return "The recipient's node has opened the message and filed it in the mailbox.", ""
	}
	_, code, _ := strings.Cut(status, ".")
	switch code {
	case "1.0", "1.1", "1.3", "1.6":
		return "There is no such address.",
			"Ask the recipient for the address and compare it character by character; the part after the @ is a key, and one wrong letter makes it another one."
	case "1.2", "1.10":
		return "The part of the address after the @ is not one that your node can reach.",
			"Check the address. Mail to ordinary Internet addresses needs a bridge."
	case "2.0", "2.1":
		return "The mailbox of the recipient takes no mail at present.", "Try again later, or reach the recipient in another way."
	case "2.2", "3.1":
		return "There is no room for the message where it would be kept.", "Send it again in a few days, or send a smaller message."
	case "2.3", "3.4":
		return "The message is larger than the recipient accepts.", "Send it without its attachments, or in several smaller messages."
	case "4.1", "4.2", "4.3":
		if a == Delayed {
			return "Neither the recipient's node nor enough of those that keep mail for it can be reached at present.", ""
		}
		return "Neither the recipient's node nor enough of those that keep mail for it could be reached.",
			"Check that your node is connected to the network, then send the message again."
	case "4.4":
		if a == Delayed {
			return "The record that tells how to reach this address has not been found yet.", "Check the address in the meantime; it may have been mistyped."
		}
		return "The record that tells how to reach this address was not found.",
			"Check the address. If it is right, the recipient has not been online for weeks; reach them in another way."
	case "4.7":
		return "Not confirmed: no answer came back before the message expired. It may have arrived all the same.",
			"Ask the recipient in another way, then send the message again."
	case "6.0", "6.1", "6.3", "6.5", "6.7":
		return "The recipient's node cannot handle this form of message.", "Send it again as plain text."
	case "7.0", "7.1", "7.2":
		return "The recipient's node refused the message.", "Reach the recipient in another way and ask them to let your mail in."
	case "7.5", "7.8", "7.13":
		return "The message could not be sealed for or opened by the recipient: the keys do not fit any more.", "Send the message again; your node then looks for the new keys."
	}
	if a == Delayed {
		return "The message could not be delivered yet.", ""
	}
	return "The message could not be delivered.", "Send it again, or reach the recipient in another way."
}
