package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peerpost/peerpost/gateway/setup"
	"github.com/peerpost/peerpost/node/control"
)

// authorityFile is where in the home the node keeps the certificate of its own
// authority, which a mail client needs for TLS.
const authorityFile = "tls/ca.pem"

func (m *Main) setupCommand() *cobra.Command {
	settings := pflag.NewFlagSet("setup", pflag.ContinueOnError)
	settingsFlags(settings)
	var asJSON, thunderbird bool
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
			case len(setups(st)) == 0:
				return unusable(st.Accounts)
			case thunderbird:
				return m.printThunderbird(st)
			}
			return m.printSetup(st)
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&thunderbird, "thunderbird", false, "print it step by step for Thunderbird")
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

// setups is what to enter for the accounts that can be used.
func setups(st control.Status) []setup.Client {
	all := []setup.Client{}
	for _, a := range st.Accounts {
		if a.Damaged {
			continue
		}
		all = append(all, setup.For(a.Address, "", setup.Listeners{IMAP: st.IMAP, SMTP: st.SMTP, IMAPS: st.IMAPS, SMTPS: st.SMTPS}))
	}
	return all
}

// printSetup prints what to enter in a mail client, for every account.
func (m *Main) printSetup(st control.Status) error {
	text := "In the mail client:\n\n" + setup.Text(setups(st)...)
	if st.IMAPS != "" || st.SMTPS != "" {
		text += "\nFor TLS the client has to trust " + line(filepath.Join(m.home, authorityFile)) + "\n"
	}
	_, err := fmt.Fprintln(m.Stdout, text)
	return err
}

// printThunderbird prints how to enter the accounts in Thunderbird.
func (m *Main) printThunderbird(st control.Status) error {
	for _, c := range setups(st) {
		steps := setup.Thunderbird(c, filepath.Join(m.home, authorityFile))
		if steps == "" {
			return &control.Error{Code: control.CodeInvalid, Message: "the node serves no mail clients", Hint: "see --imap and --smtp in `peerpost up --help`"}
		}
		if _, err := fmt.Fprintf(m.Stdout, "%s\n\n%s\n", line(c.Address), steps); err != nil {
			return err
		}
	}
	return nil
}
