// Command peerpost is a mail node for one machine: `peerpost up` runs it, and
// the other commands talk to the running one through the control socket in its
// home. `peerpost help` lists them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		hard := ExitInterrupt
		if s, ok := (<-signals).(syscall.Signal); ok {
			hard = ExitSignal + int(s)
		}
		os.Exit(hard)
	}()
	m := Main{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Nodes: realNodes{}}
	os.Exit(m.Run(ctx, os.Args[1:]))
}

// Nodes is what the command needs of package node: one that runs, and the
// accounts of a home in which none does.
type Nodes interface {
	// Free returns an error when another program has an address that the node
	// is to listen on, or nobody on this machine can have it.
	Free(ctx context.Context, s Settings) error
	// New makes a node that is ready to Run: its listeners are bound.
	New(ctx context.Context, s Settings, log *slog.Logger) (Running, error)
	// Accounts lists the accounts in a home, of which there may be none.
	Accounts(ctx context.Context, home string) ([]control.AccountStatus, error)
	// FirstAccount creates the account of a home that has none. The error is a
	// control.ErrExists when it has one, whoever was quicker; when a node has the
	// lock of the home, a control.ErrRunning.
	FirstAccount(ctx context.Context, home string, a control.NewAccount) (control.CreatedAccount, error)
	// AddAccount creates an account in a home, or restores one from its
	// words. It takes the lock of the home; the error is a control.ErrRunning
	// when a node has it.
	AddAccount(ctx context.Context, home string, a control.NewAccount) (control.CreatedAccount, error)
}

// Running is a node of this process.
type Running interface {
	Run(ctx context.Context) error // until ctx ends or the node is asked to stop
	Status(ctx context.Context) (control.Status, error)
	Close() error
}

// Main is the command with what it is connected to.
type Main struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Nodes          Nodes

	home string
}

// Run executes the command line and returns the exit code.
func (m *Main) Run(ctx context.Context, args []string) int {
	root, began := m.commands()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = interrupted{err}
	}
	if !*began { // cobra did not get as far as our code
		err = usage(err)
	}
	if u, ok := errors.AsType[*usageError](err); ok && u.hint == "" {
		u.hint = fmt.Sprintf("see `%s --help`", cmd.CommandPath())
	}
	code, hint := explain(err)
	fmt.Fprintf(m.Stderr, "peerpost: %s\n", line(err.Error()))
	if hint != "" {
		fmt.Fprintf(m.Stderr, "hint: %s\n", line(hint))
	}
	return code
}

// commands makes the tree of commands, and a mark that is set as soon as one
// of them runs.
func (m *Main) commands() (*cobra.Command, *bool) {
	began := new(bool)
	root := &cobra.Command{
		Use:   "peerpost",
		Short: "Mail from person to person, without a mail server",
		Long: `Peerpost runs a mail node on this machine. A mail client talks to it over IMAP
and SMTP on localhost; the address is a public key; mail travels sealed from
node to node and waits with a few of them while the recipient is off.

Start with:

  peerpost up

It makes an account the first time and prints what to enter in the mail client.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknown(cmd, args[0])
		},
	}
	root.SetIn(m.Stdin)
	root.SetOut(m.Stdout)
	root.SetErr(m.Stderr)
	root.PersistentFlags().StringVar(&m.home, "home", defaultHome(os.Getenv), "`directory` of everything the node keeps (PEERPOST_HOME)")
	root.AddCommand(
		m.upCommand(), m.initCommand(), m.accountCommand(), m.addressCommand(), m.passwordCommand(), m.restoreCommand(),
		m.statusCommand(), m.outboxCommand(), m.inviteCommand(), m.contactsCommand(), m.keeperCommand(), m.sendCommand(), m.exportCommand(),
		m.setupCommand(), m.stopCommand(), m.versionCommand(),
		exitCodesTopic(), configTopic(),
	)
	m.prepare(root, began)
	return root, began
}

// prepare makes a command and its subcommands set began when they run, since
// what goes wrong before is a mistake on the command line, and find out where
// the home is.
func (m *Main) prepare(cmd *cobra.Command, began *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
			*began = true
			if m.home == "" { // filepath.Abs would take the current directory
				return &usageError{errors.New("--home is empty, and no directory"), "name the directory, or leave out --home for " + defaultHome(os.Getenv)}
			}
			if m.home, err = filepath.Abs(m.home); err != nil {
				return err
			}
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		m.prepare(c, began)
	}
}

// group makes a command that only has subcommands.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown(cmd, args[0])
			}
			return usage(fmt.Errorf("`%s` wants to know what to do", cmd.CommandPath()))
		},
	}
	g.AddCommand(commands...)
	return g
}

// unknown refuses a command that does not exist.
func unknown(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2 // letters
	e := usage(fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+name))
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		e.hint = fmt.Sprintf("did you mean `%s %s`?", cmd.CommandPath(), s[0])
	}
	return e
}

// dial connects to the running node.
func (m *Main) dial(ctx context.Context) (*control.Client, error) {
	return control.Dial(ctx, m.home)
}

// json prints a value for programs, indented.
func (m *Main) json(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = m.Stdout.Write(append(ascii(b), '\n'))
	return err
}

// jsonLine prints a value for programs on one line.
func (m *Main) jsonLine(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = m.Stdout.Write(append(ascii(b), '\n'))
	return err
}

// jsonFlag adds --json to a command.
func jsonFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "json", false, "print JSON")
}
