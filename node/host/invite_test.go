package host

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/memnet"
)

func testAddress(local string) string {
	root := identity.Seed{1, 2, 3}.Root()
	return identity.Address{Local: local, Root: root}.String()
}

func TestInvite(t *testing.T) {
	address := testAddress("alice+news")
	a, b := peerID(t, 1), peerID(t, 2)
	v := Invite{
		Address: address,
		Peers: []peer.AddrInfo{
			{ID: a, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/5.6.7.8/udp/4001/quic-v1"), ma.StringCast("/ip6/2a00::1/tcp/4001")}},
			{ID: b, Addrs: []ma.Multiaddr{ma.StringCast("/dns4/node.example.org/tcp/4001")}},
		},
	}
	want := "peerpost:" + address +
		"?peer=/ip4/5.6.7.8/udp/4001/quic-v1/p2p/" + a.String() +
		"&peer=/ip6/2a00::1/tcp/4001/p2p/" + a.String() +
		"&peer=/dns4/node.example.org/tcp/4001/p2p/" + b.String()
	if got := v.String(); got != want {
		t.Errorf("wrote %s\nwant  %s", got, want)
	}
	for what, text := range map[string]string{
		"as written":          want,
		"in capitals":         "PEERPOST" + want[len("peerpost"):],
		"with slashes":        strings.Replace(want, ":", "://", 1),
		"escaped":             strings.ReplaceAll(want, "@", "%40"),
		"from a later time":   want + "&token=abc",
		"with a double":       want + "&peer=/ip4/5.6.7.8/udp/4001/quic-v1/p2p/" + a.String(),
		"with slashes hidden": "peerpost:" + address + "?" + strings.ReplaceAll(want[strings.Index(want, "?")+1:], "/", "%2F"),
	} {
		got, err := ParseInvite(text)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if !reflect.DeepEqual(got, v) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	for _, v := range []Invite{{Address: address}, {Peers: v.Peers}} {
		if got, err := ParseInvite(v.String()); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%s: %+v, %v", v, got, err)
		}
	}
}

func TestNoInvite(t *testing.T) {
	id := peerID(t, 1).String()
	for what, text := range map[string]string{
		"nothing":            "",
		"names nobody":       "peerpost:",
		"names nobody still": "peerpost:?peers=x",
		"another scheme":     "mailto:" + testAddress("alice"),
		"foreign address":    "peerpost:alice@example.org",
		"typo in the key":    "peerpost:" + strings.Replace(testAddress("alice"), "@a", "@b", 1) + "x",
		"peer without id":    "peerpost:?peer=/ip4/5.6.7.8/tcp/1",
		"id without address": "peerpost:?peer=/p2p/" + id,
		"broken multiaddr":   "peerpost:?peer=/ip4/5.6.7/tcp/1/p2p/" + id,
		"broken escape":      "peerpost:?peer=%zz",
		"too long":           "peerpost:" + testAddress("alice") + "?x=" + strings.Repeat("a", MaxInvite),
	} {
		if v, err := ParseInvite(text); !errors.Is(err, ErrInvite) {
			t.Errorf("%s: %+v, %v", what, v, err)
		}
	}
}

// However much there is to say, the link fits, and reads back.
func TestInviteFits(t *testing.T) {
	v := Invite{Address: testAddress(strings.Repeat("a", 64))}
	for i := range 20 {
		info := peer.AddrInfo{ID: peerID(t, i)}
		for j := range 20 {
			info.Addrs = append(info.Addrs, ma.StringCast(fmt.Sprintf("/dns4/%s.example.org/udp/%d/quic-v1", strings.Repeat("n", 50), j+1)))
		}
		v.Peers = append(v.Peers, info)
	}
	text := v.String()
	if len(text) > MaxInvite || len(text) < MaxInvite*3/4 {
		t.Errorf("%d bytes", len(text))
	}
	got, err := ParseInvite(text)
	if err != nil || got.Address != v.Address || len(got.Peers) < 2 || got.String() != text {
		t.Errorf("%+v, %v", got, err)
	}
}

// An invite names so many peers, and so many addresses of each: written, read,
// and as a host makes it.
func TestInviteIsBounded(t *testing.T) {
	var v Invite
	for i := range maxInvitePeers + 2 {
		info := peer.AddrInfo{ID: peerID(t, i)}
		for j := range maxInviteAddrs + 2 {
			info.Addrs = append(info.Addrs, tcpAddr(i<<8+j))
		}
		v.Peers = append(v.Peers, info)
	}
	check := func(what string, peers []peer.AddrInfo, wantPeers, wantAddrs int) {
		t.Helper()
		if len(peers) != wantPeers {
			t.Errorf("%s: %d peers, want %d", what, len(peers), wantPeers)
		}
		for _, p := range peers {
			if len(p.Addrs) != wantAddrs {
				t.Errorf("%s: %d addresses of a peer, want %d", what, len(p.Addrs), wantAddrs)
			}
		}
	}
	// One peer, then one address of each: all at once would be too long to read.
	one := Invite{Peers: v.Peers[:1]}
	if n := strings.Count(one.String(), "peer="); n != maxInviteAddrs {
		t.Errorf("wrote %d addresses of a peer, want %d", n, maxInviteAddrs)
	}
	each := Invite{}
	for _, p := range v.Peers {
		each.Peers = append(each.Peers, peer.AddrInfo{ID: p.ID, Addrs: p.Addrs[:1]})
	}
	if n := strings.Count(each.String(), "peer="); n != maxInvitePeers {
		t.Errorf("wrote %d peers, want %d", n, maxInvitePeers)
	}
	link := func(peers []peer.AddrInfo) string {
		text := "peerpost:?"
		for _, p := range peers {
			for _, a := range p.Addrs {
				text += "&peer=" + a.String() + "/p2p/" + p.ID.String()
			}
		}
		return text
	}
	for what, c := range map[string]struct {
		peers       []peer.AddrInfo
		many, addrs int
	}{
		"one peer": {one.Peers, 1, maxInviteAddrs},
		"many":     {each.Peers, maxInvitePeers, 1},
	} {
		got, err := ParseInvite(link(c.peers))
		if err != nil {
			t.Fatal(err)
		}
		check(what, got.Peers, c.many, c.addrs)
	}
	var announce []string
	for _, a := range v.Peers[0].Addrs {
		announce = append(announce, strings.Replace(a.String(), "/ip4/10.", "/ip4/5.", 1)) // public ones
	}
	check("a host with many addresses", start(t, Config{Announce: announce}).Invite("").Peers, 1, maxInviteAddrs)
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a := start(t, Config{Build: onMemory(n.Node())})
		for range maxInvitePeers + 1 {
			b := start(t, Config{Build: onMemory(n.Node())})
			b.SetStreamHandler(dht.Protocol, func(network.Stream) {})
			connect(t, a, b)
		}
		time.Sleep(time.Second)
		check("a host's own", a.Invite("").Peers, maxInvitePeers, 1)
	})
}

