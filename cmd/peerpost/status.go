package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

// watchEvery is how often `status --watch` looks.
const watchEvery = 2 * time.Second

func (m *Main) statusCommand() *cobra.Command {
	var q query
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the running node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return m.watch(cmd.Context(), q.json)
			}
			return ask(cmd.Context(), m, q, func(c *control.Client) (control.Status, error) {
				return c.Status(cmd.Context())
			}, m.printStatus)
		},
	}
	q.jsonFlag(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds until interrupted; with --json one line each time")
	return cmd
}

// watch shows the status again and again until ctx ends or the node does.
func (m *Main) watch(ctx context.Context, asJSON bool) error {
	c, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, screen := terminal(m.Stdout)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		st, err := c.Status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
		case asJSON:
			err = m.jsonLine(st)
		default:
			if screen {
				fmt.Fprint(m.Stdout, "\x1b[H\x1b[2J") // home, clear
			}
			if err = m.printStatus(st); err == nil && !screen {
				_, err = fmt.Fprintln(m.Stdout)
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *Main) printStatus(st control.Status) error {
	row := func(name, value string) {
		fmt.Fprintf(m.Stdout, "%-10s%s\n", name, line(value))
	}
	row("node", st.PeerID)
	row("running", "for "+time.Since(st.Started).Truncate(time.Second).String()+", version "+st.Version)
	peers := plural(st.Peers, "neighbour")
	if st.Peers == 0 {
		peers += "; mail waits on this machine until there is one"
	}
	row("peers", peers)
	for i, a := range st.Addrs {
		row([]string{"address", ""}[min(i, 1)], a)
	}
	row("imap", listeners(st.IMAP, st.IMAPS))
	row("smtp", listeners(st.SMTP, st.SMTPS))
	row("http", listeners(st.HTTP, ""))
	row("outbox", fmt.Sprintf("%d waiting, %d replicated, %d delivered, %d failed", st.Outbox.Waiting, st.Outbox.Replicated, st.Outbox.Delivered, st.Outbox.Failed))
	holding := fmt.Sprintf("%s for %d inboxes, %s", plural(st.Holding.Messages, "message"), st.Holding.Inboxes, size(st.Holding.Bytes))
	if st.Holding.Capacity > 0 {
		holding += " of " + size(st.Holding.Capacity)
	}
	if !st.Server {
		holding += "; not reachable from outside, so others leave nothing here"
	}
	row("holding", holding)
	if len(st.Accounts) == 0 {
		return nil
	}
	fmt.Fprintln(m.Stdout)
	if err := m.table(accountRows(st.Accounts)); err != nil {
		return err
	}
	return m.printProblems(st.Accounts)
}

// listeners says where a protocol is spoken.
func listeners(plain, tls string) string {
	var s []string
	if plain != "" {
		s = append(s, plain)
	}
	if tls != "" {
		s = append(s, tls+" (TLS)")
	}
	if s == nil {
		return off
	}
	return strings.Join(s, ", ")
}
