package mime

import (
	"io"
	"iter"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// Index is what Parse finds.
type Index struct {
	Envelope  *mail.Envelope // Sender and ReplyTo are From when the fields are absent (RFC 9051, 7.5.2)
	Structure *mail.Part     // never nil; the header of the message is Structure.Header … Structure.Body
	Size      int64          // bytes of the message
	Lines     int64          // lines of the whole message
}

// Parse makes the index of a message in one pass. Its only errors are those of r.
func Parse(r io.ReaderAt, size int64) (*Index, error) { panic("soon") }

// ParseBytes is Parse for a message in memory.
func ParseBytes(b []byte) *Index { panic("soon") }

// MarshalEnvelope encodes an envelope for storage.
func MarshalEnvelope(e *mail.Envelope) []byte { panic("soon") }

// UnmarshalEnvelope decodes what MarshalEnvelope wrote, nothing else.
func UnmarshalEnvelope(b []byte) (*mail.Envelope, error) { panic("soon") }

// MarshalStructure encodes a tree of parts for storage.
func MarshalStructure(p *mail.Part) []byte { panic("soon") }

// UnmarshalStructure decodes what MarshalStructure wrote, nothing else.
func UnmarshalStructure(b []byte) (*mail.Part, error) { panic("soon") }

// BodyText returns the searchable text of a message's body in UTF-8: text parts
// decoded, HTML without tags, names of attachments, headings of inner messages;
// at most max bytes. Its only errors are those of r.
func BodyText(r io.ReaderAt, root *mail.Part, max int) (string, error) { panic("soon") }

// HeaderText returns the searchable text of a header in UTF-8, one line
// "Name: decoded value" a field, at most max bytes.
func HeaderText(header []byte, max int) string { panic("soon") }

// DecodeHeader decodes the RFC 2047 words of a field's value to UTF-8.
func DecodeHeader(s string) string { panic("soon") }

// AddressText returns addresses as a person reads and searches them: "Name <mailbox@host>, …", decoded.
func AddressText(list []mail.Address) string { panic("soon") }

// FileName returns the decoded name of an attachment, empty when it has none.
func FileName(p *mail.Part) string { panic("soon") }

// Param returns the decoded value (RFC 2231, RFC 2047) of a parameter.
func Param(params []mail.Param, name string) string { panic("soon") }

// Decode returns the body of a part with its transfer encoding undone; false
// when the encoding is unknown.
func Decode(r io.ReaderAt, p *mail.Part) (io.Reader, bool) { panic("soon") }

// The header tools take a whole message or only its header; they look no
// further than its empty line.

// Field is one field of a header; Value is unfolded and trimmed, RFC 2047 words still encoded.
type Field struct {
	Name, Value string
}

// Split divides a message into its header with the empty line, and its body.
func Split(msg []byte) (header, body []byte) { panic("soon") }

// Fields yields the fields of a header in order, at most MaxFields.
func Fields(msg []byte) iter.Seq[Field] { panic("soon") }

// Get returns the value of the first field of a name, empty when there is none.
func Get(msg []byte, name string) string { panic("soon") }

// Values returns the values of all fields of a name, in order.
func Values(msg []byte, name string) []string { panic("soon") }

// Remove returns the message without the fields of these names. A name that
// ends in "*" stands for all that begin so. msg is not changed.
func Remove(msg []byte, names ...string) []byte { panic("soon") }

// Prepend returns the message with fields put before its header, in the order
// given, folded where long. msg is not changed.
func Prepend(msg []byte, fields ...Field) []byte { panic("soon") }

// SelectFields returns the fields of these names (or, if not, all others) as
// they stand in the header, and an empty line: the answer to BODY[HEADER.FIELDS (…)].
func SelectFields(header []byte, names []string, not bool) []byte { panic("soon") }

// ParseAddresses reads a list of addresses as best it can, at most MaxAddresses.
func ParseAddresses(value string) []mail.Address { panic("soon") }

// FormatAddress writes an address for a header.
func FormatAddress(a mail.Address) string { panic("soon") }

// ParseDate reads the date of a header; false when it is none.
func ParseDate(s string) (time.Time, bool) { panic("soon") }

// FormatDate writes a date for a header.
func FormatDate(t time.Time) string { panic("soon") }

// NewMessageID returns a new random id, in angle brackets.
func NewMessageID(host string) string { panic("soon") }

// MessageIDs returns the ids of a References or In-Reply-To field, without brackets.
func MessageIDs(value string) []string { panic("soon") }

// CheckFrom returns the author's addresses of a message about to be sent. Its
// error says what is wrong with the From field in a phrase for the sender.
func CheckFrom(msg []byte) ([]mail.Address, error) { panic("soon") }

// Complete returns the message with Date and Message-ID added where they are
// missing (RFC 6409, 8); host is the right side of the new id.
func Complete(msg []byte, now time.Time, host string) []byte { panic("soon") }

// Normalise returns the message with every bare CR and bare LF made a CRLF;
// msg itself when there are none. Its only error is ErrNUL.
func Normalise(msg []byte) ([]byte, error) { panic("soon") }
