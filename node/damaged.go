package node

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/control"
)

// damaged is an account that cannot be opened. The node runs without it: one bad
// file is no reason to keep the mail of the others from their owners.
type damaged struct {
	address identity.Address // called "?" when its name cannot be read either
	remedy  string
	err     error
}

// damaged describes an account of the home by what went wrong when it was opened.
func (h home) damaged(root identity.Root, err error) damaged {
	dir := h.account(root)
	d := damaged{
		address: identity.Address{Local: "?", Root: root}, err: err,
		remedy: "put the file back from a backup and start the node again, or move " + dir + " out of the home and get the account back with `peerpost restore`",
	}
	if a, err := identity.ReadAddress(dir); err == nil {
		d.address.Local = a.Local
	}
	if errors.Is(err, fs.ErrPermission) {
		d.remedy = "give " + dir + " to the user who runs the node, and start it again"
	}
	return d
}

// refusal is the answer to whoever asks for the account.
func (d damaged) refusal() *control.Error {
	return &control.Error{
		Code: control.CodeFailure, Message: "the account " + d.address.String() + " cannot be opened", Hint: d.remedy, Cause: d.err,
	}
}

func (d damaged) status() control.AccountStatus {
	return control.AccountStatus{
		Address: d.address.String(), Locked: true, Damaged: true, Problem: fmt.Sprintf("it cannot be opened (%v); %s", d.err, d.remedy),
	}
}

// inTheWay makes of the error of a restore, for which there was an account already,
// one that says so when that is damaged: nobody can log in to it.
func (n *Node) inTheWay(words string, err error) error {
	seed, bad := identity.SeedFromWords(words)
	if bad != nil || !errors.Is(err, control.ErrExists) {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if d, ok := n.damaged[seed.Root()]; ok {
		return d.refusal()
	}
	return err
}

// setAside notes a damaged account.
func (n *Node) setAside(d damaged) {
	n.log.Error("an account cannot be opened; the node runs without it", "account", d.address, "err", d.err, "remedy", d.remedy)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.damaged[d.address.Root] = d
}
