package main

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestFree(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, tcpPort, _ := net.SplitHostPort(tcp.Addr().String())
	_, udpPort, _ := net.SplitHostPort(udp.LocalAddr().String())

	for want, s := range map[string]Settings{
		"--imap:":                    {IMAP: tcp.Addr().String()},
		"--smtps:":                   {IMAP: "127.0.0.1:0", SMTPS: tcp.Addr().String()},
		"--http:":                    {HTTP: "localhost:" + tcpPort},
		"/ip4/127.0.0.1/tcp/":        {Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/" + tcpPort}},
		"/ip4/0.0.0.0/tcp/":          {Listen: []string{"/ip4/0.0.0.0/tcp/" + tcpPort}},
		"/udp/" + udpPort + "/quic-": {Listen: []string{"/ip4/127.0.0.1/udp/" + udpPort + "/quic-v1"}},
	} {
		err := realNodes{}.Free(t.Context(), s)
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	// The same numbers of the other protocol, port 0, and what is not ours to say.
	s := Settings{
		IMAP: "127.0.0.1:0", SMTP: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip6/::1/udp/0/quic-v1", "/ip4/192.0.2.1/tcp/1"},
	}
	if err := (realNodes{}).Free(t.Context(), s); err != nil {
		t.Error(err)
	}
	// Addresses of another machine.
	for want, s := range map[string]Settings{
		"--imaps:":             {IMAPS: "203.0.113.5:0"},
		"--listen /ip4/203.0.": {Listen: []string{"/ip4/203.0.113.5/tcp/0", "/ip4/203.0.113.5/udp/0/quic-v1"}},
	} {
		err := realNodes{}.Free(t.Context(), s)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
