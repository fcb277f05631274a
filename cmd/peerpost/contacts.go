package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) inviteCommand() *cobra.Command {
	var account string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Print a link for somebody who is to write to you",
		Long: `Print a link that carries the address and where this node can be reached. Who
adds it with "peerpost contacts add", or starts with "peerpost up --bootstrap",
needs nothing else to find the network.

A node that only holds mail for others has no address; its link is for
"peerpost keeper add" of those whose mail it is to keep.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			i, err := c.Invite(cmd.Context(), account)
			if err != nil {
				return err
			}
			if asJSON {
				return m.json(i)
			}
			_, err = fmt.Fprintln(m.Stdout, line(i.Link))
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	accountFlag(cmd, &account)
	return cmd
}

func (m *Main) contactsCommand() *cobra.Command {
	var account, passwordFile, name string
	var asJSON bool
	add := &cobra.Command{
		Use:   "add LINK|ADDRESS",
		Short: "Add a contact by an invite or an address",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			var added control.Contact
			err = m.unlocked(cmd.Context(), c, account, passwordFile, func() (err error) {
				added, err = c.AddContact(cmd.Context(), account, control.NewContact{Target: args[0], Name: name})
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return m.json(added)
			}
			_, err = fmt.Fprintln(m.Stdout, line(added.Address))
			return err
		},
	}
	add.Flags().StringVar(&name, "name", "", "`name` by which you know the contact")

	list := &cobra.Command{
		Use:   "list",
		Short: "List the contacts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := m.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			var contacts []control.Contact
			err = m.unlocked(cmd.Context(), c, account, passwordFile, func() (err error) {
				contacts, err = c.Contacts(cmd.Context(), account)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return m.json(contacts)
			}
			rows := [][]string{{"NAME", "ADDRESS", "KEYS", "ADDED"}}
			for _, c := range contacts {
				known := "not found yet"
				if c.Known {
					known = "known"
				}
				rows = append(rows, []string{c.Name, c.Address, known, when(c.Added)})
			}
			return m.table(rows)
		},
	}
	for _, cmd := range []*cobra.Command{add, list} {
		accountFlag(cmd, &account)
		unlockFlag(cmd, &passwordFile)
		jsonFlag(cmd, &asJSON)
	}
	return group("contacts", "Add and list contacts", add, list)
}
