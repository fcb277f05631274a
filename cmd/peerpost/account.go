package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

// newAccount is the flags of the commands that make an account.
type newAccount struct {
	name, passwordFile, passwordName string
	first, restore, json             bool
}

func (n *newAccount) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.passwordFile, "password-file", "", "`file` with the app password to use (- is standard input); a strong one is made otherwise")
	cmd.Flags().StringVar(&n.passwordName, "password-name", "", "`name` of the app password, such as the program that uses it (default \"first\")")
	jsonFlag(cmd, &n.json)
}

// check refuses a name that cannot be one. The empty one is a variable that was
// not set; only the first start of a node chooses a name itself.
func (n *newAccount) check() error {
	if e := control.CheckName(n.name); e != nil {
		return &usageError{e, e.Hint}
	}
	return nil
}

func (m *Main) initCommand() *cobra.Command {
	n := newAccount{first: true}
	cmd := &cobra.Command{
		Use:   "init --account NAME",
		Short: "Make the first account without starting a node",
		Long: `Make the first account without starting a node. NAME is what stands before the
@ of the address. The recovery words, and the app password unless it was given,
are printed this once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return m.make(cmd.Context(), n, "")
		},
	}
	cmd.Flags().StringVar(&n.name, "account", "", "`name` before the @ of the address")
	cmd.MarkFlagRequired("account") // fails only without the flag
	n.flags(cmd)
	return cmd
}

func (m *Main) accountCommand() *cobra.Command {
	var n newAccount
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Make another account",
		Long: `Make another account, in the running node if there is one. NAME is what stands
before the @ of the address. The recovery words, and the app password unless it
was given, are printed this once.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.name = args[0]
			return m.make(cmd.Context(), n, "")
		},
	}
	n.flags(add)

	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the accounts",
		Long:  "List the accounts. What is in them is shown when the node runs.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return m.listAccounts(cmd.Context(), asJSON) },
	}
	jsonFlag(list, &asJSON)
	return group("account", "Make and list accounts", add, list)
}

