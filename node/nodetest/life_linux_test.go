package nodetest_test

import (
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/peerpost/peerpost/node/nodetest"
)

// TestLeaks starts and stops a cluster 20 times.
func TestLeaks(t *testing.T) {
	round := func() {
		c := nodetest.New(t, 3, nodetest.Options{Sockets: true})
		c.Person(0, "alice")
		c.Close()
	}
	round() // what is made once and stays
	goroutines, files := settled(t, 0, 0)
	for range 19 {
		round()
	}
	moreGoroutines, moreFiles := settled(t, goroutines, files)
	if moreGoroutines > goroutines+2 {
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		t.Errorf("%d goroutines, there were %d", moreGoroutines, goroutines)
	}
	if moreFiles > files+1 {
		t.Errorf("%d open files, there were %d", moreFiles, files)
	}
}

// settled waits for what is on its way out, at most until the counts are down.
func settled(t *testing.T, goroutines, files int) (int, int) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	g, f := runtime.NumGoroutine(), descriptors(t)
	for range 100 {
		<-tick.C
		runtime.GC()
		ng, nf := runtime.NumGoroutine(), descriptors(t)
		if goroutines == 0 && ng == g && nf == f {
			return g, f
		}
		g, f = ng, nf
		if goroutines > 0 && g <= goroutines && f <= files {
			break
		}
	}
	return g, f
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
