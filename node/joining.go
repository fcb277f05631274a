package node

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// reachBootstrap is how long a node that the owner named has to answer.
	reachBootstrap = 10 * time.Second
	// aloneAfter is how long a node may be without a neighbour before its owner
	// is told.
	aloneAfter = time.Minute
)

// join looks for the nodes that the owner named, and tells when one cannot be
// reached, and when after a while no node is there at all: a wrong address is
// seen by nothing else.
func (n *Node) join(ctx context.Context) {
	var dials sync.WaitGroup
	defer dials.Wait()
	for _, text := range n.cfg.Bootstrap {
		dials.Go(func() {
			if err := n.reach(ctx, text); err != nil && ctx.Err() == nil {
				n.log.Warn("a bootstrap node cannot be reached", "bootstrap", text, "err", err)
			}
		})
	}
	select {
	case <-time.After(aloneAfter):
		if n.dht.Peers() == 0 {
			n.log.Warn("no other node has been found; mail waits on this machine until there is one", "after", aloneAfter)
		}
	case <-ctx.Done():
	}
}

// reach connects to the node of a multiaddr, or to one that an invite names.
func (n *Node) reach(ctx context.Context, text string) error {
	peers, err := bootstrap(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachBootstrap)
	defer cancel()
	for _, info := range peers {
		e := n.dht.AddPeer(ctx, info)
		if e == nil {
			return nil
		}
		err = errors.Join(err, e)
	}
	return err
}
