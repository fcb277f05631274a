package mailbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
	"github.com/peerpost/peerpost/mailbox/internal/words"
)

// oracle answers a search by looking at everything.
type oracle struct {
	uid      mail.UID
	message  []byte
	internal time.Time
	flags    []mail.Flag
}

func (o oracle) matches(q *mail.Query) bool {
	x := mime.ParseBytes(o.message)
	header := words.Fold(mime.HeaderText(o.message[:x.Structure.Body], maxText))
	body, err := mime.BodyText(strings.NewReader(string(o.message)), x.Structure, maxText)
	if err != nil {
		panic(err)
	}
	body = words.Fold(body)
	in := func(text, s string) bool { return strings.Contains(text, words.Fold(s)) }
	ok := true
	and := func(b bool) { ok = ok && b }
	if q.UIDs != nil {
		and(slices.ContainsFunc(q.UIDs, func(r mail.UIDRange) bool { return o.uid >= r.First && (r.Last == 0 || o.uid <= r.Last) }))
	}
	for _, f := range q.Flags {
		and(slices.Contains(o.flags, f))
	}
	for _, f := range q.NotFlags {
		and(!slices.Contains(o.flags, f))
	}
	if !q.Since.IsZero() {
		and(!o.internal.Before(q.Since))
	}
	if !q.Before.IsZero() {
		and(o.internal.Before(q.Before))
	}
	if q.Larger > 0 {
		and(int64(len(o.message)) > q.Larger)
	}
	if q.Smaller > 0 {
		and(int64(len(o.message)) < q.Smaller)
	}
	for _, h := range q.Header {
		and(slices.ContainsFunc(mime.Values(o.message[:x.Structure.Body], h.Name), func(v string) bool { return in(words.Fold(mime.DecodeHeader(v)), h.Value) }))
	}
	for _, s := range q.Text {
		and(in(header, s) || in(body, s))
	}
	for _, s := range q.Body {
		and(in(body, s))
	}
	for i := range q.Not {
		and(!o.matches(&q.Not[i]))
	}
	for i := range q.Or {
		and(o.matches(&q.Or[i][0]) || o.matches(&q.Or[i][1]))
	}
	return ok
}

var searchWords = []string{"invoice", "Rechnung", "übermorgen", "東京", "voice", "meeting at noon", "e-mail", "x", "100%", "a", "Straße",
	strings.Repeat("f00dbabe", 20), "ab@cd.example", "  two   spaces ", "<b>bold</b>", "naïve", "INV-2026-001"}

func randomMessage(r *rand.Rand) []byte {
	some := func() string {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteString(searchWords[r.IntN(len(searchWords))] + []string{" ", ", ", "\r\n\t", "", "s "}[r.IntN(5)])
		}
		return strings.TrimSpace(b.String())
	}
	subject := strings.ReplaceAll(strings.ReplaceAll(some(), "\r\n", ""), "\t", " ")
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s <u%d@example.org>\r\nSubject: %s\r\n", []string{"Anna", "=?utf-8?q?J=C3=BCrgen?=", "Bob"}[r.IntN(3)], r.IntN(5), subject)
	if r.IntN(3) == 0 {
		fmt.Fprintf(&b, "X-Extra: %s\r\n", strings.ReplaceAll(subject, "e", "E"))
	}
	if r.IntN(12) == 0 {
		fmt.Fprintf(&b, "X-Long: %s\r\n", strings.Repeat("pad ", maxStoredHeader/4))
	}
	switch r.IntN(3) {
	case 0:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n", some())
	case 1:
		fmt.Fprintf(&b, "Content-Type: text/html; charset=utf-8\r\n\r\n<html><p>%s</p></html>\r\n", strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(some()))
	case 2:
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n--b\r\n"+
			"Content-Type: application/pdf; name=\"Scan 12.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJDREVG\r\n--b--\r\n", some())
	}
	return []byte(b.String())
}

func TestSearchAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	var all []oracle
	base := time.Date(2026, 1, 1, 12, 0, 0, 0, time.Local)
	add := func(n int) {
		for range n {
			o := oracle{message: randomMessage(r), internal: base.AddDate(0, 0, r.IntN(100))}
			for _, f := range []mail.Flag{mail.Seen, mail.Flagged, "work"} {
				if r.IntN(2) == 0 {
					o.flags = append(o.flags, f)
				}
			}
			uid, err := m.Append(t.Context(), in.ID, strings.NewReader(string(o.message)), int64(len(o.message)), o.flags, o.internal)
			tcheck(t, err)
			o.uid = uid
			all = append(all, o)
		}
	}
	fragment := func() string {
		s := []rune(searchWords[r.IntN(len(searchWords))])
		a := r.IntN(len(s))
		s = s[a : a+1+r.IntN(len(s)-a)]
		if r.IntN(4) == 0 {
			return strings.ToUpper(string(s))
		}
		return string(s)
	}
	day := func() time.Time { return time.Date(2026, 1, 1+r.IntN(100), 0, 0, 0, 0, time.UTC) }
	var query func(depth int) mail.Query
	query = func(depth int) (q mail.Query) {
		for range 1 + r.IntN(2) {
			switch r.IntN(9) {
			case 0, 1:
				q.Text = append(q.Text, fragment())
			case 2, 3:
				q.Body = append(q.Body, fragment())
			case 4:
				q.Header = append(q.Header, mail.HeaderQuery{Name: []string{"Subject", "from", "X-EXTRA", "X-Long"}[r.IntN(4)],
					Value: []string{"", fragment(), "jürgen", "pad"}[r.IntN(4)]})
			case 5:
				q.Flags, q.NotFlags = []mail.Flag{mail.Seen}, []mail.Flag{"work"}
			case 6:
				q.Since, q.Before = day(), day()
			case 7:
				q.Larger, q.Smaller = int64(r.IntN(300)), int64(r.IntN(900))
			case 8:
				if depth < 2 {
					q.Or = append(q.Or, [2]mail.Query{query(depth + 1), query(depth + 1)})
					q.Not = append(q.Not, query(depth+1))
				}
			}
		}
		if r.IntN(5) == 0 {
			q.UIDs = []mail.UIDRange{{First: mail.UID(r.IntN(40)), Last: mail.UID(r.IntN(100))}, {First: 70}}
		}
		return q
	}
	check := func(n int) {
		t.Helper()
		for range n {
			q := query(0)
			// Days are compared as days, wherever they are shown.
			local := q
			var localise func(*mail.Query)
			localise = func(q *mail.Query) {
				for _, d := range []*time.Time{&q.Since, &q.Before} {
					if !d.IsZero() {
						*d = time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, time.Local)
					}
				}
				q.Or, q.Not = slices.Clone(q.Or), slices.Clone(q.Not)
				for i := range q.Or {
					localise(&q.Or[i][0])
					localise(&q.Or[i][1])
				}
				for i := range q.Not {
					localise(&q.Not[i])
				}
			}
			localise(&local)
			var want []mail.UID
			for _, o := range all {
				if o.matches(&local) {
					want = append(want, o.uid)
				}
			}
			if got := search(t, m, in.ID, q); !slices.Equal(got, want) {
				t.Fatalf("%+v:\ngot  %v\nwant %v", q, got, want)
			}
		}
	}
	flush := func() {
		t.Helper()
		tcheck(t, m.indexText(t.Context()))
		m.text.step <- struct{}{}
		tcheck(t, m.flushText(t.Context()))
		<-m.text.step
	}
	add(10)
	check(30) // in memory
	for range mergeSegments {
		add(7)
		flush()
	}
	check(50) // in segments
	add(5)
	check(20) // in both
	// Some are gone, and leave the index when segments are joined.
	gone := []mail.UID{1, 2, 3, 4, 5, 6, 30, 31, 60}
	_, _, err := m.SetFlags(t.Context(), in.ID, gone, mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(t, err)
	_, err = m.Expunge(t.Context(), in.ID, nil)
	tcheck(t, err)
	tcheck(t, m.collect(t.Context()))
	all = slices.DeleteFunc(all, func(o oracle) bool { return slices.Contains(gone, o.uid) })
	check(20)
	tcheck(t, m.mergeText(t.Context()))
	count := func() (segments, dicts int64) {
		tcheck(t, m.read(t.Context(), func(c *pages.Conn) (err error) {
			if segments, err = c.Int("SELECT count(*) FROM segment"); err == nil {
				dicts, err = c.Int("SELECT count(*) FROM dict WHERE (id>>24) NOT IN (SELECT id FROM segment)")
			}
			return err
		}))
		return segments, dicts
	}
	if n, left := count(); n != 1 || left != 0 {
		t.Errorf("%d segments after joining, %d blocks left over", n, left)
	}
	check(40)
	_, err = m.Move(t.Context(), in.ID, uidsOf(t, m, in.ID)[:30], "Trash")
	tcheck(t, err)
	all = all[30:]
	tcheck(t, m.tidyText(t.Context()))
	check(20)
}

// TestWordsGoWithTheirMessage checks that the words of deleted mail leave the index.
func TestWordsGoWithTheirMessage(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	put(t, m, in.ID, text("secret", "plutonium"), mail.Deleted)
	put(t, m, in.ID, text("plain", "bread"))
	tcheck(t, m.indexText(t.Context()))
	m.text.step <- struct{}{}
	tcheck(t, m.flushText(t.Context()))
	<-m.text.step
	_, err := m.Expunge(t.Context(), in.ID, nil)
	tcheck(t, err)
	tcheck(t, m.collect(t.Context()))
	tcheck(t, m.tidyText(t.Context()))
	tcheck(t, m.read(t.Context(), func(c *pages.Conn) error {
		for w, want := range map[string]int64{"plutonium": 0, "bread": 1} {
			n, err := c.Int("SELECT count(*) FROM dict WHERE instr(words, CAST(? AS BLOB))", w)
			if err != nil || n != want {
				t.Errorf("%q stands in %d blocks: %v", w, n, err)
			}
		}
		return nil
	}))
}

func TestSearchIsInterrupted(t *testing.T) {
	m := openTest(t, t.TempDir())
	in := inboxOf(t, m)
	for range 20 {
		put(t, m, in.ID, text("a b", "c d"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Search(ctx, in.ID, &mail.Query{Text: []string{"a b"}}); err == nil {
		t.Error("searched although nobody waits")
	}
	deep := mail.Query{}
	for range 2 * maxNesting {
		deep = mail.Query{Not: []mail.Query{deep}}
	}
	if _, err := m.Search(t.Context(), in.ID, &deep); err == nil {
		t.Error("no end to nesting")
	}
}
