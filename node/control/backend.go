package control

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/peerpost/peerpost/identity"
)

// Node is what the server asks of the node. Every method may be called at any
// time between the start of Run and the end of Stop, by several callers at
// once.
//
// An account argument is an address, the local part of one, or empty. Empty
// means the only account (all accounts for Outbox); with several accounts
// that are meant, and for one that does not exist, the method returns an *Error
// whose Code is CodeAmbiguous or CodeNotFound; for a damaged one CodeFailure.
//
// Errors that are an *Error reach the command as they are, with the exit code
// that belongs to their Code. The sentinels and *mail.Error of internal/mail
// are translated (mail.ErrLocked to CodeLocked, mail.ErrCredentials to
// CodePassword, mail.ErrThrottled to CodeThrottled, mail.ErrTooLarge and a
// permanent *mail.Error to CodeInvalid). Any other error is CodeFailure, and
// its text is shown to the owner of the node.
type Node interface {
	// Status tells the state of the node now. It must not wait for the network.
	Status(ctx context.Context) (Status, error)

	// Outbox lists the outgoing mail of an account, oldest first, one entry a
	// recipient; of every account when account is empty. With an id, only the
	// entries of that message, or CodeNotFound. A locked account's entries
	// have an empty To and Subject.
	Outbox(ctx context.Context, account, id string) ([]OutboxEntry, error)

	// Invite makes the link that carries an account's address and the peers
	// at which it can be reached; of a node that only holds mail for others one
	// without an address.
	Invite(ctx context.Context, account string) (Invite, error)

	// Contacts lists the contacts of an account by name. CodeLocked when it is
	// locked.
	Contacts(ctx context.Context, account string) ([]Contact, error)

	// AddContact remembers a contact by an invite or an address, connects to
	// the peers that the invite names and looks its record up, but succeeds
	// when that cannot be had yet. A contact that exists gets the new name,
	// if there is one. CodeInvalid for what is neither invite nor address.
	AddContact(ctx context.Context, account string, c NewContact) (Contact, error)

	// Keepers lists the keepers of an account, which works on a locked one as
	// well.
	Keepers(ctx context.Context, account string) ([]Keeper, error)

	// AddKeeper adds a keeper by the invite of a node or a multiaddr with its
	// peer id, and publishes it. It succeeds when the keeper cannot be reached
	// yet; one that is there gets the new addresses. CodeLocked when the account
	// is locked, CodeInvalid for what names no other node and for one too many.
	AddKeeper(ctx context.Context, account, target string) (Keeper, error)

	// RemoveKeeper removes the keeper with a peer id. CodeLocked when the account
	// is locked, CodeNotFound when it is none of its keepers.
	RemoveKeeper(ctx context.Context, account, peer string) error

	// Send submits a message like a mail client would. When it returns, the
	// message is on disk in the outbox. CodeLocked when the account is locked,
	// CodeInvalid for a recipient that cannot exist.
	Send(ctx context.Context, m Message) (Sent, error)

	// Export calls write for every message of an account, folder by folder in
	// order of UID. It stops at the first error of write and returns that.
	Export(ctx context.Context, account string, write func(ExportedMessage) error) error

	// AddAccount creates an account, or restores one from its words, and begins
	// to serve it. CodeExists when the node carries it already, CodeInvalid for
	// what are no recovery words. A new account with the name of another is
	// CodeExists too; a restored one may have it.
	AddAccount(ctx context.Context, a NewAccount) (CreatedAccount, error)

	// Passwords lists the app passwords of an account, which works on a
	// locked one as well.
	Passwords(ctx context.Context, account string) ([]Password, error)

	// AddPassword adds an app password to an unlocked account (CodeLocked
	// otherwise) and returns it; an empty password asks the node to make one.
	// CodeExists when the name is taken.
	AddPassword(ctx context.Context, account, name, password string) (NewPassword, error)

	// RemovePassword removes one, and ends the sessions of the mail clients
	// that logged in with it. CodeNotFound when there is none of that
	// name, CodeInvalid when it is the last.
	RemovePassword(ctx context.Context, account, name string) error

	// Unlock opens an account with one of its app passwords, as a login would.
	// CodePassword or CodeThrottled when it does not. An unlocked account
	// checks the password too.
	Unlock(ctx context.Context, account, password string) error

	// Stop asks the node to end gracefully and returns at once.
	Stop()
}

// Status is the state of a node. Its JSON names are a contract.
type Status struct {
	PeerID   string          `json:"peer_id"`
	Addrs    []string        `json:"addrs"` // multiaddrs that are listened on, with /p2p/<peer id>
	IMAP     string          `json:"imap"`  // host:port as bound; empty when off
	SMTP     string          `json:"smtp"`
	HTTP     string          `json:"http"`
	IMAPS    string          `json:"imaps"`
	SMTPS    string          `json:"smtps"`
	Peers    int             `json:"peers"` // connected now
	Accounts []AccountStatus `json:"accounts"`
	Outbox   OutboxCounts    `json:"outbox"`
	Holding  Holding         `json:"holding"`

	Server  bool      `json:"server"`  // takes part in the DHT as a server, and holds mail for others
	Holder  bool      `json:"holder"`  // carries no account
	Version string    `json:"version"` // of the program
	Started time.Time `json:"started"`
}

