package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

// query is what the commands that ask the running node have in common: of which
// account, how to unlock it, and whether a program wants the answer.
type query struct {
	account, passwordFile string
	json                  bool
}

func (q *query) accountFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.account, "account", "", "`address` of the account, or the part before the @; needed when there are several")
}

// unlockFlag is for what needs an unlocked account.
func (q *query) unlockFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.passwordFile, "password-file", "", "`file` with an app password of the account, should it be locked (- is standard input)")
}

func (q *query) jsonFlag(cmd *cobra.Command) { jsonFlag(cmd, &q.json) }

// ask connects to the running node, calls do, once more if the account had to be
// unlocked first, and shows the answer.
func ask[T any](ctx context.Context, m *Main, q query, do func(*control.Client) (T, error), show func(T) error) error {
	c, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var answer T
	err = m.unlocked(ctx, c, q.account, q.passwordFile, func() (err error) {
		answer, err = do(c)
		return err
	})
	switch {
	case err != nil:
		return err
	case q.json:
		return m.json(answer)
	}
	return show(answer)
}

// tell is ask for what has no answer.
func tell(ctx context.Context, m *Main, q query, do func(*control.Client) error) error {
	return ask(ctx, m, q,
		func(c *control.Client) (struct{}, error) { return struct{}{}, do(c) },
		func(struct{}) error { return nil })
}

// print prints a text of one line.
func (m *Main) print(text string) error {
	_, err := fmt.Fprintln(m.Stdout, line(text))
	return err
}
