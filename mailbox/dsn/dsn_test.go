package dsn

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
)

var update = flag.Bool("update", false, "write the golden files anew; read the difference")

const alice = "alice@aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qckqab.peerpost.alt"
const bob = "bob@aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qckqac.peerpost.alt"

var now = time.Date(2026, 3, 5, 9, 30, 0, 0, time.FixedZone("", 3600))

func original(subject, body string) []byte {
	return []byte(strings.ReplaceAll("Date: Mon, 2 Mar 2026 10:11:10 +0100\nFrom: Alice <"+alice+">\nTo: <"+bob+">\nSubject: "+subject+
		"\nMessage-ID: <one@example>\nReferences: <minus-one@example>\n <zero@example>\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"+body, "\n", "\r\n"))
}

func report() Report {
	return Report{
		Kind: Failure, To: alice, ReportingMTA: "node.example", ArrivalDate: now.AddDate(0, 0, -33), Now: now,
		MessageID: "<dsn@node.example>", Boundary: "boundary",
		Recipients: []Recipient{{Address: bob, Status: "5.4.7", LastAttempt: now.Add(-time.Hour)}},
		Original:   original("Minutes", "Hello.\n"),
	}
}

func reports() map[string]Report {
	m := make(map[string]Report)
	m["expired"] = report()

	r := report()
	r.Kind = Delay
	r.ArrivalDate = now.Add(-4 * time.Hour)
	r.Recipients[0].Status = "4.4.1"
	r.Recipients[0].WillRetryUntil = now.AddDate(0, 0, 30)
	m["delay"] = r

	r = report()
	r.Kind = Success
	r.ArrivalDate = now.Add(-time.Minute)
	r.EnvelopeID = "QQ314159"
	r.HeadersOnly = true
	r.Recipients = []Recipient{{Address: bob, Original: "rfc822;Bob+list@example.net", Status: "2.0.0", Remote: "12D3KooWExample"}}
	m["success"] = r

	r = report()
	r.From = "Post office <post@node.example>"
	r.Original = original("=?utf-8?q?Gr=C3=BC=C3=9Fe?= to all", "Grüße\n--boundary\n")
	r.Recipients = []Recipient{
		{Address: bob, Status: "5.3.4", Remote: "mx.example.net", Diagnostic: "552 5.3.4 message of 41943040 bytes,\r\n largest taken is 1048576"},
		{Address: alice, Status: "5.7.1", Diagnostic: "not among the contacts", Remedy: "Call me."},
		{Address: "nobody@example.com", Status: "5.1.2"},
		{Address: "carol@example.net", Action: Delivered},
	}
	m["mixed"] = r

	r = report()
	r.Original = original("Grüße", "Grüße\n")
	r.Recipients = []Recipient{{Address: "jürgen@example.net", Original: "utf-8;jürgen@example.net", Status: "5.6.7"}}
	m["global"] = r

	r = report()
	r.Original = nil
	r.Recipients[0] = Recipient{Address: bob}
	m["no original"] = r
	return m
}

func TestGolden(t *testing.T) {
	all := reports()
	for name, r := range all {
		t.Run(name, func(t *testing.T) {
			got := Compose(r)
			check(t, r, got)
			file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".eml")
			if *update {
				if err := os.WriteFile(file, got, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs:\n%s", file, got)
			}
		})
	}
	files, _ := filepath.Glob("testdata/*.eml")
	if len(files) != len(all) {
		t.Errorf("%d golden files for %d reports", len(files), len(all))
	}
}

