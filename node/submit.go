package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/courier"
)

// imapAccounts and submissionAccounts let mail clients in.
type (
	imapAccounts       struct{ *Node }
	submissionAccounts struct{ *Node }
)

func (n imapAccounts) Login(ctx context.Context, user, password string, _ net.Addr) (imap.Mailbox, error) {
	_, o, g, err := n.login(ctx, user, password)
	if err != nil {
		return nil, err
	}
	return struct {
		*mailbox.Mailbox
		grant
	}{o.box, g}, nil
}

func (n submissionAccounts) Login(ctx context.Context, user, password string, _ net.Addr) (submission.Submitter, error) {
	a, o, g, err := n.login(ctx, user, password)
	if err != nil {
		return nil, err
	}
	return struct {
		*submitter
		grant
	}{&submitter{a, o}, g}, nil
}

// login opens the account that the user name, an address, means.
func (n *Node) login(ctx context.Context, user, password string) (*account, *open, grant, error) {
	a, err := n.account(user)
	if e, ok := errors.AsType[*control.Error](err); ok && e.Code == control.CodeFailure {
		return nil, nil, grant{}, err // damaged; the password may well be right
	}
	if err != nil {
		return nil, nil, grant{}, mail.ErrCredentials
	}
	o, g, err := a.login(ctx, password)
	if err != nil {
		return nil, nil, grant{}, err
	}
	return a, o, g, nil
}

// submitter takes mail from one user.
type submitter struct {
	account *account
	open    *open
}

func (s *submitter) MaxMessage() int64 { return sealed.MaxMessage }

// CheckSender lets the user write under any local part of the own address.
func (s *submitter) CheckSender(_ context.Context, address string) error {
	if address == "" { // a mail client's own reports, RFC 8098
		return nil
	}
	a, err := identity.ParseAddress(address)
	if err != nil || a.Root != s.account.address.Root {
		return &mail.Error{
			Code: [3]int{5, 7, 1}, Cause: err,
			Public: "You can send as " + s.account.address.String() + " only (the part before the @ is free); correct the sender's address in your mail client.",
		}
	}
	return nil
}

// CheckRecipient refuses what can never be delivered.
func (s *submitter) CheckRecipient(ctx context.Context, address string, size int64) error {
	to, err := recipient(address)
	if err != nil {
		return err
	}
	r, err := s.open.record(ctx, to.Root)
	if err != nil || r == nil {
		return nil // it is looked for when the message is there
	}
	if most := r.Policy.MaxMessage; most > 0 && size > 0 && uint64(size) > most {
		return &mail.Error{
			Code:   [3]int{5, 3, 4},
			Public: fmt.Sprintf("This recipient takes messages of at most %d bytes.", most),
		}
	}
	return nil
}

func recipient(address string) (identity.Address, error) {
	to, err := identity.ParseAddress(address)
	switch {
	case errors.Is(err, identity.ErrForeignDomain):
		return to, &mail.Error{
			Code: [3]int{5, 1, 2}, Cause: err,
			Public: "Peerpost delivers to addresses that end in ." + identity.Suffix + "; this one belongs to ordinary mail, to which no bridge is set up here.",
		}
	case err != nil:
		return to, &mail.Error{
			Code: [3]int{5, 1, 3}, Cause: err,
			Public: "This is not a Peerpost address: " + err.Error() + ". Copy it again from where you have it.",
		}
	}
	return to, nil
}

// Submit completes and checks a message, and puts it into the outbox.
func (s *submitter) Submit(ctx context.Context, sub mail.Submission, body []byte) error {
	_, err := s.submit(ctx, sub, body)
	return err
}

func (s *submitter) submit(ctx context.Context, sub mail.Submission, body []byte) ([]mailbox.Outgoing, error) {
	if s.account.trouble() != "" { // nobody who knows the newer keys would take it
		return nil, &mail.Error{
			Code:   [3]int{5, 7, 1},
			Public: "This account has newer keys on another machine, so nobody would take mail from here. `peerpost status` says what to do.",
		}
	}
	text, err := s.complete(body)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var rows []mailbox.Outgoing
	seen := make(map[string]bool)
	for _, r := range sub.Recipients {
		to, err := recipient(r.Address)
		if err != nil {
			return nil, err
		}
		if key := strings.ToLower(to.String()); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		row := mailbox.Outgoing{
			To: to, Original: r.Original, Notify: r.Notify, Accepted: now, Expires: now.Add(courier.Lifetime),
			State: mailbox.Accepted, Size: int64(len(text)),
		}
		rand.Read(row.MessageID[:])
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, &mail.Error{Code: [3]int{5, 5, 1}, Public: "The message has no recipient."}
	}
	if err := s.open.box.Accept(ctx, sub, text, rows); err != nil {
		if errors.Is(err, mail.ErrNoSpace) {
			return nil, &mail.Error{Temporary: true, Code: [3]int{4, 3, 1}, Cause: err, Public: "The disk of this machine is full; make room and send again."}
		}
		return nil, err
	}
	s.account.courier.Send(rows...)
	return rows, nil
}

// complete makes a submitted message one that may travel.
func (s *submitter) complete(body []byte) ([]byte, error) {
	tooLarge := &mail.Error{Code: [3]int{5, 3, 4}, Public: fmt.Sprintf("The message is larger than %d bytes.", s.MaxMessage())}
	if int64(len(body)) > s.MaxMessage() {
		return nil, tooLarge
	}
	text, err := mime.Normalise(body)
	if err != nil {
		return nil, &mail.Error{Code: [3]int{5, 6, 0}, Cause: err, Public: "The message holds a NUL byte, which mail cannot carry."}
	}
	from, err := mime.CheckFrom(text)
	if err != nil {
		return nil, &mail.Error{Code: [3]int{5, 6, 0}, Cause: err, Public: "The From field is not in order: " + err.Error() + "."}
	}
	for _, f := range from {
		a, err := identity.ParseAddress(f.Mailbox + "@" + f.Host)
		if err != nil || a.Root != s.account.address.Root {
			return nil, &mail.Error{
				Code: [3]int{5, 7, 1}, Cause: err,
				Public: "The From and Sender fields must be " + s.account.address.String() + " (the part before the @ is free); correct the address in your mail client.",
			}
		}
	}
	text = mime.Rewrite(text, func(header []byte) []byte {
		header = mime.Remove(header, "Return-Path", "Authentication-Results", "X-Peerpost-*")
		return mime.Complete(header, time.Now(), s.account.address.Domain())
	})
	if int64(len(text)) > s.MaxMessage() { // with the fields and line ends that it lacked
		return nil, tooLarge
	}
	return text, nil
}
