package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/peerpost/peerpost/dht"
	"github.com/peerpost/peerpost/internal/durable"
)

const (
	// maxRemembered is how many peers are kept for the next run.
	maxRemembered = 200
	// maxPeerAddrs is how many addresses are kept of each.
	maxPeerAddrs = 8
	// maxAddrText is how long an address may be, in characters.
	maxAddrText = 256
	// maxBook is how large the file may be, in bytes: far more than it ever is.
	maxBook = 1 << 20
	// rememberEvery is how often the connected peers are noted.
	rememberEvery = 10 * time.Minute
	// rememberSoon is how soon a peer is noted that is met for the first time, so
	// that a node that is killed finds back to the network. Others that come
	// meanwhile are noted with it.
	rememberSoon = 3 * time.Second
	// rememberFor is how long a peer is kept that was not met again.
	rememberFor = 90 * 24 * time.Hour

	bookVersion = 1
)

// A book holds the DHT servers that were met and satisfy the puzzle, so that the
// next run finds the network without help. It is a JSON file:
//
//	{"version": 1, "peers": [{"id": "12D3Koo…", "addrs": ["/ip4/…"], "seen": 1767225600, "met": 12}]}
//
// where seen is the Unix time of the last meeting and met how many times the
// peer was found connected. A peer that was only named, by an invite or by the
// owner, was met 0 times and seen when it was named. The best peers come first.
type book struct {
	path string // "": not kept

	saving sync.Mutex // one save at a time, so that none is undone by an older one

	mu    sync.Mutex
	peers map[peer.ID]acquaintance
}

type acquaintance struct {
	addrs []ma.Multiaddr
	seen  time.Time
	met   int
}

type bookFile struct {
	Version int        `json:"version"`
	Peers   []bookPeer `json:"peers"`
}

type bookPeer struct {
	ID    string   `json:"id"`
	Addrs []string `json:"addrs"`
	Seen  int64    `json:"seen"`
	Met   int      `json:"met"`
}

// openBook reads the file. The book is usable, if empty, also after an error.
func openBook(path string) (*book, error) {
	b := &book{path: path, peers: make(map[peer.ID]acquaintance)}
	if path == "" {
		return b, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBook+1))
	if err != nil {
		return b, err
	}
	peers, err := parseBook(text)
	if err != nil {
		return b, err
	}
	b.peers = peers
	return b, nil
}

// parseBook reads the text of a book. Entries that make no sense are left out.
func parseBook(text []byte) (map[peer.ID]acquaintance, error) {
	if len(text) > maxBook {
		return nil, fmt.Errorf("more than %d bytes", maxBook)
	}
	var file bookFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Version != bookVersion {
		return nil, fmt.Errorf("version %d is not known", file.Version)
	}
	peers := make(map[peer.ID]acquaintance)
	for _, p := range file.Peers {
		if len(peers) == maxRemembered {
			break
		}
		id, err := peer.Decode(p.ID)
		if err != nil || p.Seen < 0 || p.Met < 0 {
			continue
		}
		a := acquaintance{seen: time.Unix(p.Seen, 0), met: p.Met}
		for _, text := range p.Addrs {
			if len(text) > maxAddrText {
				continue
			}
			if addr, err := ma.NewMultiaddr(text); err == nil {
				a.addrs = append(a.addrs, addr)
			}
		}
		if a.addrs = worthKeeping(a.addrs); len(a.addrs) > 0 {
			peers[id] = a
		}
	}
	return peers, nil
}

// text writes the book.
func (b *book) text() ([]byte, error) {
	b.mu.Lock()
	file := bookFile{Version: bookVersion, Peers: []bookPeer{}}
	for _, id := range b.best() {
		a := b.peers[id]
		p := bookPeer{ID: id.String(), Addrs: []string{}, Seen: a.seen.Unix(), Met: a.met}
		for _, addr := range a.addrs {
			p.Addrs = append(p.Addrs, addr.String())
		}
		file.Peers = append(file.Peers, p)
	}
	b.mu.Unlock()
	text, err := json.MarshalIndent(file, "", " ")
	return append(text, '\n'), err
}

// best returns up to maxRemembered peers, the most promising first: those met
// lately before others, to the day, and among them those met often. b.mu is
// held.
func (b *book) best() []peer.ID {
	day := func(p peer.ID) int64 { return b.peers[p].seen.Unix() / (24 * 60 * 60) }
	ids := slices.SortedFunc(maps.Keys(b.peers), func(x, y peer.ID) int {
		return cmp.Or(cmp.Compare(day(y), day(x)), cmp.Compare(b.peers[y].met, b.peers[x].met), cmp.Compare(x, y))
	})
	return ids[:min(len(ids), maxRemembered)]
}

// meet notes a peer that is connected now.
func (b *book) meet(id peer.ID, addrs []ma.Multiaddr, now time.Time) {
	addrs = worthKeeping(addrs)
	if len(addrs) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peers[id] = acquaintance{addrs: addrs, seen: now, met: b.peers[id].met + 1}
}

// name notes a peer that somebody says is there.
func (b *book) name(id peer.ID, addrs []ma.Multiaddr, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.peers[id]
	if a.addrs = worthKeeping(slices.Concat(addrs, a.addrs)); len(a.addrs) == 0 {
		return
	}
	a.seen = now
	b.peers[id] = a
}

