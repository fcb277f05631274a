package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// load reads settings from a file's text, variables and flags.
func load(t *testing.T, file string, env map[string]string, args ...string) (Settings, error) {
	t.Helper()
	m := Main{home: t.TempDir()}
	if file != "" {
		if err := os.WriteFile(filepath.Join(m.home, configName), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	settingsFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	s, err := m.settings(flags)
	s.Home = ""
	return s, err
}

func TestDefaults(t *testing.T) {
	got, err := load(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Listen: defaultListen(), IMAP: "127.0.0.1:7143", SMTP: "127.0.0.1:7025", IMAPS: "127.0.0.1:7993", SMTPS: "127.0.0.1:7465", HTTP: "127.0.0.1:7080",
		Capacity: 10 << 30, PuzzleBits: -1, StampBits: -1, LogLevel: slog.LevelInfo,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// aPeer is a node that can be named, and reached by nobody.
const aPeer = "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWGRUbnzcZ6D8DLk1qvPoYNUqTuX1XmMZkZTBKfzZeN9oV"

// A flag wins over the environment, that over the file, for each setting alone.
func TestPrecedence(t *testing.T) {
	const file = `
listen = ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]
imap = "127.0.0.1:1"
smtp = "127.0.0.1:1"
http = "off"
bootstrap = "peerpost:?peer=` + aPeer + `"
no-mdns = true
holder = true
capacity = 1000
puzzle-bits = 3
`
	got, err := load(t, file, map[string]string{
		"PEERPOST_SMTP": "127.0.0.1:2", "PEERPOST_IMAPS": "0.0.0.0:2", "PEERPOST_HOLDER": "false", "PEERPOST_CAPACITY": "2 KiB",
		"PEERPOST_BOOTSTRAP": aPeer + ", " + aPeer + " peerpost:?peer=" + aPeer, "PEERPOST_HTTP": "",
	}, "--imaps=[::]:3", "--listen=/ip4/127.0.0.1/tcp/3", "--listen=/ip6/::1/tcp/3", "--capacity=1.5MiB", "--log-level=debug")
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Listen: []string{"/ip4/127.0.0.1/tcp/3", "/ip6/::1/tcp/3"}, IMAP: "127.0.0.1:1", SMTP: "127.0.0.1:2", IMAPS: "[::]:3", SMTPS: "127.0.0.1:7465",
		Bootstrap: []string{aPeer, aPeer, "peerpost:?peer=" + aPeer}, NoMDNS: true, Capacity: 3 << 19, PuzzleBits: 3, StampBits: -1, LogLevel: slog.LevelDebug,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// A bad value says where it comes from.
func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		file, env, value string
		args             []string
		want             []string
	}{
		{file: `imapp = "x"`, want: []string{configName, `unknown key "imapp"`}},
		{file: "[imap]\nport = 1", want: []string{configName, `unknown key "imap.port"`}},
		{file: "home = \"/\"", want: []string{`unknown key "home"`}},
		{file: "imap = ", want: []string{configName, "cannot be understood"}},
		{file: "imap = \"127.0.0.1:1\"\nimap = \"127.0.0.1:2\"", want: []string{configName, "cannot be understood"}},
		{file: `imap = "0.0.0.0:7143"`, want: []string{"the key imap of ", configName, "loopback"}},
		{file: `imap = 7143`, want: []string{"the key imap of", `"7143"`, "host:port"}},
		{file: `imap = ["127.0.0.1:1"]`, want: []string{"the key imap of", "one value"}},
		{file: `listen = 5`, want: []string{"the key listen of", "list"}},
		{file: `capacity = 1.5`, want: []string{"the key capacity of"}},
		{file: strings.Repeat("#", maxConfig+1), want: []string{"larger than"}},
		{env: "PEERPOST_SMTP", value: "mail.example:7025", want: []string{`PEERPOST_SMTP is "mail.example:7025"`, "loopback"}},
		{env: "PEERPOST_NO_MDNS", value: "perhaps", want: []string{"PEERPOST_NO_MDNS", "true or false"}},
		{env: "PEERPOST_PUZZLE_BITS", value: "33", want: []string{"PEERPOST_PUZZLE_BITS", "from -1 to 32"}},
		{env: "PEERPOST_LOG_LEVEL", value: "loud", want: []string{"PEERPOST_LOG_LEVEL", "debug"}},
		{args: []string{"--http=:7080"}, want: []string{"--http", "loopback"}},
		{args: []string{"--imaps=7993"}, want: []string{"--imaps", "host:port"}},
		{args: []string{"--imaps=127.0.0.1:70000"}, want: []string{"--imaps", "65535"}},
		{args: []string{"--listen=127.0.0.1:1"}, want: []string{"--listen", "multiaddr"}},
		{args: []string{"--listen=/ip4/127.0.0.1"}, want: []string{"--listen", "/tcp/7678"}},
		{args: []string{"--listen=/ip4/127.0.0.1/udp/1"}, want: []string{"--listen", "/quic-v1"}},
		{args: []string{"--listen=/dns4/localhost/tcp/1"}, want: []string{"--listen", "IP address"}},
		{args: []string{"--listen=" + aPeer}, want: []string{"--listen", "multiaddr"}},
		{args: []string{"--bootstrap=/ip4/192.0.2.1/tcp/1"}, want: []string{"--bootstrap", "/p2p/"}},
		{args: []string{"--bootstrap=nonsense"}, want: []string{"--bootstrap", `"nonsense"`, "an invite"}},
		{args: []string{"--bootstrap=peerpost:me@lzavzpd66q4pnekyzx7r5x7zzt5nggcf3bmcgrujx62inpu4nqweqjab.peerpost.alt"}, want: []string{"--bootstrap", "names no node"}},
		{args: []string{"--capacity=10 potatoes"}, want: []string{"--capacity", "10GiB"}},
		{args: []string{"--capacity=0"}, want: []string{"--capacity"}},
		{args: []string{"--capacity=-1GiB"}, want: []string{"--capacity"}},
		{args: []string{"--capacity=1e30"}, want: []string{"--capacity"}},
		{args: []string{"--capacity=NaN"}, want: []string{"--capacity"}},
		{args: []string{"--capacity=5iBG"}, want: []string{"--capacity"}},
	} {
		t.Run(strings.Join(append(c.args, c.env, c.value), " "), func(t *testing.T) {
			env := map[string]string{}
			if c.env != "" {
				env[c.env] = c.value
			}
			_, err := load(t, c.file, env, c.args...)
			if _, ok := errors.AsType[*usageError](err); !ok {
				t.Fatalf("%v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
	if s, err := load(t, "", nil, "--bootstrap="+aPeer, "--imap=localhost:0", "--http=[::1]:0"); err != nil || len(s.Bootstrap) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestDefaultHome(t *testing.T) {
	if got := defaultHome(func(string) string { return "/x" }); got != "/x" {
		t.Errorf("PEERPOST_HOME: %s", got)
	}
	if got := defaultHome(func(string) string { return "" }); !strings.Contains(strings.ToLower(got), "peerpost") || !filepath.IsAbs(got) {
		t.Errorf("default: %s", got)
	}
}
