package submission_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	netsmtp "net/smtp"
	"reflect"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/peerpost/peerpost/gateway/listen"
	"github.com/peerpost/peerpost/gateway/submission"
	"github.com/peerpost/peerpost/gateway/submission/submissiontest"
	"github.com/peerpost/peerpost/internal/mail"
)

func TestStandardLibraryClient(t *testing.T) {
	f := serve(t, nil)
	a := netsmtp.PlainAuth("", alice, password, "127.0.0.1")
	body := "Subject: dots\n\n.\n..\n.hidden\nend\n"
	if err := netsmtp.SendMail(f.listener.Addr().String(), a, alice, []string{bob, carol}, []byte(body)); err != nil {
		t.Fatal(err)
	}
	f.wantBodies(strings.ReplaceAll(body, "\n", "\r\n"))
	want := mail.Submission{From: alice, Recipients: []mail.Recipient{{Address: bob}, {Address: carol}}, UTF8: true}
	got := f.box.Messages()[0].Submission
	if !reflect.DeepEqual(got, want) {
		t.Errorf("envelope %+v, want %+v", got, want)
	}
}

func TestTLS(t *testing.T) {
	authority, err := listen.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, func(c *submission.Config) { c.TLS, c.TLSConfig = l, authority.TLS() })
	config := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	c, err := smtp.DialTLS(l.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok {
		t.Error("STARTTLS is offered under TLS")
	}
	if err := c.Auth(sasl.NewPlainClient("", alice, password)); err != nil {
		t.Fatal(err)
	}
	if err := c.SendMail(alice, []string{bob}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	f.wantBodies(text)

	// Clear text on the TLS port, and TLS on the plaintext port, end at once.
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	clear := f.talk(raw)
	clear.send("EHLO test\r\n")
	if got, err := clear.reply(); err == nil || strings.HasPrefix(got, "2") {
		t.Errorf("clear text on the TLS port is answered %q", got)
	}
	if _, err := tls.Dial("tcp", f.listener.Addr().String(), config); err == nil {
		t.Error("TLS on the plaintext port")
	}
}

func TestGreeting(t *testing.T) {
	f := serve(t, func(c *submission.Config) { c.Hostname = "mail.test" })
	c := f.dial()
	if got := c.expect("220 "); got != "220 mail.test ESMTP Service Ready\r\n" {
		t.Errorf("banner %q", got)
	}
	want := strings.Join([]string{"250-Hello there", "250-PIPELINING", "250-8BITMIME", "250-ENHANCEDSTATUSCODES", "250-CHUNKING",
		"250-AUTH PLAIN LOGIN", "250-SMTPUTF8", "250-DSN", "250-SIZE 41943041", "250 LIMITS RCPTMAX=100", ""}, "\r\n")
	if got := c.say("EHLO there", "250"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	c.say("STARTTLS", "502 ")
	c.say("NOOP", "250 ")
	c.say("QUIT", "221 ")
	c.expectEnd()
}

func TestLoginMechanisms(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		name   string
		script []string // what is said, what is answered
	}{
		{"plain with initial response", []string{auth, "235 2.0.0"}},
		{"plain without", []string{"AUTH PLAIN", "334 ", b64([]byte("\x00" + alice + "\x00" + password)), "235 "}},
		{"plain for oneself", []string{"AUTH PLAIN " + b64([]byte(alice+"\x00"+alice+"\x00"+password)), "235 "}},
		{"plain in lower case", []string{"auth plain " + auth[len("AUTH PLAIN "):], "235 "}},
		{"login", []string{"AUTH LOGIN", "334 VXNlcm5hbWU6", b64([]byte(alice)), "334 UGFzc3dvcmQ6", b64([]byte(password)), "235 "}},
		{"login with user name", []string{"AUTH LOGIN " + b64([]byte(alice)), "334 UGFzc3dvcmQ6", b64([]byte(password)), "235 "}},
		{"twice", []string{auth, "235 ", auth, "503 "}},
		{"cancelled", []string{"AUTH LOGIN", "334 ", "*", "501 ", auth, "235 "}},
		{"wrong then right", []string{"AUTH PLAIN " + b64([]byte("\x00"+alice+"\x00no")), "535 5.7.8", auth, "235 "}},
		{"plain for somebody else", []string{"AUTH PLAIN " + b64([]byte(bob+"\x00"+alice+"\x00"+password)), "535 5.7.8"}},
		{"plain malformed", []string{"AUTH PLAIN " + b64([]byte(alice)), "501 5.5.2"}},
		{"no base64", []string{"AUTH PLAIN !!!", "454 "}},
		{"login with a wrong password", []string{"AUTH LOGIN", "334 ", b64([]byte(alice)), "334 ", b64([]byte("no")), "535 5.7.8"}},
		{"empty user", []string{"AUTH PLAIN " + b64([]byte("\x00\x00"+password)), "535 5.7.8"}},
		{"long password", []string{"AUTH PLAIN " + b64([]byte("\x00"+alice+"\x00"+strings.Repeat("x", 2000))), "535 5.7.8"}},
		{"unknown mechanism", []string{"AUTH CRAM-MD5", "504 "}},
		{"no mechanism", []string{"AUTH", "502 "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := serve(t, nil)
			conn := f.dial()
			conn.expect("220 ")
			conn.say("EHLO test", "250")
			for i := 0; i < len(c.script); i += 2 {
				conn.say(c.script[i], c.script[i+1])
			}
		})
	}
}

func TestNothingBeforeLogin(t *testing.T) {
	f := serve(t, nil)
	c := f.dial()
	c.expect("220 ")
	c.say("MAIL FROM:<"+alice+">", "502 ")
	c.say("EHLO test", "250")
	c.say("MAIL FROM:<"+alice+">", "530 5.7.0")
	c.say("RCPT TO:<"+bob+">", "502 ")
	c.say("DATA", "502 ")
	c.say("BDAT 0 LAST", "502 ")
	c.say(auth, "235 ")
	c.envelope()
}

func TestThirdWrongPasswordEndsTheConnection(t *testing.T) {
	f := serve(t, nil)
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	wrong := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00wrong"))
	// A fourth, pipelined, is not even tried.
	c.send(strings.Repeat(wrong+"\r\n", 4))
	c.expect("535 5.7.8")
	c.expect("535 5.7.8")
	c.expect("535 5.7.8")
	c.expect("421 4.7.0")
	c.expectEnd()
	if n := f.accounts.Tries(); n != 3 {
		t.Errorf("%d passwords were tried, want 3", n)
	}
}

func TestThrottle(t *testing.T) {
	f := serve(t, nil)
	f.accounts.Add(bob, password)
	wrong := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00wrong"))
	for range 3 {
		c := f.dial()
		c.expect("220 ")
		c.say("EHLO test", "250")
		c.say(wrong, "535 ")
		c.say(wrong, "535 ")
	}
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	if got := c.say(auth, "454 4.7.0"); strings.Contains(got, "uthentication") {
		t.Errorf("%q reads like a wrong password", got)
	}
	if n := f.accounts.Tries(); n != 6 {
		t.Errorf("%d passwords were tried, want 6", n)
	}
	// Others are not shut out.
	c.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+bob+"\x00"+password)), "235 ")
}