// A host's own invite leads to it.
func TestInviteOfAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(memnet.Config{})
		a, b, c := start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())}), start(t, Config{Build: onMemory(n.Node())})
		b.SetStreamHandler(dht.Protocol, func(network.Stream) {})
		connect(t, a, b)
		time.Sleep(time.Second)
		v, err := ParseInvite(a.Invite(testAddress("alice")).String())
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Peers) != 2 || v.Peers[0].ID != a.ID() || v.Peers[1].ID != b.ID() {
			t.Fatalf("the invite names %v", v.Peers)
		}
		for _, p := range v.Peers {
			if err := c.Connect(t.Context(), p); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzInvite(f *testing.F) {
	f.Add("peerpost:" + testAddress("alice") + "?peer=/ip4/5.6.7.8/tcp/4001/p2p/" + peerID(f, 1).String())
	f.Add("peerpost://" + testAddress("a.b+c") + "?peer=%2Fip6%2F::1/tcp/1/p2p/" + peerID(f, 2).String() + "&x")
	f.Add("peerpost:?peer=")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseInvite(text)
		if err != nil {
			if !errors.Is(err, ErrInvite) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		written := v.String()
		if len(written) > MaxInvite {
			t.Fatalf("wrote %d bytes", len(written))
		}
		if v.Address == "" && !strings.Contains(written, "peer=") {
			return // nothing in it could be written plainly
		}
		again, err := ParseInvite(written)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, written, err)
		}
		if again.String() != written {
			t.Fatalf("%q became %q became %q", text, written, again)
		}
	})
}
