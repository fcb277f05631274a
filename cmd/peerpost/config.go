package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/peerpost/peerpost/node/host"
)

// Settings is what `peerpost up` runs a node with.
type Settings struct {
	Home                           string
	Listen                         []string // multiaddrs
	IMAP, SMTP, IMAPS, SMTPS, HTTP string   // host:port; empty is off
	Bootstrap                      []string // multiaddrs with a peer id, or invites
	NoMDNS, Holder                 bool
	Capacity                       int64 // bytes
	PuzzleBits, StampBits          int   // as the flags
	LogLevel                       slog.Level
}

const (
	configName = "peerpost.toml" // in the home
	envPrefix  = "PEERPOST"
	off        = "off" // an address that is not wanted

	defaultCapacity = "10GiB"
	networkBits     = -1 // the work that the network asks, instead of a number of bits
	maxBits         = 32 // a puzzle of 32 bits takes hours
	maxConfig       = 1 << 20
)

var (
	errOffLoopback = errors.New("it is not a loopback address; without encryption only this machine may connect")
	errListen      = errors.New("it wants to be a multiaddr of an IP address with TCP or QUIC, such as /ip4/0.0.0.0/tcp/7678 or /ip4/0.0.0.0/udp/7678/quic-v1")
	errBootstrap   = errors.New("it wants to be a multiaddr that ends with /p2p/ and a peer id, or an invite")
)

// defaultListen is every interface, in both families, over QUIC and TCP.
func defaultListen() []string {
	return []string{"/ip4/0.0.0.0/udp/7678/quic-v1", "/ip4/0.0.0.0/tcp/7678", "/ip6/::/udp/7678/quic-v1", "/ip6/::/tcp/7678"}
}

// settingsFlags adds a flag for every setting.
func settingsFlags(f *pflag.FlagSet) {
	f.StringArray("listen", defaultListen(), "`multiaddr` where other nodes connect; repeatable")
	f.String("imap", "127.0.0.1:7143", "`host:port` for mail clients on this machine, IMAP without encryption; off for none")
	f.String("smtp", "127.0.0.1:7025", "`host:port` for mail clients on this machine, SMTP without encryption; off for none")
	f.String("imaps", "127.0.0.1:7993", "`host:port` for mail clients, IMAP over TLS; off for none")
	f.String("smtps", "127.0.0.1:7465", "`host:port` for mail clients, SMTP over TLS; off for none")
	f.String("http", "127.0.0.1:7080", "`host:port` of the status page and of the metrics; off for none")
	f.StringArray("bootstrap", nil, "`multiaddr or invite` of a node to join the network by; repeatable")
	f.Bool("no-mdns", false, "do not look for nodes on the local network")
	f.Bool("holder", false, "have no account, only hold mail for others; in a home that has none")
	f.String("capacity", defaultCapacity, "`bytes` of mail to hold for others; KiB, MiB, GiB and TiB are understood")
	f.Int("puzzle-bits", networkBits, "`bits` of work asked of a node's key; for test networks, where all nodes agree (0 is none, -1 what the network asks)")
	f.Int("stamp-bits", networkBits, "`bits` of work asked of a small message; for test networks too")
	f.String("log-level", "info", "`level` of what is logged: debug, info, warn or error")
}

func configTopic() *cobra.Command {
	return &cobra.Command{Use: "settings", Short: "How to set things in a file or in the environment", Long: `Every flag of "peerpost up" may also stand as a key in the file
` + configName + ` in the home, and in the environment as ` + envPrefix + `_ and its name in
capitals with underscores. A flag wins over the environment, the environment
over the file, the file over the default. For example, in the file:

  imap = "127.0.0.1:1143"
  no-mdns = true
  capacity = "50GiB"
  bootstrap = ["/ip4/192.0.2.7/tcp/7678/p2p/12D3Koo..."]

and in the environment (several values are separated by spaces or commas):

  ` + envPrefix + `_IMAP=127.0.0.1:1143
  ` + envPrefix + `_NO_MDNS=true`}
}

// settings finds out what the node is to be run with.
func (m *Main) settings(flags *pflag.FlagSet) (Settings, error) {
	r := reader{flags: flags, viper: viper.New(), file: filepath.Join(m.home, configName)}
	if err := r.open(); err != nil {
		return Settings{}, err
	}
	s := Settings{
		Home:       m.home,
		Listen:     each(&r, "listen", listenAddr),
		IMAP:       one(&r, "imap", loopbackAddr),
		SMTP:       one(&r, "smtp", loopbackAddr),
		IMAPS:      one(&r, "imaps", hostPort),
		SMTPS:      one(&r, "smtps", hostPort),
		HTTP:       one(&r, "http", loopbackAddr),
		Bootstrap:  each(&r, "bootstrap", bootstrapAddr),
		NoMDNS:     one(&r, "no-mdns", truth),
		Holder:     one(&r, "holder", truth),
		Capacity:   one(&r, "capacity", capacity),
		PuzzleBits: one(&r, "puzzle-bits", bits),
		StampBits:  one(&r, "stamp-bits", bits),
		LogLevel:   one(&r, "log-level", level),
	}
	return s, r.err
}

// reader takes the settings from where they are and keeps the first error.
type reader struct {
	flags *pflag.FlagSet
	viper *viper.Viper
	file  string
	err   error
}

