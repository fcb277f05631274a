package imap

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// Accounts knows who may log in.
type Accounts interface {
	// Login returns the mailbox of a user. Its errors are mail.ErrCredentials
	// (wrong name or password), mail.ErrThrottled (too many tries: say so in
	// words that do not contain "authentication") or anything else (try later).
	// The first login after a start unlocks the account and may take a second.
	// A Mailbox that is mail.Revocable may end the session.
	Login(ctx context.Context, user, password string, remote net.Addr) (Mailbox, error)
}

// Mailbox is one person's stored mail. All methods may be called at once from
// many sessions. A folder is named by its ID where it has been looked up; an
// ID that is gone gives mail.ErrNoFolder. UIDs that are gone are passed over.
// Lists of UIDs ascend; they may be parts of what View gave, and neither side
// changes them.
type Mailbox interface {
	// Folders lists all folders, INBOX first, then by name.
	Folders(ctx context.Context) ([]mail.Folder, error)
	// Folder looks one up by name ("INBOX" in any case); mail.ErrNoFolder.
	Folder(ctx context.Context, name string) (mail.Folder, error)
	// CreateFolder makes a folder, and those above it; mail.ErrFolderExists, mail.ErrFolderName.
	CreateFolder(ctx context.Context, name string, role mail.Role) (mail.Folder, error)
	// DeleteFolder deletes a folder with its messages; mail.ErrRoleFolder for INBOX and the special ones.
	DeleteFolder(ctx context.Context, name string) error
	// RenameFolder renames a folder and those below it. Renaming INBOX moves its messages (RFC 9051, 6.3.6).
	RenameFolder(ctx context.Context, from, to string) error
	// Subscribe says whether a folder is shown by LSUB. The name of one that was deleted can be unsubscribed; mail.ErrNoFolder.
	Subscribe(ctx context.Context, name string, on bool) error
	// Subscriptions lists the names that are subscribed and belong to no folder, sorted: those of deleted ones.
	Subscriptions(ctx context.Context) ([]string, error)

	// View tells what is in a folder now, from memory.
	View(ctx context.Context, folder int64) (mail.View, error)
	// Entries gives flags and mod-sequences of the UIDs that exist, ascending, from memory.
	Entries(ctx context.Context, folder int64, uids []mail.UID) ([]mail.Entry, error)
	// Changes tells what happened since a mod-sequence that View or Changes gave.
	Changes(ctx context.Context, folder int64, since mail.ModSeq) (mail.Changes, error)
	// Notify returns a channel that gets a value after each commit that touched
	// the folder (values coalesce; it is closed when the folder is deleted).
	// stop must be called once.
	Notify(folder int64) (c <-chan struct{}, stop func())

	// Messages calls f for each of the UIDs that exists, ascending, until f
	// fails; it returns the error of f. f may keep the message.
	Messages(ctx context.Context, folder int64, uids []mail.UID, want mail.Want, f func(*mail.Message) error) error
	// Body opens the bytes of a message; mail.ErrNoMessage.
	Body(ctx context.Context, folder int64, uid mail.UID) (mail.Body, error)
	// Search returns the matching UIDs, ascending.
	Search(ctx context.Context, folder int64, q *mail.Query) ([]mail.UID, error)

	// Append stores a message; it is on disk when Append returns. size is exact.
	// mail.ErrTooLarge, mail.ErrNoSpace.
	Append(ctx context.Context, folder int64, r io.Reader, size int64, flags []mail.Flag, internal time.Time) (mail.UID, error)
	// SetFlags changes flags and returns the new entries of all UIDs that exist, with Before.
	// UIDs whose mod-sequence is above unchangedSince (0: no condition) are left
	// alone and returned in modified (RFC 7162, 3.1.3).
	SetFlags(ctx context.Context, folder int64, uids []mail.UID, op mail.FlagOp, flags []mail.Flag, unchangedSince mail.ModSeq) (entries []mail.Entry, modified []mail.UID, err error)
	// Expunge deletes for good those of the UIDs that bear \Deleted (nil: all that do) and returns them.
	Expunge(ctx context.Context, folder int64, uids []mail.UID) ([]mail.UID, error)
	// Copy and Move put messages into another folder, all or none.
	Copy(ctx context.Context, folder int64, uids []mail.UID, to string) (mail.Copied, error)
	Move(ctx context.Context, folder int64, uids []mail.UID, to string) (mail.Copied, error)

	// MaxMessage is the size in bytes of the largest message that Append takes.
	MaxMessage() int64
}
