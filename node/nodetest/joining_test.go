package nodetest_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node"
	"github.com/peerpost/peerpost/node/nodetest"
)

// nobody is the address of a node that is not there.
const nobody = "/ip4/10.99.99.99/tcp/4001/p2p/12D3KooWGRUbnzcZ6D8DLk1qvPoYNUqTuX1XmMZkZTBKfzZeN9oV"

// warnings collects what nodes warn of.
type warnings struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *warnings) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *warnings) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// A bootstrap node that is not there is named once, and so is that nobody else
// is there either.
func TestBootstrapThatIsNotThere(t *testing.T) {
	const unreached, alone = "a bootstrap node cannot be reached", "no other node has been found"
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		nodetest.New(t, 1, nodetest.Options{Log: w.log(), Change: func(_ int, cfg *node.Config) {
			cfg.Bootstrap = []string{nobody}
		}})
		time.Sleep(30 * time.Second)
		if got := w.String(); strings.Count(got, unreached) != 1 || !strings.Contains(got, nobody) || strings.Contains(got, alone) {
			t.Errorf("after half a minute it said\n%s", got)
		}
		time.Sleep(10 * time.Minute)
		if got := w.String(); strings.Count(got, unreached) != 1 || strings.Count(got, alone) != 1 {
			t.Errorf("after ten minutes it said\n%s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		nodetest.New(t, 2, nodetest.Options{Log: w.log()})
		time.Sleep(10 * time.Minute)
		// the first has no bootstrap node, and the second finds it
		if got := w.String(); strings.Contains(got, unreached) || strings.Contains(got, alone) {
			t.Errorf("with neighbours it said\n%s", got)
		}
	})
}
