package imap

import (
	"context"
	"errors"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/peerpost/peerpost/internal/mail"
)

// Response codes that the library has no name for.
const (
	codeUseAttr       imap.ResponseCode = "USEATTR"       // RFC 6154
	codeReadOnly      imap.ResponseCode = "READ-ONLY"     // RFC 9051
	codeExpungeIssued imap.ResponseCode = "EXPUNGEISSUED" // RFC 5530
)

// maxText is the number of bytes of a sentence that a client is told.
const maxText = 400

func refuse(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: plainText(text)}
}

func bad(text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Code: imap.ResponseCodeClientBug, Text: plainText(text)}
}

// plainText makes a sentence fit for a response line: printable ASCII, bounded.
func plainText(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "Failed"
	}
	return s
}

// answer turns an error of the mailbox into what the client is told. What the
// client can do nothing about goes to the log.
func (s *session) answer(what string, err error) error {
	var told *imap.Error
	var public *mail.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &told):
		return told
	case errors.Is(err, mail.ErrNoFolder):
		return refuse(imap.ResponseCodeNonExistent, "There is no such folder")
	case errors.Is(err, mail.ErrFolderExists):
		return refuse(imap.ResponseCodeAlreadyExists, "A folder of that name exists")
	case errors.Is(err, mail.ErrFolderName):
		return refuse(imap.ResponseCodeCannot, "That name cannot be used for a folder")
	case errors.Is(err, mail.ErrRoleFolder):
		return refuse(imap.ResponseCodeCannot, "This folder cannot be deleted or renamed")
	case errors.Is(err, mail.ErrNoMessage):
		return refuse(codeExpungeIssued, "The message is gone")
	case errors.Is(err, mail.ErrTooLarge):
		return refuse(imap.ResponseCodeTooBig, "The message is too large")
	case errors.Is(err, mail.ErrNoSpace):
		return refuse(imap.ResponseCodeOverQuota, "There is no space left on this computer")
	case errors.Is(err, mail.ErrLocked):
		return refuse(imap.ResponseCodeUnavailable, "The account is locked, log in again")
	case errors.As(err, &public):
		s.log.Info("mailbox refused an IMAP command", "command", what, "error", err)
		if public.Temporary {
			return refuse(imap.ResponseCodeUnavailable, public.Public)
		}
		return refuse(imap.ResponseCodeCannot, public.Public)
	case errors.Is(err, context.DeadlineExceeded):
		s.log.Warn("IMAP command took too long", "command", what)
		return refuse(imap.ResponseCodeUnavailable, "This took too long, try again")
	case errors.Is(err, context.Canceled):
		return refuse(imap.ResponseCodeUnavailable, "The connection is being closed")
	}
	s.log.Warn("IMAP command failed", "command", what, "error", err)
	return refuse(imap.ResponseCodeUnavailable, "The mailbox could not do this now, see the log of the node")
}
