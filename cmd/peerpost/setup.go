package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peerpost/peerpost/node/control"
)

// endpoint is a server as a mail client wants to know it.
type endpoint struct {
	Host     string `json:"host"`
	Port     string `json:"port"`
	Security string `json:"security"` // "none" or "tls"
}

// clientSetup is what to enter in a mail client for one account.
type clientSetup struct {
	Address  string     `json:"address"`
	Username string     `json:"username"`
	IMAP     []endpoint `json:"imap"` // by preference
	SMTP     []endpoint `json:"smtp"`
}

func (m *Main) setupCommand() *cobra.Command {
	settings := pflag.NewFlagSet("setup", pflag.ContinueOnError)
	settingsFlags(settings)
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Print what to enter in a mail client",
		Long: `Print what to enter in a mail client: as the running node says or, when none
runs, as the settings do.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := m.setupStatus(cmd, settings)
			switch {
			case err != nil:
				return err
			case asJSON:
				return m.json(setups(st))
			case len(st.Accounts) == 0:
				return errNoAccount
			}
			return m.printSetup(st)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// setupStatus asks the running node, or else the home and the settings.
func (m *Main) setupStatus(cmd *cobra.Command, settings *pflag.FlagSet) (control.Status, error) {
	c, err := m.dial(cmd.Context())
	if err == nil {
		defer c.Close()
		return c.Status(cmd.Context())
	}
	if !errors.Is(err, control.ErrNoNode) {
		return control.Status{}, err
	}
	s, err := m.settings(settings)
	if err != nil {
		return control.Status{}, err
	}
	accounts, _, err := m.accounts(cmd.Context())
	return control.Status{Accounts: accounts, IMAP: s.IMAP, SMTP: s.SMTP, IMAPS: s.IMAPS, SMTPS: s.SMTPS}, err
}

func setups(st control.Status) []clientSetup {
	all := []clientSetup{}
	for _, a := range st.Accounts {
		all = append(all, clientSetup{
			Address: a.Address, Username: a.Address,
			IMAP: endpoints(st.IMAP, st.IMAPS), SMTP: endpoints(st.SMTP, st.SMTPS),
		})
	}
	return all
}

func endpoints(plain, tls string) []endpoint {
	e := []endpoint{}
	for _, l := range [...]struct{ addr, security string }{{plain, "none"}, {tls, "tls"}} {
		if host, port, err := net.SplitHostPort(l.addr); err == nil {
			e = append(e, endpoint{host, port, l.security})
		}
	}
	return e
}

// printSetup prints what to enter in a mail client, for every account.
func (m *Main) printSetup(st control.Status) error {
	var b strings.Builder
	b.WriteString("In the mail client:\n")
	for _, s := range setups(st) {
		fmt.Fprintf(&b, "\n  e-mail address  %s\n  user name       the same\n  password        an app password\n", line(s.Address))
		for _, p := range [...]struct {
			name string
			at   []endpoint
		}{{"incoming, IMAP", s.IMAP}, {"outgoing, SMTP", s.SMTP}} {
			for i, e := range p.at {
				name := p.name
				if i > 0 {
					name = "    or"
				}
				security := "no encryption (it stays on this machine), normal password"
				if e.Security == "tls" {
					security = "SSL/TLS with this node's own certificate, normal password"
				}
				fmt.Fprintf(&b, "  %-14s  host %s, port %s, %s\n", name, e.Host, e.Port, security)
			}
		}
	}
	b.WriteString("\n")
	_, err := m.Stdout.Write([]byte(b.String()))
	return err
}
