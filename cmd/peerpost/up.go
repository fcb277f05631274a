package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) upCommand() *cobra.Command {
	settings := pflag.NewFlagSet("up", pflag.ContinueOnError)
	settingsFlags(settings)
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the node",
		Long: `Run the node until it is interrupted. The first start makes an account, and
prints its app password and recovery words this once. Every start prints what to
enter in the mail client.

Every flag may also stand in a file or in the environment: see
"peerpost help settings".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := m.settings(settings)
			if err != nil {
				return err
			}
			return m.up(cmd.Context(), s)
		},
	}
	cmd.Flags().AddFlagSet(settings)
	return cmd
}

// up makes the account if there is none, and runs the node.
func (m *Main) up(ctx context.Context, s Settings) error {
	if err := m.Nodes.Free(ctx, s); err != nil && !m.running(ctx) {
		return err
	}
	created, err := m.firstAccount(ctx, s)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(m.Stderr, &slog.HandlerOptions{Level: s.LogLevel}))
	n, err := m.Nodes.New(ctx, s, log)
	if err != nil {
		return err
	}
	st, err := n.Status(ctx)
	if err == nil {
		err = m.printUp(st)
	}
	if err != nil {
		return errors.Join(err, n.Close())
	}
	if created.Password == "" {
		return n.Run(ctx)
	}
	var unlocking sync.WaitGroup
	unlocking.Go(func() {
		if err := m.unlock(ctx, created); err != nil && ctx.Err() == nil {
			log.Warn("the new account could not be unlocked", "err", err)
		}
	})
	err = n.Run(ctx)
	unlocking.Wait()
	return err
}

// running reports whether a node runs with this home. Then it is the one that
// has the addresses, and New says so.
func (m *Main) running(ctx context.Context) bool {
	c, err := m.dial(ctx)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// firstAccount makes the account of a home that has none, unless the node is to
// be without. The answer is empty when it has one.
func (m *Main) firstAccount(ctx context.Context, s Settings) (control.CreatedAccount, error) {
	have, err := m.Nodes.Accounts(ctx, s.Home)
	if err != nil {
		return control.CreatedAccount{}, err
	}
	if s.Holder && len(have) > 0 {
		return control.CreatedAccount{}, &usageError{
			fmt.Errorf("this home has an account, %s, whose mail would not be collected with --holder", have[0].Address),
			"leave out --holder, since every node holds mail for others; or choose another home with --home",
		}
	}
	if s.Holder || len(have) > 0 {
		return control.CreatedAccount{}, nil
	}
	if err := checkClock(); err != nil {
		return control.CreatedAccount{}, err
	}
	created, err := m.Nodes.FirstAccount(ctx, s.Home, control.NewAccount{})
	if errors.Is(err, control.ErrExists) { // somebody else made it just now
		return control.CreatedAccount{}, nil
	}
	if err != nil {
		return control.CreatedAccount{}, err
	}
	return created, m.printCreated(created, false)
}

// unlock opens the account that was just made, so that it can be written to
// before its owner has set up the mail client. The socket is there already;
// it answers as soon as the node runs.
func (m *Main) unlock(ctx context.Context, a control.CreatedAccount) error {
	c, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Unlock(ctx, a.Address, a.Password)
}

func (m *Main) printUp(st control.Status) error {
	switch {
	case len(setups(st)) > 0:
		if err := m.printSetup(st); err != nil {
			return err
		}
	case len(st.Accounts) > 0:
		fmt.Fprintf(m.Stdout, "No account of this node can be opened.\n")
	default:
		fmt.Fprintf(m.Stdout, "This node has no account; it holds mail for others.\n")
		if st.Holder && len(st.Addrs) > 0 {
			fmt.Fprintf(m.Stdout, "\nTo have it keep your mail, enter one of these on your own node, the one by which\nthis machine can be reached from elsewhere; `peerpost invite` puts all in one link:\n\n")
			for _, a := range st.Addrs {
				fmt.Fprintf(m.Stdout, "  peerpost keeper add %s\n", line(a))
			}
			fmt.Fprintln(m.Stdout)
		}
	}
	if err := m.printProblems(st.Accounts); err != nil {
		return err
	}
	if st.HTTP != "" {
		fmt.Fprintf(m.Stdout, "The state of the node: http://%s/\n", st.HTTP)
	}
	_, err := fmt.Fprintf(m.Stdout, "The node runs until it is interrupted (Ctrl-C).\n")
	return err
}

func (m *Main) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the running node, and wait until it has ended",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tell(cmd.Context(), m, query{}, func(c *control.Client) error { return c.Stop(cmd.Context()) })
		},
	}
}
