package submission_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/gateway/submission"
)

// maxFuzz is how many bytes the fuzzer may say: many commands in a row show
// nothing that few do not, and would take it all its time.
const maxFuzz = 4 << 10

// FuzzSession says the same bytes to the server in several states. Whatever they
// are, nothing panics, nothing is left over, and what is submitted is clean.
func FuzzSession(f *testing.F) {
	envelope := "MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\n"
	states := []string{
		"",
		"EHLO x\r\n",
		"EHLO x\r\n" + auth + "\r\n",
		"EHLO x\r\n" + auth + "\r\n" + envelope,
		"EHLO x\r\n" + auth + "\r\n" + envelope + "DATA\r\n",
		"EHLO x\r\n" + auth + "\r\n" + envelope + "BDAT 10\r\n",
	}
	for _, seed := range []string{
		states[4] + text + ".\r\nQUIT\r\n",
		envelope + "DATA\r\n" + text + ".\r\n" + envelope + "DATA\r\n..\r\n.\r\n",
		envelope + "BDAT 3\r\nA: BDAT 3 LAST\r\nb\r\n",
		envelope + "BDAT 0\r\nRSET\r\n" + envelope + "BDAT 2 LAST\r\n\r\n",
		"MAIL FROM:<> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb\r\nRCPT TO:<\"a b\"@c.alt> NOTIFY=SUCCESS ORCPT=utf-8;\\x{E4}\r\n",
		"a\n.\nb\r.\rc\r\r\n.\r\n\x00\r\n.\r\n",
		"AUTH LOGIN\r\nYQ==\r\nYQ==\r\nAUTH PLAIN =\r\nAUTH PLAIN !\r\n*\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"HELO x\r\nVRFY a\r\nNOOP\r\nRSET\r\nSTARTTLS\r\nBDAT 99999999\r\nQUIT\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > maxFuzz {
			return
		}
		for _, state := range states {
			session(t, append([]byte(state), input...))
		}
	})
}

// session sends bytes, then goes away, and looks at what came of it.
func session(t *testing.T, input []byte) {
	p := newPipes()
	f := prepare(t, p, func(c *submission.Config) { c.MaxMessage = 10_000 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	memory := f.FreeMemory()
	go func() { f.ended <- f.Run(ctx) }()
	c := p.dial()
	c.SetDeadline(time.Now().Add(patience))
	go func() {
		defer c.Close()
		c.Write(input)
	}()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server hangs")
	}
	cancel()
	select {
	case err := <-f.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	if n := f.FreeMemory(); n != memory {
		t.Errorf("%d bytes of memory are gone", memory-n)
	}
	if conns, loggedIn := f.Open(); conns != 0 || loggedIn != 0 {
		t.Errorf("%d connections and %d logins are still counted", conns, loggedIn)
	}
	if strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("errors were logged:\n%s", f.log)
	}
	for _, m := range f.box.Messages() {
		if n := len(m.Recipients); n == 0 || n > submission.MaxRecipients {
			t.Errorf("%d recipients", n)
		}
		for _, r := range m.Recipients {
			if strings.ContainsAny(r.Address+r.Original, "\x00\r\n") || strings.Count(r.Address, "@") != 1 {
				t.Errorf("recipient %q", r)
			}
		}
		if len(m.Body) > 0 && !bytes.HasSuffix(m.Body, []byte("\r\n")) || len(m.Body) > 10_000 {
			t.Errorf("%d bytes that end in %q", len(m.Body), m.Body[max(0, len(m.Body)-5):])
		}
		if rest := bytes.ReplaceAll(m.Body, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\x00\r\n") {
			t.Errorf("body %q", m.Body)
		}
	}
}