// lacks tells whether a connected peer was not met before, or not where it is
// now.
func (b *book) lacks(info peer.AddrInfo) bool {
	addrs := worthKeeping(info.Addrs)
	if len(addrs) == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.peers[info.ID]
	return a.met == 0 || !ma.Contains(a.addrs, addrs[0])
}

// trim forgets peers that were not met for long, and all but the best.
func (b *book) trim(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, a := range b.peers {
		if now.Sub(a.seen) > rememberFor {
			delete(b.peers, id)
		}
	}
	kept := make(map[peer.ID]acquaintance)
	for _, id := range b.best() {
		kept[id] = b.peers[id]
	}
	b.peers = kept
}

// dropUnpuzzled forgets peers that can be no servers: nobody lets them into a
// routing table.
func (b *book) dropUnpuzzled(bits int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.peers, func(id peer.ID, _ acquaintance) bool { return !dht.Puzzled(id, bits) })
}

// infos returns the peers with their addresses, the best first.
func (b *book) infos() []peer.AddrInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	var infos []peer.AddrInfo
	for _, id := range b.best() {
		infos = append(infos, peer.AddrInfo{ID: id, Addrs: slices.Clone(b.peers[id].addrs)})
	}
	return infos
}

// save replaces the file. A crash leaves the old one or the new one.
func (b *book) save() error {
	if b.path == "" {
		return nil
	}
	b.saving.Lock()
	defer b.saving.Unlock()
	text, err := b.text()
	if err != nil {
		return err
	}
	return durable.WriteFile(b.path, text) // synced: of what was named nobody else knows
}

// worthKeeping chooses direct addresses, without the peer's id at their end.
func worthKeeping(addrs []ma.Multiaddr) []ma.Multiaddr {
	var kept []ma.Multiaddr
	for _, a := range addrs {
		if len(kept) == maxPeerAddrs {
			break
		}
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			continue
		}
		if bare, id := peer.SplitAddr(a); id != "" {
			a = bare
		}
		if a == nil || len(a.String()) > maxAddrText || ma.Contains(kept, a) {
			continue
		}
		kept = append(kept, a)
	}
	return kept
}

// Remembered returns the peers of former runs, the best first.
func (h *Host) Remembered() []peer.AddrInfo { return h.book.infos() }

// Name notes peers that an invite or the owner has named, and saves the book, so
// that the next run looks for them even if this one ends at once.
func (h *Host) Name(peers ...peer.AddrInfo) {
	now := time.Now()
	for _, info := range peers {
		if info.ID != h.ID() {
			h.book.name(info.ID, info.Addrs, now)
		}
	}
	h.saveBook(now)
}

// remember notes who is connected, and saves the book.
func (h *Host) remember() {
	now := time.Now()
	for _, info := range h.servers() {
		h.book.meet(info.ID, info.Addrs, now)
	}
	h.saveBook(now)
}

// rememberNew notes those of the connected that the book lacks, and saves it
// then.
func (h *Host) rememberNew() {
	now, found := time.Now(), false
	for _, info := range h.servers() {
		if h.book.lacks(info) {
			h.book.meet(info.ID, info.Addrs, now)
			found = true
		}
	}
	if found {
		h.saveBook(now)
	}
}

func (h *Host) saveBook(now time.Time) {
	h.book.trim(now)
	if err := h.book.save(); err != nil {
		h.log.Warn("cannot save the remembered peers", "file", h.cfg.PeersFile, "err", err)
	}
}

func (h *Host) runBook(ctx context.Context) {
	introduced, err := h.EventBus().Subscribe([]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated)})
	if err != nil {
		h.log.Error("the host's events cannot be followed", "err", err)
		return
	}
	defer introduced.Close()
	ticker := time.NewTicker(rememberEvery)
	defer ticker.Stop()
	soon := time.NewTimer(rememberSoon) // for those who came before we listened
	defer soon.Stop()
	waiting := true
	for {
		select {
		case <-introduced.Out():
			if !waiting && slices.ContainsFunc(h.servers(), h.book.lacks) {
				waiting = true
				soon.Reset(rememberSoon)
			}
		case <-soon.C:
			waiting = false
			h.rememberNew()
		case <-ticker.C:
			h.remember()
		case <-ctx.Done():
			return
		}
	}
}

// servers returns the connected DHT servers that satisfy the puzzle, each with
// the address first that we reached it at.
func (h *Host) servers() []peer.AddrInfo {
	var infos []peer.AddrInfo
	for _, p := range h.Network().Peers() {
		if spoken, err := h.Peerstore().SupportsProtocols(p, dht.Protocol); err != nil || len(spoken) == 0 || !dht.Puzzled(p, h.cfg.PuzzleBits) {
			continue
		}
		info := peer.AddrInfo{ID: p}
		for _, c := range h.Network().ConnsToPeer(p) {
			if c.Stat().Direction == network.DirOutbound && !c.Stat().Limited {
				info.Addrs = append(info.Addrs, c.RemoteMultiaddr())
			}
		}
		info.Addrs = append(info.Addrs, h.Peerstore().Addrs(p)...)
		infos = append(infos, info)
	}
	return infos
}