// AccountStatus is an account as the status shows it.
type AccountStatus struct {
	Address  string `json:"address"`
	Locked   bool   `json:"locked"`   // since no one has logged in after the start
	Messages int    `json:"messages"` // 0 while locked
	Unseen   int    `json:"unseen"`
	Waiting  int    `json:"waiting"` // collected, to be opened after the next login
	Problem  string `json:"problem"` // what the owner has to mend; empty for nothing
	Damaged  bool   `json:"damaged"` // it cannot be opened, which is the problem
}

// OutboxCounts counts outgoing recipients by state.
type OutboxCounts struct {
	Waiting    int `json:"waiting"` // accepted, not yet replicated
	Replicated int `json:"replicated"`
	Delivered  int `json:"delivered"` // and displayed
	Failed     int `json:"failed"`
}

// Holding is the mail kept for others.
type Holding struct {
	Messages int   `json:"messages"`
	Bytes    int64 `json:"bytes"`
	Inboxes  int   `json:"inboxes"`
	Capacity int64 `json:"capacity"` // bytes
}

// State is how far an outgoing message has come. It only moves forward.
type State string

// The states of an outgoing message.
const (
	Accepted   State = "accepted"   // on our disk
	Replicated State = "replicated" // with enough holders to survive without us
	Delivered  State = "delivered"  // opened and filed by the recipient
	Displayed  State = "displayed"  // the recipient said so
	Failed     State = "failed"     // a DSN says why
)

// OutboxEntry is one outgoing message to one recipient. Its JSON names are a
// contract.
type OutboxEntry struct {
	ID          string     `json:"id"`
	To          string     `json:"to"`
	State       State      `json:"state"`
	Replicas    int        `json:"replicas"`     // storage receipts now held
	Wanted      int        `json:"wanted"`       // holders there should be
	Attempts    int        `json:"attempts"`     // begun
	NextAttempt *time.Time `json:"next_attempt"` // null when there will be none
	Expires     time.Time  `json:"expires"`
	LastError   string     `json:"last_error"`

	Account  string    `json:"account"` // address of the sender
	Subject  string    `json:"subject"`
	Size     int64     `json:"size"` // bytes of the message
	Accepted time.Time `json:"accepted"`
}

// Invite is what an account hands to somebody who is to write to it.
type Invite struct {
	Link    string   `json:"link"`
	Address string   `json:"address"`
	Peers   []string `json:"peers"` // multiaddrs with peer id that the link carries
}

// NewContact is a contact to be added.
type NewContact struct {
	Target string `json:"target"` // invite or address
	Name   string `json:"name"`   // as the owner calls it; may be empty
}

// Contact is somebody whom an account knows.
type Contact struct {
	Address string    `json:"address"`
	Name    string    `json:"name"`
	Added   time.Time `json:"added"`
	Known   bool      `json:"known"` // a valid identity record is at hand
}

// Keeper is a node that its owner chose to keep the mail of an account.
type Keeper struct {
	Peer      string   `json:"peer"`      // id
	Addrs     []string `json:"addrs"`     // multiaddrs, without the peer id
	Connected bool     `json:"connected"` // now
}

// NewKeeper is a keeper to be added.
type NewKeeper struct {
	Target string `json:"target"` // invite of a node, or a multiaddr with its peer id
}

// Message is a message to be sent.
type Message struct {
	From    string   // account, as the account arguments of Node
	To      []string // addresses; at least one
	Subject string   // not when Raw
	Raw     bool     // Body is a whole RFC 5322 message, not just its text
	Body    []byte   // at most MaxMessage; Text makes a message of it
}

// Sent says what became of a Message.
type Sent struct {
	ID         string   `json:"id"` // as the outbox names it
	From       string   `json:"from"`
	Recipients []string `json:"recipients"`
}

// ExportedMessage is a message on its way out.
type ExportedMessage struct {
	Folder   string
	UID      uint32
	Flags    []string
	Internal time.Time // when it was filed
	Size     int64     // bytes that Body yields
	Body     io.Reader // the RFC 5322 text; valid until write returns
}

// NewAccount asks for an account.
type NewAccount struct {
	Name         string `json:"name"`          // local part of the address; "me" when empty
	Password     string `json:"password"`      // first app password; the node makes one when empty
	PasswordName string `json:"password_name"` // what the owner calls it; "first" when empty
	Restore      bool   `json:"restore"`       // an account that was, from its words
	Words        string `json:"words"`         // recovery words, when Restore
}

// CheckName refuses what cannot be the local part of an address.
func CheckName(name string) *Error {
	if identity.ValidLocal(name) {
		return nil
	}
	return &Error{
		Code: CodeInvalid, Message: fmt.Sprintf("%q cannot stand before the @ of an address", name),
		Hint: "use up to 64 letters, digits and signs such as - _ + and a dot between others, in ASCII",
	}
}

// CreatedAccount is the answer; the only time that the secrets are told.
type CreatedAccount struct {
	Address  string `json:"address"`
	Words    string `json:"words"`    // empty after a restore
	Password string `json:"password"` // empty when it was given

	// Unchecked says that the account was restored without a look at the network,
	// which may know newer keys of it.
	Unchecked bool `json:"unchecked"`
}

// Password describes an app password.
type Password struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// NewPassword is an app password just added; the only time that it is told.
type NewPassword struct {
	Name     string `json:"name"`
	Password string `json:"password"` // empty when it was given
}
