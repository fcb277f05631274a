package mailbox

import (
	"context"
	"errors"
	"io"
	"math"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

// Append stores a message; it is on disk when Append returns. A client's copy
// of a message that was accepted for sending within the last hour is not
// stored twice: its flags join the copy that is there, whose UID is returned.
func (m *Mailbox) Append(ctx context.Context, id int64, r io.Reader, size int64, flags []mail.Flag, internal time.Time) (mail.UID, error) {
	set, err := m.flags.make(flags)
	if err != nil {
		return 0, err
	}
	room := m.room(id)
	if room == nil {
		return 0, mail.ErrNoFolder
	}
	if f := room.now(); f != nil && f.role == mail.Sent {
		if err := m.settleAccepts(ctx); err != nil { // this may be a copy of one
			return 0, err
		}
	}
	in, err := m.take(ctx, r, size)
	if err != nil {
		return 0, err
	}
	var uid mail.UID
	copied := false
	err = m.write(ctx, func(t *tx) error {
		f, err := t.folder(id)
		if err != nil {
			return err
		}
		if uid, copied, err = t.sentCopy(f, in.messageID, set); err != nil || copied {
			return err
		}
		if err := t.insert(in, 1); err != nil {
			return err
		}
		uid, err = t.add(f, in, set, internal)
		return err
	})
	if err != nil || copied {
		m.dropUnless(err, &in.content)
	}
	return uid, err
}

var errFull = errors.New("folder has used up its UIDs")

// add puts a message whose content is in the index into a folder.
func (t *tx) add(f *folder, in *incoming, flags *flagSet, internal time.Time) (mail.UID, error) {
	if internal.IsZero() {
		internal = time.Now()
	}
	sent := in.sent
	if sent.IsZero() {
		sent = internal
	}
	g, e, err := t.extend(f)
	if err != nil {
		return 0, err
	}
	x := message{
		flags: flags, modseq: t.nextModSeq(), content: in.id,
		internal: internal.Unix(), size: in.size, sent: dayOf(sent),
	}
	uids, err := t.append(g, e, []message{x})
	if err != nil {
		return 0, err
	}
	return uids[0], t.put(g, change{modseq: x.modseq, touched: uids})
}

// extend begins a new state of a folder; the edit is nil when the messages are not in memory.
func (t *tx) extend(f *folder) (*folder, *rollEdit, error) {
	g := *f
	if g.roll == nil {
		return &g, nil, nil
	}
	return &g, g.roll.edit(), nil
}

// append gives messages their UIDs and adds them to a new state of a folder.
func (t *tx) append(g *folder, e *rollEdit, messages []message) ([]mail.UID, error) {
	uids := make([]mail.UID, len(messages))
	for i := range messages {
		x := &messages[i]
		if g.next == math.MaxUint32 {
			return nil, errFull
		}
		x.uid = g.next
		g.next++
		g.modseq = max(g.modseq, x.modseq)
		g.count(x, 1)
		if e != nil {
			e.add(*x)
		}
		uids[i] = x.uid
		if err := t.c.Exec("INSERT INTO message(folder, uid, modseq, flags, content, internal, size, sent) VALUES(?,?,?,?,?,?,?,?)",
			g.id, uint32(x.uid), uint64(x.modseq), x.flags.text, x.content, x.internal, x.size, int(x.sent)); err != nil {
			return nil, err
		}
	}
	if e != nil {
		g.roll = e.done()
	}
	return uids, nil
}

// dayOf numbers the day that a time shows, whatever its zone.
func dayOf(t time.Time) int32 {
	y, mo, d := t.Date()
	days := time.Date(y, mo, d, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)
	return int32(min(max(days, math.MinInt32), math.MaxInt32))
}

// copyWithin is how long after accepting a message a client's own copy of it is matched.
const copyWithin = time.Hour

// sentCopy matches what is appended to the Sent folder with an accepted
// message, once for each.
func (t *tx) sentCopy(f *folder, messageID string, flags *flagSet) (uid mail.UID, ok bool, err error) {
	if f.role != mail.Sent || messageID == "" {
		return 0, false, nil
	}
	var submission int64
	found, err := t.c.Get(`SELECT id, uid FROM submission WHERE message_id=? AND uid IS NOT NULL AND folder=? AND accepted>=?
		ORDER BY id LIMIT 1`, []any{messageID, f.id, time.Now().Add(-copyWithin).UnixMilli()},
		func(r *pages.Row) { submission, uid = r.ColumnInt64(0), mail.UID(r.ColumnInt64(1)) })
	if err != nil || !found {
		return 0, false, err
	}
	if err := t.c.Exec("UPDATE submission SET uid=NULL WHERE id=?", submission); err != nil {
		return 0, false, err
	}
	if f, err = t.loaded(f.id); err != nil {
		return 0, false, err
	}
	x := f.roll.get(uid)
	if x == nil { // deleted or moved
		return 0, false, nil
	}
	if _, _, err := t.setFlags(f, []mail.UID{uid}, mail.AddFlags, flags, 0); err != nil {
		return 0, false, err
	}
	return uid, true, nil
}
