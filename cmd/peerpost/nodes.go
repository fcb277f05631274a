package main

import (
	"context"
	"log/slog"

	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/control"
)

// realNodes is the package node as the command wants it.
type realNodes struct{}

func (realNodes) New(ctx context.Context, s Settings, log *slog.Logger) (Running, error) {
	n, err := node.New(ctx, node.Config{
		Home:       s.Home,
		Listen:     s.Listen,
		Bootstrap:  s.Bootstrap,
		NoMDNS:     s.NoMDNS,
		IMAP:       s.IMAP,
		SMTP:       s.SMTP,
		IMAPS:      s.IMAPS,
		SMTPS:      s.SMTPS,
		HTTP:       s.HTTP,
		Holder:     s.Holder,
		Capacity:   s.Capacity,
		PuzzleBits: work(s.PuzzleBits),
		StampBits:  work(s.StampBits),
		Log:        log,
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// work translates a number of bits: the node takes 0 as the network's own and
// a negative one as none.
func work(bits int) int {
	switch bits {
	case networkBits:
		return 0
	case 0:
		return -1
	}
	return bits
}

func (realNodes) Accounts(_ context.Context, home string) ([]control.AccountStatus, error) {
	return node.Accounts(home)
}

func (realNodes) FirstAccount(ctx context.Context, home string, a control.NewAccount) (control.CreatedAccount, error) {
	made, err := node.CreateFirstAccount(ctx, home, node.AccountOptions{Name: a.Name, Password: a.Password, PasswordName: a.PasswordName})
	return control.CreatedAccount{Address: made.Address, Words: made.Words, Password: made.Password}, err
}

func (realNodes) AddAccount(ctx context.Context, home string, a control.NewAccount) (control.CreatedAccount, error) {
	options := node.AccountOptions{Name: a.Name, Password: a.Password, PasswordName: a.PasswordName}
	var made node.NewAccount
	var err error
	if a.Restore {
		made, err = node.RestoreAccount(ctx, home, a.Words, options)
	} else {
		made, err = node.CreateAccount(ctx, home, options)
	}
	return control.CreatedAccount{Address: made.Address, Words: made.Words, Password: made.Password, Unchecked: a.Restore}, err
}
