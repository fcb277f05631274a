package mailbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// maxFolders bounds the folders of an account: each is in memory.
const maxFolders = 10_000

var errFolders = &mail.Error{Code: [3]int{5, 2, 2}, Public: "too many folders"}

// Folders lists all folders, INBOX first, then by name.
func (m *Mailbox) Folders(ctx context.Context) ([]mail.Folder, error) {
	m.mu.RLock()
	all := make([]mail.Folder, 0, len(m.rooms))
	for _, r := range m.rooms {
		if f := r.now(); f != nil {
			all = append(all, f.describe())
		}
	}
	m.mu.RUnlock()
	slices.SortFunc(all, func(a, b mail.Folder) int {
		if x, y := a.Name == inboxName, b.Name == inboxName; x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return all, ctx.Err()
}

// Folder looks one up by name; mail.ErrNoFolder.
func (m *Mailbox) Folder(_ context.Context, name string) (mail.Folder, error) {
	name, err := canonicalName(name)
	if err != nil {
		return mail.Folder{}, mail.ErrNoFolder
	}
	if r := m.roomOf(name); r != nil {
		if f := r.now(); f != nil {
			return f.describe(), nil
		}
	}
	return mail.Folder{}, mail.ErrNoFolder
}

// CreateFolder makes a folder, and those above it; mail.ErrFolderExists,
// mail.ErrFolderName. Several folders may have the same role; what we file by
// role goes to the oldest.
func (m *Mailbox) CreateFolder(ctx context.Context, name string, role mail.Role) (mail.Folder, error) {
	name, err := canonicalName(name)
	if err != nil {
		return mail.Folder{}, err
	}
	if role == mail.Inbox {
		return mail.Folder{}, mail.ErrFolderExists
	}
	var f *folder
	err = m.write(ctx, func(t *tx) (err error) {
		if _, err := t.byName(name); err == nil {
			return mail.ErrFolderExists
		} else if !errors.Is(err, mail.ErrNoFolder) {
			return err
		}
		if err := t.createAbove(name); err != nil {
			return err
		}
		f, err = t.create(name, role)
		return err
	})
	if err != nil {
		return mail.Folder{}, err
	}
	return f.describe(), nil
}

// createAbove makes the folders above a name that are missing.
func (t *tx) createAbove(name string) error {
	for _, p := range parents(name) {
		_, err := t.byName(p)
		if errors.Is(err, mail.ErrNoFolder) {
			_, err = t.create(p, mail.NoRole)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// create makes a folder of a name that is free. It is subscribed, as clients that know of subscriptions expect of what they create.
func (t *tx) create(name string, role mail.Role) (*folder, error) {
	n, err := t.c.Int("SELECT count(*) FROM folder")
	if err != nil {
		return nil, err
	}
	if n >= maxFolders {
		return nil, errFolders
	}
	validity, err := t.nextValidity()
	if err != nil {
		return nil, err
	}
	if _, err := t.unsubscribe(name); err != nil { // the folder has it from now on
		return nil, err
	}
	f := &folder{
		name: name, role: role, validity: validity, next: 1, modseq: t.nextModSeq(), subscribed: true, roll: emptyRoll,
	}
	err = t.c.Exec(`INSERT INTO folder(name, role, validity, next, modseq, messages, unseen, deleted, size, subscribed)
		VALUES(?,?,?,1,?,0,0,0,0,1)`, name, string(role), uint32(validity), uint64(f.modseq))
	if err != nil {
		return nil, err
	}
	f.id = t.c.LastID()
	t.drafts[f.id] = &draft{state: f}
	return f, nil
}

// DeleteFolder deletes a folder with its messages; those below it stay, and so
// does the subscription of its name (RFC 3501, 6.3.9). mail.ErrRoleFolder for
// INBOX and for the last folder of a role.
func (m *Mailbox) DeleteFolder(ctx context.Context, name string) error {
	name, err := canonicalName(name)
	if err != nil {
		return mail.ErrNoFolder
	}
	return m.writeFreeing(ctx, func(t *tx) error {
		f, err := t.byName(name)
		if err != nil {
			return err
		}
		if err := t.spare(f); err != nil {
			return err
		}
		var contents []int64
		err = t.c.Query("SELECT content FROM message WHERE folder=?", []any{f.id}, func(r *pages.Row) error {
			contents = append(contents, r.ColumnInt64(0))
			return nil
		})
		if err != nil {
			return err
		}
		if err := t.release(contents); err != nil {
			return err
		}
		for _, sql := range []string{
			"DELETE FROM message WHERE folder=?", "DELETE FROM expunged WHERE folder=?", "DELETE FROM folder WHERE id=?",
		} {
			if err := t.c.Exec(sql, f.id); err != nil {
				return err
			}
		}
		if f.subscribed {
			if err := t.keepSubscription(name); err != nil {
				return err
			}
		}
		// The numbers it had are not given again.
		if err := t.setMeta("modseq", int64(t.modseq)); err != nil {
			return err
		}
		t.drafts[f.id] = &draft{}
		return nil
	})
}

// spare fails with mail.ErrRoleFolder unless a folder can be done without.
func (t *tx) spare(f *folder) error {
	if f.role == mail.NoRole {
		return nil
	}
	n, err := t.c.Int("SELECT count(*) FROM folder WHERE role=?", string(f.role))
	if err == nil && n < 2 {
		err = mail.ErrRoleFolder
	}
	return err
}

// RenameFolder renames a folder and those below it. Renaming INBOX moves its
// messages (RFC 9051, 6.3.6).
func (m *Mailbox) RenameFolder(ctx context.Context, from, to string) error {
	from, err := canonicalName(from)
	if err != nil {
		return mail.ErrNoFolder
	}
	if to, err = canonicalName(to); err != nil {
		return err
	}
	return m.write(ctx, func(t *tx) error {
		f, err := t.byName(from)
		if err != nil {
			return err
		}
		if f.role != mail.Inbox {
			if err := t.spare(f); err != nil {
				return err
			}
		}
		if _, err := t.byName(to); err == nil {
			return mail.ErrFolderExists
		} else if !errors.Is(err, mail.ErrNoFolder) {
			return err
		}
		if f.role == mail.Inbox {
			return t.renameInbox(f, to)
		}
		if isBelow(to, from) {
			return fmt.Errorf("%w: a folder cannot be moved below itself", mail.ErrFolderName)
		}
		if err := t.createAbove(to); err != nil {
			return err
		}
		return t.rename(f, from, to)
	})
}

// renameInbox moves the messages of INBOX, which stays, to a new folder.
func (t *tx) renameInbox(f *folder, to string) error {
	if err := t.createAbove(to); err != nil {
		return err
	}
	if _, err := t.create(to, mail.NoRole); err != nil {
		return err
	}
	f, err := t.loaded(f.id)
	if err != nil {
		return err
	}
	_, err = t.copy(f.id, f.roll.uids, to, true)
	return err
}

// rename renames a folder and those below it.
func (t *tx) rename(f *folder, from, to string) error {
	type move struct {
		id   int64
		name string
	}
	moves := []move{{f.id, to}}
	err := t.c.Query("SELECT id, name FROM folder", nil, func(r *pages.Row) error {
		if name := r.ColumnText(1); isBelow(name, from) {
			moves = append(moves, move{r.ColumnInt64(0), to + name[len(from):]})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, x := range moves {
		if name, err := canonicalName(x.name); err != nil || name != x.name {
			return fmt.Errorf("%w: a folder below it would lie too deep", mail.ErrFolderName)
		}
		if _, err := t.byName(x.name); err == nil {
			return mail.ErrFolderExists
		} else if !errors.Is(err, mail.ErrNoFolder) {
			return err
		}
		g, err := t.folder(x.id)
		if err != nil {
			return err
		}
		if err := t.spare(g); err != nil {
			return err
		}
		h := *g
		h.name = x.name
		subscribed, err := t.unsubscribe(x.name)
		if err != nil {
			return err
		}
		h.subscribed = h.subscribed || subscribed
		if err := t.put(&h); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe says whether a folder is among those that a client shows; mail.ErrNoFolder. The name of one that is gone
// can be unsubscribed.
func (m *Mailbox) Subscribe(ctx context.Context, name string, on bool) error {
	name, err := canonicalName(name)
	if err != nil {
		return mail.ErrNoFolder
	}
	return m.write(ctx, func(t *tx) error {
		f, err := t.byName(name)
		if errors.Is(err, mail.ErrNoFolder) && !on {
			subscribed, uerr := t.unsubscribe(name)
			if uerr != nil || subscribed {
				return uerr
			}
		}
		if err != nil || f.subscribed == on {
			return err
		}
		g := *f
		g.subscribed = on
		return t.put(&g)
	})
}

// Subscriptions lists the names that are subscribed though no folder has them any more.
func (m *Mailbox) Subscriptions(ctx context.Context) (names []string, err error) {
	err = m.read(ctx, func(c *pages.Conn) error {
		return c.Query("SELECT name FROM subscription ORDER BY name", nil, func(r *pages.Row) error {
			names = append(names, r.ColumnText(0))
			return nil
		})
	})
	return names, err
}

// keepSubscription remembers the name of a folder that goes, unless there are too many.
func (t *tx) keepSubscription(name string) error {
	return t.c.Exec("INSERT INTO subscription(name) SELECT ? WHERE (SELECT count(*) FROM subscription) < ?", name, maxFolders)
}

// unsubscribe forgets the name of a folder that is gone; false when it was not subscribed.
func (t *tx) unsubscribe(name string) (bool, error) {
	err := t.c.Exec("DELETE FROM subscription WHERE name=?", name)
	return t.c.Changes() > 0, err
}
