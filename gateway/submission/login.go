package submission

import (
	"context"
	"errors"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/peerpost/peerpost/gateway/internal/throttle"
	"github.com/peerpost/peerpost/internal/mail"
)

// Limits of a login.
const (
	maxFailures = 3               // wrong passwords on one connection
	failureTime = time.Second     // before a wrong password is answered
	maxUser     = maxAddress      // bytes
	maxPassword = 1 << 10         // bytes
	lookupTime  = time.Minute     // for Login, CheckSender and CheckRecipient
	submitTime  = 5 * time.Minute // for Submit; clients wait 10 minutes (RFC 5321, 4.5.3.2.6)
)

// AuthMechanisms lists what a client may log in with.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth begins a login.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return exchange{s, sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && identity != user {
				return s.wrong(answerWrong)
			}
			return s.login(user, password)
		})}, nil
	case sasl.Login:
		return exchange{s, &loginServer{login: s.login}}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// exchange makes an answer of every error.
type exchange struct {
	session *session
	sasl.Server
}

func (e exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = e.Server.Next(response)
	var a *smtp.SMTPError
	if err != nil && !errors.As(err, &a) {
		err = e.session.wrong(answerMalformed)
	}
	return challenge, done, err
}

// loginServer is the LOGIN mechanism, which Outlook and Delta Chat fall back to.
type loginServer struct {
	login    func(user, password string) error
	user     string
	haveUser bool
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil && !l.haveUser:
		return []byte("Username:"), false, nil
	case !l.haveUser:
		l.user, l.haveUser = string(response), true
		return []byte("Password:"), false, nil
	}
	return nil, true, l.login(l.user, string(response))
}

// wrong counts a failed login, makes the client wait and returns its answer.
// After the last one the connection ends.
func (s *session) wrong(a *smtp.SMTPError) error {
	s.failures++
	if s.failures >= maxFailures {
		s.conn.hangUp(sayTooWrong)
	}
	s.conn.flush(writeTime)
	wait := time.NewTimer(s.srv.failureTime)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.srv.base.Done():
	}
	return a
}

func (s *session) login(user, password string) error {
	if user == "" || len(user) > maxUser || len(password) > maxPassword {
		return s.wrong(answerWrong)
	}
	remote := s.conn.RemoteAddr()
	try, wait := s.srv.logins.Begin(user, password, remote)
	if wait > 0 {
		return s.wrong(answerThrottled)
	}
	defer try.End()
	s.conn.flush(writeTime)
	ctx, cancel := context.WithTimeout(s.srv.base, lookupTime)
	defer cancel()
	box, err := s.srv.cfg.Accounts.Login(ctx, user, password, remote)
	switch {
	case errors.Is(err, mail.ErrCredentials):
		try.Wrong()
		return s.wrong(answerWrong)
	case errors.Is(err, mail.ErrThrottled):
		return s.wrong(answerThrottled)
	case err != nil:
		s.log().Error("login failed", "error", err)
		return answerNoLogin
	}
	try.Right()
	if !s.srv.enter(s.conn, throttle.Account(user)) {
		return answerCrowd
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box = box
	if r, ok := box.(mail.Revocable); ok {
		s.granted = r.Granted()
		s.keep = context.AfterFunc(s.granted, s.revoke)
	}
	return nil
}

// revoke ends the session of a password that was removed.
func (s *session) revoke() {
	s.log().Info("session ended with its app password")
	s.conn.revoke()
}