// check reads a notification with our own reader and with another.
func check(t *testing.T, r Report, msg []byte) {
	t.Helper()
	if normal, err := mime.Normalise(msg); err != nil || !bytes.Equal(normal, msg) {
		t.Errorf("line ends: %v", err)
	}
	header, body := mime.Split(msg)
	for i, line := range bytes.Split(header, []byte("\r\n")) {
		if len(line) > 998 {
			t.Errorf("line %d of the header has %d bytes", i, len(line))
		}
		for _, c := range line {
			if c >= 0x80 {
				t.Errorf("header is not ASCII: %q", line)
				break
			}
		}
	}
	if !isASCII(body) && mime.Get(msg, "Content-Transfer-Encoding") != "8bit" {
		t.Error("8-bit bytes are not announced")
	}
	for name, want := range map[string]string{"Return-Path": "<>", "Auto-Submitted": "auto-replied", "MIME-Version": "1.0", "To": "<" + r.To + ">", "Message-ID": r.MessageID} {
		if v := mime.Values(msg, name); len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if _, err := mime.CheckFrom(msg); err != nil {
		t.Error(err)
	}

	x := mime.ParseBytes(msg)
	p := x.Structure
	if p.Type != "multipart" || p.Subtype != "report" || mime.Param(p.Params, "report-type") != "delivery-status" {
		t.Fatalf("it is %s/%s %v", p.Type, p.Subtype, p.Params)
	}
	want := 3
	if r.Original == nil {
		want = 2
	}
	if len(p.Children) != want {
		t.Fatalf("%d parts, want %d", len(p.Children), want)
	}
	if r.Original != nil {
		if id := mime.MessageIDs(mime.Get(r.Original, "Message-ID")); len(id) == 1 {
			refs := mime.MessageIDs(mime.Get(msg, "References"))
			if x.Envelope.InReplyTo != "<"+id[0]+">" || len(refs) == 0 || refs[len(refs)-1] != id[0] {
				t.Errorf("in reply to %q, references %q", x.Envelope.InReplyTo, refs)
			}
		}
		last := p.Children[2]
		given := msg[last.Body:last.End]
		whole := last.Type == "message" && (last.Subtype == "rfc822" || last.Subtype == "global")
		if whole != (!r.HeadersOnly && len(r.Original) <= MaxOriginal) {
			t.Errorf("given back as %s/%s", last.Type, last.Subtype)
		}
		header, _ := mime.Split(r.Original)
		if ref, err := mime.Normalise(r.Original); err == nil {
			// A header without its end takes in the line end before the boundary.
			if end := []byte("\r\n"); whole && !bytes.Equal(given, ref) && !bytes.Equal(bytes.TrimSuffix(given, end), ref) {
				t.Errorf("the original came back as %q", given)
			}
			if !whole && len(header) <= MaxOriginal && !bytes.HasPrefix(ref, given) {
				t.Errorf("the header came back as %q", given)
			}
		}
		if global := last.Subtype == "global" || last.Subtype == "global-headers"; global == isASCII(header) {
			t.Errorf("given back as %s/%s", last.Type, last.Subtype)
		}
	}

	// The report for programs: groups of fields, one about the message and one a recipient.
	s := p.Children[1]
	if s.Type != "message" || !strings.HasSuffix(s.Subtype, "delivery-status") {
		t.Fatalf("second part is %s/%s", s.Type, s.Subtype)
	}
	br := bufio.NewReader(bytes.NewReader(append(bytes.Clone(msg[s.Body:s.End]), "\r\n\r\n"...)))
	about, err := textproto.ReadHeader(br)
	if err != nil || about.Get("Reporting-MTA") != "dns; "+r.ReportingMTA {
		t.Errorf("%v, %v", about, err)
	}
	for _, want := range r.Recipients {
		h, err := textproto.ReadHeader(br)
		if err != nil {
			t.Fatal(err)
		}
		_, address, _ := strings.Cut(h.Get("Final-Recipient"), "; ")
		status := h.Get("Status")
		if address != want.Address || h.Get("Action") == "" || want.Status != "" && status != want.Status || strings.Count(status, ".") != 2 {
			t.Errorf("%v, want %+v", h, want)
		}
	}

	// The other reader.
	e, err := message.Read(bytes.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	mr := e.MultipartReader()
	for i := range want {
		part, err := mr.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			text, _ := io.ReadAll(part.Body)
			for _, x := range r.Recipients {
				if !strings.Contains(string(text), x.Address) {
					t.Errorf("the text does not name %s", x.Address)
				}
			}
		}
	}
	if _, err := mr.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

func TestBigOriginal(t *testing.T) {
	r := report()
	r.Original = original("big", strings.Repeat("x\n", MaxOriginal))
	got := Compose(r)
	check(t, r, got)
	if len(got) > 10_000 {
		t.Errorf("%d bytes", len(got))
	}
	r.Original = append(bytes.Repeat([]byte("X-Filler: x\r\n"), 20_000), r.Original...)
	got = Compose(r)
	check(t, r, got)
	if len(got) > MaxOriginal+10_000 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestOddOriginals(t *testing.T) {
	for _, s := range []string{"", "\r\n", "words only", "Subject: x", "Subject: x\n\nbare\rline\nends", "Subject: a\x00b\n\nNUL\x00", "Message-ID: none\n\n",
		"Message-ID: <a@b> <c@d>\nIn-Reply-To: <e@f>\n\n", "Subject: \xff\xfe\n\n\xff", "Subject: =?utf-8?q?a=0D=0ABcc:_x?=\n\n--boundary--\r\n--boundaryx\r\n",
		"Message-ID: <last@x>\nReferences:" + strings.Repeat(" <many@x>", 5000) + "\n\n", "Subject: " + strings.Repeat("ü", 10_000) + "\n\nx"} {
		r := report()
		r.Original = []byte(s)
		got := Compose(r)
		check(t, r, got)
		if h, _ := mime.Split(got); len(h) > 4096 {
			t.Errorf("%.40q: header of %d bytes", s, len(h))
		}
		if mime.Get(got, "Bcc") != "" {
			t.Errorf("%.40q: a field was smuggled in", s)
		}
	}
}

func TestDefaults(t *testing.T) {
	r := Report{To: alice, ReportingMTA: "node.example\r\nBcc: x", Now: now, Recipients: []Recipient{
		{Address: "a@b\r\nBcc: x@y", Status: "2.0.0", Diagnostic: "x\r\n\r\nAction: delivered"}, {Address: "c@d", Status: "nonsense", Action: Relayed}, {Address: "e@f", Status: "4.4.7"},
	}}
	a, b := Compose(r), Compose(r)
	if bytes.Equal(a, b) || mime.Get(a, "Message-ID") == mime.Get(b, "Message-ID") {
		t.Error("two notifications are the same")
	}
	if mime.Get(a, "Bcc") != "" {
		t.Errorf("a field was smuggled in:\n%s", a)
	}
	x := mime.ParseBytes(a)
	s := x.Structure.Children[1]
	status := string(a[s.Body:s.End])
	for _, want := range []string{"Action: failed\r\nStatus: 5.0.0\r\n", "Action: relayed\r\nStatus: 2.0.0\r\n", "Action: failed\r\nStatus: 4.4.7\r\n"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in %q", want, status)
		}
	}
	if strings.Contains(status, "\nAction: delivered") {
		t.Errorf("a field was smuggled in: %q", status)
	}
	if from := x.Envelope.From; len(from) != 1 || from[0] != (mail.Address{Name: "Mail Delivery", Mailbox: "postmaster", Host: "node.example"}) {
		t.Errorf("from %q", from)
	}
	if r.Recipients[0].Status != "2.0.0" {
		t.Error("the report was changed")
	}
}

func TestManyRecipients(t *testing.T) {
	r := report()
	r.Recipients = nil
	for range maxInWords + 50 {
		r.Recipients = append(r.Recipients, Recipient{Address: bob, Status: "5.4.7", Diagnostic: strings.Repeat("long ", 1000)})
	}
	msg := Compose(r)
	if n := bytes.Count(msg, []byte("Final-Recipient:")); n != len(r.Recipients) {
		t.Errorf("%d recipients", n)
	}
	if !bytes.Contains(msg, []byte("and 50 more")) {
		t.Error("the text does not say that there are more")
	}
	if len(msg) > 10<<10*len(r.Recipients) {
		t.Errorf("%d bytes", len(msg))
	}
}

// Every status has words, whether it is late or over.
func TestWords(t *testing.T) {
	for _, a := range []Action{Failed, Delayed, Delivered, Relayed, Expanded} {
		for class := range 8 {
			for detail := range 14 {
				status := strings.Join([]string{string(classOf(a)), string(rune('0' + class)), strings.TrimPrefix(string(rune('0'+detail/10))+string(rune('0'+detail%10)), "0")}, ".")
				reason, remedy := words(status, a)
				if !strings.HasSuffix(reason, ".") || a == Failed && !strings.HasSuffix(remedy, ".") {
					t.Errorf("%s %s: %q, %q", a, status, reason, remedy)
				}
			}
		}
	}
}

func FuzzCompose(f *testing.F) {
	f.Add([]byte("Subject: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n--boundary\r\n"), "bob@example.net", "550 5.1.1 no", "5.1.1", false)
	f.Add([]byte("\xff: \x00\r\n"), "ü\r\n", "\x00", "4..", true)
	f.Fuzz(func(t *testing.T, original []byte, address, diagnostic, status string, headers bool) {
		r := report()
		r.Original, r.HeadersOnly = original, headers
		r.Recipients = []Recipient{{Address: address, Original: "rfc822;" + address, Status: status, Diagnostic: diagnostic, Remedy: diagnostic, Remote: address}}
		msg := Compose(r)
		if normal, err := mime.Normalise(msg); err != nil || !bytes.Equal(normal, msg) {
			t.Fatalf("line ends: %v", err)
		}
		x := mime.ParseBytes(msg)
		want := 2
		if original != nil {
			want = 3
		}
		if p := x.Structure; p.Subtype != "report" || len(p.Children) != want || p.Lines == 0 {
			t.Fatalf("%d parts:\n%s", len(p.Children), msg)
		}
		n := 0
		for range mime.Fields(msg) {
			n++
		}
		if n < 9 || n > 12 {
			t.Fatalf("%d fields:\n%s", n, msg)
		}
		s := x.Structure.Children[1]
		if got := bytes.Count(msg[s.Body:s.End], []byte("\r\n\r\n")); got != 1 {
			t.Fatalf("%d groups:\n%s", got, msg)
		}
	})
}
