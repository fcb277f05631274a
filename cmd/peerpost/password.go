package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) passwordCommand() *cobra.Command {
	var q query
	var newFile string

	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Add an app password",
		Long: `Add an app password. NAME says what it is for, such as "phone". The password
is made and printed this once, unless it was given.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if newFile == "-" && q.passwordFile == "-" {
				return usage(errors.New("both passwords cannot come from standard input"))
			}
			given := ""
			if newFile != "" {
				var err error
				if given, err = m.readSecret(cmd.Context(), newFile); err != nil {
					return err
				}
			}
			return ask(cmd.Context(), m, q, func(c *control.Client) (control.NewPassword, error) {
				return c.AddPassword(cmd.Context(), q.account, args[0], given)
			}, func(p control.NewPassword) error {
				if given != "" {
					return nil
				}
				return m.print(p.Password)
			})
		},
	}
	add.Flags().StringVar(&newFile, "new-password-file", "", "`file` with the new app password (- is standard input); a strong one is made otherwise")
	q.unlockFlag(add)
	q.jsonFlag(add)

	remove := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove an app password",
		Long: `Remove an app password. The mail clients that are logged in with it are cut off at
once, and the others go on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return tell(cmd.Context(), m, q, func(c *control.Client) error {
				return c.RemovePassword(cmd.Context(), q.account, args[0])
			})
		},
	}
	q.unlockFlag(remove)

	list := &cobra.Command{
		Use:   "list",
		Short: "List the names of the app passwords",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), m, q, func(c *control.Client) ([]control.Password, error) {
				return c.Passwords(cmd.Context(), q.account)
			}, m.printPasswords)
		},
	}
	q.jsonFlag(list)

	for _, cmd := range []*cobra.Command{add, remove, list} {
		q.accountFlag(cmd)
	}
	return group("password", "Add, remove and list the app passwords of an account", add, remove, list)
}

func (m *Main) printPasswords(passwords []control.Password) error {
	rows := [][]string{{"NAME", "CREATED"}}
	for _, p := range passwords {
		rows = append(rows, []string{p.Name, when(p.Created)})
	}
	return m.table(rows)
}
