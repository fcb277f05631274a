package submission_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// benchmark submits messages of one size on one connection.
func benchmark(b *testing.B, size int, pipelined bool) {
	f := prepare(b, nil, nil)
	f.box.Discard = true
	f.run()
	c := f.login()
	message := body(size) + ".\r\n"
	envelope := fmt.Sprintf("MAIL FROM:<%s> SIZE=%d BODY=8BITMIME\r\nRCPT TO:<%s>\r\nDATA\r\n", alice, size, bob)
	lines := strings.SplitAfter(envelope, "\n")[:3]
	c.SetDeadline(time.Time{})
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if pipelined {
			fast(b, c.Conn, c.r, envelope, 3)
		} else {
			for _, l := range lines {
				fast(b, c.Conn, c.r, l, 1)
			}
		}
		fast(b, c.Conn, c.r, message, 1)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// fast sends, and reads so many answers.
func fast(b *testing.B, c net.Conn, r *bufio.Reader, s string, answers int) {
	if _, err := io.WriteString(c, s); err != nil {
		b.Fatal(err)
	}
	for range answers {
		line, err := r.ReadSlice('\n')
		if err != nil || line[0] != '2' && line[0] != '3' {
			b.Fatalf("%q, %v", line, err)
		}
	}
}

func BenchmarkSubmit4K(b *testing.B)          { benchmark(b, 4<<10, false) }
func BenchmarkSubmit4KPipelined(b *testing.B) { benchmark(b, 4<<10, true) }
func BenchmarkSubmit75K(b *testing.B)         { benchmark(b, 75<<10, false) }
func BenchmarkSubmit1M(b *testing.B)          { benchmark(b, 1<<20, false) }