func TestLoginErrors(t *testing.T) {
	f := prepare(t, nil, nil)
	faults := []error{mail.ErrThrottled, errors.New("the disk is on fire")}
	f.accounts.Fault = func(context.Context, string) error {
		if len(faults) == 0 {
			return nil
		}
		err := faults[0]
		faults = faults[1:]
		return err
	}
	f.run()
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	c.say(auth, "454 4.7.0")
	if got := c.say(auth, "454 4.3.0"); strings.Contains(got, "fire") {
		t.Errorf("the cause leaks: %q", got)
	}
	c.say(auth, "235 ")
	if !strings.Contains(f.log.String(), "the disk is on fire") {
		t.Error("the cause was not logged")
	}
	if strings.Contains(f.log.String(), password) {
		t.Error("a password was logged")
	}
}

func TestRecipientsAreAnsweredOneByOne(t *testing.T) {
	f := prepare(t, nil, nil)
	f.box.OnRecipient = func(_ context.Context, address string, size int64) error {
		switch address {
		case "typo@bbbb.peerpost.alt":
			return &mail.Error{Code: [3]int{5, 1, 1}, Public: "This key has a typing error"}
		case "bob@example.org":
			return &mail.Error{Code: [3]int{5, 1, 2}, Public: "No bridge\r\n250 to ordinary mail"}
		case carol:
			if size > 1000 {
				return fmt.Errorf("wrapped: %w", &mail.Error{Code: [3]int{5, 2, 3}, Public: "Too large for carol", Cause: errors.New("policy")})
			}
		case "slow@bbbb.peerpost.alt":
			return &mail.Error{Temporary: true, Code: [3]int{4, 4, 3}, Public: "Ask again"}
		case "broken@bbbb.peerpost.alt":
			return errors.New("secret path")
		}
		return nil
	}
	f.run()
	c := f.login()
	c.say("MAIL FROM:<"+alice+"> SIZE=2000 BODY=8BITMIME", "250 ")
	c.say("RCPT TO:<typo@bbbb.peerpost.alt>", "550 5.1.1 This key has a typing error\r\n")
	c.say("RCPT TO:<bob@example.org>", "550 5.1.2 No bridge  250 to ordinary mail\r\n")
	c.say("RCPT TO:<"+carol+">", "552 5.2.3 Too large for carol\r\n")
	c.say("RCPT TO:<slow@bbbb.peerpost.alt>", "451 4.4.3 Ask again\r\n")
	if got := c.say("RCPT TO:<broken@bbbb.peerpost.alt>", "451 4.3.0 "); strings.Contains(got, "secret") {
		t.Errorf("the cause leaks: %q", got)
	}
	c.say("DATA", "502 ")
	c.say("RCPT TO:<"+bob+">", "250 ")
	c.say("RCPT TO:<"+bob+">", "250 ") // no second copy
	c.say("DATA", "354 ")
	c.say(text+".", "250 ")
	f.wantBodies(text)
	if got := f.box.Messages()[0].Recipients; len(got) != 1 || got[0].Address != bob {
		t.Errorf("recipients %v", got)
	}
	for _, want := range []string{"secret path", "policy"} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("%q was not logged", want)
		}
	}
}

