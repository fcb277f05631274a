package imap_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/imap"
)

// typical is a message as mail clients send it: two texts and an attachment.
func typical(n int) string {
	return fmt.Sprintf(crlf(`
Return-Path: <bob@example.org>
From: =?utf-8?q?Bob_B=C3=B6hm?= <bob@example.org>
To: Alice <alice@example.org>, Carol <carol@example.org>
Cc: list@example.net
Subject: Re: message number %d about this and that
Date: Fri, 20 Nov 2026 10:00:00 +0100
Message-ID: <%d.abcdef@example.org>
In-Reply-To: <%d.fedcba@example.net>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer-%d"

--outer-%d
Content-Type: multipart/alternative; boundary="inner"

--inner
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

Hello
--inner
Content-Type: text/html; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

<p>Hello</p>
--inner--
--outer-%d
Content-Type: application/pdf; name="paper.pdf"
Content-Disposition: attachment; filename="paper.pdf"
Content-Transfer-Encoding: base64

JVBERi0xLjQK
--outer-%d--
`), n, n, n, n, n, n, n)
}

func BenchmarkFetch(b *testing.B) {
	const n = 10_000
	s := start(b)
	for i := range n {
		s.fill("INBOX", typical(i))
	}
	c := s.selected()
	c.r = bufio.NewReaderSize(c.c, 64<<10)
	for _, items := range []string{"FLAGS", "(UID FLAGS)", "ENVELOPE", "BODYSTRUCTURE", "(UID RFC822.SIZE INTERNALDATE FLAGS)", "BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)]", "BODY.PEEK[]"} {
		b.Run(items, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tag := []byte(c.send("FETCH 1:* %s", items) + " ")
				c.c.SetDeadline(time.Now().Add(time.Minute))
				lines := 0
				for {
					l, err := c.r.ReadSlice('\n')
					check(b, err)
					if bytes.HasPrefix(l, tag) {
						break
					}
					if bytes.HasPrefix(l, []byte("* ")) {
						lines++
					}
				}
				if lines != n {
					b.Fatalf("%d lines", lines)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10000")
		})
	}
	b.Run("STORE", func(b *testing.B) {
		for i := range b.N {
			c.ok("STORE 1:* %cFLAGS.SILENT (\\Flagged)", "+-"[i%2])
		}
	})
	b.Run("SEARCH", func(b *testing.B) {
		for b.Loop() {
			c.ok("UID SEARCH UNSEEN")
		}
	})
}

// BenchmarkIdle tells 200 sessions of one new message, and shows what a
// session takes.
func BenchmarkIdle(b *testing.B) {
	const n = 200
	s := start(b, func(c *imap.Config) { c.Limits.PerAccount = n + 1 })
	s.fill("INBOX", many(10_000)...)
	before := memory()
	var told atomic.Int64
	var wg sync.WaitGroup
	var conns []net.Conn
	for range n {
		c := s.selected()
		c.send("IDLE")
		c.line()
		c.c.SetDeadline(time.Time{})
		conns = append(conns, c.c)
	}
	after := memory()
	b.Logf("heap %d, stacks %d, all %d bytes a session, both ends", (after.HeapInuse-before.HeapInuse)/n, (after.StackInuse-before.StackInuse)/n, (after.Sys-before.Sys)/n)
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/n, "B/session")
	for _, c := range conns {
		wg.Go(func() {
			r := bufio.NewReaderSize(c, 256)
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.HasSuffix(l, "EXISTS\r\n") {
					told.Add(1)
				}
			}
		})
	}
	for b.Loop() {
		told.Store(0)
		s.fill("INBOX", simple(1))
		for told.Load() < n {
			runtime.Gosched()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/told")
	for _, c := range conns {
		c.Close()
	}
	wg.Wait()
}

func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
