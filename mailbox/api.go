package mailbox

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
)

// Config is what a mailbox is made of.
type Config struct {
	Dir        string            // made when missing; one process at a time
	Keys       *identity.Keyring // its at-rest key and page key; never changed
	MaxMessage int64             // bytes of the largest message Append takes; 0: DefaultMaxMessage
	Log        *slog.Logger      // nil: silence
}

// Mailbox is one person's stored mail. All methods may be called at once from
// many goroutines, before, during and after Run.
type Mailbox struct{}

// Open opens the mailbox in cfg.Dir, makes it when there is none, and
// recovers what a crash left half done. It starts nothing; see Run.
func Open(ctx context.Context, cfg Config) (*Mailbox, error) { panic("soon") }

// Run does the work that nobody waits for, until ctx ends: it makes files of
// what the journal holds, indexes text for search, prunes. A mailbox without
// Run is whole, but its journal grows.
func (m *Mailbox) Run(ctx context.Context) error { panic("soon") }

// Close waits for what is being written and closes. It may be called twice.
func (m *Mailbox) Close() error { panic("soon") }

// Delivery is a message that came in.
type Delivery struct {
	Role     mail.Role // of the folder to file it in; mail.Inbox when there is no such folder
	Message  []byte    // RFC 5322
	Flags    []mail.Flag
	Internal time.Time // zero: now

	// Who sent it under which id: the same message is filed once. A zero
	// Sender is a message of our own (a DSN), which leaves no mark.
	Sender    identity.Root
	MessageID [16]byte
	Expiry    identity.Day
}

// File files a message that came in; it is on disk, with its mark, when File
// returns. A message that was filed or refused before is a duplicate: it is
// not filed again, and uid is that of the first time (0 when refused).
func (m *Mailbox) File(ctx context.Context, d Delivery) (uid mail.UID, duplicate bool, err error) {
	panic("soon")
}

// Verdict is what became of a message that came in.
type Verdict struct {
	Delivered bool // filed; otherwise refused
	Reason    string
}

// Settled tells what became of a message that came in before; false when it is
// not known. It is remembered until its expiry and 40 days.
func (m *Mailbox) Settled(ctx context.Context, sender identity.Root, id [16]byte) (Verdict, bool, error) {
	panic("soon")
}

// Refuse remembers that a message was refused. It does nothing when the
// message has been settled before.
func (m *Mailbox) Refuse(ctx context.Context, sender identity.Root, id [16]byte, reason string, expiry identity.Day) error {
	panic("soon")
}

// State is how far an outgoing message has come. It only moves forward.
type State uint8

// The states, in order. Delivered moves to Displayed and nothing else; Displayed and Failed are final.
const (
	Accepted State = iota + 1
	Replicated
	Delivered
	Displayed
	Failed
)

// Settled reports whether the courier has nothing left to do.
func (s State) Settled() bool { return s >= Delivered }

// String is "accepted" and so on.
func (s State) String() string { panic("soon") }

// ErrState answers an update that would move a state backward.
var ErrState = errors.New("state of an outgoing message only moves forward")

// Outgoing is an accepted message on its way to one recipient.
type Outgoing struct {
	MessageID  [16]byte // inner message id: unique, one a recipient
	Submission int64    // what it was submitted with; see SubmissionOf
	To         identity.Address
	Original   string // ORCPT
	Notify     mail.Notify
	Accepted   time.Time
	Expires    time.Time

	State       State
	Replicas    int // storage receipts held
	Wanted      int // holders there should be
	Attempts    int
	NextAttempt time.Time // zero: none planned
	LastError   string
	DelayTold   bool     // the delay DSN was made
	FailureTold bool     // the failure DSN was made
	SealedID    [32]byte // of the sealed message; zero: not sealed yet
	Generation  uint64   // of the roster it was sealed to
	Settled     time.Time

	Subject string // of the message, decoded; read only
	Size    int64  // bytes of the message; read only
}

// Accept takes responsibility for a submitted message: it is on disk, with its
// recipients, when Accept returns nil. The rows of the outbox and the copy in
// the Sent folder (seen, with its Bcc field) follow at once; a crash does not
// lose them. Of outs MessageID, To, Expires, Notify and Original are read.
func (m *Mailbox) Accept(ctx context.Context, s mail.Submission, message []byte, outs []Outgoing) error {
	panic("soon")
}

// OutboxFilter says which rows of the outbox are wanted; the zero filter wants all.
type OutboxFilter struct {
	Unsettled  bool      // neither delivered nor failed
	Due        time.Time // NextAttempt is set and not after it
	Submission int64
	Limit      int
}

// Outbox lists rows of the outbox, oldest first.
func (m *Mailbox) Outbox(ctx context.Context, f OutboxFilter) ([]Outgoing, error) { panic("soon") }

// Outgoing returns one row; mail.ErrNoMessage.
func (m *Mailbox) Outgoing(ctx context.Context, id [16]byte) (Outgoing, error) { panic("soon") }

// OutgoingMessage returns the message as it was accepted, Bcc included. It can
// be had until all recipients are settled, whatever happens to the Sent copy;
// mail.ErrNoMessage after that.
func (m *Mailbox) OutgoingMessage(ctx context.Context, id [16]byte) ([]byte, error) { panic("soon") }

