package imap

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
)

// Bounds of a search.
const (
	maxSearchDepth = 32  // NOT and OR within each other
	maxSearchTerms = 500 // conditions in all
)

// Search finds messages. Only those that the client knows of are answered.
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, options *imap.SearchOptions) (*imap.SearchData, error) {
	s.conn.Flush()
	ctx, end := s.begin(searchTimeout)
	defer end()
	v, err := s.folder()
	if err != nil {
		return nil, err
	}
	b := &queryBuilder{v: v}
	q, err := b.query(criteria, 0)
	var uids []mail.UID
	if err == nil {
		uids, err = s.mailbox.Search(ctx, v.id, &q)
		err = s.answer("SEARCH", err)
	}
	if err != nil {
		if options.ReturnSave {
			v.saved = nil // RFC 5182, 2.1
		}
		return nil, err
	}
	return v.found(uids, kind, options), nil
}

// found answers a search, and remembers its result when asked to.
func (v *selected) found(uids []mail.UID, kind imapserver.NumKind, options *imap.SearchOptions) *imap.SearchData {
	known := make([]mail.UID, 0, len(uids))
	var seqs []uint32
	rest, offset := v.uids, 0
	for _, uid := range uids {
		i, ok := slices.BinarySearch(rest, uid)
		rest, offset = rest[i:], offset+i
		if !ok {
			continue
		}
		known = append(known, uid)
		if kind == imapserver.NumKindSeq {
			seqs = append(seqs, uint32(offset)+1)
		}
	}
	data := &imap.SearchData{Count: uint32(len(known))}
	if kind == imapserver.NumKindSeq {
		data.All = seqSet(seqs)
		if n := len(seqs); n > 0 {
			data.Min, data.Max = seqs[0], seqs[n-1]
		}
	} else {
		data.All = uidSet(known)
		if n := len(known); n > 0 {
			data.Min, data.Max = uint32(known[0]), uint32(known[n-1])
		}
	}
	if options.ReturnSave {
		// With MIN or MAX alone, these are the result (RFC 5182, 2.4).
		if n := len(known); n > 0 && !options.ReturnAll && !options.ReturnCount && (options.ReturnMin || options.ReturnMax) {
			var ends []mail.UID
			if options.ReturnMin {
				ends = append(ends, known[0])
			}
			if options.ReturnMax && (!options.ReturnMin || n > 1) {
				ends = append(ends, known[n-1])
			}
			known = ends
		}
		v.saved = nil
		for a, b := range runs(known) {
			v.saved = append(v.saved, mail.UIDRange{First: a, Last: b})
		}
	}
	return data
}

// queryBuilder turns what the library parsed into a mail.Query.
type queryBuilder struct {
	v     *selected
	terms int
}

func (b *queryBuilder) query(c *imap.SearchCriteria, depth int) (mail.Query, error) {
	var q mail.Query
	b.terms += 1 + len(c.SeqNum) + len(c.UID) + len(c.Flag) + len(c.NotFlag) + len(c.Header) + len(c.Body) + len(c.Text)
	if depth > maxSearchDepth || b.terms > maxSearchTerms {
		return q, refuse(imap.ResponseCodeLimit, "The search has too many conditions")
	}
	if c.ModSeq != nil {
		q.ModSeq = mail.ModSeq(c.ModSeq.ModSeq)
	}
	q.Since, q.Before = c.Since, c.Before
	q.SentSince, q.SentBefore = c.SentSince, c.SentBefore
	q.Larger, q.Smaller = c.Larger, c.Smaller

	for _, set := range c.SeqNum {
		b.only(&q, b.sequence(set))
	}
	for _, set := range c.UID {
		b.only(&q, sorted(b.v.uidRanges(set)))
	}
	for _, f := range c.Flag {
		if isRecent(f) {
			q.UIDs = never // no message is recent
			continue
		}
		q.Flags = append(q.Flags, mail.Flag(f).Canonical())
	}
	for _, f := range c.NotFlag {
		if !isRecent(f) {
			q.NotFlags = append(q.NotFlags, mail.Flag(f).Canonical())
		}
	}
	for _, h := range c.Header {
		if !isText(h.Key) || !isText(h.Value) {
			return q, errNotUTF8
		}
		q.Header = append(q.Header, mail.HeaderQuery{Name: h.Key, Value: h.Value})
	}
	var err error
	if q.Body, err = texts(c.Body); err != nil {
		return q, err
	}
	if q.Text, err = texts(c.Text); err != nil {
		return q, err
	}
	for i := range c.Not {
		n, err := b.query(&c.Not[i], depth+1)
		if err != nil {
			return q, err
		}
		q.Not = append(q.Not, n)
	}
	for i := range c.Or {
		var or [2]mail.Query
		for j := range or {
			if or[j], err = b.query(&c.Or[i][j], depth+1); err != nil {
				return q, err
			}
		}
		q.Or = append(q.Or, or)
	}
	return q, nil
}

// only adds the condition that the UID is in one of the ranges.
func (b *queryBuilder) only(q *mail.Query, rs []mail.UIDRange) {
	if q.UIDs != nil {
		rs = intersect(q.UIDs, rs)
	}
	if len(rs) == 0 {
		rs = never
	}
	q.UIDs = rs
}

// sequence returns the UIDs of sequence numbers. What is between two UIDs of
// the view is no message, so a range stays a range.
func (b *queryBuilder) sequence(set imap.SeqSet) []mail.UIDRange {
	var spans []span
	for _, r := range set {
		if sp, ok := b.v.positions(r); ok {
			spans = append(spans, sp)
		}
	}
	var rs []mail.UIDRange
	for _, sp := range tidy(spans) {
		rs = append(rs, mail.UIDRange{First: b.v.uids[sp.lo], Last: b.v.uids[sp.hi-1]})
	}
	return rs
}

var errNotUTF8 = refuse(imap.ResponseCodeBadCharset, "Texts to search for must be UTF-8")

// texts checks texts to search for. Every message contains the empty one.
func texts(list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		if !isText(s) {
			return nil, errNotUTF8
		}
		if s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func isRecent(f imap.Flag) bool { return strings.EqualFold(string(f), `\Recent`) }
