package nodetest_test

import (
	"fmt"
	"net"
	"net/smtp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/peerpost/peerpost/node/nodetest"
)

// TestMailClients goes the whole way of a person: submission on one node, IDLE
// and FETCH on another.
func TestMailClients(t *testing.T) {
	c := nodetest.New(t, 3, nodetest.Options{Sockets: true})
	alice, bob := c.Person(0, "alice"), c.Person(1, "bob")
	news := make(chan uint32, 16)
	client := login(t, c.Node[1], bob, &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				news <- *data.NumMessages
			}
		},
	})
	if _, err := client.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := client.Idle()
	if err != nil {
		t.Fatal(err)
	}
	msg := strings.ReplaceAll(fmt.Sprintf(`From: Alice <%s>
To: <%s>
Subject: with an attachment
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

Here it is.
--b
Content-Type: application/octet-stream; name=x.bin
Content-Disposition: attachment; filename=x.bin
Content-Transfer-Encoding: base64

AAECAwQFBgc=
--b--
`, alice.Address(), bob.Address()), "\n", "\r\n")
	submit(t, c.Node[0], alice, bob.Address(), msg)
	select {
	case n := <-news:
		if n != 1 {
			t.Errorf("%d messages", n)
		}
	case <-time.After(nodetest.Patience):
		t.Fatal("IDLE told nothing")
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{Part: []int{2}, Peek: true}
	got, err := client.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{
		Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{section},
	}).Collect()
	if err != nil || len(got) != 1 {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	if e := got[0].Envelope; e.Subject != "with an attachment" || e.From[0].Addr() != alice.Address() {
		t.Errorf("envelope %+v", e)
	}
	if body := got[0].FindBodySection(section); string(body) != "AAECAwQFBgc=" {
		t.Errorf("part 2 is %q", body)
	}
}

// TestManySessions has 32 sessions of one account at once.
func TestManySessions(t *testing.T) {
	c := nodetest.New(t, 2, nodetest.Options{Sockets: true})
	alice := c.Person(0, "alice")
	id := alice.Send(alice.Address(), "to myself", "note\n")
	alice.WaitMail(1)
	alice.WaitState(id, "delivered")
	var all sync.WaitGroup
	for range 32 {
		client := login(t, c.Node[0], alice, nil)
		all.Go(func() {
			if _, err := client.Select("INBOX", nil).Wait(); err != nil {
				t.Error(err)
				return
			}
			for range 10 {
				if got, err := client.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true}).Collect(); err != nil || len(got) != 1 {
					t.Errorf("%d messages, %v", len(got), err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestPasswordRemoved ends the sessions of a phone that was stolen, and of no
// other program.
func TestPasswordRemoved(t *testing.T) {
	c := nodetest.New(t, 1, nodetest.Options{Sockets: true})
	alice := c.Person(0, "alice")
	node := c.Node[0].Running().Control()
	phone, err := node.AddPassword(t.Context(), alice.Address(), "phone", "")
	if err != nil {
		t.Fatal(err)
	}
	laptop, laptopSends := login(t, c.Node[0], alice, nil), submission(t, c.Node[0], alice)
	stolen := imapAs(t, c.Node[0], alice, phone.Password, nil)
	if _, err := stolen.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := stolen.Idle()
	if err != nil {
		t.Fatal(err)
	}
	stolenSends := smtpAs(t, c.Node[0], alice, phone.Password)
	if err := stolenSends.Noop(); err != nil {
		t.Fatal(err)
	}
	if err := node.RemovePassword(t.Context(), alice.Address(), "phone"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stolen.Closed():
	case <-time.After(nodetest.Patience):
		t.Fatal("the phone is still in IDLE")
	}
	if err := idle.Close(); err == nil {
		t.Error("the phone ended its IDLE in good order")
	}
	if err := stolenSends.Mail(alice.Address()); err == nil {
		t.Error("the phone may still send")
	}
	if _, err := laptop.Select("INBOX", nil).Wait(); err != nil {
		t.Errorf("the laptop was cut off: %v", err)
	}
	deliver(t, laptopSends, alice.Address(), alice.Address(), []byte("From: "+alice.Address()+"\r\n\r\nx\r\n"))
}

// TestRefusals looks at what a mail client is told of mail that cannot go.
func TestRefusals(t *testing.T) {
	c := nodetest.New(t, 2, nodetest.Options{Sockets: true})
	alice := c.Person(0, "alice")
	conn := submission(t, c.Node[0], alice)
	if err := conn.Mail(alice.Address()); err != nil {
		t.Fatal(err)
	}
	for rcpt, want := range map[string]string{
		"someone@example.org":                              "no bridge is set up",
		"bob@" + strings.Repeat("a", 56) + ".peerpost.alt": "not a Peerpost address",
	} {
		if err := conn.Rcpt(rcpt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rcpt, err)
		}
	}
	conn.Reset()
	if err := conn.Mail("eve@example.org"); err == nil {
		t.Error("a foreign sender was taken")
	}
	conn.Reset()
	err := conn.Mail(alice.Address())
	if err == nil {
		err = conn.Rcpt(alice.Address())
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := conn.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "From: eve@example.org\r\n\r\nx\r\n")
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "From and Sender fields must be") {
		t.Errorf("a foreign From field: %v", err)
	}
}

func login(t testing.TB, m *nodetest.Machine, p *nodetest.Person, h *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	return imapAs(t, m, p, nodetest.Password, h)
}

func imapAs(t testing.TB, m *nodetest.Machine, p *nodetest.Person, password string, h *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	client, err := imapclient.DialInsecure(m.Status().IMAP, &imapclient.Options{UnilateralDataHandler: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.Login(p.Address(), password).Wait(); err != nil {
		t.Fatal(err)
	}
	return client
}

func submission(t testing.TB, m *nodetest.Machine, p *nodetest.Person) *smtp.Client {
	t.Helper()
	return smtpAs(t, m, p, nodetest.Password)
}

func smtpAs(t testing.TB, m *nodetest.Machine, p *nodetest.Person, password string) *smtp.Client {
	t.Helper()
	addr := m.Status().SMTP
	conn, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Auth(smtp.PlainAuth("", p.Address(), password, host)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func submit(t testing.TB, m *nodetest.Machine, p *nodetest.Person, to, msg string) {
	t.Helper()
	deliver(t, submission(t, m, p), p.Address(), to, []byte(msg))
}

func send(t testing.TB, conn *smtp.Client, from, to *nodetest.Person, msg []byte) {
	t.Helper()
	deliver(t, conn, from.Address(), to.Address(), msg)
}

func deliver(t testing.TB, conn *smtp.Client, from, to string, msg []byte) {
	t.Helper()
	err := conn.Mail(from)
	if err == nil {
		err = conn.Rcpt(to)
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := conn.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(msg); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
