package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/control"
	"github.com/peerpost/peerpost/node/courier"
	"github.com/peerpost/peerpost/node/host"
)

// controlled is the node as the command sees it.
type controlled struct{ *Node }

// Outbox lists outgoing mail. What a locked account had sealed is listed
// without recipients and subjects, which are not known then.
func (n controlled) Outbox(ctx context.Context, name, id string) ([]control.OutboxEntry, error) {
	accounts := n.all()
	if name != "" {
		a, err := n.account(name)
		if err != nil {
			return nil, err
		}
		accounts = []*account{a}
	}
	entries := []control.OutboxEntry{}
	for _, a := range accounts {
		list, err := a.outgoing(ctx)
		if err != nil {
			return nil, err
		}
		entries = append(entries, list...)
	}
	slices.SortStableFunc(entries, func(a, b control.OutboxEntry) int { return a.Accepted.Compare(b.Accepted) })
	if id == "" {
		return entries, nil
	}
	entries = slices.DeleteFunc(entries, func(e control.OutboxEntry) bool { return e.ID != id })
	if len(entries) == 0 {
		return nil, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("the outbox has no message %q", id), Hint: "`peerpost outbox` lists what there is"}
	}
	return entries, nil
}

func (a *account) outgoing(ctx context.Context) ([]control.OutboxEntry, error) {
	waiting := a.courier.Waiting()
	var entries []control.OutboxEntry
	o := a.opened()
	if o != nil {
		rows, err := o.outgoing(ctx, mailbox.OutboxFilter{})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			e := control.OutboxEntry{
				ID: idString(row.MessageID), To: row.To.String(), State: control.State(row.State.String()),
				Replicas: row.Replicas, Wanted: row.Wanted, Attempts: row.Attempts, NextAttempt: moment(row.NextAttempt),
				Expires: row.Expires, LastError: row.LastError, Account: a.address.String(), Subject: row.Subject,
				Size: row.Size, Accepted: row.Accepted,
			}
			if w, ok := waiting[row.MessageID]; ok && !row.State.Settled() {
				a.fresh(&e, w)
			}
			entries = append(entries, e)
		}
		return entries, nil
	}
	for id, w := range waiting {
		e := control.OutboxEntry{
			ID: idString(id), Account: a.address.String(), Size: w.Size, Accepted: w.Accepted, Expires: w.Expires,
		}
		a.fresh(&e, w)
		entries = append(entries, e)
	}
	return entries, nil
}

// fresh puts in what the courier knows and the outbox will be told.
func (a *account) fresh(e *control.OutboxEntry, w courier.Waiting) {
	if s := control.State(w.State.String()); w.State != 0 && stateOf(e.State) < w.State {
		e.State = s
	}
	e.Replicas, e.Wanted, e.Attempts, e.NextAttempt, e.LastError = w.Replicas, w.Wanted, w.Attempts, moment(w.Next), w.LastError
}

