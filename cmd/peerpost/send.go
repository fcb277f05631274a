package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func (m *Main) sendCommand() *cobra.Command {
	var q query
	var message control.Message
	cmd := &cobra.Command{
		Use:   "send --to ADDRESS [FILE|-]",
		Short: "Send a message, for scripts",
		Long: `Send a message whose text is in a file or on standard input. When the command
ends, the message is on disk in the outbox; it prints the id that "peerpost
outbox" knows it by.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := "-"
			if len(args) == 1 {
				file = args[0]
			}
			if file == "-" && q.passwordFile == "-" {
				return usage(errors.New("message and password cannot both come from standard input"))
			}
			if message.Raw && cmd.Flags().Changed("subject") {
				return usage(errors.New("a message given with --raw has its own subject"))
			}
			var err error
			if message.Body, err = m.readMessage(cmd.Context(), file); err != nil {
				return err
			}
			message.From = q.account
			return ask(cmd.Context(), m, q, func(c *control.Client) (control.Sent, error) {
				return c.Send(cmd.Context(), message)
			}, func(sent control.Sent) error { return m.print(sent.ID) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&message.To, "to", nil, "`address` of a recipient; repeatable")
	cmd.MarkFlagRequired("to") // fails only without the flag
	f.StringVar(&message.Subject, "subject", "", "`subject`")
	f.StringVar(&q.account, "from", "", "`address` of the account, or the part before the @; needed when there are several")
	f.BoolVar(&message.Raw, "raw", false, "the text is a whole message with its own header")
	q.unlockFlag(cmd)
	q.jsonFlag(cmd)
	return cmd
}

// readMessage reads the text of a message ("-" is standard input).
func (m *Main) readMessage(ctx context.Context, file string) ([]byte, error) {
	if _, ok := terminal(m.Stdin); ok && file == "-" {
		fmt.Fprintln(m.Stderr, "Write the text; end with Ctrl-D on a line of its own.")
	}
	var b []byte
	err := m.reading(ctx, file, control.MaxMessage+1, func(in io.Reader) (err error) {
		b, err = io.ReadAll(in)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(b) > control.MaxMessage {
		return nil, &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("the message is larger than %d MiB", control.MaxMessage>>20), Hint: "send it in parts"}
	}
	return b, nil
}