func TestSender(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	c.say("MAIL FROM:<"+bob+">", "550 5.7.1")
	c.say("RCPT TO:<"+bob+">", "502 ")
	c.say("MAIL FROM:<>", "250 ")
	c.say("MAIL FROM:<"+alice+">", "503 ")
	c.say("RSET", "250 ")
	c.say("RCPT TO:<"+bob+">", "502 ")
	c.envelope()
	c.say("EHLO again", "250") // resets too
	c.say("DATA", "502 ")
}

func TestSubmitErrors(t *testing.T) {
	f := prepare(t, nil, nil)
	errs := []error{
		&mail.Error{Code: [3]int{5, 6, 0}, Public: "From is missing"},
		&mail.Error{Temporary: true, Code: [3]int{4, 3, 1}, Public: "Disk is full"},
		&mail.Error{Code: [3]int{4, 3, 1}, Public: "Confused"},
		errors.New("secret path"),
	}
	f.box.OnSubmit = func(context.Context, submissiontest.Message) error {
		if len(errs) == 0 {
			return nil
		}
		err := errs[0]
		errs = errs[1:]
		return err
	}
	f.run()
	c := f.login()
	for _, want := range []string{"554 5.6.0 From is missing", "452 4.3.1 Disk is full", "554 5.0.0 Confused", "451 4.3.0 ", "250 2.0.0"} {
		c.envelope()
		c.say("DATA", "354 ")
		if got := c.say(text+".", want); strings.Contains(got, "secret") {
			t.Errorf("the cause leaks: %q", got)
		}
	}
	f.wantBodies(text)
}

