package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"peerpost": main})
}

// deadline is how long a waitfor of a script may last.
const deadline = time.Minute

// The stories in testdata run the real command with real nodes on loopback.
// Beside the verbs of testscript they have their own:
//
//	exits CODE command...     the command ends with that exit code
//	waitfor REGEXP command... until the command succeeds and prints what matches
//	read VARIABLE FILE        sets a variable to the first line of a file
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			for _, v := range [][2]string{
				{"PEERPOST_HOME", e.WorkDir + "/home"},
				{"PEERPOST_LISTEN", "/ip4/127.0.0.1/tcp/0"},
				{"PEERPOST_NO_MDNS", "true"},
				{"PEERPOST_IMAP", "127.0.0.1:0"}, {"PEERPOST_SMTP", "127.0.0.1:0"},
				{"PEERPOST_IMAPS", "127.0.0.1:0"}, {"PEERPOST_SMTPS", "127.0.0.1:0"},
				{"PEERPOST_HTTP", "127.0.0.1:0"},
				{"PEERPOST_PUZZLE_BITS", "0"}, {"PEERPOST_STAMP_BITS", "0"},
				{"PEERPOST_LOG_LEVEL", "debug"},
			} {
				e.Setenv(v[0], v[1])
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"waitfor": waitfor,
			"read":    read,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command [argument...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor REGEXP command [argument...]")
	}
	want, err := regexp.Compile(`(?s)` + args[0])
	ts.Check(err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %v", deadline, err)
		}
	}
}

func read(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: read VARIABLE FILE")
	}
	line, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0], line)
}

// A story that is not run proves nothing.
func TestStories(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"accounts.txt", "damaged.txt", "help.txt", "holder.txt", "kill.txt", "locked.txt", "mail.txt", "remembered.txt", "running.txt", "settings.txt", "trouble.txt", "usage.txt"}
	if !slices.Equal(names, want) {
		t.Errorf("stories: %q", names)
	}
}