// open reads the file and connects flags and environment.
func (r *reader) open() error {
	fromFile := viper.New()
	fromFile.SetConfigFile(r.file)
	r.viper.SetConfigFile(r.file)
	switch info, err := os.Stat(r.file); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Size() > maxConfig:
		return usage(fmt.Errorf("%s is larger than %d bytes", r.file, maxConfig))
	default:
		for _, v := range []*viper.Viper{fromFile, r.viper} {
			if err := v.ReadInConfig(); err != nil {
				if errors.Is(err, fs.ErrPermission) {
					return err
				}
				return &usageError{fmt.Errorf("%s cannot be understood: %w", r.file, err), "see `peerpost help settings`"}
			}
		}
	}
	var known []string
	r.flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
		r.viper.BindPFlag(f.Name, f)         // fails only without a flag
		r.viper.BindEnv(f.Name, env(f.Name)) // fails only without a name
	})
	keys := fromFile.AllKeys()
	slices.Sort(keys)
	for _, key := range keys {
		if !slices.Contains(known, key) {
			return &usageError{fmt.Errorf("%s has the unknown key %q", r.file, key), "the keys are " + strings.Join(known, ", ")}
		}
	}
	return nil
}

func env(name string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// source says where the value of a setting comes from.
func (r *reader) source(name string) string {
	if r.flags.Changed(name) {
		return "--" + name
	}
	if os.Getenv(env(name)) != "" {
		return env(name)
	}
	return "the key " + name + " of " + r.file
}

// refuse remembers that a value is bad.
func (r *reader) refuse(name string, value any, err error) {
	if r.err == nil {
		r.err = &usageError{fmt.Errorf("%s is %q: %w", r.source(name), fmt.Sprint(value), err), "see `peerpost up --help` and `peerpost help settings`"}
	}
}

// one reads a setting of one value.
func one[T any](r *reader, name string, parse func(string) (T, error)) T {
	v := r.viper.Get(name)
	switch v.(type) {
	case string, bool, int, int64:
	default:
		r.refuse(name, v, errors.New("it wants to be one value"))
		var zero T
		return zero
	}
	value, err := parse(fmt.Sprint(v))
	if err != nil {
		r.refuse(name, v, err)
	}
	return value
}

// each reads a setting of several values.
func each(r *reader, name string, parse func(string) (string, error)) []string {
	var raw []string
	switch v := r.viper.Get(name).(type) {
	case []string:
		raw = v
	case string: // the environment, or a file with one value
		raw = strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == ',' })
	case []any:
		for _, e := range v {
			raw = append(raw, fmt.Sprint(e))
		}
	default:
		r.refuse(name, v, errors.New("it wants to be a list of texts"))
	}
	var values []string
	for _, s := range raw {
		value, err := parse(s)
		if err != nil {
			r.refuse(name, s, err)
		}
		values = append(values, value)
	}
	return values
}

// hostPort checks an address to listen on; "off" becomes empty.
func hostPort(s string) (string, error) {
	if s == off {
		return "", nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("it wants to be host:port, such as 127.0.0.1:0, or off")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", errors.New("the port wants to be a number from 0 to 65535")
	}
	return s, nil
}

// loopbackAddr checks an address that is not to be reached from outside.
func loopbackAddr(s string) (string, error) {
	addr, err := hostPort(s)
	if addr == "" {
		return "", err
	}
	name, _, _ := net.SplitHostPort(addr) // checked by hostPort
	if name == "localhost" {
		return addr, nil
	}
	if ip, err := netip.ParseAddr(name); err != nil || !ip.IsLoopback() {
		return "", errOffLoopback
	}
	return addr, nil
}

// listenAddr checks that a node can listen there.
func listenAddr(s string) (string, error) {
	a, err := multiaddr.NewMultiaddr(s)
	if err != nil {
		return "", errListen
	}
	switch names := protocols(a); names {
	case "ip4/tcp", "ip6/tcp", "ip4/udp/quic-v1", "ip6/udp/quic-v1":
		return s, nil
	}
	return "", errListen
}

// protocols returns the names of the parts of a multiaddr.
func protocols(a multiaddr.Multiaddr) string {
	var names []string
	for _, p := range a.Protocols() {
		names = append(names, p.Name)
	}
	return strings.Join(names, "/")
}

// bootstrapAddr checks that a node is named, and how to reach it.
func bootstrapAddr(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		switch i, err := host.ParseInvite(s); {
		case err != nil:
			return "", errBootstrap
		case len(i.Peers) == 0:
			return "", errors.New("the invite names no node; ask for one that was made while the node of its owner was running")
		}
		return s, nil
	}
	a, err := multiaddr.NewMultiaddr(s)
	if err == nil {
		_, err = peer.AddrInfoFromP2pAddr(a)
	}
	if err != nil {
		return "", errBootstrap
	}
	return s, nil
}

// capacity reads a number of bytes with or without a unit.
func capacity(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiB ")
	unit, ok := map[string]float64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[strings.TrimSpace(s[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(n*unit >= 1 && n*unit < math.MaxInt64) {
		return 0, errors.New("it wants to be a number of bytes, such as 500MiB or 10GiB")
	}
	return int64(n * unit), nil
}

func truth(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("it wants to be true or false")
	}
	return b, nil
}

func bits(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < networkBits || n > maxBits {
		return 0, fmt.Errorf("it wants to be a number from %d to %d", networkBits, maxBits)
	}
	return n, nil
}

func level(s string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return 0, errors.New("it wants to be debug, info, warn or error")
	}
	return l, nil
}