func (m *Main) restoreCommand() *cobra.Command {
	n := newAccount{restore: true}
	var wordsFile string
	cmd := &cobra.Command{
		Use:   "restore --account NAME",
		Short: "Get an account back from its recovery words",
		Long: `Get an account back from its recovery words: the same address with new keys.
Mail that was under way to the old keys is sealed again by its senders. Mail
that had arrived comes back from a backup only. The words are asked for, or read
from a file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.check(); err != nil { // before it is asked for the words
				return err
			}
			words, err := m.words(cmd.Context(), wordsFile, n.passwordFile)
			if err != nil {
				return err
			}
			return m.make(cmd.Context(), n, words)
		},
	}
	cmd.Flags().StringVar(&n.name, "account", "", "`name` before the @ of the address, as it was")
	cmd.MarkFlagRequired("account") // fails only without the flag
	cmd.Flags().StringVar(&wordsFile, "words-file", "", "`file` with the recovery words (- is standard input)")
	n.flags(cmd)
	return cmd
}

// words reads the recovery words, with or without their numbers.
func (m *Main) words(ctx context.Context, file, passwordFile string) (string, error) {
	if file == "-" && passwordFile == "-" {
		return "", usage(errors.New("words and password cannot both come from standard input"))
	}
	text, ok := "", true
	var err error
	if file != "" {
		err = m.reading(ctx, file, maxSecret, func(in io.Reader) error {
			b, err := io.ReadAll(in)
			text = string(b)
			return err
		})
	} else {
		text, ok, err = m.ask(ctx, "The recovery words in their order, on one line: ", false)
	}
	if err != nil {
		return "", err
	}
	if !ok {
		return "", usage(errors.New("there is no terminal to ask for the recovery words, and no --words-file"))
	}
	var words []string
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		if word = strings.TrimFunc(word, func(r rune) bool { return !unicode.IsLetter(r) }); word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, " "), nil
}

// make makes an account, in the running node if there is one, and prints it.
func (m *Main) make(ctx context.Context, n newAccount, words string) error {
	if err := n.check(); err != nil {
		return err
	}
	if err := checkClock(); err != nil {
		return err
	}
	a := control.NewAccount{Name: n.name, PasswordName: n.passwordName, Restore: n.restore, Words: words}
	if n.passwordFile != "" {
		var err error
		if a.Password, err = m.readSecret(ctx, n.passwordFile); err != nil {
			return err
		}
	}
	p := m.progress()
	p.set("making keys ...")
	add := m.add
	if n.first {
		add = func(ctx context.Context, a control.NewAccount) (control.CreatedAccount, error) {
			return m.Nodes.FirstAccount(ctx, m.home, a)
		}
	}
	created, err := add(ctx, a)
	p.end()
	if err != nil {
		return err
	}
	if n.json {
		return m.json(created)
	}
	return m.printCreated(created, n.restore)
}

// earliest is the beginning of 2026, before this program was made, in Unix
// seconds. A clock that shows less has never been set, as that of a board
// without a battery before it has asked the network for the time.
const earliest = 1_767_225_600

// checkClock refuses to make an account by a clock that cannot be right: its
// keys are those of the weeks around now.
func checkClock() error {
	if now := time.Now(); now.Unix() < earliest {
		return &control.Error{
			Code: control.CodeInvalid, Message: "the clock of this machine is wrong: it says " + now.UTC().Format(time.DateOnly),
			Hint: "set it, or wait until it has asked the network for the time, and try again",
		}
	}
	return nil
}

// add makes an account in the running node, or in the home when none runs.
func (m *Main) add(ctx context.Context, a control.NewAccount) (control.CreatedAccount, error) {
	c, err := m.dial(ctx)
	if errors.Is(err, control.ErrNoNode) {
		return m.Nodes.AddAccount(ctx, m.home, a)
	}
	if err != nil {
		return control.CreatedAccount{}, err
	}
	defer c.Close()
	return c.AddAccount(ctx, a)
}

// wordsPerLine is how many recovery words stand on a line of print.
const wordsPerLine = 4

// printCreated prints a new account with its secrets.
func (m *Main) printCreated(a control.CreatedAccount, restored bool) error {
	var b strings.Builder
	what := "Your new account"
	if restored {
		what = "Your account is back, with new keys"
	}
	fmt.Fprintf(&b, "%s:\n\n  address       %s\n", what, line(a.Address))
	if a.Password != "" {
		fmt.Fprintf(&b, "  app password  %s   (for the mail client; shown this once)\n", line(a.Password))
	}
	if a.Words != "" {
		b.WriteString(`
RECOVERY WORDS: WRITE THEM DOWN NOW, ON PAPER
They are shown this once. Who has them has the address; without them a lost disk
is a lost address.

`)
		i := 0
		for row := range slices.Chunk(strings.Fields(a.Words), wordsPerLine) {
			var cells strings.Builder
			for _, w := range row {
				i++
				fmt.Fprintf(&cells, "  %2d. %-10s", i, line(w))
			}
			b.WriteString(strings.TrimRight(cells.String(), " ") + "\n")
		}
	}
	if restored && a.Unchecked {
		b.WriteString(`
No other node was asked for newer keys of this account. There are some if it was
restored before, by a machine whose clock was ahead of this one. The network would
keep to those: look at "peerpost status" when the node has had neighbours for a
minute.
`)
	}
	b.WriteString("\n")
	_, err := m.Stdout.Write([]byte(b.String()))
	return err
}

// accounts lists the accounts by the running node, or by the home when none runs.
func (m *Main) accounts(ctx context.Context) (list []control.AccountStatus, running bool, err error) {
	c, err := m.dial(ctx)
	if err == nil {
		defer c.Close()
		st, err := c.Status(ctx)
		return st.Accounts, true, err
	}
	if !errors.Is(err, control.ErrNoNode) {
		return nil, false, err
	}
	list, err = m.Nodes.Accounts(ctx, m.home)
	return list, false, err
}

var errNoAccount = &control.Error{Code: control.CodeNotFound, Message: "this home has no account", Hint: "make one with `peerpost init --account NAME`, or let `peerpost up` do it"}

// unusable is why none of the accounts can be used.
func unusable(list []control.AccountStatus) error {
	if len(list) == 0 {
		return errNoAccount
	}
	return &control.Error{Code: control.CodeFailure, Message: list[0].Address + ": " + list[0].Problem, Hint: "`peerpost account list` shows every account"}
}

// printProblems says what is wrong with accounts.
func (m *Main) printProblems(list []control.AccountStatus) error {
	for _, a := range list {
		if a.Problem == "" {
			continue
		}
		if _, err := fmt.Fprintf(m.Stdout, "\nPROBLEM with %s: %s.\n", line(a.Address), line(a.Problem)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Main) listAccounts(ctx context.Context, asJSON bool) error {
	list, running, err := m.accounts(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return m.json(list)
	}
	if len(list) == 0 {
		return errNoAccount
	}
	rows := [][]string{{"ADDRESS"}}
	for _, a := range list {
		rows = append(rows, []string{a.Address})
	}
	if running {
		rows = accountRows(list)
	}
	if err := m.table(rows); err != nil {
		return err
	}
	return m.printProblems(list)
}

func accountRows(list []control.AccountStatus) [][]string {
	rows := [][]string{{"ADDRESS", "STATE", "MESSAGES", "UNSEEN", "WAITING"}}
	for _, a := range list {
		row := []string{a.Address, "open", fmt.Sprint(a.Messages), fmt.Sprint(a.Unseen), fmt.Sprint(a.Waiting)}
		if a.Locked {
			row[1], row[2], row[3] = "locked", "", ""
		}
		if a.Damaged {
			row[1], row[4] = "damaged", ""
		}
		rows = append(rows, row)
	}
	return rows
}

func (m *Main) addressCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "address [NAME]",
		Short: "Print the address, of every account or of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, _, err := m.accounts(cmd.Context())
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(a control.AccountStatus) bool {
				local, _, _ := strings.Cut(a.Address, "@")
				return len(args) == 1 && !strings.EqualFold(args[0], local) && !strings.EqualFold(args[0], a.Address)
			})
			addresses := []string{}
			for _, a := range list {
				if !a.Damaged {
					addresses = append(addresses, a.Address)
				}
			}
			switch {
			case len(addresses) > 0:
			case len(args) == 1 && len(list) == 0:
				return &control.Error{Code: control.CodeNotFound, Message: "there is no account " + args[0], Hint: "`peerpost account list` shows the accounts"}
			case len(list) > 0 || !asJSON:
				return unusable(list)
			}
			if asJSON {
				return m.json(addresses)
			}
			for _, a := range addresses {
				fmt.Fprintln(m.Stdout, line(a))
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