func TestDSNParameters(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	c.say("MAIL FROM:<"+alice+"> RET=HDRS ENVID=QQ+2B1+3D", "250 ")
	c.say("RCPT TO:<"+bob+"> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bob@b+3D.alt", "250 ")
	c.say("RCPT TO:<"+carol+"> NOTIFY=NEVER", "250 ")
	c.say("RCPT TO:<dave@dddd.peerpost.alt> NOTIFY=FAILURE ORCPT=UTF-8;d\\x{E4}ve@x.alt", "250 ")
	c.say("RCPT TO:<x@dddd.peerpost.alt> NOTIFY=NEVER,SUCCESS", "501 ")
	c.say("RCPT TO:<x@dddd.peerpost.alt> NOTIFY=SOMETIMES", "501 ")
	c.say("RCPT TO:<x@dddd.peerpost.alt> ORCPT=rfc822;a+00b", "501 ")
	c.say("RCPT TO:<x@dddd.peerpost.alt> ORCPT=utf-8;a\\x{1F}b", "501 ")
	c.say("RCPT TO:<x@dddd.peerpost.alt> ORCPT=utf-8;a\\x{7F}b", "501 ")
	c.say("RCPT TO:<x@dddd.peerpost.alt> ORCPT=rfc822;"+strings.Repeat("a", 500), "501 ")
	c.say("DATA", "354 ")
	c.say(text+".", "250 ")
	want := mail.Submission{From: alice, EnvelopeID: "QQ+1=", HeadersOnly: true, Recipients: []mail.Recipient{
		{Address: bob, Notify: mail.NotifySuccess | mail.NotifyDelay, Original: "rfc822;b+ob@b=.alt"},
		{Address: carol, Notify: mail.NotifyNever},
		{Address: "dave@dddd.peerpost.alt", Notify: mail.NotifyFailure, Original: "utf-8;däve@x.alt"},
	}}
	if got := f.box.Messages()[0].Submission; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, p := range []string{"RET=ALL", "ENVID=a+0", "ENVID=" + strings.Repeat("a", 101), "BODY=BINARYMIME", "HOLDFOR=5"} {
		if got := c.say("MAIL FROM:<"+alice+"> "+p, "5"); got[1] != '0' {
			t.Errorf("%s: %q", p, got)
		}
	}
	c.say("MAIL FROM:<"+alice+"> RET=FULL AUTH=<>", "250 ")
}

func TestSMTPUTF8(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	const jose = "josé@bbbb.peerpost.alt"
	c.say("MAIL FROM:<"+alice+">", "250 ")
	c.say("RCPT TO:<"+jose+">", "553 5.6.7")
	c.say("RSET", "250 ")
	c.say("MAIL FROM:<jos\xe9@aaaa.peerpost.alt> SMTPUTF8", "553 5.1.7")
	c.say("MAIL FROM:<"+alice+"> SMTPUTF8", "250 ")
	c.say("RCPT TO:<jos\xe9@bbbb.peerpost.alt>", "553 5.1.3")
	c.say("RCPT TO:<jos\u0085@bbbb.peerpost.alt>", "553 5.1.3")
	c.say("RCPT TO:<"+jose+">", "250 ")
	c.say("DATA", "354 ")
	c.say(text+".", "250 ")
	m := f.box.Messages()[0]
	if !m.UTF8 || m.Recipients[0].Address != jose {
		t.Errorf("got %+v", m.Submission)
	}
}

func TestAddressesThatNobodyShouldSee(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	c.say("MAIL FROM:<al\x00ice@aaaa.peerpost.alt>", "553 5.1.7")
	c.say("MAIL FROM:<"+alice+">", "250 ")
	for _, a := range []string{
		"b\x00ob@bbbb.alt", "b\rob@bbbb.alt", "bob@bb\rbb.alt", "b\x1bob@bbbb.alt", "b\x7fob@bbbb.alt",
		"bob@bb@bb.alt", `"b@b"@bbbb.alt`, "bob@bbbb..alt", "bob@.alt", "bob@bb<bb.alt", "bob@[1.2.3", "bob@-;.alt",
		strings.Repeat("b", 65) + "@bbbb.alt", "bob@" + strings.Repeat("b.", 125) + "alt",
	} {
		c.say("RCPT TO:<"+a+">", "553 5.1.3")
	}
	for _, a := range []string{"bob", "@bbbb.alt", "bob@", "b b@bbbb.alt"} {
		c.say("RCPT TO:<"+a+">", "501 ")
	}
	c.say(`RCPT TO:<"b o\"b"@bbbb.alt>`, "250 ")
	c.say(`RCPT TO:<@relay.example:`+bob+`>`, "250 ")
	c.say("RCPT TO:<"+strings.Repeat("b", 64)+"@bbbb.alt>", "250 ")
	c.say("DATA", "354 ")
	c.say(text+".", "250 ")
	if got := f.box.Messages()[0].Recipients; got[0].Address != `"b o\"b"@bbbb.alt` || got[1].Address != bob {
		t.Errorf("got %v", got)
	}
}

