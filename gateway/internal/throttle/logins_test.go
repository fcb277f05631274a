package throttle

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	here  = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	there = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
)

// wait tells how long a try would have to wait, and takes it back.
func (l *Logins) wait(user, password string, from net.Addr) time.Duration {
	try, wait := l.Begin(user, password, from)
	if try != nil {
		try.End()
	}
	return wait
}

// wrong tries a wrong password; false when it had to wait.
func (l *Logins) wrong(user, password string, from net.Addr) bool {
	try, _ := l.Begin(user, password, from)
	if try != nil {
		try.Wrong()
	}
	return try != nil
}

func (l *Logins) right(user, password string, from net.Addr) bool {
	try, _ := l.Begin(user, password, from)
	if try != nil {
		try.Right()
	}
	return try != nil
}

func TestLoginsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		for i := range freeByUser + 1 {
			if !l.wrong("alice", "wrong", here) {
				t.Fatalf("try %d waits", i+1)
			}
		}
		if l.wait("alice", "wrong", here) == 0 || l.wait("alice", "another", here) == 0 {
			t.Error("nobody waits")
		}
		if w := l.wait("alice", "wrong", there); w != 0 {
			t.Errorf("waits %v at another place", w)
		}
		if w := l.wait("bob", "x", here); w != 0 {
			t.Errorf("another user waits %v", w)
		}
		time.Sleep(DefaultFirst)
		if !l.right("alice", "right", here) {
			t.Fatal("waits longer")
		}
		if w := l.wait("alice", "wrong", here); w != 0 {
			t.Errorf("failures before a success still cost %v", w)
		}
	})
}

// The part before the @ is free, and so is the case: another one is no other account.
func TestLoginsUnderManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		tried := 0
		for i := range 1000 {
			if l.wrong(fmt.Sprintf("x%d@y@KEY.example", i), fmt.Sprint(i), here) {
				tried++
			}
		}
		if tried != freeByUser+1 {
			t.Errorf("%d passwords of one account were tried", tried)
		}
		if l.wait("me@key.example", "right", here) == 0 {
			t.Error("the account's own name does not wait")
		}
		if w := l.wait("me@other.example", "right", here); w != 0 {
			t.Errorf("another account waits %v", w)
		}
		time.Sleep(DefaultMost)
		if !l.right("me@key.example", "right", here) {
			t.Fatal("waits longer")
		}
		for range freeByUser + 1 {
			l.wrong("me@key.example", "wrong", here)
		}
		if w := l.wait("You@Key.Example", "right", here); w != 0 {
			t.Errorf("a proven password waits %v under another name", w)
		}
	})
	// strings.EqualFold takes these for the same, and so does whoever looks up an account.
	if a, b := Account("Kiss"), Account("\u212aiſs"); a != "kiss" || b != a {
		t.Errorf("%q and %q", a, b)
	}
}

// Tries that begin before others have ended count.
func TestLoginsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		var tries []*Try
		for i := range 1000 {
			if try, wait := l.Begin("alice", fmt.Sprint(i), here); wait == 0 {
				tries = append(tries, try)
			} else if wait != DefaultFirst {
				t.Fatalf("waits %v", wait)
			}
		}
		if len(tries) != freeByUser+1 {
			t.Errorf("%d tries were let through at once", len(tries))
		}
		// What came to nothing is taken back.
		for _, try := range tries {
			try.End()
			try.End()
		}
		if n := l.users.Len(); n != 0 {
			t.Errorf("%d users are remembered", n)
		}
		if w := l.wait("alice", "x", here); w != 0 {
			t.Errorf("waits %v", w)
		}
		// So is what ended well, and what did not stays.
		for i := range freeByUser {
			l.wrong("alice", fmt.Sprint(i), here)
		}
		first, _ := l.Begin("alice", "a", here)
		if l.wait("alice", "b", here) == 0 {
			t.Error("a try that runs does not count")
		}
		first.Wrong()
		first.End()
		if w := l.wait("alice", "b", here); w != DefaultFirst {
			t.Errorf("waits %v after the last free try", w)
		}
		// At one place for all.
		for i := range freeByPlace + 1 {
			if _, wait := l.Begin(fmt.Sprint(i), "x", there); wait != 0 {
				t.Fatalf("try %d waits %v", i+1, wait)
			}
		}
		if l.wait("another", "x", there) == 0 {
			t.Error("tries that run do not count at their place")
		}
	})
}

