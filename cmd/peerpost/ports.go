package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/multiformats/go-multiaddr"
)

// Free looks whether another program has one of the addresses, or the machine
// has not got it. It does so before an account is made for a node that cannot
// start. For the addresses of
// the node nobody else would: libp2p shares a port with every program that
// shares it too, so two nodes would take each other's connections.
func (realNodes) Free(ctx context.Context, s Settings) error {
	for _, l := range []struct{ name, addr string }{
		{"imap", s.IMAP}, {"smtp", s.SMTP}, {"imaps", s.IMAPS}, {"smtps", s.SMTPS}, {"http", s.HTTP},
	} {
		if l.addr == "" {
			continue
		}
		if err := tryListen(ctx, "tcp", l.addr); err != nil {
			return fmt.Errorf("--%s: %w", l.name, err)
		}
	}
	var missing []error
	for _, text := range s.Listen {
		network, addr, err := netAddr(text)
		if err != nil {
			return err
		}
		if err = tryListen(ctx, network, addr); err == nil {
			continue
		}
		err = fmt.Errorf("--listen %s: %w", text, err)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return err
		}
		missing = append(missing, err)
	}
	if len(missing) > 0 && len(missing) == len(s.Listen) { // one is enough: not every machine has IPv6
		return missing[0]
	}
	return nil
}

// netAddr takes apart a multiaddr that listenAddr has let pass.
func netAddr(text string) (network, addr string, err error) {
	a, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return "", "", err
	}
	parts := make(map[string]string)
	multiaddr.ForEach(a, func(c multiaddr.Component) bool {
		parts[c.Protocol().Name] = c.Value()
		return true
	})
	network, port := "tcp", parts["tcp"]
	if port == "" {
		network, port = "udp", parts["udp"]
	}
	if ip, ok := parts["ip6"]; ok {
		return network + "6", net.JoinHostPort(ip, port), nil
	}
	return network + "4", net.JoinHostPort(parts["ip4"], port), nil
}

// tryListen listens for a moment. It tells only of addresses that are taken or
// not there; what else can be wrong, the node says better.
func tryListen(ctx context.Context, network, addr string) error {
	var c net.ListenConfig
	if network[:3] == "udp" {
		p, err := c.ListenPacket(ctx, network, addr)
		if err == nil {
			return p.Close()
		}
		return ifUnusable(err)
	}
	l, err := c.Listen(ctx, network, addr)
	if err == nil {
		return l.Close()
	}
	return ifUnusable(err)
}

func ifUnusable(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return err
	}
	return nil
}
