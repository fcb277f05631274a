package setup

import (
	"fmt"
	"strings"
)

// Thunderbird tells step by step how to enter an account in Thunderbird on the
// desktop. It takes the first server of each protocol. authority is the file of
// the node's certificate authority, which is needed with TLS. It is empty when
// the account has no servers.
func Thunderbird(c Client, authority string) string {
	if len(c.IMAP) == 0 || len(c.SMTP) == 0 {
		return ""
	}
	imap, smtp := c.IMAP[0], c.SMTP[0]
	var steps []string
	if imap.Security == TLS || smtp.Security == TLS {
		steps = append(steps, fmt.Sprintf(`Let Thunderbird trust this node: Settings, Privacy & Security, Certificates,
Manage Certificates, Authorities, Import. Choose the file
    %s
and tick "Trust this CA to identify websites".`, oneLine(authority)))
	}
	steps = append(steps,
		fmt.Sprintf(`Open the menu at the top right, New Account, Email. Enter your name, and
    e-mail address  %s
    password        %s`, oneLine(c.Address), oneLine(c.password())),
		`Choose "Configure manually" ("Edit configuration" in newer versions). It is
no use to let Thunderbird search: the address is not in the DNS.`,
		"Incoming server:\n"+thunderbirdServer("IMAP", imap, c.Username),
		"Outgoing server:\n"+thunderbirdServer("SMTP", smtp, c.Username),
		`Choose "Re-test", then "Done".`)
	if imap.Security == None || smtp.Security == None {
		steps = append(steps, `Thunderbird warns that the server does not use encryption. Between Thunderbird
and this node nothing leaves the machine, and the node seals all mail before
it does: tick "I understand the risks", then "Confirm".`)
	}
	var b strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, strings.ReplaceAll(s, "\n", "\n   "))
	}
	return b.String()
}

// thunderbirdServer uses the words of Thunderbird's form.
func thunderbirdServer(protocol string, s Server, user string) string {
	security := "None"
	if s.Security == TLS {
		security = "SSL/TLS"
	}
	return fmt.Sprintf(`    protocol               %s
    hostname               %s
    port                   %s
    connection security    %s
    authentication method  Normal password
    username               %s`, protocol, oneLine(s.Host), oneLine(s.Port), security, oneLine(user))
}
