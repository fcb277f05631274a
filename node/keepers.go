package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	p2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/node/control"
)

// reachKeeper is how long a keeper that is added has to answer.
const reachKeeper = 10 * time.Second

// Keepers lists the keepers of an account.
func (n controlled) Keepers(_ context.Context, account string) ([]control.Keeper, error) {
	a, err := n.account(account)
	if err != nil {
		return nil, err
	}
	list := []control.Keeper{}
	for _, k := range a.vault.Keepers() {
		if info, err := addrInfo(k); err == nil {
			list = append(list, n.keeper(info))
		}
	}
	return list, nil
}

func (n controlled) keeper(info peer.AddrInfo) control.Keeper {
	k := control.Keeper{
		Peer: info.ID.String(), Addrs: []string{}, Connected: n.host.Network().Connectedness(info.ID) == p2pnet.Connected,
	}
	for _, a := range info.Addrs {
		k.Addrs = append(k.Addrs, a.String())
	}
	return k
}

func (a *account) hasKeeper(p peer.ID) bool {
	return slices.ContainsFunc(a.vault.Keepers(), func(k identity.Host) bool { return string(k.Peer) == string(p) })
}

// AddKeeper adds a keeper. The record that names it is signed and published at
// once, which needs an unlocked account.
func (n controlled) AddKeeper(ctx context.Context, account, target string) (control.Keeper, error) {
	a, _, err := n.unlockedAccount(account)
	if err != nil {
		return control.Keeper{}, err
	}
	info, err := keeperOf(target)
	if err != nil {
		return control.Keeper{}, err
	}
	if info.ID == n.host.ID() {
		return control.Keeper{}, &control.Error{
			Code: control.CodeInvalid, Message: "this node keeps the mail of its own accounts anyway",
			Hint: "a keeper is another node, one that is always on",
		}
	}
	entry := identity.Host{Peer: []byte(info.ID)}
	for _, addr := range info.Addrs {
		entry.Addrs = append(entry.Addrs, addr.Bytes())
	}
	err = a.vault.AddKeeper(entry)
	if errors.Is(err, identity.ErrKeepers) {
		return control.Keeper{}, &control.Error{Code: control.CodeInvalid, Message: err.Error(), Hint: "remove one with `peerpost keeper remove`; `peerpost keeper list` shows them"}
	}
	if err != nil {
		return control.Keeper{}, err
	}
	wakeUp(a.publishNow)
	n.host.Name(info)
	ctx, cancel := context.WithTimeout(ctx, reachKeeper)
	defer cancel()
	if err := n.dht.AddPeer(ctx, info); err != nil {
		n.log.Info("a keeper could not be reached", "peer", info.ID, "err", err)
	}
	return n.keeper(info), nil
}

// keeperOf reads whom somebody means as a keeper: the first peer of an invite,
// which is who made it, or a multiaddr. The addresses that most can reach come
// first, since a record that gets too long loses the others.
func keeperOf(target string) (peer.AddrInfo, error) {
	peers, err := bootstrap(target)
	if err == nil && (len(peers) == 0 || len(peers[0].Addrs) == 0) {
		err = errors.New("it has no address of a node")
	}
	if err != nil {
		return peer.AddrInfo{}, &control.Error{
			Code: control.CodeInvalid, Message: "this is neither the invite of a node nor its multiaddr",
			Hint: "enter what `peerpost invite` prints on the keeper", Cause: err,
		}
	}
	info := peers[0]
	for _, addr := range info.Addrs {
		if len(addr.Bytes()) > identity.MaxAddr {
			return peer.AddrInfo{}, &control.Error{
				Code: control.CodeInvalid, Message: fmt.Sprintf("an address of a keeper has at most %d bytes, and %s is longer", identity.MaxAddr, addr),
				Hint: "use a shorter name, or the IP address",
			}
		}
	}
	slices.SortStableFunc(info.Addrs, func(a, b multiaddr.Multiaddr) int { return cmp.Compare(distance(a), distance(b)) })
	return info, nil
}

// distance is how far away an address can still be reached from, the furthest 0.
func distance(a multiaddr.Multiaddr) int {
	switch {
	case manet.IsPublicAddr(a):
		return 0
	case manet.IsIPLoopback(a):
		return 2
	}
	return 1
}

// RemoveKeeper removes a keeper.
func (n controlled) RemoveKeeper(_ context.Context, account, id string) error {
	a, _, err := n.unlockedAccount(account)
	if err != nil {
		return err
	}
	p, err := peer.Decode(id)
	if err != nil {
		return &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("%q is no peer id", id), Hint: "`peerpost keeper list` shows the peer ids of the keepers", Cause: err}
	}
	was, err := a.vault.RemoveKeeper([]byte(p))
	if err == nil && !was {
		return &control.Error{Code: control.CodeNotFound, Message: "this node is no keeper of the account", Hint: "`peerpost keeper list` shows them"}
	}
	if err != nil {
		return err
	}
	wakeUp(a.publishNow)
	return nil
}
