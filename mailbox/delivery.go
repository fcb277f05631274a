package mailbox

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// Delivery is a message that came in.
type Delivery struct {
	Role     mail.Role // of the folder to file it in; INBOX when it is empty or no folder has it
	Message  []byte    // RFC 5322
	Flags    []mail.Flag
	Internal time.Time // zero: now

	// Who sent it under which id: the same message is filed once. A zero
	// Sender is a message of our own (a DSN), which leaves no mark.
	Sender    identity.Root
	MessageID [16]byte
	Expiry    identity.Day
}

// Verdict is what became of a message that came in.
type Verdict struct {
	Delivered bool // filed; otherwise refused
	Reason    string
}

// maxReason is how much of the reason of a refusal is kept, in bytes.
const maxReason = 1000

// File files a message that came in; it is on disk, with its mark, when File
// returns. A message that was filed or refused before is a duplicate: it is
// not filed again, and uid is that of the first time (0 when refused). Whoever
// expects many of those asks Settled first, which is cheaper.
func (m *Mailbox) File(ctx context.Context, d Delivery) (uid mail.UID, duplicate bool, err error) {
	marked := d.Sender != identity.Root{}
	set, err := m.flags.make(d.Flags)
	if err != nil {
		return 0, false, err
	}
	in, err := m.take(ctx, bytes.NewReader(d.Message), int64(len(d.Message)))
	if err != nil {
		return 0, false, err
	}
	err = m.write(ctx, func(t *tx) (err error) {
		if marked {
			if uid, _, duplicate, err = findMark(t.c, d.Sender, d.MessageID); err != nil || duplicate {
				return err
			}
		}
		f, err := t.byRole(d.Role)
		if err != nil {
			return err
		}
		if err := t.insert(in, 1); err != nil {
			return err
		}
		if uid, err = t.add(f, in, set, d.Internal); err != nil || !marked {
			return err
		}
		return t.mark(d.Sender, d.MessageID, d.Expiry, uid, "")
	})
	if err != nil || duplicate {
		m.dropUnless(err, &in.content)
	}
	if err != nil {
		return 0, false, err
	}
	return uid, duplicate, nil
}

// mark remembers what became of a message that came in.
func (t *tx) mark(sender identity.Root, id [16]byte, expiry identity.Day, uid mail.UID, reason string) error {
	return t.c.Exec("INSERT INTO mark(sender, id, expiry, uid, reason) VALUES(?,?,?,?,?)",
		sender[:], id[:], uint32(expiry), uint32(uid), reason)
}

func findMark(c *pages.Conn, sender identity.Root, id [16]byte) (uid mail.UID, reason string, ok bool, err error) {
	ok, err = c.Get("SELECT uid, reason FROM mark WHERE sender=? AND id=?", []any{sender[:], id[:]}, func(r *pages.Row) {
		uid, reason = mail.UID(r.ColumnInt64(0)), r.ColumnText(1)
	})
	return uid, reason, ok, err
}

// Settled tells what became of a message that came in before; false when it is
// not known. It is remembered until 40 days after its expiry.
func (m *Mailbox) Settled(ctx context.Context, sender identity.Root, id [16]byte) (v Verdict, ok bool, err error) {
	err = m.read(ctx, func(c *pages.Conn) error {
		uid, reason, found, err := findMark(c, sender, id)
		v, ok = Verdict{Delivered: uid != 0, Reason: reason}, found
		return err
	})
	if err != nil || !ok {
		return Verdict{}, false, err
	}
	return v, true, nil
}

// Refuse remembers that a message was refused. It does nothing when the
// message has been settled before.
func (m *Mailbox) Refuse(ctx context.Context, sender identity.Root, id [16]byte, reason string, expiry identity.Day) error {
	if (sender == identity.Root{}) {
		return errors.New("refusal of a message without a sender")
	}
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	return m.write(ctx, func(t *tx) error {
		_, _, known, err := findMark(t.c, sender, id)
		if err != nil || known {
			return err
		}
		return t.mark(sender, id, expiry, 0, reason)
	})
}
