package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/peerpost/peerpost/node/control"
)

// Secrets come from a file, standard input or the terminal, never from the
// command line, which other users of the machine can read.

// maxSecret bounds a password or recovery words, in bytes.
const maxSecret = 4096

// readSecret reads a password: the first line of a file ("-" is standard
// input), without its end.
func (m *Main) readSecret(ctx context.Context, file string) (string, error) {
	var s string
	err := m.reading(ctx, file, maxSecret, func(in io.Reader) (err error) {
		s, err = firstLine(in)
		return err
	})
	return s, err
}

// reading calls read for a file ("-" is standard input), of which it sees no
// more than so many bytes. When ctx ends first, what waits for input is left
// to the end of the process.
func (m *Main) reading(ctx context.Context, file string, limit int64, read func(io.Reader) error) error {
	in, name := m.Stdin, "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in, name = f, file
	}
	done := make(chan error, 1)
	go func() { done <- read(io.LimitReader(in, limit)) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func firstLine(in io.Reader) (string, error) {
	s, err := bufio.NewReaderSize(in, maxSecret).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	long := len(s) == maxSecret
	s = strings.TrimRight(s, "\r\n")
	switch {
	case s == "":
		return "", errors.New("the first line is empty")
	case long:
		return "", fmt.Errorf("the first line is longer than %d bytes", maxSecret)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errors.New("the first line contains control characters")
	}
	return s, nil
}

// ask reads a line from the terminal, without echo if it is secret. ok is
// false when there is no terminal to ask at.
func (m *Main) ask(ctx context.Context, prompt string, secret bool) (answer string, ok bool, err error) {
	in, ok := terminal(m.Stdin)
	if !ok {
		return "", false, nil
	}
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", true, fmt.Errorf("terminal: %w", err)
	}
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	fmt.Fprint(m.Stderr, prompt)
	go func() {
		if !secret {
			s, err := firstLine(io.LimitReader(in, maxSecret))
			done <- read{s, err}
			return
		}
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(m.Stderr)
		done <- read{string(b), err}
	}()
	select {
	case r := <-done:
		return r.line, true, r.err
	case <-ctx.Done(): // the reader ends with the process
		term.Restore(int(in.Fd()), before)
		fmt.Fprintln(m.Stderr)
		return "", true, ctx.Err()
	}
}

// unlocked calls f for an account. With a password file the account is
// unlocked first; when it turns out to be locked, the owner is asked at the
// terminal.
func (m *Main) unlocked(ctx context.Context, c *control.Client, account, passwordFile string, f func() error) error {
	if passwordFile != "" {
		password, err := m.readSecret(ctx, passwordFile)
		if err != nil {
			return err
		}
		if err := c.Unlock(ctx, account, password); err != nil {
			return err
		}
	}
	err := f()
	if !errors.Is(err, control.ErrLocked) {
		return err
	}
	password, ok, e := m.ask(ctx, "An app password of the account: ", true)
	if e != nil {
		return e
	}
	if !ok {
		return err
	}
	if err := c.Unlock(ctx, account, password); err != nil {
		return err
	}
	return f()
}
