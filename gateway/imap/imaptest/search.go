package imaptest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
)

// maxText is the number of bytes of a message's text that are searched.
const maxText = 1 << 20

// Search implements imap.Mailbox. It looks at every message.
func (m *Mailbox) Search(ctx context.Context, folder int64, q *mail.Query) ([]mail.UID, error) {
	if err := m.before(ctx, "Search"); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.folders[folder]
	if f == nil {
		return nil, mail.ErrNoFolder
	}
	var found []mail.UID
	for _, uid := range f.uids {
		if f.messages[uid].matches(q) {
			found = append(found, uid)
		}
	}
	return found, nil
}

func (msg *message) matches(q *mail.Query) bool {
	if q.UIDs != nil && !slices.ContainsFunc(q.UIDs, func(r mail.UIDRange) bool {
		return r.First <= msg.entry.UID && (r.Last == 0 || msg.entry.UID <= r.Last)
	}) {
		return false
	}
	if !within(msg.internal, q.Since, q.Before) || !within(msg.index.Envelope.Date, q.SentSince, q.SentBefore) {
		return false
	}
	for _, f := range q.Flags {
		if !msg.has(f) {
			return false
		}
	}
	for _, f := range q.NotFlags {
		if msg.has(f) {
			return false
		}
	}
	size := int64(len(msg.data))
	if q.Larger > 0 && size <= q.Larger || q.Smaller > 0 && size >= q.Smaller || msg.entry.ModSeq < q.ModSeq {
		return false
	}
	header, _ := mime.Split(msg.data)
	for _, h := range q.Header {
		if !slices.ContainsFunc(mime.Values(header, h.Name), func(v string) bool { return contains(mime.DecodeHeader(v), h.Value) }) {
			return false
		}
	}
	if len(q.Body)+len(q.Text) > 0 {
		body, err := mime.BodyText(bytes.NewReader(msg.data), msg.index.Structure, maxText)
		if err != nil {
			return false
		}
		for _, s := range q.Body {
			if !contains(body, s) {
				return false
			}
		}
		head := mime.HeaderText(header, maxText)
		for _, s := range q.Text {
			if !contains(body, s) && !contains(head, s) {
				return false
			}
		}
	}
	for i := range q.Not {
		if msg.matches(&q.Not[i]) {
			return false
		}
	}
	for i := range q.Or {
		if !msg.matches(&q.Or[i][0]) && !msg.matches(&q.Or[i][1]) {
			return false
		}
	}
	return true
}

// within reports whether the day of t, where it was written, is not before
// since and before before.
func within(t, since, before time.Time) bool {
	if since.IsZero() && before.IsZero() {
		return true
	}
	if t.IsZero() {
		return false
	}
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
