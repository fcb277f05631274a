package node

import (
	"crypto/tls"

	"github.com/peerpost/peerpost/gateway/listen"
)

// certificate opens the node's own authority and gives what the TLS listeners
// for mail clients show.
func (n *Node) certificate() (*tls.Config, error) {
	a, err := listen.OpenAuthority(n.home.tls())
	if err != nil {
		return nil, err
	}
	return a.TLS(), nil
}