// SubmissionOf returns what a message was submitted with; mail.ErrNoMessage.
func (m *Mailbox) SubmissionOf(ctx context.Context, submission int64) (mail.Submission, error) {
	panic("soon")
}

// UpdateOutgoing changes a row; it is on disk when it returns. ErrState when f
// moved the state backward, mail.ErrNoMessage when there is no such row.
func (m *Mailbox) UpdateOutgoing(ctx context.Context, id [16]byte, f func(*Outgoing)) error {
	panic("soon")
}

// OutboxCounts counts the rows of the outbox by state.
func (m *Mailbox) OutboxCounts(ctx context.Context) (map[State]int, error) { panic("soon") }

// OutboxChanged returns the one channel that gets a value after the outbox
// changed; values coalesce.
func (m *Mailbox) OutboxChanged() <-chan struct{} { panic("soon") }

// Contact is somebody whom the owner knows.
type Contact struct {
	Root    identity.Root
	Name    string // as the owner calls them
	Local   string // local part of the address
	Record  []byte // newest identity record; nil when none was seen
	Added   time.Time
	Updated time.Time
}

// Contacts lists the contacts by name.
func (m *Mailbox) Contacts(ctx context.Context) ([]Contact, error) { panic("soon") }

// Contact returns one; false when there is none.
func (m *Mailbox) Contact(ctx context.Context, root identity.Root) (Contact, bool, error) {
	panic("soon")
}

// PutContact adds a contact, or changes the Name and Local of one; empty ones are left as they are.
func (m *Mailbox) PutContact(ctx context.Context, c Contact) error { panic("soon") }

// PinRecord remembers the newest identity record of a person, contact or not.
// identity.ErrRollback and identity.ErrFork leave the old one in place.
func (m *Mailbox) PinRecord(ctx context.Context, root identity.Root, record []byte) error {
	panic("soon")
}

// Record returns the newest identity record seen of a person; nil when none was.
func (m *Mailbox) Record(ctx context.Context, root identity.Root) ([]byte, error) { panic("soon") }

// Setting returns a value kept by SetSetting; nil when there is none.
func (m *Mailbox) Setting(ctx context.Context, key string) ([]byte, error) { panic("soon") }

// SetSetting keeps a value; nil removes it.
func (m *Mailbox) SetSetting(ctx context.Context, key string, value []byte) error { panic("soon") }

// Counts counts the messages of all folders, from memory.
func (m *Mailbox) Counts() (messages, unseen int) { panic("soon") }

// Export writes all messages as an mbox file (mboxrd), folder by folder.
// progress may be nil.
func (m *Mailbox) Export(ctx context.Context, w io.Writer, progress func(done, total int)) error {
	panic("soon")
}

// The rest is what gateway/imap asks of a mailbox, with the meaning it has there.

func (m *Mailbox) Folders(ctx context.Context) ([]mail.Folder, error) { panic("soon") }
func (m *Mailbox) Folder(ctx context.Context, name string) (mail.Folder, error) {
	panic("soon")
}
func (m *Mailbox) CreateFolder(ctx context.Context, name string, role mail.Role) (mail.Folder, error) {
	panic("soon")
}
func (m *Mailbox) DeleteFolder(ctx context.Context, name string) error       { panic("soon") }
func (m *Mailbox) RenameFolder(ctx context.Context, from, to string) error   { panic("soon") }
func (m *Mailbox) Subscribe(ctx context.Context, name string, on bool) error { panic("soon") }
func (m *Mailbox) View(ctx context.Context, folder int64) (mail.View, error) { panic("soon") }
func (m *Mailbox) Notify(folder int64) (c <-chan struct{}, stop func())      { panic("soon") }
func (m *Mailbox) MaxMessage() int64                                         { panic("soon") }
func (m *Mailbox) Entries(ctx context.Context, folder int64, uids []mail.UID) ([]mail.Entry, error) {
	panic("soon")
}
func (m *Mailbox) Changes(ctx context.Context, folder int64, since mail.ModSeq) (mail.Changes, error) {
	panic("soon")
}
func (m *Mailbox) Messages(ctx context.Context, folder int64, uids []mail.UID, want mail.Want, f func(*mail.Message) error) error {
	panic("soon")
}
func (m *Mailbox) Body(ctx context.Context, folder int64, uid mail.UID) (mail.Body, error) {
	panic("soon")
}
func (m *Mailbox) Search(ctx context.Context, folder int64, q *mail.Query) ([]mail.UID, error) {
	panic("soon")
}
func (m *Mailbox) Append(ctx context.Context, folder int64, r io.Reader, size int64, flags []mail.Flag, internal time.Time) (mail.UID, error) {
	panic("soon")
}
func (m *Mailbox) SetFlags(ctx context.Context, folder int64, uids []mail.UID, op mail.FlagOp, flags []mail.Flag, unchangedSince mail.ModSeq) (entries []mail.Entry, modified []mail.UID, err error) {
	panic("soon")
}
func (m *Mailbox) Expunge(ctx context.Context, folder int64, uids []mail.UID) ([]mail.UID, error) {
	panic("soon")
}
func (m *Mailbox) Copy(ctx context.Context, folder int64, uids []mail.UID, to string) (mail.Copied, error) {
	panic("soon")
}
func (m *Mailbox) Move(ctx context.Context, folder int64, uids []mail.UID, to string) (mail.Copied, error) {
	panic("soon")
}
