package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) keeperCommand() *cobra.Command {
	var q query
	add := &cobra.Command{
		Use:   "add INVITE|MULTIADDR",
		Short: "Choose a node that keeps your mail besides the nearest ones",
		Long: `Choose a node that is always on, such as one that "peerpost up --holder" runs at
home, to keep your mail besides those that are nearest to your inbox by chance.
Senders learn of it from your record, and leave your mail there too. Like every
holder it can neither read nor forge any.

"peerpost invite" on the keeper prints what to enter here; of several nodes in an
invite the first is meant. To add a keeper again gives it the new addresses.
Everybody who knows your address can see who your keepers are.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd.Context(), m, q, func(c *control.Client) (control.Keeper, error) {
				added, err := c.AddKeeper(cmd.Context(), q.account, args[0])
				if err == nil && !added.Connected {
					fmt.Fprintln(m.Stderr, "The keeper cannot be reached now; it is chosen all the same.")
				}
				return added, err
			}, func(added control.Keeper) error { return m.print(added.Peer) })
		},
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the keepers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd.Context(), m, q, func(c *control.Client) ([]control.Keeper, error) {
				return c.Keepers(cmd.Context(), q.account)
			}, m.printKeepers)
		},
	}
	remove := &cobra.Command{
		Use:   "remove PEER",
		Short: "Give up a keeper",
		Long: `Give up the keeper with a peer id. Mail that nobody else keeps is not collected
from it any more; its sender leaves it elsewhere when the new record has got there.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return tell(cmd.Context(), m, q, func(c *control.Client) error {
				return c.RemoveKeeper(cmd.Context(), q.account, args[0])
			})
		},
	}
	for _, cmd := range []*cobra.Command{add, list, remove} {
		q.accountFlag(cmd)
	}
	for _, cmd := range []*cobra.Command{add, remove} {
		q.unlockFlag(cmd)
	}
	for _, cmd := range []*cobra.Command{add, list} {
		q.jsonFlag(cmd)
	}
	return group("keeper", "Choose nodes that keep your mail", add, list, remove)
}

func (m *Main) printKeepers(keepers []control.Keeper) error {
	rows := [][]string{{"PEER", "STATE", "ADDRESSES"}}
	for _, k := range keepers {
		state := "not connected"
		if k.Connected {
			state = "connected"
		}
		rows = append(rows, []string{k.Peer, state, strings.Join(k.Addrs, " ")})
	}
	return m.table(rows)
}
