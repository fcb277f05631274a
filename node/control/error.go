package control

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/peerpost/peerpost/internal/mail"
)

// Code says what kind of refusal an Error is, so that the command can choose
// its exit code.
type Code string

// The codes of refusals.
const (
	CodeFailure   Code = "failure"   // anything else
	CodeInvalid   Code = "invalid"   // the request cannot be fulfilled as it is
	CodeAmbiguous Code = "ambiguous" // several accounts, and none was named
	CodeNotFound  Code = "not-found"
	CodeExists    Code = "exists"
	CodeLocked    Code = "locked"   // the account waits for an app password
	CodePassword  Code = "password" // wrong
	CodeThrottled Code = "throttled"
	CodeRunning   Code = "running"     // the home is in use
	CodeNoNode    Code = "not-running" // no node to talk to
)

// Error is a refusal with a remedy. Two Errors are the same to errors.Is when
// their codes are.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"` // one sentence, lower case, no full stop
	Hint    string `json:"hint"`    // what to do about it; may be empty
	Cause   error  `json:"-"`
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Cause)
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is compares codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errors to compare with.
var (
	ErrInvalid   = &Error{Code: CodeInvalid, Message: "the request is not valid"}
	ErrAmbiguous = &Error{Code: CodeAmbiguous, Message: "this node carries several accounts", Hint: "name one of them with --account, or --from of `peerpost send`; `peerpost account list` shows them"}
	ErrNotFound  = &Error{Code: CodeNotFound, Message: "there is no such thing"}
	ErrExists    = &Error{Code: CodeExists, Message: "it exists already"}
	ErrLocked    = &Error{Code: CodeLocked, Message: "the account is locked", Hint: "log in with a mail client, or give one of its app passwords with --password-file"}
	ErrPassword  = &Error{Code: CodePassword, Message: "this is not an app password of the account", Hint: "`peerpost password list` names the ones there are"}
	ErrThrottled = &Error{Code: CodeThrottled, Message: "too many wrong passwords", Hint: "wait a minute and try again"}
	ErrRunning   = &Error{Code: CodeRunning, Message: "another node runs with this home", Hint: "stop it first, or choose another home with --home"}
	ErrNoNode    = &Error{Code: CodeNoNode, Message: "no node runs with this home", Hint: "start one with `peerpost up`, or say where its home is with --home"}
)

// refusal finds out what the command is to be told about an error.
func refusal(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		told := *e
		if err != error(e) || e.Cause != nil {
			told.Message = err.Error()
		}
		return &told
	}
	for _, t := range [...]struct {
		mail error
		ours *Error
	}{
		{mail.ErrLocked, ErrLocked},
		{mail.ErrCredentials, ErrPassword},
		{mail.ErrThrottled, ErrThrottled},
	} {
		if errors.Is(err, t.mail) {
			return t.ours
		}
	}
	if m, ok := errors.AsType[*mail.Error](err); ok {
		code := CodeInvalid
		if m.Temporary {
			code = CodeFailure
		}
		return &Error{Code: code, Message: m.Public}
	}
	if errors.Is(err, mail.ErrTooLarge) {
		return &Error{Code: CodeInvalid, Message: err.Error()}
	}
	return &Error{Code: CodeFailure, Message: err.Error()}
}

// httpStatus is the status that goes with a code. The code is what counts; the
// status serves people who try the socket by hand.
func (c Code) httpStatus() int {
	switch c {
	case CodeInvalid, CodeAmbiguous:
		return http.StatusBadRequest
	case CodeNotFound:
		return http.StatusNotFound
	case CodeExists, CodeRunning:
		return http.StatusConflict
	case CodeLocked:
		return http.StatusLocked
	case CodePassword:
		return http.StatusForbidden
	case CodeThrottled:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}
