package mailbox

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
	"github.com/peerpost/peerpost/mailbox/internal/words"
)

// Search returns the UIDs of a folder's messages that match, ascending.
// Flags, dates and sizes are looked at in memory; words in the index; and the
// text of a message only where the index cannot be sure.
func (m *Mailbox) Search(ctx context.Context, id int64, q *mail.Query) ([]mail.UID, error) {
	_, f, err := m.state(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &searcher{m: m, ctx: ctx, all: make([]*message, 0, len(f.roll.uids))}
	f.roll.all(func(x *message) bool {
		s.all = append(s.all, x)
		return true
	})
	set := make(selection, len(s.all))
	for i := range set {
		set[i] = true
	}
	if err := s.narrow(set, q, 0); err != nil {
		return nil, err
	}
	var uids []mail.UID
	for i, x := range s.all {
		if set[i] {
			uids = append(uids, x.uid)
		}
	}
	return uids, nil
}

// searcher is one search under way.
type searcher struct {
	m   *Mailbox
	ctx context.Context
	all []*message
}

// selection says of each message whether it can match still.
type selection []bool

// maxNesting bounds the depth of Not and Or.
const maxNesting = 100

// narrow removes from a selection what does not match. What costs little comes first.
func (s *searcher) narrow(set selection, q *mail.Query, depth int) error {
	if depth > maxNesting {
		return &mail.Error{Public: "search is nested too deeply"}
	}
	keep := s.cheap(q)
	for i, x := range s.all {
		set[i] = set[i] && keep(x)
	}
	for _, h := range q.Header {
		if err := s.header(set, h); err != nil {
			return err
		}
	}
	for _, t := range q.Text {
		if err := s.text(set, t, words.Header|words.Body); err != nil {
			return err
		}
	}
	for _, t := range q.Body {
		if err := s.text(set, t, words.Body); err != nil {
			return err
		}
	}
	for i := range q.Or {
		one, two := set.clone(), set.clone()
		if err := s.narrow(one, &q.Or[i][0], depth+1); err != nil {
			return err
		}
		for k := range two {
			two[k] = two[k] && !one[k]
		}
		if err := s.narrow(two, &q.Or[i][1], depth+1); err != nil {
			return err
		}
		for k := range set {
			set[k] = one[k] || two[k]
		}
	}
	for i := range q.Not {
		not := set.clone()
		if err := s.narrow(not, &q.Not[i], depth+1); err != nil {
			return err
		}
		for k := range set {
			set[k] = set[k] && !not[k]
		}
	}
	return nil
}

func (s selection) clone() selection { return append(selection(nil), s...) }

func (s selection) empty() bool {
	for _, x := range s {
		if x {
			return false
		}
	}
	return true
}

// cheap makes the test of what is in memory.
func (s *searcher) cheap(q *mail.Query) func(*message) bool {
	var tests []func(*message) bool
	add := func(f func(*message) bool) { tests = append(tests, f) }
	if q.UIDs != nil {
		add(func(x *message) bool {
			for _, r := range q.UIDs {
				if x.uid >= r.First && (r.Last == 0 || x.uid <= r.Last) {
					return true
				}
			}
			return false
		})
	}
	if !q.Since.IsZero() {
		since := startOfDay(q.Since)
		add(func(x *message) bool { return x.internal >= since })
	}
	if !q.Before.IsZero() {
		before := startOfDay(q.Before)
		add(func(x *message) bool { return x.internal < before })
	}
	if !q.SentSince.IsZero() {
		since := dayOf(q.SentSince)
		add(func(x *message) bool { return x.sent >= since })
	}
	if !q.SentBefore.IsZero() {
		before := dayOf(q.SentBefore)
		add(func(x *message) bool { return x.sent < before })
	}
	if q.Larger > 0 {
		add(func(x *message) bool { return x.size > q.Larger })
	}
	if q.Smaller > 0 {
		add(func(x *message) bool { return x.size < q.Smaller })
	}
	if q.ModSeq > 0 {
		add(func(x *message) bool { return x.modseq >= q.ModSeq })
	}
	if len(q.Flags)+len(q.NotFlags) > 0 {
		known := make(map[*flagSet]bool)
		add(func(x *message) bool {
			ok, seen := known[x.flags]
			if !seen {
				ok = true
				for _, f := range q.Flags {
					ok = ok && x.flags.has(f)
				}
				for _, f := range q.NotFlags {
					ok = ok && !x.flags.has(f)
				}
				known[x.flags] = ok
			}
			return ok
		})
	}
	return func(x *message) bool {
		for _, t := range tests {
			if !t(x) {
				return false
			}
		}
		return true
	}
}

// startOfDay is when the day that a time shows begins here: clients see the times of arrival in the zone of this machine.
func startOfDay(t time.Time) int64 {
	y, mo, d := t.Date()
	return time.Date(y, mo, d, 0, 0, 0, 0, time.Local).Unix()
}

// candidates are the contents that the index names.
type candidates struct{ sure, maybe map[int64]bool }

func (s *searcher) find(n words.Needle, in words.Area) (c candidates, err error) {
	found, err := s.m.find(s.ctx, n, in)
	if err != nil {
		return c, err
	}
	c.sure, c.maybe = make(map[int64]bool, len(found.Sure)), make(map[int64]bool, len(found.Maybe))
	for _, id := range found.Sure {
		c.sure[id] = true
	}
	for _, id := range found.Maybe {
		c.maybe[id] = true
	}
	return c, nil
}

// text narrows to messages that contain a string in an area.
func (s *searcher) text(set selection, value string, in words.Area) error {
	if set.empty() {
		return nil
	}
	n := words.NewNeedle(value)
	if strings.TrimSpace(n.Text()) == "" {
		return nil
	}
	c, err := s.find(n, in)
	if err != nil {
		return err
	}
	var doubtful []int
	for i, x := range s.all {
		if set[i] && !c.sure[x.content] {
			set[i] = false
			if c.maybe[x.content] {
				doubtful = append(doubtful, i)
			}
		}
	}
	return s.verify(doubtful, func(i int) error {
		ok, err := s.contains(s.all[i], n, in)
		set[i] = ok
		return err
	})
}

// verify calls f for each of some messages, several at once.
func (s *searcher) verify(which []int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(len(which), runtime.GOMAXPROCS(0)))
	for k := range errs {
		wg.Go(func() {
			errs[k] = s.m.guard(func() error {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(which) {
						return nil
					}
					if err := s.ctx.Err(); err != nil {
						return err
					}
					if err := f(which[i]); err != nil {
						return err
					}
				}
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// contains looks at the text of a message.
func (s *searcher) contains(x *message, n words.Needle, in words.Area) (bool, error) {
	var u unindexed
	err := s.m.read(s.ctx, func(c *pages.Conn) (err error) {
		if u.content, err = contentOf(c, x.content); err != nil {
			return err
		}
		if in&words.Header != 0 {
			if _, err = c.Get("SELECT bytes FROM header WHERE content=?", []any{x.content},
				func(r *pages.Row) { u.header = r.ColumnBlob(0, nil) }); err != nil {
				return err
			}
		}
		_, err = c.Get("SELECT structure FROM heading WHERE content=?", []any{x.content},
			func(r *pages.Row) { u.structure = r.ColumnBlob(0, nil) })
		return err
	})
	var header, body string
	if err == nil {
		header, body, err = s.m.textOf(s.ctx, &u)
	}
	if err != nil {
		return false, s.unreadable(x, err)
	}
	return in&words.Header != 0 && n.In(header) || in&words.Body != 0 && n.In(body), nil
}

// unreadable says what a message that cannot be read means for the search: it does not match, and is no reason to fail.
func (s *searcher) unreadable(x *message, err error) error {
	switch {
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(err, mail.ErrNoMessage), errors.Is(err, os.ErrNotExist): // expunged meanwhile
	case errors.Is(err, errClosed):
		return err
	default:
		s.m.log.Warn("message not searched", "uid", uint32(x.uid), "error", err)
	}
	return nil
}

// header narrows to messages with a field that contains a string.
func (s *searcher) header(set selection, q mail.HeaderQuery) error {
	if set.empty() {
		return nil
	}
	value := words.NewNeedle(q.Value)
	look := value
	if strings.TrimSpace(value.Text()) == "" {
		look = words.NewNeedle(q.Name) // the names of fields are words of the header too
	}
	c, err := s.find(look, words.Header)
	if err != nil {
		return err
	}
	var which []*message
	places := make(map[int64][]int)
	for i, x := range s.all {
		if !set[i] {
			continue
		}
		set[i] = false
		if c.sure[x.content] || c.maybe[x.content] {
			if places[x.content] == nil {
				which = append(which, x)
			}
			places[x.content] = append(places[x.content], i)
		}
	}
	matches := func(head []byte) bool {
		for _, v := range mime.Values(head, q.Name) {
			if value.In(words.Fold(mime.DecodeHeader(v))) {
				return true
			}
		}
		return false
	}
	for len(which) > 0 {
		batch := which[:min(len(which), readBatch)]
		which = which[len(batch):]
		seen := make(map[int64]bool, len(batch))
		err := s.m.read(s.ctx, func(conn *pages.Conn) error {
			return eachContent(conn, batch, "content, bytes", "header", "content", func(r *pages.Row) error {
				id := r.ColumnInt64(0)
				seen[id] = true
				ok := matches(r.ColumnRawBlob(1))
				for _, i := range places[id] {
					set[i] = ok
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		for _, x := range batch {
			if seen[x.content] {
				continue
			}
			head, err := s.largeHeader(x)
			if err != nil {
				if err := s.unreadable(x, err); err != nil {
					return err
				}
				continue
			}
			ok := matches(head)
			for _, i := range places[x.content] {
				set[i] = ok
			}
		}
	}
	return nil
}

// largeHeader reads a header that the index does not keep.
func (s *searcher) largeHeader(x *message) ([]byte, error) {
	var c content
	var root *mail.Part
	err := s.m.read(s.ctx, func(conn *pages.Conn) (err error) {
		if c, err = contentOf(conn, x.content); err != nil {
			return err
		}
		var uerr error
		_, err = conn.Get("SELECT structure FROM heading WHERE content=?", []any{x.content},
			func(r *pages.Row) { root, uerr = mime.UnmarshalStructure(r.ColumnRawBlob(0)) })
		return errors.Join(err, uerr)
	})
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, mail.ErrNoMessage
	}
	src, err := s.m.open(s.ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }()
	return readRange(src, root.Header, root.Body)
}
