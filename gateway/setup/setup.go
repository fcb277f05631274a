// Package setup renders what to enter in a mail client. Its functions look at
// their arguments only.
package setup

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode"
)

// Security is how a client talks to a server.
type Security string

// STARTTLS is not among them: the plaintext listeners do not offer it.
const (
	None Security = "none" // clear text, on loopback only
	TLS  Security = "tls"  // from the first byte, "SSL/TLS" in most clients
)

// Server is one server as a client wants to know it.
type Server struct {
	Host     string   `json:"host"`
	Port     string   `json:"port"`
	Security Security `json:"security"`
}

// Client is all that a client has to be told of one account. The names of its
// JSON form are a contract.
type Client struct {
	Address  string   `json:"address"`
	Username string   `json:"username"`
	Password string   `json:"password,omitempty"` // empty when it is not known
	IMAP     []Server `json:"imap"`               // by preference; each of them serves the whole account
	SMTP     []Server `json:"smtp"`
}

// Listeners are the addresses (host:port) that a node serves mail clients on.
// What is empty is off.
type Listeners struct {
	IMAP, SMTP   string // clear text
	IMAPS, SMTPS string // TLS
}

// For returns what to enter for an account. The password may be empty.
func For(address, password string, l Listeners) Client {
	return Client{
		Address: address, Username: address, Password: password,
		IMAP: servers(l.IMAP, l.IMAPS), SMTP: servers(l.SMTP, l.SMTPS),
	}
}

// servers lists clear text first: it needs no certificate, and does not leave the machine.
func servers(plain, tls string) []Server {
	all := []Server{} // [] rather than null in JSON
	for _, l := range [...]struct {
		address  string
		security Security
	}{{plain, None}, {tls, TLS}} {
		if host, port, err := net.SplitHostPort(l.address); err == nil {
			all = append(all, Server{reachable(host), port, l.security})
		}
	}
	return all
}

// reachable makes of a host that is listened on one that can be connected to.
func reachable(host string) string {
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return "localhost"
	}
	return host
}

// JSON renders accounts as a list.
func JSON(clients ...Client) ([]byte, error) {
	if clients == nil {
		clients = []Client{}
	}
	b, err := json.MarshalIndent(clients, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("client settings: %w", err)
	}
	return append(b, '\n'), nil
}

// Text renders accounts for people, with an empty line between them.
func Text(clients ...Client) string {
	var b strings.Builder
	for i, c := range clients {
		if i > 0 {
			b.WriteByte('\n')
		}
		row(&b, "e-mail address", c.Address)
		row(&b, "user name", c.userName())
		row(&b, "password", c.password())
		for _, p := range [...]struct {
			name    string
			servers []Server
		}{{"incoming, IMAP", c.IMAP}, {"outgoing, SMTP", c.SMTP}} {
			name := p.name
			for _, s := range p.servers {
				row(&b, name, fmt.Sprintf("host %s, port %s, %s, normal password", s.Host, s.Port, s.Security.text()))
				name = "    or"
			}
		}
	}
	return b.String()
}

func row(b *strings.Builder, name, value string) {
	fmt.Fprintf(b, "  %-14s  %s\n", name, oneLine(value))
}

func (c Client) userName() string {
	if c.Username == c.Address {
		return "the same"
	}
	return c.Username
}

func (c Client) password() string {
	if c.Password == "" {
		return "an app password"
	}
	return c.Password
}

func (s Security) text() string {
	if s == TLS {
		return "SSL/TLS with this node's own certificate"
	}
	return "no encryption (it stays on this machine)"
}

// oneLine shows what a terminal might act on as a question mark.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
