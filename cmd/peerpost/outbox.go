package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) outboxCommand() *cobra.Command {
	var q query
	cmd := &cobra.Command{
		Use:   "outbox [ID]",
		Short: "Show where outgoing mail is",
		Long: `Show where outgoing mail is, one line for each message and recipient:

  accepted    on this disk, not yet with enough other nodes
  replicated  with enough nodes to arrive even if this machine stays off
  delivered   opened and filed by the recipient's node
  displayed   the recipient said so
  failed      it will not arrive; a message in the INBOX says why`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, show := "", m.printOutbox
			if len(args) == 1 {
				id = args[0]
			}
			if id != "" {
				show = m.printEntries
			}
			return ask(cmd.Context(), m, q, func(c *control.Client) ([]control.OutboxEntry, error) {
				return c.Outbox(cmd.Context(), q.account, id)
			}, show)
		},
	}
	q.jsonFlag(cmd)
	q.accountFlag(cmd)
	return cmd
}

func (m *Main) printOutbox(entries []control.OutboxEntry) error {
	rows := [][]string{{"ID", "STATE", "COPIES", "NEXT ATTEMPT", "TO", "LAST ERROR"}}
	for _, e := range entries {
		rows = append(rows, []string{e.ID, string(e.State), copies(e), next(e), e.To, e.LastError})
	}
	return m.table(rows)
}

// printEntries shows one message in full.
func (m *Main) printEntries(entries []control.OutboxEntry) error {
	for i, e := range entries {
		if i > 0 {
			fmt.Fprintln(m.Stdout)
		}
		for _, row := range [][2]string{
			{"id", e.ID},
			{"from", e.Account},
			{"to", e.To},
			{"subject", e.Subject},
			{"size", size(e.Size)},
			{"state", string(e.State)},
			{"copies", copies(e)},
			{"attempts", fmt.Sprint(e.Attempts)},
			{"next", next(e)},
			{"accepted", when(e.Accepted)},
			{"expires", when(e.Expires)},
			{"error", e.LastError},
		} {
			if row[1] == "" {
				continue
			}
			if _, err := fmt.Fprintf(m.Stdout, "%-10s%s\n", row[0], line(row[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func copies(e control.OutboxEntry) string {
	return fmt.Sprintf("%d of %d", e.Replicas, e.Wanted)
}

func next(e control.OutboxEntry) string {
	if e.NextAttempt == nil {
		return ""
	}
	return until(*e.NextAttempt)
}
