package throttle

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFailuresDoubleTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Free: 2, First: time.Second, Most: 5 * time.Second, Forget: time.Minute})
		for i, want := range []time.Duration{0, 0, 1, 2, 4, 5, 5} {
			th.Fail("a")
			if got := th.Allow("a"); got != want*time.Second {
				t.Errorf("after %d failures: wait %v, want %v", i+1, got, want*time.Second)
			}
		}
		if got := th.Allow("b"); got != 0 {
			t.Errorf("another key waits %v", got)
		}
		time.Sleep(3 * time.Second)
		if got := th.Allow("a"); got != 2*time.Second {
			t.Errorf("wait has shrunk to %v, want 2s", got)
		}
		time.Sleep(2 * time.Second)
		if got := th.Allow("a"); got != 0 {
			t.Errorf("wait is over, got %v", got)
		}
		th.Fail("a")
		if got := th.Allow("a"); got != 5*time.Second {
			t.Errorf("failures were forgotten too early: wait %v", got)
		}
	})
}

func TestQuietKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Free: 1, Forget: 10 * time.Minute})
		th.Fail("a")
		th.Fail("a")
		time.Sleep(9 * time.Minute)
		th.Fail("b")
		time.Sleep(time.Minute)
		if n := th.Len(); n != 1 {
			t.Errorf("%d keys are left, want 1", n)
		}
		th.Fail("a")
		if got := th.Allow("a"); got != 0 {
			t.Errorf("old failures still count: wait %v", got)
		}
	})
}

func TestSuccessForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Free: 1})
		for range 4 {
			th.Fail("a")
		}
		if th.Allow("a") == 0 {
			t.Fatal("no wait after four failures")
		}
		th.Success("a")
		th.Success("never seen")
		if got := th.Allow("a"); got != 0 {
			t.Errorf("wait %v after a success", got)
		}
		if th.Len() != 0 {
			t.Error("key is still there")
		}
	})
}

func TestKeysAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := New(Config{Free: 1, Keys: 100})
		th.Fail("old")
		for i := range 1000 {
			th.Fail(fmt.Sprint("key ", i))
			th.Fail("hot")
		}
		if n := th.Len(); n != 100 {
			t.Errorf("%d keys, want 100", n)
		}
		if th.Allow("hot") == 0 {
			t.Error("the busiest key was dropped")
		}
		long := strings.Repeat("x", 10_000)
		th.Fail(long)
		th.Fail(long)
		if th.Allow(long) == 0 || th.Allow(long[:maxKey]) == 0 {
			t.Error("long keys are not clipped")
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	th := New(Config{Keys: 10})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				key := fmt.Sprint(i, j%20)
				th.Allow(key)
				th.Fail(key)
				if j%3 == 0 {
					th.Success(key)
				}
			}
		})
	}
	wg.Wait()
	if n := th.Len(); n > 10 {
		t.Errorf("%d keys, want at most 10", n)
	}
}

func TestRemote(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"127.0.0.1:4000", "127.0.0.1"},
		{"[::1]:4000", "::1"},
		{"[::ffff:10.1.2.3]:4000", "10.1.2.3"},
		{"[2001:db8:1:2:3:4:5:6]:4000", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:4000", "fe80::/64"},
	} {
		a, err := net.ResolveTCPAddr("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := Remote(a); got != c.want {
			t.Errorf("Remote(%s) = %q, want %q", c.addr, got, c.want)
		}
	}
	if got := Remote(&net.UnixAddr{Name: "/run/x", Net: "unix"}); got != "/run/x" {
		t.Errorf("unix: %q", got)
	}
	if got := Remote(nil); got != "" {
		t.Errorf("nil: %q", got)
	}
}