func TestPipelining(t *testing.T) {
	f := serve(t, nil)
	c := f.dial()
	c.expect("220 ")
	one := "MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nRCPT TO:<x@example.org>\r\nDATA\r\n"
	c.send("EHLO test\r\n" + auth + "\r\n" + one)
	for _, want := range []string{"250", "235 ", "250 ", "250 ", "550 ", "354 "} {
		c.expect(want)
	}
	// The end of a body and the next envelope may share a packet.
	c.send(text + ".\r\n" + one)
	for _, want := range []string{"250 ", "250 ", "250 ", "550 ", "354 "} {
		c.expect(want)
	}
	c.send(text + ".\r\nQUIT\r\n")
	c.expect("250 ")
	c.expect("221 ")
	c.expectEnd()
	f.wantBodies(text, text)
}

func TestChunks(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	// In one packet, with dots that are not doubled and a body that has no line end.
	c.send("MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nBDAT 8\r\nA: b\r\n\r\nBDAT 5\r\n.\r\n.\rBDAT 6 LAST\r\n\n..end")
	for _, want := range []string{"250 ", "250 ", "250 ", "250 ", "250 "} {
		c.expect(want)
	}
	// Empty, and with an empty last chunk.
	c.envelope()
	c.say("BDAT 0 LAST", "250 ")
	c.envelope()
	c.send(fmt.Sprintf("BDAT %d\r\n%s", len(text), text))
	c.expect("250 ")
	c.say("BDAT 0 LAST", "250 ")
	// One long line of a chunk is no command line.
	long := strings.Repeat("x", 100<<10)
	c.envelope()
	c.send(fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", len(long), long, len(long), long))
	c.expect("250 ")
	c.expect("250 ")
	f.wantBodies("A: b\r\n\r\n.\r\n.\r\n..end\r\n", "", text, long+long+"\r\n")
}

// TestChunksThatAreTakenBack sends RSET in the middle of a message in chunks and
// goes on with another: the reader of the first runs beside all that, and its
// result must not become the answer to the second.
func TestChunksThatAreTakenBack(t *testing.T) {
	f := serve(t, func(c *submission.Config) { c.MaxMessage = 70000 })
	envelope := "MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\n"
	for _, c := range []struct{ script, answers string }{
		{"BDAT 0\r\nRSET\r\n", "250 250 "},
		{"BDAT 3\r\nyesRSET\r\n", "250 250 "},
		{"BDAT 3\r\nyesNOOP\r\nBDAT 2\r\n!!EHLO again\r\n", "250 250 250 250- "},
		{"BDAT 0\r\nNOOP\r\nRSET\r\n", "250 250 250 "},
		{"BDAT 3\r\nyesBDAT 70000\r\n" + strings.Repeat("x", 70000), "250 552 "},
	} {
		conn := f.login()
		conn.send(envelope + c.script + envelope + "BDAT 5 LAST\r\nyes\r\n")
		for want := range strings.SplitSeq("250 250 "+c.answers+"421", " ") {
			conn.expect(want)
		}
		conn.expectEnd()
	}
	c := f.login()
	for range 3 { // after the end of a message the next may follow
		c.send(envelope + "BDAT 0\r\nBDAT 5 LAST\r\nyes\r\n" + envelope + "RSET\r\n" + envelope + "BDAT 5 LAST\r\nyes\r\n")
		for range 10 {
			c.expect("250 ")
		}
	}
	c.envelope()
	c.say("BDAT 0", "250 ")
	c.say("DATA", "502 ")
	c.say("MAIL FROM:<"+alice+">", "502 ")
	c.say("RCPT TO:<"+bob+">", "502 ")
	c.say("QUIT", "221 ")
	c.expectEnd()
	f.wantBodies("yes\r\n", "yes\r\n", "yes\r\n", "yes\r\n", "yes\r\n", "yes\r\n")
}

func TestChunksThatAreRefused(t *testing.T) {
	f := prepare(t, nil, nil)
	f.box.Max = 100
	f.run()
	c := f.login()
	// What is refused is not parsed as commands.
	evil := "RSET\r\nQUIT\r\n"
	c.send(fmt.Sprintf("BDAT %d\r\n%s", len(evil), evil))
	c.expect("502 ")
	c.envelope()
	big := evil + strings.Repeat("x", 100)
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(big), big))
	c.expect("552 5.3.4")
	c.envelope()
	c.send("BDAT 3 LAST\r\na\x00b")
	c.expect("554 5.6.0")
	c.say("NOOP", "250 ")
	c.say("BDAT", "501 ")
	c.say("BDAT -1", "501 ")
	f.wantBodies()
}

