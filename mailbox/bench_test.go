package mailbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// The corpus resembles that of the project's bench: 85 % of 4 KB, 14 % of 75 KB, 1 % of 1 MB, with planted words.
const (
	rareFrom = "quixotezarn"
	rareBody = "zephyrquandary"
)

type corpus struct {
	vocabulary []string
	lines      []string
}

func newCorpus() *corpus {
	r := rand.New(rand.NewPCG(1, 2))
	c := &corpus{}
	for range 20_000 {
		var w strings.Builder
		for range 1 + r.IntN(4) {
			w.WriteString([]string{"ka", "lo", "mi", "ne", "ru", "sa", "to", "ve", "ber", "dan", "fel", "gor", "hin", "jas", "kel", "lun", "mar", "sten"}[r.IntN(18)])
		}
		c.vocabulary = append(c.vocabulary, w.String())
	}
	z := rand.NewZipf(r, 1.2, 4, uint64(len(c.vocabulary)-1))
	for range 20_000 {
		var l strings.Builder
		for l.Len() < 66 {
			l.WriteString(c.vocabulary[z.Uint64()] + " ")
		}
		c.lines = append(c.lines, l.String()+"\r\n")
	}
	return c
}

func (c *corpus) message(i int) []byte {
	r := rand.New(rand.NewPCG(9, uint64(i)))
	size := 4_000
	switch {
	case i%100 == 50:
		size = 1_000_000
	case i%7 == 3:
		size = 75_000
	}
	var b bytes.Buffer
	for range 3 {
		fmt.Fprintf(&b, "Received: from mx%d.example (mx.example [192.0.2.%d])\r\n\tby mail.example (Postfix) with ESMTPS id %X\r\n\tfor <bob@example>; Mon, 02 Mar 2026 10:00:00 +0000\r\n", r.IntN(9), r.IntN(250), r.Uint32())
	}
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; d=example; s=s1;\r\n\th=from:to:subject:date;\r\n\tb=%x%x%x%x%x%x%x%x\r\n",
		r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
	name := c.vocabulary[r.IntN(500)]
	if i%199 == 7 {
		name = "Prof " + rareFrom
	}
	fmt.Fprintf(&b, "From: %s <%s@%s.example>\r\nTo: <bob@example.org>\r\nSubject: %s %s\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-ID: <%d@bench.example>\r\nMIME-Version: 1.0\r\n",
		name, c.vocabulary[r.IntN(200)], c.vocabulary[r.IntN(50)], c.vocabulary[r.IntN(1500)], c.vocabulary[r.IntN(1500)], i)
	textOf := func(n int) {
		for end := b.Len() + n; b.Len() < end; {
			b.WriteString(c.lines[r.IntN(len(c.lines))])
		}
		if i%97 == 3 {
			b.WriteString("and " + rareBody + " here\r\n")
		}
	}
	switch size {
	case 4_000:
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\n\r\n")
		textOf(size - b.Len())
	case 75_000:
		b.WriteString("Content-Type: multipart/alternative; boundary=\"bd\"\r\n\r\n--bd\r\nContent-Type: text/plain\r\n\r\n")
		textOf(size / 5)
		b.WriteString("\r\n--bd\r\nContent-Type: text/html\r\n\r\n<html><body><table><tr><td>\r\n")
		textOf(size - b.Len())
		b.WriteString("</td></tr></table></body></html>\r\n--bd--\r\n")
	default:
		b.WriteString("Content-Type: multipart/mixed; boundary=\"bd\"\r\n\r\n--bd\r\nContent-Type: text/plain\r\n\r\n")
		textOf(2_000)
		b.WriteString("\r\n--bd\r\nContent-Type: application/pdf; name=\"report.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		line := strings.Repeat("QUJD", 19) + "\r\n"
		for b.Len() < size {
			b.WriteString(line)
		}
		b.WriteString("\r\n--bd--\r\n")
	}
	return b.Bytes()
}

const benchMessages = 10_000

// cpu is the processor time that this process used.
func cpu() time.Duration {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// BenchmarkMailbox measures, one after another, what a client does with 10,000 messages. Each part is a sub-benchmark
// whose time is that of the whole command.
func BenchmarkMailbox(b *testing.B) {
	dir := b.TempDir()
	m, err := Open(b.Context(), Config{Dir: dir, Keys: testKeys, Log: testLog(b)})
	tcheck(b, err)
	defer func() { tcheck(b, m.Close()) }()
	if os.Getenv("NORUN") == "" {
		stop := run(b, m)
		defer stop()
	}
	ctx := b.Context()
	c := newCorpus()
	f, err := m.CreateFolder(ctx, "Bench", mail.NoRole)
	tcheck(b, err)
	total := int64(0)
	n := 0
	b.Run("APPEND", func(b *testing.B) {
		for b.Loop() {
			if n < benchMessages {
				x := c.message(n)
				total += int64(len(x))
				n++
				var flags []mail.Flag
				if n%3 == 0 {
					flags = []mail.Flag{mail.Seen}
				}
				_, err := m.Append(ctx, f.ID, bytes.NewReader(x), int64(len(x)), flags, time.Unix(1_750_000_000+int64(n)*3600, 0))
				tcheck(b, err)
			}
		}
	})
	start, used := time.Now(), cpu()
	from := n
	for ; n < benchMessages; n++ {
		x := c.message(n)
		total += int64(len(x))
		var flags []mail.Flag
		if n%3 == 0 {
			flags = []mail.Flag{mail.Seen}
		}
		_, err := m.Append(ctx, f.ID, bytes.NewReader(x), int64(len(x)), flags, time.Unix(1_750_000_000+int64(n)*3600, 0))
		tcheck(b, err)
	}
	if n > from {
		b.Logf("APPEND of the rest: %.0f a second, %.2f ms of CPU each with the chores", float64(n-from)/time.Since(start).Seconds(),
			(cpu()-used).Seconds()*1000/float64(n-from))
	}
	start = time.Now()
	tcheck(b, m.indexText(ctx))
	b.Logf("index the rest: %v, %d MB of messages", time.Since(start), total>>20)
	start = time.Now()
	for {
		count, _ := m.backlog.counted()
		if count == 0 {
			break
		}
		tcheck(b, m.spool(ctx))
	}
	b.Logf("make files of the rest: %v", time.Since(start))
	for _, name := range []string{"index.db", "index.db-wal"} {
		if s, err := os.Stat(dir + "/" + name); err == nil {
			b.Logf("%s: %d MB", name, s.Size()>>20)
		}
	}
	all := uidsOf(b, m, f.ID)
	b.Run("SELECT/cold", func(b *testing.B) {
		for b.Loop() {
			r := m.room(f.ID)
			r.used.Store(0)
			tcheck(b, m.forget(ctx, time.Now()))
			if r.now().roll != nil {
				b.Fatal("still in memory")
			}
			uidsOf(b, m, f.ID)
		}
	})
	b.Run("FETCH/flags", func(b *testing.B) {
		for b.Loop() {
			_, err := m.Entries(ctx, f.ID, all)
			tcheck(b, err)
		}
	})
	for name, want := range map[string]mail.Want{"FETCH/envelope": {Envelope: true}, "FETCH/structure": {Structure: true}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				k := 0
				tcheck(b, m.Messages(ctx, f.ID, all, want, func(*mail.Message) error { k++; return nil }))
				if k != len(all) {
					b.Fatalf("%d messages", k)
				}
			}
		})
	}
	b.Run("FETCH/headers", func(b *testing.B) {
		buf := make([]byte, 1000)
		for b.Loop() {
			for _, uid := range all {
				x, err := m.Body(ctx, f.ID, uid)
				tcheck(b, err)
				_, err = x.ReadAt(buf[:400], 0)
				tcheck(b, err)
				tcheck(b, x.Close())
			}
		}
	})
	b.Run("FETCH/body", func(b *testing.B) {
		i := 0
		for b.Loop() {
			bodyOf(b, m, f.ID, all[(i*7919)%len(all)])
			i++
		}
	})
	for _, q := range []struct {
		name  string
		query mail.Query
		want  int
	}{
		{"FROM", mail.Query{Header: []mail.HeaderQuery{{Name: "From", Value: rareFrom}}}, count(7, 199)},
		{"TEXT", mail.Query{Text: []string{rareBody}}, count(3, 97)},
		{"BODY", mail.Query{Body: []string{rareBody}}, count(3, 97)},
		{"TEXT/fragment", mail.Query{Text: []string{"phyrquan"}}, count(3, 97)},
		{"TEXT/phrase", mail.Query{Text: []string{"and " + rareBody}}, count(3, 97)},
		{"TEXT/common", mail.Query{Text: []string{"ka"}}, benchMessages},
		{"SINCE", mail.Query{Since: time.Unix(1_750_000_000+5000*3600, 0)}, -1},
	} {
		b.Run("SEARCH/"+q.name, func(b *testing.B) {
			for b.Loop() {
				if got := search(b, m, f.ID, q.query); len(got) != q.want && q.want >= 0 {
					b.Fatalf("%d found, want %d", len(got), q.want)
				}
			}
		})
	}
	b.Run("STORE/all", func(b *testing.B) {
		op := mail.AddFlags
		for b.Loop() {
			_, _, err := m.SetFlags(ctx, f.ID, all, op, []mail.Flag{mail.Flagged}, 0)
			tcheck(b, err)
			op = mail.AddFlags + mail.RemoveFlags - op
		}
	})
	b.Run("STORE/one", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, _, err := m.SetFlags(ctx, f.ID, all[i%len(all):i%len(all)+1], mail.FlagOp(1+i/len(all)%2), []mail.Flag{mail.Answered}, 0)
			tcheck(b, err)
			i++
		}
	})
	b.Run("COPY/1000", func(b *testing.B) {
		for b.Loop() {
			_, err := m.Copy(ctx, f.ID, all[:1000], "Archive")
			tcheck(b, err)
		}
	})
	archive := folderOf(b, m, "Archive")
	b.Run("EXPUNGE/1000", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			uids := uidsOf(b, m, archive.ID)
			if len(uids) < 1000 {
				_, err := m.Copy(ctx, f.ID, all[:1000], "Archive")
				tcheck(b, err)
				uids = uidsOf(b, m, archive.ID)
			}
			_, _, err := m.SetFlags(ctx, archive.ID, uids[:1000], mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
			tcheck(b, err)
			b.StartTimer()
			gone, err := m.Expunge(ctx, archive.ID, uids[:1000])
			tcheck(b, err)
			if len(gone) != 1000 {
				b.Fatalf("%d expunged", len(gone))
			}
		}
	})
	_, _, err = m.SetFlags(ctx, f.ID, all[:1000], mail.AddFlags, []mail.Flag{mail.Deleted}, 0)
	tcheck(b, err)
	start = time.Now()
	_, err = m.Expunge(ctx, f.ID, nil)
	tcheck(b, err)
	b.Logf("EXPUNGE of 1000 last copies: %v", time.Since(start))
	start = time.Now()
	tcheck(b, m.collect(ctx))
	b.Logf("collect them: %v", time.Since(start))
}

func count(first, step int) int { return (benchMessages - first + step - 1) / step }

// BenchmarkTell measures how long it takes until 200 idle sessions know of a change.
func BenchmarkTell(b *testing.B) {
	m := openTest(b, b.TempDir())
	in := inboxOf(b, m)
	message := text("hello", "world")
	for range 1000 {
		put(b, m, in.ID, message)
	}
	view, err := m.View(b.Context(), in.ID)
	tcheck(b, err)
	since := view.ModSeq
	for b.Loop() {
		b.StopTimer()
		put(b, m, in.ID, message)
		b.StartTimer()
		for range 200 {
			c, err := m.Changes(b.Context(), in.ID, since)
			tcheck(b, err)
			if len(c.Entries) != 1 {
				b.Fatalf("%+v", c)
			}
			view.ModSeq = c.ModSeq
		}
		since = view.ModSeq
	}
}
