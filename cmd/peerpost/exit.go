package main

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/peerpost/peerpost/node/control"
)

// The exit codes. `peerpost help exit-codes` tells them; they are a contract.
const (
	ExitOK        = 0
	ExitFailure   = 1
	ExitUsage     = 2
	ExitNoNode    = 3
	ExitLocked    = 4
	ExitNotFound  = 5
	ExitExists    = 6
	ExitRunning   = 7
	ExitInterrupt = 130
	ExitSignal    = 128 // plus the number of the signal that ended a node at once
)

const exitCodes = `0    done
1    it failed; the error says why
2    the command line, the environment or peerpost.toml is wrong
3    no node runs with this home
4    the account is locked, or the app password is wrong
5    there is no such account, message, contact or password
6    the account or password exists already
7    another node runs with this home
130  interrupted (SIGINT); 143 by SIGTERM. The first signal ends a node
     gracefully, with code 0; the second ends it at once, with these.`

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: "The exit codes of every command:\n\n" + exitCodes}
}

// usageError is a mistake on the command line, in the environment or in the
// file of settings.
type usageError struct {
	err  error
	hint string // Run points to the help when empty
}

func usage(err error) *usageError { return &usageError{err: err} }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// interrupted is the end of a command before its time.
type interrupted struct{ error }

func (interrupted) Error() string   { return "interrupted" }
func (i interrupted) Unwrap() error { return i.error }

// explain finds the exit code and the remedy that belong to an error.
func explain(err error) (code int, hint string) {
	if u, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage, u.hint
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		hint = e.Hint
		switch e.Code {
		case control.CodeAmbiguous:
			return ExitUsage, hint
		case control.CodeNoNode:
			return ExitNoNode, hint
		case control.CodeLocked, control.CodePassword, control.CodeThrottled:
			return ExitLocked, hint
		case control.CodeNotFound:
			return ExitNotFound, hint
		case control.CodeExists:
			return ExitExists, hint
		case control.CodeRunning:
			return ExitRunning, hint
		case control.CodeFailure:
			if hint == "" {
				hint = "the log of the node may say more"
			}
		}
		return ExitFailure, hint
	}
	switch {
	case errors.Is(err, context.Canceled):
		return ExitInterrupt, ""
	case errors.Is(err, syscall.EADDRINUSE):
		return ExitFailure, "another program has this port; choose another one, or 0 for any (see `peerpost up --help`)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return ExitFailure, "this machine does not have this address; use one that it has, or 0.0.0.0 for all of them (see `peerpost up --help`)"
	case errors.Is(err, syscall.ENOTDIR):
		return ExitFailure, "a part of this path is a file and no directory; move it away, or choose another home with --home"
	case errors.Is(err, syscall.ENOSPC):
		return ExitFailure, "the disk is full; make room and try again"
	case errors.Is(err, fs.ErrPermission):
		return ExitFailure, "check who owns the file, or choose another home with --home"
	case errors.Is(err, fs.ErrNotExist):
		return ExitFailure, "check the name of the file"
	}
	return ExitFailure, ""
}