func TestLineEnds(t *testing.T) {
	for _, c := range []struct{ name, sent, want string }{
		{"bare LF", "A: b\n\nc\n\r\n", "A: b\r\n\r\nc\r\n\r\n"},
		{"bare CR", "A: b\r\rc\r\n", "A: b\r\n\r\nc\r\n"},
		{"both", "A: b\n\r\n\rc\r\n", "A: b\r\n\r\n\r\nc\r\n"},
		{"8 bit", "A: b\r\n\r\n\xc3\xa4\xff\r\n", "A: b\r\n\r\n\xc3\xa4\xff\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := serve(t, nil)
			conn := f.login()
			conn.envelope()
			conn.say("DATA", "354 ")
			conn.say(c.sent+".", "250 ")
			f.wantBodies(c.want)
		})
	}
}

// TestSmuggling sends what some servers take for the end of a message, followed
// by another message. It must all be the one message.
func TestSmuggling(t *testing.T) {
	second := "MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + carol + ">\r\nDATA\r\nsmuggled\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n.\r", "\r\n\x00.\r\n", "\r\n.\r\r\n", "\r\r\n.\r\n", "\r\r\n..\r\n", "\r\r\r\n.\r\n"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			f := serve(t, nil)
			c := f.login()
			c.envelope()
			c.say("DATA", "354 ")
			c.send("A: b\r\n\r\nfirst" + end + second + ".\r\n")
			got, err := c.reply()
			if err != nil {
				t.Fatal(err)
			}
			switch messages := f.box.Messages(); {
			case strings.HasPrefix(got, "554 5.6.0 ") && len(messages) == 0:
			case strings.HasPrefix(got, "250 2.0.0 OK") && len(messages) == 1 && strings.Contains(string(messages[0].Body), "smuggled"):
				c.say("NOOP", "250 2.0.0 I have")
			default:
				t.Errorf("answered %q, submitted %q", got, f.bodies())
			}
		})
	}
}

func TestBodiesThatAreRefused(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	c.envelope()
	c.say("DATA", "354 ")
	c.say("A: b\r\n\r\n\x00\r\n.", "554 5.6.0")
	c.envelope() // in step
	c.say("DATA", "354 ")
	long := "A: " + strings.Repeat("b", submission.MaxLine-10) + "\r\n"
	c.say(long+".", "250 ")
	// Lines are limited when the client does not wait for the 354: the library
	// reads the body then.
	c.send("MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nDATA\r\n" + strings.Repeat("b", submission.MaxLine) + "\r\n.\r\n")
	for _, want := range []string{"250 ", "250 ", "354 ", "554 5.6.0"} {
		c.expect(want)
	}
	c.expectEnd()
	f.wantBodies(long)
}

// TestBodyTooEarly sends a body before the 354.
func TestBodyTooEarly(t *testing.T) {
	f := serve(t, nil)
	c := f.login()
	one := "MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nDATA\r\n"
	for range 2 {
		c.send(one + "..a\r\nDATA\r\n.\r\n" + one + text[:10])
		for _, want := range []string{"250 ", "250 ", "354 ", "250 ", "250 ", "250 ", "354 "} {
			c.expect(want)
		}
		c.say(text[10:]+".", "250 ")
		c.envelope()
		c.say("DATA", "354 ")
		c.say(text+".", "250 ")
	}
	f.wantBodies(".a\r\nDATA\r\n", text, text, ".a\r\nDATA\r\n", text, text)
}

func TestUnknownCommands(t *testing.T) {
	f := serve(t, nil)
	c := f.dial()
	c.expect("220 ")
	c.say("EHLO test", "250")
	for range 4 {
		c.say("XYZZY", "50")
	}
	c.expect("500 ")
	c.expectEnd()
}
