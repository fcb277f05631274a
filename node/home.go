package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/durable"
)

// home is the directory of a node:
//
//	host.key          the libp2p key
//	peers             whom it met, and who was named to it
//	clock             the last time that was sure to have come
//	records/          identity records kept for the DHT
//	holding/          mail kept for others
//	tls/              the node's own certificates
//	accounts/LABEL/   one account: keys in the vault, and
//	  mailbox/          mail at rest
//	  incoming/         sealed mail that is not opened yet
//	  outgoing/         sealed mail that is not delivered yet
type home string

func (h home) path(parts ...string) string {
	return filepath.Join(append([]string{string(h)}, parts...)...)
}

func (h home) hostKey() string { return h.path("host.key") }
func (h home) peers() string   { return h.path("peers") }
func (h home) clock() string   { return h.path("clock") }
func (h home) records() string { return h.path("records") }
func (h home) holding() string { return h.path("holding") }
func (h home) tls() string     { return h.path("tls") }

func (h home) account(root identity.Root) string { return h.path("accounts", root.Label()) }

// draft is where an account is made, and where it is taken apart.
func (h home) draft(root identity.Root) string { return h.path("accounts", "."+root.Label()) }

// remove takes an account away for good.
func (h home) remove(root identity.Root) error {
	if err := os.Rename(h.account(root), h.draft(root)); err != nil {
		return fmt.Errorf("remove an account: %w", err)
	}
	if err := errors.Join(durable.SyncDir(h.path("accounts")), os.RemoveAll(h.draft(root))); err != nil {
		return fmt.Errorf("remove an account: %w", err)
	}
	return nil
}

// make creates the directory of the node, closed to other users.
func (h home) make() error {
	err := os.MkdirAll(h.path("accounts"), 0o700)
	if err == nil { // it may have been there, and libraries make files that everybody may read
		err = os.Chmod(string(h), 0o700)
	}
	if err != nil {
		return fmt.Errorf("make the home directory: %w", err)
	}
	return nil
}

// accounts lists the roots of the accounts in this home, and directories among
// them that are none, such as a copy that somebody made.
func (h home) accounts() (roots []identity.Root, strange []string, err error) {
	entries, err := os.ReadDir(h.path("accounts"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the accounts: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		root, err := identity.ParseLabel(e.Name())
		if err != nil {
			strange = append(strange, h.path("accounts", e.Name()))
			continue
		}
		roots = append(roots, root)
	}
	return roots, strange, nil
}
