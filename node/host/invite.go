package host

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/identity"
)

const (
	// MaxInvite is how long an invite may be, in bytes: it has to fit a QR code.
	MaxInvite = 2 << 10

	inviteScheme = "peerpost:"
	// maxInvitePeers and maxInviteAddrs bound what an invite names: peers, and
	// addresses of each.
	maxInvitePeers = 5
	maxInviteAddrs = 4
)

// ErrInvite says that a text is no invite.
var ErrInvite = errors.New("not an invite")

// An Invite is a link that brings somebody into the network and to its author:
//
//	peerpost:alice@<key>.peerpost.alt?peer=/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3Koo…&peer=…
//
// The address may be missing where only the network is offered, the peers where
// only the address is. Addresses of one peer stand together.
type Invite struct {
	Address string          // a mail address of the network, or ""
	Peers   []peer.AddrInfo // who can be reached
}

// String writes the link. Peers and addresses that do not fit are left out from
// the end.
func (v Invite) String() string {
	var b strings.Builder
	b.WriteString(inviteScheme)
	b.WriteString(escapeAddress(v.Address))
	separator := "?"
	for _, p := range v.Peers[:min(len(v.Peers), maxInvitePeers)] {
		for _, a := range p.Addrs[:min(len(p.Addrs), maxInviteAddrs)] {
			text := a.String() + "/p2p/" + p.ID.String()
			if !plain(text) || b.Len()+len(separator)+len("peer=")+len(text) > MaxInvite {
				continue
			}
			b.WriteString(separator + "peer=" + text)
			separator = "&"
		}
	}
	return b.String()
}

// ParseInvite reads a link. Parameters that it does not know are ignored, so
// that later invites still work. Its errors are ErrInvite.
func ParseInvite(text string) (Invite, error) {
	v, err := parseInvite(text)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	return v, nil
}

func parseInvite(text string) (Invite, error) {
	if len(text) > MaxInvite {
		return Invite{}, fmt.Errorf("longer than %d bytes", MaxInvite)
	}
	if len(text) < len(inviteScheme) || !strings.EqualFold(text[:len(inviteScheme)], inviteScheme) {
		return Invite{}, fmt.Errorf("it does not begin with %q", inviteScheme)
	}
	// A link that went through a browser may have slashes after the scheme.
	body := strings.TrimPrefix(text[len(inviteScheme):], "//")
	address, query, _ := strings.Cut(body, "?")
	var v Invite
	if address != "" {
		unescaped, err := url.PathUnescape(address)
		if err != nil {
			return Invite{}, err
		}
		parsed, err := identity.ParseAddress(unescaped)
		if err != nil {
			return Invite{}, err
		}
		v.Address = parsed.String()
	}
	for _, pair := range strings.Split(query, "&") {
		value, ok := strings.CutPrefix(pair, "peer=")
		if !ok {
			continue
		}
		value, err := url.PathUnescape(value)
		if err != nil {
			return Invite{}, err
		}
		if err := v.add(value); err != nil {
			return Invite{}, err
		}
	}
	if v.Address == "" && len(v.Peers) == 0 {
		return Invite{}, errors.New("it names nobody")
	}
	return v, nil
}

// add takes an address that ends in a peer id.
func (v *Invite) add(text string) error {
	a, err := ma.NewMultiaddr(text)
	if err != nil {
		return err
	}
	bare, id := peer.SplitAddr(a)
	if id == "" || len(bare) == 0 {
		return fmt.Errorf("%q is not the address of a peer", text)
	}
	for i := range v.Peers {
		if p := &v.Peers[i]; p.ID == id {
			if len(p.Addrs) < maxInviteAddrs && !ma.Contains(p.Addrs, bare) {
				p.Addrs = append(p.Addrs, bare)
			}
			return nil
		}
	}
	if len(v.Peers) < maxInvitePeers {
		v.Peers = append(v.Peers, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{bare}})
	}
	return nil
}

// escapeAddress leaves the characters of ordinary addresses readable.
func escapeAddress(address string) string {
	return strings.NewReplacer("%40", "@", "%2B", "+").Replace(url.QueryEscape(address))
}

// plain tells whether a text needs no escaping in a query.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return false
		}
		return !strings.ContainsRune("/.:-_", r)
	})
}

// Invite makes a link to a mail address ("" for none) that names this machine,
// where others can reach it, and some servers that it knows.
func (h *Host) Invite(address string) Invite {
	v := Invite{Address: address}
	if addrs := worthKeeping(h.Addrs()); len(addrs) > 0 {
		v.Peers = append(v.Peers, peer.AddrInfo{ID: h.ID(), Addrs: addrs[:min(len(addrs), maxInviteAddrs)]})
	}
	for _, info := range h.servers() {
		if len(v.Peers) == maxInvitePeers {
			break
		}
		if info.Addrs = worthKeeping(info.Addrs); len(info.Addrs) > 0 {
			info.Addrs = info.Addrs[:1] // the one that is known to work
			v.Peers = append(v.Peers, info)
		}
	}
	return v
}
