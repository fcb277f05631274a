package submission

import (
	"errors"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/peerpost/peerpost/internal/mail"
)

// maxSentence is how long the text of an answer may be in bytes: a line of 512
// (RFC 5321, 4.5.3.1.5) with room for the codes.
const maxSentence = 480

// The last words to a client, as they are written.
const (
	sayStopping  = "421 4.3.2 This node is stopping, try again later\r\n"
	sayTimeout   = "421 4.4.2 You were silent or too slow for too long\r\n"
	sayTooMuch   = "421 4.7.0 Too many bytes before the login\r\n"
	sayTooWrong  = "421 4.7.0 Too many wrong passwords on this connection\r\n"
	sayTakenBack = "421 4.3.2 The message was taken back, connect again for the next\r\n"
	sayRemoved   = "421 4.7.0 The app password was removed\r\n"
	sayFull      = "421 4.3.2 Too many connections, try again later\r\n"
)

func answer(code int, enhanced smtp.EnhancedCode, sentence string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: sentence}
}

var (
	answerLogin      = answer(530, smtp.EnhancedCode{5, 7, 0}, "Log in first")
	answerRemoved    = answer(535, smtp.EnhancedCode{5, 7, 8}, "The app password was removed")
	answerNested     = answer(503, smtp.EnhancedCode{5, 5, 1}, "There is a MAIL FROM already, send RSET first")
	answerNoMail     = answer(503, smtp.EnhancedCode{5, 5, 1}, "Send MAIL FROM and RCPT TO first")
	answerTooLarge   = answer(552, smtp.EnhancedCode{5, 3, 4}, "The message is larger than this node takes")
	answerNoMemory   = answer(452, smtp.EnhancedCode{4, 3, 1}, "Too many messages are being submitted at this moment, try again later")
	answerNUL        = answer(554, smtp.EnhancedCode{5, 6, 0}, "The message contains a NUL character, which mail cannot carry")
	answerAmbiguous  = answer(554, smtp.EnhancedCode{5, 6, 0}, "The message has CR CR LF line ends, and its end is not clear")
	answerLongLine   = answer(554, smtp.EnhancedCode{5, 6, 0}, "The message has a line of more than 1 MiB, use a MIME encoding")
	answerLost       = answer(451, smtp.EnhancedCode{4, 4, 2}, "The message did not arrive whole")
	answerTrouble    = answer(451, smtp.EnhancedCode{4, 3, 0}, "This node has trouble at the moment, try again later")
	answerWrong      = answer(535, smtp.EnhancedCode{5, 7, 8}, "Wrong user name or password: the user name is the whole address, the password an app password of this node")
	answerMalformed  = answer(501, smtp.EnhancedCode{5, 5, 2}, "The login is malformed")
	answerThrottled  = answer(454, smtp.EnhancedCode{4, 7, 0}, "Too many wrong passwords, try again later")
	answerNoLogin    = answer(454, smtp.EnhancedCode{4, 3, 0}, "Logging in is not possible at the moment, try again later")
	answerCrowd      = answer(454, smtp.EnhancedCode{4, 3, 2}, "This account has too many connections, close some")
	answerEnvelopeID = answer(501, smtp.EnhancedCode{5, 5, 4}, "ENVID is too long")
	answerOriginal   = answer(501, smtp.EnhancedCode{5, 5, 4}, "ORCPT is too long or contains control characters")
)

// stage is the command that a Submitter refuses.
type stage int

const (
	atMail stage = iota
	atRcpt
	atData
)

// refusal makes the answer to a client from an error of the Submitter. told is
// false when the error was not meant for the client.
func refusal(at stage, err error) (a *smtp.SMTPError, told bool) {
	var refused *mail.Error
	if !errors.As(err, &refused) {
		return answerTrouble, false
	}
	class, code := 5, 550
	if refused.Temporary {
		class, code = 4, 451
	} else if at == atData {
		code = 554
	}
	enhanced := smtp.EnhancedCode(refused.Code)
	if enhanced[0] != class || enhanced[1] < 0 || enhanced[1] > 999 || enhanced[2] < 0 || enhanced[2] > 999 {
		enhanced = smtp.EnhancedCode{class, 0, 0}
	}
	switch enhanced {
	case smtp.EnhancedCode{5, 2, 2}, smtp.EnhancedCode{5, 2, 3}, smtp.EnhancedCode{5, 3, 4}: // mailbox full, too large for it, too large for the system
		code = 552
	case smtp.EnhancedCode{4, 2, 2}, smtp.EnhancedCode{4, 3, 1}: // mailbox full, system full
		code = 452
	case smtp.EnhancedCode{5, 1, 3}, smtp.EnhancedCode{5, 1, 7}: // syntax of the recipient, of the sender
		code = 553
	}
	return answer(code, enhanced, sentence(refused.Public)), true
}

// sentence makes a text fit for one line of an answer.
func sentence(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
	if s = strings.TrimSpace(s); s == "" {
		return "Refused"
	}
	return s[:min(len(s), maxSentence)]
}
