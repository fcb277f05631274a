package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// maxContactName is the longest name of a contact in bytes.
const maxContactName = 255

// Contact is somebody whom the owner knows.
type Contact struct {
	Root    identity.Root
	Name    string // as the owner calls them
	Local   string // local part of the address
	Record  []byte // newest identity record; nil when none was seen
	Added   time.Time
	Updated time.Time
}

// Contacts lists the contacts by name.
func (m *Mailbox) Contacts(ctx context.Context) ([]Contact, error) {
	return m.contacts(ctx, "ORDER BY name, contact.root", nil)
}

// Contact returns one; false when there is none.
func (m *Mailbox) Contact(ctx context.Context, root identity.Root) (Contact, bool, error) {
	all, err := m.contacts(ctx, "WHERE contact.root=?", []any{root[:]})
	if err != nil || len(all) == 0 {
		return Contact{}, false, err
	}
	return all[0], true, nil
}

func (m *Mailbox) contacts(ctx context.Context, rest string, args []any) (all []Contact, err error) {
	err = m.read(ctx, func(c *pages.Conn) error {
		return c.Query(`SELECT contact.root, name, local, record, added, updated FROM contact LEFT JOIN record ON record.root=contact.root `+rest,
			args, func(r *pages.Row) error {
				root := r.ColumnRawBlob(0)
				if len(root) != len(identity.Root{}) {
					return errors.New("damaged row in the index")
				}
				all = append(all, Contact{
					Root: identity.Root(root), Name: r.ColumnText(1), Local: r.ColumnText(2), Record: r.ColumnBlob(3, nil),
					Added: timeOf(r, 4), Updated: timeOf(r, 5),
				})
				return nil
			})
	})
	return all, err
}

// PutContact adds a contact, or changes the Name and Local of one; empty ones
// are left as they are. A Record, if there is one, is pinned.
func (m *Mailbox) PutContact(ctx context.Context, x Contact) error {
	if (x.Root == identity.Root{}) {
		return errors.New("contact without a root key")
	}
	if len(x.Name) > maxContactName || len(x.Local) > maxContactName {
		return &mail.Error{Public: "the name of the contact is too long"}
	}
	now := time.Now().UnixMilli()
	return m.write(ctx, func(t *tx) error {
		if x.Record != nil {
			if err := t.pin(x.Root, x.Record); err != nil {
				return err
			}
		}
		return t.c.Exec(`INSERT INTO contact(root, name, local, added, updated) VALUES(?,?,?,?,?)
			ON CONFLICT(root) DO UPDATE SET name=coalesce(nullif(excluded.name, ''), name),
			local=coalesce(nullif(excluded.local, ''), local), updated=excluded.updated`, x.Root[:], x.Name, x.Local, now, now)
	})
}

// PinRecord remembers the newest identity record of a person, contact or not.
// identity.ErrRollback and identity.ErrFork leave the old one in place.
func (m *Mailbox) PinRecord(ctx context.Context, root identity.Root, record []byte) error {
	old, err := m.Record(ctx, root)
	if err != nil || bytes.Equal(old, record) {
		return err
	}
	return m.write(ctx, func(t *tx) error { return t.pin(root, record) })
}

func (t *tx) pin(root identity.Root, record []byte) error {
	next, err := identity.ParseRecord(record)
	if err != nil {
		return err
	}
	if next.Root() != root {
		return fmt.Errorf("record is of %s, not of %s", next.Root(), root)
	}
	b, err := recordOf(t.c, root)
	if err != nil {
		return err
	}
	var old *identity.Record
	if b != nil {
		if old, err = identity.ParseRecord(b); err != nil {
			return fmt.Errorf("record at hand: %w", err)
		}
	}
	verdict, err := identity.Accept(old, next)
	if err != nil || verdict != identity.Newer {
		return err
	}
	return t.c.Exec("INSERT INTO record(root, record) VALUES(?,?) ON CONFLICT(root) DO UPDATE SET record=excluded.record", root[:], record)
}

// Record returns the newest identity record seen of a person; nil when none was.
func (m *Mailbox) Record(ctx context.Context, root identity.Root) (record []byte, err error) {
	err = m.read(ctx, func(c *pages.Conn) (err error) {
		record, err = recordOf(c, root)
		return err
	})
	return record, err
}

func recordOf(c *pages.Conn, root identity.Root) (record []byte, err error) {
	_, err = c.Get("SELECT record FROM record WHERE root=?", []any{root[:]}, func(r *pages.Row) { record = r.ColumnBlob(0, nil) })
	return record, err
}

// Setting returns a value kept by SetSetting; nil when there is none.
func (m *Mailbox) Setting(ctx context.Context, key string) (value []byte, err error) {
	err = m.read(ctx, func(c *pages.Conn) error {
		_, err := c.Get("SELECT value FROM setting WHERE key=?", []any{key}, func(r *pages.Row) { value = r.ColumnBlob(0, []byte{}) })
		return err
	})
	return value, err
}

// SetSetting keeps a value; nil removes it.
func (m *Mailbox) SetSetting(ctx context.Context, key string, value []byte) error {
	return m.write(ctx, func(t *tx) error {
		if value == nil {
			return t.c.Exec("DELETE FROM setting WHERE key=?", key)
		}
		return t.c.Exec("INSERT INTO setting(key, value) VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=excluded.value", key, value)
	})
}
