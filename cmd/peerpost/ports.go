package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/multiformats/go-multiaddr"
)

// Free looks whether another program has one of the addresses. It does so
// before an account is made for a node that cannot start. For the addresses of
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
	for _, text := range s.Listen {
		network, addr, err := netAddr(text)
		if err != nil {
			return err
		}
		if err := tryListen(ctx, network, addr); err != nil {
			return fmt.Errorf("--listen %s: %w", text, err)
		}
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

// tryListen listens for a moment. It tells only of addresses that are taken;
// what else can be wrong, the node says better.
func tryListen(ctx context.Context, network, addr string) error {
	var c net.ListenConfig
	if network[:3] == "udp" {
		p, err := c.ListenPacket(ctx, network, addr)
		if err == nil {
			return p.Close()
		}
		return ifTaken(err)
	}
	l, err := c.Listen(ctx, network, addr)
	if err == nil {
		return l.Close()
	}
	return ifTaken(err)
}

func ifTaken(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return nil
}
