package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) passwordCommand() *cobra.Command {
	var account, passwordFile, newFile string
	var asJSON bool

	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Add an app password",
		Long: `Add an app password. NAME says what it is for, such as "phone". The password
is made and printed this once, unless it was given.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if newFile == "-" && passwordFile == "-" {
				return usage(errors.New("both passwords cannot come from standard input"))
			}
			given := ""
			if newFile != "" {
				var err error
				if given, err = m.readSecret(cmd.Context(), newFile); err != nil {
					return err
				}
			}
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			var p control.NewPassword
			err = m.unlocked(cmd.Context(), c, account, passwordFile, func() (err error) {
				p, err = c.AddPassword(cmd.Context(), account, args[0], given)
				return err
			})
			switch {
			case err != nil:
				return err
			case asJSON:
				return m.json(p)
			case given == "":
				_, err = fmt.Fprintln(m.Stdout, line(p.Password))
			}
			return err
		},
	}
	add.Flags().StringVar(&newFile, "new-password-file", "", "`file` with the new app password (- is standard input); a strong one is made otherwise")
	unlockFlag(add, &passwordFile)
	jsonFlag(add, &asJSON)

	remove := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove an app password",
		Long: `Remove an app password. The mail clients that are logged in with it are cut off at
once, and the others go on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			return m.unlocked(cmd.Context(), c, account, passwordFile, func() error {
				return c.RemovePassword(cmd.Context(), account, args[0])
			})
		},
	}
	unlockFlag(remove, &passwordFile)

	list := &cobra.Command{
		Use:   "list",
		Short: "List the names of the app passwords",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			passwords, err := c.Passwords(cmd.Context(), account)
			if err != nil {
				return err
			}
			if asJSON {
				return m.json(passwords)
			}
			rows := [][]string{{"NAME", "CREATED"}}
			for _, p := range passwords {
				rows = append(rows, []string{p.Name, when(p.Created)})
			}
			return m.table(rows)
		},
	}
	jsonFlag(list, &asJSON)

	for _, cmd := range []*cobra.Command{add, remove, list} {
		accountFlag(cmd, &account)
	}
	return group("password", "Add, remove and list the app passwords of an account", add, remove, list)
}
