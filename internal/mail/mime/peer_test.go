package mime

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	gomail "github.com/emersion/go-message/mail"

	"github.com/peerpost/peerpost/internal/mail"
)

// author writes random well-formed messages.
type author struct {
	*rand.Rand
	boundaries int
}

func (a *author) words(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString([]string{"mail", "goes", "from", "node--to", "--node", "a=b", "zwölf", "  ", "x.", "\r\n", "."}[a.IntN(11)])
		b.WriteByte(' ')
	}
	return b.String()
}

// part writes a header's MIME fields, an empty line and a body.
func (a *author) part(b *strings.Builder, depth int) {
	switch k := a.IntN(10); {
	case k < 3 && depth < 6:
		a.boundaries++
		boundary := fmt.Sprintf("=_%d_%x", a.boundaries, a.Uint64())
		fold := []string{" ", "\r\n\t", ""}[a.IntN(3)]
		fmt.Fprintf(b, "Content-Type: multipart/%s;%sboundary=\"%s\"\r\n\r\n", []string{"mixed", "alternative", "related"}[a.IntN(3)], fold, boundary)
		if a.IntN(2) == 0 {
			b.WriteString("This is a message in several parts.\r\n")
		}
		for range 1 + a.IntN(4) {
			fmt.Fprintf(b, "--%s\r\n", boundary)
			a.part(b, depth+1)
			b.WriteString("\r\n")
		}
		fmt.Fprintf(b, "--%s--\r\n", boundary)
		if a.IntN(3) == 0 {
			b.WriteString("epilogue\r\n")
		}
	case k < 4 && depth < 6:
		b.WriteString("Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n")
		a.message(b, depth+1)
	case k < 6:
		body := make([]byte, a.IntN(3000))
		for i := range body {
			body[i] = byte(a.Uint32())
		}
		fmt.Fprintf(b, "Content-Type: application/octet-stream; name=\"a;%d.bin\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"b %d.bin\"; size=%d\r\n\r\n", a.IntN(9), a.IntN(9), len(body))
		for s := base64.StdEncoding.EncodeToString(body); s != ""; {
			n := min(76, len(s))
			b.WriteString(s[:n] + "\r\n")
			s = s[n:]
		}
	case k < 8:
		b.WriteString("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: Quoted-Printable\r\nContent-ID: <x@y>\r\n\r\n")
		w := quotedprintable.NewWriter(b)
		io.WriteString(w, a.words(a.IntN(200)))
		w.Close()
	case k < 9:
		b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + a.words(a.IntN(200)))
	default:
		b.WriteString("\r\n" + a.words(a.IntN(20)))
	}
}

func (a *author) message(b *strings.Builder, depth int) {
	fmt.Fprintf(b, "From: \"B, A\" <a%d@example.org>\r\nTo: c@example.org,\r\n =?utf-8?q?D=C3=A4?= <d@example.net>\r\n", a.IntN(100))
	fmt.Fprintf(b, "Subject: =?utf-8?q?Nr=2E?= =?utf-8?b?w6Q=?= %d\r\n folded\r\nDate: Mon, %d Mar 2026 10:11:%02d +0%d00\r\nMessage-ID: <%d@example.org>\r\nMIME-Version: 1.0\r\n",
		a.IntN(100), 1+a.IntN(28), a.IntN(60), a.IntN(10), a.Uint32())
	a.part(b, depth)
}

// TestAgreesWithGoMessage compares the index of well-formed mail with what another reader finds.
func TestAgreesWithGoMessage(t *testing.T) {
	for seed := range uint64(400) {
		a := author{Rand: rand.New(rand.NewPCG(seed, 1))}
		var b strings.Builder
		a.message(&b, 0)
		msg := []byte(b.String())
		x := ParseBytes(msg)
		verify(t, msg, x)
		e, err := message.Read(bytes.NewReader(msg))
		if err != nil {
			t.Fatal(err)
		}
		compareEnvelope(t, x.Envelope, e.Header)
		compare(t, msg, x.Structure, e)
		if t.Failed() {
			t.Fatalf("seed %d: %s\n%s", seed, shape(x.Structure), msg[:min(len(msg), 4000)])
		}
	}
}

func compare(t *testing.T, msg []byte, p *mail.Part, e *message.Entity) {
	t.Helper()
	typ, params, err := e.Header.ContentType()
	if err != nil {
		t.Fatal(err)
	}
	if typ == "" {
		typ = "text/plain"
	}
	if got := p.Type + "/" + p.Subtype; got != typ {
		t.Errorf("type %s, want %s", got, typ)
	}
	got := make(map[string]string)
	for _, q := range p.Params {
		got[q.Name] = q.Value
	}
	if e.Header.Has("Content-Type") && !maps.Equal(got, params) {
		t.Errorf("parameters %v, want %v", got, params)
	}
	if e.Header.Has("Content-Disposition") {
		disposition, params, err := e.Header.ContentDisposition()
		got := make(map[string]string)
		for _, q := range p.DispositionParams {
			got[q.Name] = q.Value
		}
		if err != nil || p.Disposition != disposition || !maps.Equal(got, params) {
			t.Errorf("disposition %s %v, want %s %v", p.Disposition, got, disposition, params)
		}
	}
	if id := e.Header.Get("Content-Id"); id != p.ID {
		t.Errorf("id %q, want %q", p.ID, id)
	}

	if mr := e.MultipartReader(); mr != nil {
		for i := 0; ; i++ {
			child, err := mr.NextPart()
			if err == io.EOF {
				if i != len(p.Children) {
					t.Errorf("%d parts, want %d", len(p.Children), i)
				}
				return
			}
			if err != nil || i >= len(p.Children) {
				t.Fatalf("part %d of %d: %v", i, len(p.Children), err)
			}
			compare(t, msg, p.Children[i], child)
		}
	}
	want, err := io.ReadAll(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := Decode(bytes.NewReader(msg), p)
	if !ok {
		t.Fatalf("encoding %s", p.Encoding)
	}
	body, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(body, want) {
		t.Errorf("body of %s differs: %q, want %q, %v", shape(p), body, want, err)
	}
	if p.Inner != nil {
		inner, err := message.Read(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		compareEnvelope(t, p.Envelope, inner.Header)
		compare(t, msg, p.Inner, inner)
	}
}

func compareEnvelope(t *testing.T, e *mail.Envelope, h message.Header) {
	t.Helper()
	want := gomail.Header{Header: h}
	if s, err := want.Subject(); err != nil || DecodeHeader(e.Subject) != s || e.Subject != h.Get("Subject") {
		t.Errorf("subject %q, want %q, %v", e.Subject, s, err)
	}
	if d, err := want.Date(); err != nil || !e.Date.Equal(d) || FormatDate(e.Date) != FormatDate(d) {
		t.Errorf("date %v, want %v, %v", e.Date, d, err)
	}
	if id, err := want.MessageID(); err != nil || e.MessageID != id {
		t.Errorf("id %q, want %q, %v", e.MessageID, id, err)
	}
	for name, got := range map[string][]mail.Address{"From": e.From, "To": e.To} {
		list, err := want.AddressList(name)
		if err != nil || len(list) != len(got) {
			t.Errorf("%s %v, want %v, %v", name, got, list, err)
			continue
		}
		for i, a := range list {
			if DecodeHeader(got[i].Name) != a.Name || got[i].Mailbox+"@"+got[i].Host != a.Address {
				t.Errorf("%s %v, want %v", name, got[i], a)
			}
		}
	}
}
