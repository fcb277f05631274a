// Package mail holds the nouns of stored mail: folders, messages, flags, the
// structure of a message, a search. It does no input or output; the mailbox
// fills these values and the gateways show them to mail clients.
package mail

import (
	"io"
	"strings"
	"time"
)

// UID numbers a message within a folder, ascending and never used again (RFC 9051, 2.3.1.1).
type UID uint32

// UIDValidity changes when the UIDs of a folder lose their meaning (RFC 9051, 2.3.1.1).
type UIDValidity uint32

// ModSeq is the mod-sequence of a change; it grows with every commit that touches a folder (RFC 7162, 3.1).
type ModSeq uint64

// Flag is a system flag ("\Seen") or a keyword. Flags compare case-insensitively; Canonical gives the one spelling.
type Flag string

// The system flags that are stored (RFC 9051, 2.3.2).
const (
	Seen     Flag = `\Seen`
	Answered Flag = `\Answered`
	Flagged  Flag = `\Flagged`
	Deleted  Flag = `\Deleted`
	Draft    Flag = `\Draft`
)

// Canonical returns the spelling under which a flag is stored.
func (f Flag) Canonical() Flag {
	for _, s := range [...]Flag{Seen, Answered, Flagged, Deleted, Draft} {
		if strings.EqualFold(string(f), string(s)) {
			return s
		}
	}
	return f
}

// Role is the special use of a folder (RFC 6154), as its attribute is written on the wire.
type Role string

// The roles that every account has from its first day, and the absence of one.
const (
	NoRole  Role = ""
	Inbox   Role = "Inbox" // ours; IMAP names INBOX, it has no attribute
	Archive Role = `\Archive`
	Drafts  Role = `\Drafts`
	Junk    Role = `\Junk`
	Sent    Role = `\Sent`
	Trash   Role = `\Trash`
)

// Separator divides the levels of a folder's name.
const Separator = '/'

// Folder describes a folder. IMAP calls it a mailbox; ours is the mailbox that holds the folders.
type Folder struct {
	ID            int64
	Name          string // UTF-8, levels divided by Separator; "INBOX" is always spelt so
	Role          Role
	UIDValidity   UIDValidity
	UIDNext       UID
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	Size          int64 // bytes of all messages
	HighestModSeq ModSeq
	Subscribed    bool
}

// View is what a client that selects a folder is told to be there. UIDs is
// ascending, shared and never changed; later arrivals make a new View.
type View struct {
	UIDs   []UID
	ModSeq ModSeq
}

// Entry is the changeable part of a message.
type Entry struct {
	UID    UID
	ModSeq ModSeq
	Flags  []Flag // shared, not to be changed
	Before ModSeq // of what SetFlags returns: the mod-sequence that it found; ModSeq when it changed nothing
}

// Changes is what happened to a folder since a mod-sequence.
type Changes struct {
	Entries  []Entry // new messages and changed flags, ascending by UID
	Expunged []UID   // ascending
	ModSeq   ModSeq  // ask for the changes since this one next
}

// Want names the parts of a Message that a reader needs.
type Want struct {
	Envelope, Structure bool
}

// Message is one message of a folder.
type Message struct {
	Entry
	Internal  time.Time // when it was filed
	Size      int64     // bytes of the RFC 5322 text
	Envelope  *Envelope // nil unless wanted
	Structure *Part     // nil unless wanted
}

// Envelope is the parsed heading of a message (RFC 9051, 7.5.2). Texts are
// as in the header, unfolded, with RFC 2047 words still encoded.
type Envelope struct {
	Date      time.Time
	RawDate   string
	Subject   string
	From      []Address
	Sender    []Address
	ReplyTo   []Address
	To        []Address
	Cc        []Address
	Bcc       []Address
	InReplyTo string // as in the header
	MessageID string // without the angle brackets
}

// Address is one address of a header. A group begins with an Address whose
// Host is empty and ends with one whose Mailbox is empty too.
type Address struct {
	Name, Mailbox, Host string
}

// Param is one parameter of a MIME header field. A list keeps their order.
type Param struct {
	Name, Value string
}

// Part is a node of the MIME structure with the places of its bytes in the message.
type Part struct {
	Type, Subtype     string // lower case
	Params            []Param
	ID, Description   string
	Encoding          string // lower case, "7bit" when absent
	MD5               string
	Disposition       string // lower case, empty when absent
	DispositionParams []Param
	Language          []string
	Location          string

	Header int64 // offset of the first byte of the part's header
	Body   int64 // offset of the first byte after the header and its empty line
	End    int64 // offset after the last byte of the body
	Lines  int64 // lines of the body

	Children []*Part   // of a multipart, in order
	Envelope *Envelope // of a message/rfc822 or message/global: the inner heading
	Inner    *Part     // of a message/rfc822 or message/global: the inner structure
}

// IsMultipart reports whether the part is made of other parts.
func (p *Part) IsMultipart() bool { return p.Type == "multipart" }

// Body gives random access to the bytes of a message.
type Body interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// FlagOp says how SetFlags combines flags.
type FlagOp uint8

// The three ways of STORE (RFC 9051, 6.4.6).
const (
	SetFlags FlagOp = iota
	AddFlags
	RemoveFlags
)

// Copied says where messages went by COPY or MOVE: From[i] became To[i].
type Copied struct {
	UIDValidity UIDValidity
	From, To    []UID
}

// Query is the condition of a search. A message matches when every set
// condition holds; the zero Query matches all. Texts match as substrings
// without regard to case (RFC 9051, 6.4.4).
type Query struct {
	UIDs []UIDRange // any of; nil means all

	Since, Before         time.Time // by Internal, whole days, Before excluded
	SentSince, SentBefore time.Time // by the Date field, whole days

	Flags, NotFlags []Flag

	Larger, Smaller int64 // bytes; 0 is no condition

	Header []HeaderQuery
	Body   []string // in the text of the body
	Text   []string // in the text of the header or the body

	ModSeq ModSeq // at least

	Not []Query
	Or  [][2]Query
}

// UIDRange is the UIDs from First to Last, both included. Last 0 means "to the end".
type UIDRange struct {
	First, Last UID
}

// HeaderQuery matches when the named field exists and contains Value; an empty Value matches any.
type HeaderQuery struct {
	Name, Value string
}
