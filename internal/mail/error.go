package mail

import (
	"errors"
	"fmt"
)

// Error is a refusal that a mail client is told. Whoever gets it asks one
// question: again later, or never?
type Error struct {
	Temporary bool
	Code      [3]int // enhanced status code (RFC 3463); zero when there is none better than X.0.0
	Public    string // one sentence for the client, with the remedy
	Cause     error  // for the log of the owner
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Public, e.Cause)
	}
	return e.Public
}

func (e *Error) Unwrap() error { return e.Cause }

// The conditions on which callers branch.
var (
	ErrNoFolder     = errors.New("no such folder")
	ErrFolderExists = errors.New("a folder of that name exists")
	ErrFolderName   = errors.New("not a valid name for a folder")
	ErrRoleFolder   = errors.New("this folder cannot be deleted or renamed")
	ErrNoMessage    = errors.New("no such message")
	ErrTooLarge     = errors.New("message is too large")
	ErrNoSpace      = errors.New("no space left")
	ErrCredentials  = errors.New("wrong user name or password")
	ErrThrottled    = errors.New("too many wrong passwords, try again later")
	ErrLocked       = errors.New("account is locked")
)