func stateOf(s control.State) mailbox.State {
	for _, m := range []mailbox.State{mailbox.Accepted, mailbox.Replicated, mailbox.Delivered, mailbox.Displayed, mailbox.Failed} {
		if m.String() == string(s) {
			return m
		}
	}
	return 0
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (n controlled) Invite(_ context.Context, account string) (control.Invite, error) {
	address := ""
	if !n.cfg.Holder || account != "" {
		a, err := n.account(account)
		if err != nil {
			return control.Invite{}, err
		}
		address = a.address.String()
	}
	inv := n.host.Invite(address)
	if address == "" && (len(inv.Peers) == 0 || inv.Peers[0].ID != n.host.ID()) { // it would name others only
		return control.Invite{}, &control.Error{Code: control.CodeNotFound, Message: "this node has no address that others can reach", Hint: "start it with a --listen address"}
	}
	out := control.Invite{Link: inv.String(), Address: address}
	for _, p := range inv.Peers {
		for _, m := range p.Addrs {
			out.Peers = append(out.Peers, m.String()+"/p2p/"+p.ID.String())
		}
	}
	return out, nil
}

// unlockedAccount finds an account that has to be unlocked.
func (n controlled) unlockedAccount(name string) (*account, *open, error) {
	a, err := n.account(name)
	if err != nil {
		return nil, nil, err
	}
	o := a.opened()
	if o == nil {
		return nil, nil, control.ErrLocked
	}
	return a, o, nil
}

func (n controlled) Contacts(ctx context.Context, account string) ([]control.Contact, error) {
	_, o, err := n.unlockedAccount(account)
	if err != nil {
		return nil, err
	}
	list, err := o.box.Contacts(ctx)
	if err != nil {
		return nil, err
	}
	out := []control.Contact{}
	for _, c := range list {
		out = append(out, contact(c))
	}
	return out, nil
}

func contact(c mailbox.Contact) control.Contact {
	known := false
	if r, err := identity.ParseRecord(c.Record); err == nil {
		known = r.Valid(time.Now()) == nil
	}
	return control.Contact{
		Address: identity.Address{Local: c.Local, Root: c.Root}.String(), Name: c.Name, Added: c.Added, Known: known,
	}
}

func (n controlled) AddContact(ctx context.Context, account string, c control.NewContact) (control.Contact, error) {
	a, o, err := n.unlockedAccount(account)
	if err != nil {
		return control.Contact{}, err
	}
	target := c.Target
	if inv, err := host.ParseInvite(target); err == nil {
		target = inv.Address
		n.host.Name(inv.Peers...)
		for _, p := range inv.Peers {
			if err := n.dht.AddPeer(ctx, p); err != nil {
				n.log.Info("a peer of an invite could not be reached", "peer", p.ID, "err", err)
			}
		}
	}
	address, err := identity.ParseAddress(target)
	if err != nil {
		return control.Contact{}, &control.Error{Code: control.CodeInvalid, Message: "this is neither an invite nor an address", Hint: "copy the whole link or address again", Cause: err}
	}
	if err := o.box.PutContact(ctx, mailbox.Contact{Root: address.Root, Local: address.Local, Name: c.Name}); err != nil {
		return control.Contact{}, err
	}
	if _, raw, err := n.network.Resolve(ctx, address.Root); err == nil {
		if err := a.pin(ctx, o, address.Root, raw); err != nil && !pinRefused(err) {
			return control.Contact{}, err
		}
	}
	added, _, err := o.box.Contact(ctx, address.Root)
	return contact(added), err
}

func (n controlled) Send(ctx context.Context, m control.Message) (control.Sent, error) {
	a, o, err := n.unlockedAccount(m.From)
	if err != nil {
		return control.Sent{}, err
	}
	from := a.address
	if given, err := identity.ParseAddress(m.From); err == nil {
		from = given // an alias: the part before the @ is free
	}
	body, err := m.Text(from.String(), time.Now())
	if err != nil {
		return control.Sent{}, err
	}
	s := &submitter{a, o}
	sub := mail.Submission{From: from.String()}
	for _, to := range m.To {
		if err := s.CheckRecipient(ctx, to, int64(len(body))); err != nil {
			return control.Sent{}, err
		}
		sub.Recipients = append(sub.Recipients, mail.Recipient{Address: to})
	}
	rows, err := s.submit(ctx, sub, body)
	if err != nil {
		return control.Sent{}, err
	}
	sent := control.Sent{ID: idString(rows[0].MessageID), From: from.String()}
	for _, r := range rows {
		sent.Recipients = append(sent.Recipients, r.To.String())
	}
	return sent, nil
}

func (n controlled) Export(ctx context.Context, account string, write func(control.ExportedMessage) error) error {
	_, o, err := n.unlockedAccount(account)
	if err != nil {
		return err
	}
	folders, err := o.box.Folders(ctx)
	if err != nil {
		return err
	}
	for _, f := range folders {
		view, err := o.box.View(ctx, f.ID)
		if errors.Is(err, mail.ErrNoFolder) {
			continue
		}
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(view.UIDs, 500) {
			var found []*mail.Message
			err := o.box.Messages(ctx, f.ID, chunk, mail.Want{}, func(m *mail.Message) error {
				c := *m
				found = append(found, &c)
				return nil
			})
			if err != nil {
				return err
			}
			for _, m := range found {
				if err := exportOne(ctx, o.box, f, m, write); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func exportOne(ctx context.Context, box *mailbox.Mailbox, f mail.Folder, m *mail.Message, write func(control.ExportedMessage) error) error {
	body, err := box.Body(ctx, f.ID, m.UID)
	if errors.Is(err, mail.ErrNoMessage) {
		return nil
	}
	if err != nil {
		return err
	}
	defer body.Close()
	e := control.ExportedMessage{
		Folder: f.Name, UID: uint32(m.UID), Internal: m.Internal, Size: body.Size(),
		Body: io.NewSectionReader(body, 0, body.Size()),
	}
	for _, flag := range m.Flags {
		e.Flags = append(e.Flags, string(flag))
	}
	return write(e)
}

func (n controlled) AddAccount(ctx context.Context, a control.NewAccount) (control.CreatedAccount, error) {
	if n.cfg.Holder {
		return control.CreatedAccount{}, &control.Error{Code: control.CodeInvalid, Message: "this node only holds mail for others", Hint: "start it without --holder"}
	}
	opt := AccountOptions{Name: a.Name, Password: a.Password, PasswordName: a.PasswordName, PasswordWork: n.cfg.PasswordWork}
	seen, asked := uint64(0), true
	if a.Restore {
		seen, asked = n.generationOf(ctx, a.Words)
	}
	made, keys, err := n.makeAccount(ctx, a, seen, opt)
	if err != nil {
		return control.CreatedAccount{}, err
	}
	if err := n.admit(ctx, keys.Root(), cmp.Or(made.Password, opt.Password)); err != nil {
		return control.CreatedAccount{}, err
	}
	return control.CreatedAccount{Address: made.Address, Words: made.Words, Password: made.Password, Unchecked: !asked}, nil
}

// makeAccount is restore or createNew, one at a time.
func (n *Node) makeAccount(ctx context.Context, a control.NewAccount, seen uint64, opt AccountOptions) (NewAccount, *identity.Keyring, error) {
	n.making.Lock()
	defer n.making.Unlock()
	if !a.Restore {
		return createNew(ctx, n.home, opt)
	}
	made, keys, err := restore(ctx, n.home, a.Words, seen, opt)
	return made, keys, n.inTheWay(a.Words, err)
}

// admit opens an account that was just made. If it fails the account is removed
// again: nobody has been told its words and its password.
func (n *Node) admit(ctx context.Context, root identity.Root, password string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, n.home.remove(root))
		}
	}()
	a, err := n.openAccount(root)
	if err != nil {
		return err
	}
	// by the password, as every login after it: the vault knows one keyring only
	if _, _, err := a.unlock(ctx, password); err != nil {
		return errors.Join(err, a.close())
	}
	n.board(a)
	return nil
}

// generationOf looks for the roster that a restored account has to outdo, and
// tells whether anybody could be asked for it.
func (n *Node) generationOf(ctx context.Context, words string) (generation uint64, asked bool) {
	seed, err := identity.SeedFromWords(words)
	if err != nil {
		return 0, false
	}
	asked = n.network.joined(ctx)
	r, _, err := n.network.ResolveKey(ctx, identity.RecordKeyHash(seed.Root()))
	if err != nil {
		return 0, asked
	}
	return r.Roster.Generation, asked
}

func (n controlled) Passwords(_ context.Context, account string) ([]control.Password, error) {
	a, err := n.account(account)
	if err != nil {
		return nil, err
	}
	infos, err := a.vault.Passwords()
	if err != nil {
		return nil, err
	}
	list := []control.Password{}
	for _, p := range infos {
		list = append(list, control.Password{Name: p.Name, Created: p.Created})
	}
	return list, nil
}

func (n controlled) AddPassword(_ context.Context, account, name, password string) (control.NewPassword, error) {
	a, o, err := n.unlockedAccount(account)
	if err != nil {
		return control.NewPassword{}, err
	}
	made := control.NewPassword{Name: name}
	if password == "" {
		password = identity.NewPassword()
		made.Password = password
	}
	if taken, err := a.hasPassword(name); err == nil && taken {
		return control.NewPassword{}, &control.Error{Code: control.CodeExists, Message: fmt.Sprintf("there is an app password %q already", name), Hint: "choose another name"}
	}
	return made, passwordError(a.vault.AddPassword(o.keys, name, password))
}

func (a *account) hasPassword(name string) (bool, error) {
	infos, err := a.vault.Passwords()
	return slices.ContainsFunc(infos, func(p identity.PasswordInfo) bool { return p.Name == name }), err
}

func passwordError(err error) error {
	switch {
	case errors.Is(err, identity.ErrPasswordName):
		return &control.Error{Code: control.CodeInvalid, Message: err.Error(), Hint: "use up to 32 lower-case letters, digits and hyphens"}
	case errors.Is(err, identity.ErrLastPassword):
		return &control.Error{Code: control.CodeInvalid, Message: err.Error(), Hint: "add another one first"}
	}
	return err
}

func (n controlled) RemovePassword(_ context.Context, account, name string) error {
	a, err := n.account(account)
	if err != nil {
		return err
	}
	if there, err := a.hasPassword(name); err == nil && !there {
		return &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("there is no app password %q", name), Hint: "`peerpost password list` shows them"}
	}
	return passwordError(a.removePassword(name))
}

func (n controlled) Unlock(ctx context.Context, account, password string) error {
	a, err := n.account(account)
	if err != nil {
		return err
	}
	_, _, err = a.unlock(ctx, password)
	return err
}
