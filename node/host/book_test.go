package host

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// peerID makes a peer id from a number.
func peerID(t testing.TB, i int) peer.ID {
	t.Helper()
	seed := bytes.NewReader(fmt.Appendf(nil, "%032d", i))
	key, _, err := crypto.GenerateEd25519Key(seed)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func tcpAddr(i int) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/ip4/10.%d.%d.%d/tcp/4001", i>>16&255, i>>8&255, i&255))
}

func TestBookKeepsTheBest(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "peers.json")
	b, err := openBook(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxRemembered {
		b.meet(peerID(t, i), []ma.Multiaddr{tcpAddr(i)}, now.Add(-time.Duration(i)*24*time.Hour/10))
	}
	old := peerID(t, 100_000)
	b.meet(old, []ma.Multiaddr{tcpAddr(1)}, now.Add(-rememberFor-time.Hour))
	b.trim(now)
	if len(b.peers) != maxRemembered {
		t.Errorf("%d peers, want %d", len(b.peers), maxRemembered)
	}
	if _, ok := b.peers[old]; ok {
		t.Error("remembers a peer that was not met for long")
	}
	if _, ok := b.peers[peerID(t, 0)]; !ok {
		t.Error("forgot the latest")
	}
	// Among those of one day, the one met most often is first.
	const faithful = 3
	for range 5 {
		b.meet(peerID(t, faithful), []ma.Multiaddr{tcpAddr(faithful)}, now)
	}
	if got := b.infos()[0].ID; got != peerID(t, faithful) {
		t.Error("the best is not first")
	}
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	again, err := openBook(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(again.infos()), fmt.Sprint(b.infos()); got != want {
		t.Errorf("after saving %s\nbefore %s", got, want)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

// A file that is larger than a book ever is is not read, however large it is.
func TestBookIsBounded(t *testing.T) {
	b, err := openBook("")
	if err != nil {
		t.Fatal(err)
	}
	b.meet(peerID(t, 1), []ma.Multiaddr{tcpAddr(1)}, time.Unix(1_770_000_000, 0))
	text, err := b.text()
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, bytes.Repeat([]byte(" "), maxBook-len(text))...)
	if peers, err := parseBook(text); err != nil || len(peers) != 1 {
		t.Errorf("%d peers, %v", len(peers), err)
	}
	path := filepath.Join(t.TempDir(), "peers.json")
	for _, size := range []int64{maxBook + 1, 256 << 20} {
		if err := os.WriteFile(path, append(text, ' '), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b, err := openBook(path)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxBook)) || len(b.peers) != 0 {
			t.Errorf("%d bytes: %d peers, %v", size, len(b.peers), err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 16*maxBook {
			t.Errorf("%d bytes: %d bytes were allocated", size, n)
		}
	}
}

func TestWorthKeeping(t *testing.T) {
	id := peerID(t, 1)
	var many []ma.Multiaddr
	for i := range 2 * maxPeerAddrs {
		many = append(many, tcpAddr(i))
	}
	if got := worthKeeping(many); len(got) != maxPeerAddrs {
		t.Errorf("%d addresses", len(got))
	}
	got := worthKeeping([]ma.Multiaddr{
		ma.StringCast("/ip4/5.6.7.8/tcp/1/p2p/" + id.String() + "/p2p-circuit"),
		ma.StringCast("/ip4/10.0.0.1/tcp/4001/p2p/" + id.String()),
		tcpAddr(10 << 16), // another
		ma.StringCast("/ip4/10.0.0.1/tcp/4001"),
		ma.StringCast("/dns4/" + strings.Repeat("a", maxAddrText) + "/tcp/1"),
	})
	if len(got) != 2 || got[0].String() != "/ip4/10.0.0.1/tcp/4001" {
		t.Errorf("kept %v", got)
	}
}

func FuzzBook(f *testing.F) {
	b, err := openBook("")
	if err != nil {
		f.Fatal(err)
	}
	b.meet(peerID(f, 1), []ma.Multiaddr{tcpAddr(1), tcpAddr(2)}, time.Unix(1_770_000_000, 0))
	good, err := b.text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"peers":[{"id":"x"},{"id":"","addrs":["/ip4/1.2.3.4/tcp/1"]}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		peers, err := parseBook(text)
		if err != nil {
			return
		}
		if len(peers) > maxRemembered {
			t.Fatalf("%d peers", len(peers))
		}
		for id, a := range peers {
			if id.Validate() != nil || len(a.addrs) == 0 || len(a.addrs) > maxPeerAddrs {
				t.Fatalf("peer %q with %d addresses", id, len(a.addrs))
			}
		}
		// What was read can be written, and reads the same.
		first, err := (&book{peers: peers}).text()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseBook(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := (&book{peers: again}).text()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s\nbecame\n%s, %v", first, second, err)
		}
	})
}
