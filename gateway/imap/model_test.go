package imap_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

// model is a client that believes what it is told: it numbers messages by
// EXISTS and EXPUNGE alone, and checks every number that it gets.
type model struct {
	*client
	uids  []int // 0 where not known yet
	flags map[int]string
	errs  []string
}

func (m *model) fail(format string, args ...any) {
	m.errs = append(m.errs, fmt.Sprintf(format, args...))
}

// hear takes in one untagged line.
func (m *model) hear(l string) {
	f := strings.Fields(strings.TrimPrefix(l, "* "))
	if len(f) < 2 {
		return
	}
	n, err := strconv.Atoi(f[0])
	if err != nil {
		return
	}
	switch f[1] {
	case "EXISTS":
		if n < len(m.uids) {
			m.fail("EXISTS went from %d to %d", len(m.uids), n)
		}
		for len(m.uids) < n {
			m.uids = append(m.uids, 0)
		}
	case "EXPUNGE":
		if n < 1 || n > len(m.uids) {
			m.fail("EXPUNGE %d of %d", n, len(m.uids))
			return
		}
		delete(m.flags, m.uids[n-1])
		m.uids = slices.Delete(m.uids, n-1, n)
	case "FETCH":
		if n < 1 || n > len(m.uids) {
			m.fail("FETCH of %d, there are %d", n, len(m.uids))
			return
		}
		_, rest, ok := strings.Cut(l, "UID ")
		if ok {
			uid, _ := strconv.Atoi(rest[:strings.IndexAny(rest, " )")])
			if m.uids[n-1] != 0 && m.uids[n-1] != uid {
				m.fail("message %d was UID %d and is now %d", n, m.uids[n-1], uid)
			}
			m.uids[n-1] = uid
		}
		if _, rest, ok := strings.Cut(l, "FLAGS ("); ok && m.uids[n-1] != 0 {
			list := strings.Fields(rest[:strings.IndexByte(rest, ')')])
			slices.Sort(list)
			m.flags[m.uids[n-1]] = strings.Join(list, " ")
		}
	}
}

func (m *model) command(format string, args ...any) (lines []string, status string) {
	lines, status = m.do(format, args...)
	for _, l := range lines {
		m.hear(l)
	}
	return lines, status
}

// TestManyAtOnce lets sessions do what they like to one folder, and then
// compares what each believes with what is there.
func TestManyAtOnce(t *testing.T) {
	const (
		sessions = 34
		steps    = 60
	)
	b := start(t)
	b.fill("INBOX", many(50)...)
	var wg sync.WaitGroup
	models := make([]*model, sessions)
	for i := range models {
		m := &model{client: b.login(), flags: map[int]string{}}
		m.command("SELECT INBOX")
		models[i] = m
		wg.Go(func() {
			m.command("FETCH 1:* (UID FLAGS)")
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range steps {
				m.step(r)
			}
		})
	}
	wg.Wait()
	ctx := context.Background()
	f, err := b.mailbox.Folder(ctx, "INBOX")
	check(t, err)
	view, err := b.mailbox.View(ctx, f.ID)
	check(t, err)
	entries, err := b.mailbox.Entries(ctx, f.ID, view.UIDs)
	check(t, err)
	for i, m := range models {
		m.command("NOOP")
		known := slices.Clone(m.uids)
		for j, e := range entries {
			if j < len(known) && known[j] != 0 {
				if known[j] != int(e.UID) {
					t.Fatalf("session %d: message %d is UID %d, believed %d", i, j+1, e.UID, known[j])
				}
				if got, ok := m.flags[known[j]]; ok && got != sortedFlags(e.Flags) {
					t.Fatalf("session %d: UID %d has flags %q, believed %q", i, e.UID, sortedFlags(e.Flags), got)
				}
			}
		}
		m.command("FETCH 1:* (UID FLAGS)")
		if len(m.uids) != len(view.UIDs) {
			t.Errorf("session %d: %d messages, believed %d", i, len(view.UIDs), len(m.uids))
		}
		for _, e := range m.errs {
			t.Errorf("session %d: %s", i, e)
		}
	}
}

func sortedFlags(list []mail.Flag) string {
	var s []string
	for _, f := range list {
		s = append(s, string(f))
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

func (m *model) step(r *rand.Rand) {
	n := max(1, len(m.uids))
	a, z := 1+r.IntN(n), 1+r.IntN(n)
	a, z = min(a, z), min(max(a, z), min(a, z)+5)
	flag := []string{`\Seen`, `\Flagged`, `\Deleted`, "work", "$Junk"}[r.IntN(5)]
	switch r.IntN(16) {
	case 0, 1:
		lines, status := m.upload("INBOX", "", simple(r.IntN(1000)))
		for _, l := range lines {
			m.hear(l)
		}
		if !strings.HasPrefix(status, "OK") {
			m.fail("APPEND: %s", status)
		}
	case 2, 3:
		m.command("STORE %d:%d +FLAGS (%s)", a, z, flag)
	case 4:
		m.command("STORE %d:%d -FLAGS.SILENT (%s)", a, z, flag)
		for i := a; i <= min(z, len(m.uids)); i++ {
			delete(m.flags, m.uids[i-1]) // not told
		}
		// Ghosts keep their flags, so ask.
		m.command("UID FETCH 1:* (FLAGS)")
	case 5:
		m.command("EXPUNGE")
	case 6:
		m.command("UID MOVE %d:%d INBOX", a, a+1)
	case 7:
		m.command("UID COPY %d:%d INBOX", a, a+1)
	case 8:
		m.command("FETCH %d:%d (UID FLAGS)", a, z)
	case 9:
		m.command("FETCH %d:%d (UID BODY[HEADER.FIELDS (SUBJECT)])", a, z)
	case 10:
		lines, _ := m.command("SEARCH RETURN (MIN MAX COUNT) ALL")
		if len(lines) > 0 && !strings.HasPrefix(lines[0], "* ESEARCH") {
			m.fail("SEARCH: %q", lines)
		}
	case 11:
		tag := m.send("IDLE")
		for l := m.line(); !strings.HasPrefix(l, "+ "); l = m.line() {
			m.hear(l)
		}
		m.write("DONE\r\n")
		lines, _ := m.finish(tag)
		for _, l := range lines {
			m.hear(l)
		}
	case 12:
		m.command("UID STORE %d:%d +FLAGS.SILENT (%s)", a, z, `\Deleted`)
		m.command("UID FETCH 1:* (FLAGS)")
		m.command("UID EXPUNGE %d:%d", a, z)
	default:
		m.command("NOOP")
	}
}