// A mail client opens many connections at once with one password, right after the node has started.
func TestLoginsOfOneClient(t *testing.T) {
	for _, right := range []bool{true, false} {
		l := NewLogins()
		var tries []*Try
		for range 50 {
			try, wait := l.Begin("alice", "password", there)
			if wait != 0 {
				t.Fatalf("connection %d waits %v", len(tries)+1, wait)
			}
			tries = append(tries, try)
		}
		if w := l.wait("alice", "guess", there); w != 0 {
			t.Errorf("waits %v", w)
		}
		var wg sync.WaitGroup
		for _, try := range tries {
			wg.Go(func() {
				if right {
					try.Right()
				} else {
					try.Wrong()
				}
			})
		}
		wg.Wait()
		if w := l.wait("alice", "guess", there); w != 0 {
			t.Errorf("right %v: waits %v", right, w)
		}
		for name, th := range map[string]*Throttle{"user": l.users, "place": l.places} {
			failed := 0
			for _, e := range th.keys {
				failed += e.Value.(*tally).failures
			}
			if want := map[bool]int{false: 1}[right]; failed != want {
				t.Errorf("right %v: %d failures of the %s, want %d", right, failed, name, want)
			}
		}
		if len(l.running) != 0 {
			t.Errorf("%d tries are left", len(l.running))
		}
		l.mu.Lock()
		for _, th := range []*Throttle{l.users, l.places} {
			for _, e := range th.keys {
				if y := e.Value.(*tally); y.running != 0 {
					t.Errorf("right %v: %s has %d tries that run", right, y.key, y.running)
				}
			}
		}
		l.mu.Unlock()
	}
}

// A password that was taken away fails once on all the connections that still have it, and each time again later.
func TestLoginsWithOldPassword(t *testing.T) {
	l := NewLogins()
	l.right("alice", "old", here)
	var tries []*Try
	for range 50 {
		try, _ := l.Begin("alice", "old", here)
		tries = append(tries, try)
	}
	for _, try := range tries {
		try.Wrong()
	}
	for i := range freeByUser {
		if !l.wrong("alice", "old", here) {
			t.Fatalf("waits after %d more", i)
		}
	}
	if l.wrong("alice", "old", here) {
		t.Error("does not wait")
	}
}

// Many users of one place are slowed down together, but not on loopback.
func TestLoginsOfOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		for i := range freeByPlace + 1 {
			l.wrong(fmt.Sprint(i), "wrong", here)
			l.wrong(fmt.Sprint(i), "wrong", there)
		}
		if w := l.wait("alice", "x", here); w != 0 {
			t.Errorf("waits %v on loopback", w)
		}
		if l.wait("alice", "x", there) == 0 {
			t.Error("does not wait")
		}
	})
}

// Who got in before gets in again while somebody guesses, until the password is
// taken away; and does not help the one who guesses.
func TestLoginsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		l.right("alice", "right", there)
		for i := range 3 * freeByPlace {
			l.wrong("alice", "wrong", there)
			l.wrong(fmt.Sprint(i), "wrong", there)
		}
		if w := l.wait("alice", "right", there); w != 0 {
			t.Fatalf("waits %v", w)
		}
		l.right("alice", "right", there)
		if l.wait("alice", "wrong", there) == 0 {
			t.Error("the guesser has a new start")
		}
		if l.wait("bob", "right", there) == 0 || l.wait("alicer", "ight", there) == 0 {
			t.Error("somebody else has the password's leave")
		}
		if l.wrong("alice", "right", there); l.wait("alice", "right", there) == 0 {
			t.Error("a password that is gone does not wait")
		}
		for i := range 2 * maxProven {
			l.right(fmt.Sprint(i), "x", here)
		}
		if n := len(l.proven); n > maxProven {
			t.Errorf("%d are remembered", n)
		}
	})
}
