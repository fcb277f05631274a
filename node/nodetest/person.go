package nodetest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/control"
)

// Password is the app password of every person.
const Password = "correct horse battery"

// Person is somebody with an account on a node.
type Person struct {
	m       *Machine
	name    string
	address string
	words   string
}

// Status is the state of a running node.
func (m *Machine) Status() control.Status {
	m.c.t.Helper()
	if m.node == nil {
		m.c.t.Fatalf("node %d is off", m.index)
	}
	s, err := m.node.Status(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	return s
}

// Person makes an account on a running node.
func (c *Cluster) Person(i int, name string) *Person {
	c.t.Helper()
	made, err := c.Node[i].node.Control().AddAccount(context.Background(), control.NewAccount{Name: name, Password: Password})
	if err != nil {
		c.t.Fatal(err)
	}
	return &Person{m: c.Node[i], name: name, address: made.Address, words: made.Words}
}

// Address is the person's mail address.
func (p *Person) Address() string { return p.address }

// Words are the recovery words.
func (p *Person) Words() string { return p.words }

// Restore makes the account anew, from the words, on a running node.
func (p *Person) Restore(i int) {
	c := p.m.c
	c.t.Helper()
	p.m = c.Node[i]
	_, err := p.m.node.Control().AddAccount(context.Background(), control.NewAccount{Name: p.name, Password: Password, Restore: true, Words: p.words})
	if err != nil {
		c.t.Fatal(err)
	}
}

// Login unlocks the account, as a mail client would.
func (p *Person) Login() {
	p.m.c.t.Helper()
	if err := p.m.node.Control().Unlock(context.Background(), p.address, Password); err != nil {
		p.m.c.t.Fatal(err)
	}
}

// Mailbox is the person's mail.
func (p *Person) Mailbox() *mailbox.Mailbox {
	p.m.c.t.Helper()
	box, err := p.m.node.Mailbox(context.Background(), p.address, Password)
	if err != nil {
		p.m.c.t.Fatal(err)
	}
	return box
}

// Send writes a text to somebody and returns the id that the outbox gave it.
func (p *Person) Send(to, subject, text string) string {
	p.m.c.t.Helper()
	return p.submit(control.Message{From: p.address, To: []string{to}, Subject: subject, Body: []byte(text)})
}

// SendRaw submits a whole message.
func (p *Person) SendRaw(message []byte, to ...string) string {
	p.m.c.t.Helper()
	return p.submit(control.Message{From: p.address, To: to, Raw: true, Body: message})
}

func (p *Person) submit(m control.Message) string {
	p.m.c.t.Helper()
	sent, err := p.m.node.Control().Send(context.Background(), m)
	if err != nil {
		p.m.c.t.Fatal(err)
	}
	return sent.ID
}

// Outbox is the outgoing mail, by id.
func (p *Person) Outbox() map[string]control.OutboxEntry {
	p.m.c.t.Helper()
	list, err := p.m.node.Control().Outbox(context.Background(), p.address, "")
	if err != nil {
		p.m.c.t.Fatal(err)
	}
	all := make(map[string]control.OutboxEntry)
	for _, e := range list {
		all[e.ID] = e
	}
	return all
}

// WaitState waits until a message has come that far, or further.
func (p *Person) WaitState(id string, states ...control.State) control.OutboxEntry {
	p.m.c.t.Helper()
	var last control.OutboxEntry
	p.m.c.Wait(fmt.Sprintf("%s to be %v", id, states), Patience, func() bool {
		last = p.Outbox()[id]
		for _, s := range states {
			if last.State == s {
				return true
			}
		}
		return false
	})
	return last
}

// Patience is how long the waits of this package last: longer than anything
// that works takes.
const Patience = 2 * time.Minute

// Mail is a message as it was read.
type Mail struct {
	UID     mail.UID
	Subject string
	Raw     string
}

// Folder reads a folder.
func (p *Person) Folder(name string) []Mail {
	p.m.c.t.Helper()
	list, err := readFolder(context.Background(), p.Mailbox(), name)
	if err != nil {
		p.m.c.t.Fatal(err)
	}
	return list
}

// Inbox reads the inbox.
func (p *Person) Inbox() []Mail {
	p.m.c.t.Helper()
	return p.Folder("INBOX")
}

// WaitMail waits until the inbox has n messages and reads them.
func (p *Person) WaitMail(n int) []Mail {
	p.m.c.t.Helper()
	box := p.Mailbox()
	ctx := context.Background()
	p.m.c.Wait(fmt.Sprintf("%s to have %d messages", p.name, n), Patience, func() bool {
		f, err := box.Folder(ctx, "INBOX")
		return err == nil && int(f.Messages) >= n
	})
	return p.Inbox()
}

func readFolder(ctx context.Context, box *mailbox.Mailbox, name string) ([]Mail, error) {
	f, err := box.Folder(ctx, name)
	if err != nil {
		return nil, err
	}
	view, err := box.View(ctx, f.ID)
	if err != nil {
		return nil, err
	}
	var list []Mail
	for _, uid := range view.UIDs {
		body, err := box.Body(ctx, f.ID, uid)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		body.Close()
		if err != nil {
			return nil, err
		}
		list = append(list, Mail{UID: uid, Subject: subject(string(raw)), Raw: string(raw)})
	}
	return list, nil
}

func subject(raw string) string {
	for line := range strings.SplitSeq(raw, "\r\n") {
		if line == "" {
			break
		}
		if s, ok := strings.CutPrefix(line, "Subject: "); ok {
			return s
		}
	}
	return ""
}
