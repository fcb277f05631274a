package main

import (
	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) inviteCommand() *cobra.Command {
	var q query
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
			return ask(cmd.Context(), m, q, func(c *control.Client) (control.Invite, error) {
				return c.Invite(cmd.Context(), q.account)
			}, func(i control.Invite) error { return m.print(i.Link) })
		},
	}
	q.jsonFlag(cmd)
	q.accountFlag(cmd)
	return cmd
}

func (m *Main) contactsCommand() *cobra.Command {
	var q query
	var name string
	add := &cobra.Command{
		Use:   "add LINK|ADDRESS",
		Short: "Add a contact by an invite or an address",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), m, q, func(c *control.Client) (control.Contact, error) {
				return c.AddContact(cmd.Context(), q.account, control.NewContact{Target: args[0], Name: name})
			}, func(added control.Contact) error { return m.print(added.Address) })
		},
	}
	add.Flags().StringVar(&name, "name", "", "`name` by which you know the contact")

	list := &cobra.Command{
		Use:   "list",
		Short: "List the contacts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), m, q, func(c *control.Client) ([]control.Contact, error) {
				return c.Contacts(cmd.Context(), q.account)
			}, m.printContacts)
		},
	}
	for _, cmd := range []*cobra.Command{add, list} {
		q.accountFlag(cmd)
		q.unlockFlag(cmd)
		q.jsonFlag(cmd)
	}
	return group("contacts", "Add and list contacts", add, list)
}

func (m *Main) printContacts(contacts []control.Contact) error {
	rows := [][]string{{"NAME", "ADDRESS", "KEYS", "ADDED"}}
	for _, c := range contacts {
		known := "not found yet"
		if c.Known {
			known = "known"
		}
		rows = append(rows, []string{c.Name, c.Address, known, when(c.Added)})
	}
	return m.table(rows)
}
