package setup_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/gateway/setup"
)

const ada = "ada@aaaa.peerpost.alt"

var all = setup.Listeners{IMAP: "127.0.0.1:7143", SMTP: "127.0.0.1:7025", IMAPS: "[::]:7993", SMTPS: "0.0.0.0:7465"}

func TestFor(t *testing.T) {
	got := setup.For(ada, "", all)
	want := setup.Client{
		Address: ada, Username: ada,
		IMAP: []setup.Server{{"127.0.0.1", "7143", setup.None}, {"localhost", "7993", setup.TLS}},
		SMTP: []setup.Server{{"127.0.0.1", "7025", setup.None}, {"localhost", "7465", setup.TLS}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = setup.For(ada, "", setup.Listeners{IMAP: "[::1]:1", SMTPS: ":2"})
	want.IMAP = []setup.Server{{"::1", "1", setup.None}}
	want.SMTP = []setup.Server{{"localhost", "2", setup.TLS}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestText(t *testing.T) {
	got := setup.Text(setup.For(ada, "", all), setup.For("bob@bbbb.peerpost.alt", "correct horse\x1b[0m", setup.Listeners{IMAP: "localhost:1"}))
	const want = `  e-mail address  ada@aaaa.peerpost.alt
  user name       the same
  password        an app password
  incoming, IMAP  host 127.0.0.1, port 7143, no encryption (it stays on this machine), normal password
      or          host localhost, port 7993, SSL/TLS with this node's own certificate, normal password
  outgoing, SMTP  host 127.0.0.1, port 7025, no encryption (it stays on this machine), normal password
      or          host localhost, port 7465, SSL/TLS with this node's own certificate, normal password

  e-mail address  bob@bbbb.peerpost.alt
  user name       the same
  password        correct horse?[0m
  incoming, IMAP  host localhost, port 1, no encryption (it stays on this machine), normal password
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	b, err := setup.JSON(setup.For(ada, "secret", setup.Listeners{IMAP: "127.0.0.1:7143"}))
	if err != nil {
		t.Fatal(err)
	}
	const want = `[
  {
    "address": "ada@aaaa.peerpost.alt",
    "username": "ada@aaaa.peerpost.alt",
    "password": "secret",
    "imap": [
      {
        "host": "127.0.0.1",
        "port": "7143",
        "security": "none"
      }
    ],
    "smtp": []
  }
]
`
	if string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	b, err = setup.JSON()
	if string(b) != "[]\n" || err != nil {
		t.Errorf("nobody: %q, %v", b, err)
	}
	b, err = setup.JSON(setup.For(ada, "", all))
	if strings.Contains(string(b), "password") || err != nil {
		t.Errorf("unknown password: %s, %v", b, err)
	}
	var back []setup.Client
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, []setup.Client{setup.For(ada, "", all)}) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

func TestThunderbird(t *testing.T) {
	const plain = `1. Open the menu at the top right, New Account, Email. Enter your name, and
       e-mail address  ada@aaaa.peerpost.alt
       password        an app password
2. Choose "Configure manually" ("Edit configuration" in newer versions). It is
   no use to let Thunderbird search: the address is not in the DNS.
3. Incoming server:
       protocol               IMAP
       hostname               127.0.0.1
       port                   7143
       connection security    None
       authentication method  Normal password
       username               ada@aaaa.peerpost.alt
4. Outgoing server:
       protocol               SMTP
       hostname               127.0.0.1
       port                   7025
       connection security    None
       authentication method  Normal password
       username               ada@aaaa.peerpost.alt
5. Choose "Re-test", then "Done".
6. Thunderbird warns that the server does not use encryption. Between Thunderbird
   and this node nothing leaves the machine, and the node seals all mail before
   it does: tick "I understand the risks", then "Confirm".
`
	if got := setup.Thunderbird(setup.For(ada, "", all), "/home/ada/ca.pem"); got != plain {
		t.Errorf("got\n%s\nwant\n%s", got, plain)
	}
	got := setup.Thunderbird(setup.For(ada, "secret", setup.Listeners{IMAPS: "127.0.0.1:7993", SMTPS: "127.0.0.1:7465"}), "/home/ada/ca.pem")
	for _, want := range []string{"1. Let Thunderbird trust this node", "/home/ada/ca.pem", "password        secret", "connection security    SSL/TLS"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "risks") || strings.Contains(got, "None") {
		t.Errorf("speaks of clear text:\n%s", got)
	}
	if got := setup.Thunderbird(setup.For(ada, "", setup.Listeners{IMAP: "127.0.0.1:1"}), ""); got != "" {
		t.Errorf("no way to send: %q", got)
	}
}
