// Package throttle slows down whoever keeps failing to log in.
//
// A key names who tries: a remote address, a user name, or both together. The
// first failures of a key are free; after that each one doubles the time until
// the next try is allowed. Keys are forgotten when they have been quiet for a
// while, and the oldest ones when there are too many, so the memory is bounded
// whatever strangers send.
//
// App passwords are long and random, so the throttle is no defence of a weak
// secret. It bounds what guessing costs this machine, and keeps the waits short
// enough that a mail program with an old password does not shut its owner out.
package throttle

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The defaults of Config.
const (
	DefaultFree   = 5
	DefaultFirst  = time.Second
	DefaultMost   = time.Minute
	DefaultForget = 15 * time.Minute
	DefaultKeys   = 4096 // about 1 MiB with long keys
)

// maxKey is the number of bytes of a key that are looked at. User names come
// from strangers and may be thousands of bytes long.
const maxKey = 160

// Config sets the pace. A zero field takes its default.
type Config struct {
	Free   int           // failures without a wait
	First  time.Duration // the wait after the first failure that is not free
	Most   time.Duration // the longest wait
	Forget time.Duration // a key is forgotten so long after its last failure
	Keys   int           // keys that are remembered at most
}

// Throttle counts failures by key. Its methods may be called at once from many
// goroutines.
type Throttle struct {
	config Config

	mu    sync.Mutex
	keys  map[string]*list.Element
	order *list.List // of *tally, the latest try in front
}

// tally is what is known of one key.
type tally struct {
	key      string
	failures int
	running  int       // tries that have begun and not ended
	failed   time.Time // the last time
	last     time.Time // when a try began or failed
}

// New returns a Throttle that knows nobody yet.
func New(c Config) *Throttle {
	if c.Free <= 0 {
		c.Free = DefaultFree
	}
	if c.First <= 0 {
		c.First = DefaultFirst
	}
	if c.Most <= 0 {
		c.Most = DefaultMost
	}
	if c.Forget <= 0 {
		c.Forget = DefaultForget
	}
	if c.Keys <= 0 {
		c.Keys = DefaultKeys
	}
	c.Forget = max(c.Forget, c.Most) // a wait is never cut short by forgetting
	return &Throttle{config: c, keys: make(map[string]*list.Element), order: list.New()}
}

// Allow returns how long the key has to wait before its next try; zero when it
// may try now. Tries that have begun count as if they had failed.
func (t *Throttle) Allow(key string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.forget(now)
	e, ok := t.keys[clip(key)]
	if !ok {
		return 0
	}
	y := e.Value.(*tally)
	since := y.failed
	if y.running > 0 {
		since = y.last
	}
	return max(0, since.Add(t.pause(y.failures+y.running)).Sub(now))
}

// Begin counts a try of the key until End.
func (t *Throttle) Begin(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touch(key).running++
}

// End undoes Begin.
func (t *Throttle) End(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.keys[clip(key)]
	if !ok {
		return // forgotten meanwhile
	}
	y := e.Value.(*tally)
	if y.running = max(0, y.running-1); y.running == 0 && y.failures == 0 {
		t.drop(e)
	}
}

// Fail counts a failure of the key.
func (t *Throttle) Fail(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	y := t.touch(key)
	y.failures++
	y.failed = y.last
}

// touch returns the tally of a key, which is made when there is none.
func (t *Throttle) touch(key string) *tally {
	now := time.Now()
	t.forget(now)
	key = clip(key)
	e, ok := t.keys[key]
	if !ok {
		if len(t.keys) >= t.config.Keys {
			t.drop(t.order.Back())
		}
		e = t.order.PushFront(&tally{key: key})
		t.keys[key] = e
	}
	y := e.Value.(*tally)
	y.last = now
	t.order.MoveToFront(e)
	return y
}

// Success forgets the failures of the key.
func (t *Throttle) Success(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.keys[clip(key)]
	if !ok {
		return
	}
	if y := e.Value.(*tally); y.running > 0 {
		y.failures = 0
		return
	}
	t.drop(e)
}

// Len returns the number of keys that are remembered.
func (t *Throttle) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(time.Now())
	return len(t.keys)
}

// pause is the wait that follows the given number of failures.
func (t *Throttle) pause(failures int) time.Duration {
	d := t.config.First
	if failures <= t.config.Free {
		return 0
	}
	for range failures - t.config.Free - 1 {
		if d >= t.config.Most {
			break
		}
		d *= 2
	}
	return min(d, t.config.Most)
}

// forget drops the keys that have been quiet for long enough.
func (t *Throttle) forget(now time.Time) {
	for e := t.order.Back(); e != nil; e = t.order.Back() {
		if now.Sub(e.Value.(*tally).last) < t.config.Forget {
			return
		}
		t.drop(e)
	}
}

func (t *Throttle) drop(e *list.Element) {
	delete(t.keys, e.Value.(*tally).key)
	t.order.Remove(e)
}

func clip(key string) string {
	if len(key) > maxKey {
		return key[:maxKey]
	}
	return key
}

// Remote returns the key of a remote address: the IPv4 address, or the /64 that
// an IPv6 address belongs to, without the port.
func Remote(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() || ip.IsLoopback() {
		return ip.String()
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return p.String()
}
