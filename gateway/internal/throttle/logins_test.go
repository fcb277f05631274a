package throttle

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

var (
	here  = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	there = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
)

func TestLoginsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		for i := range freeByUser + 1 {
			if w := l.Allow("alice", "wrong", here); w != 0 {
				t.Fatalf("try %d waits %v", i+1, w)
			}
			l.Fail("alice", "wrong", here)
		}
		if l.Allow("alice", "wrong", here) == 0 || l.Allow("alice", "another", here) == 0 {
			t.Error("nobody waits")
		}
		if w := l.Allow("alice", "wrong", there); w != 0 {
			t.Errorf("waits %v at another place", w)
		}
		if w := l.Allow("bob", "x", here); w != 0 {
			t.Errorf("another user waits %v", w)
		}
		time.Sleep(DefaultFirst)
		if w := l.Allow("alice", "right", here); w != 0 {
			t.Fatalf("waits another %v", w)
		}
		l.Success("alice", "right", here)
		if w := l.Allow("alice", "wrong", here); w != 0 {
			t.Errorf("failures before a success still cost %v", w)
		}
	})
}

// Many users of one place are slowed down together, but not on loopback.
func TestLoginsOfOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		for i := range freeByPlace + 1 {
			l.Fail(fmt.Sprint(i), "wrong", here)
			l.Fail(fmt.Sprint(i), "wrong", there)
		}
		if w := l.Allow("alice", "x", here); w != 0 {
			t.Errorf("waits %v on loopback", w)
		}
		if l.Allow("alice", "x", there) == 0 {
			t.Error("does not wait")
		}
	})
}

// Who got in before gets in again while somebody guesses, until the password is
// taken away; and does not help the one who guesses.
func TestLoginsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLogins()
		l.Success("alice", "right", there)
		for range 3 * freeByPlace {
			l.Fail("alice", "wrong", there)
		}
		if w := l.Allow("alice", "right", there); w != 0 {
			t.Fatalf("waits %v", w)
		}
		l.Success("alice", "right", there)
		if l.Allow("alice", "wrong", there) == 0 {
			t.Error("the guesser has a new start")
		}
		if l.Allow("bob", "right", there) == 0 || l.Allow("alicer", "ight", there) == 0 {
			t.Error("somebody else has the password's leave")
		}
		l.Fail("alice", "right", there)
		if l.Allow("alice", "right", there) == 0 {
			t.Error("a password that is gone does not wait")
		}
		for i := range 2 * maxProven {
			l.Success(fmt.Sprint(i), "x", here)
		}
		if n := len(l.proven); n > maxProven {
			t.Errorf("%d are remembered", n)
		}
	})
}
