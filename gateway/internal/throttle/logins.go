package throttle

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"sync"
	"time"

	"github.com/peerpost/peerpost/gateway/listen"
)

// The pace of Logins. A mail client with an old password tries every few
// minutes from the same place as its owner's other clients.
const (
	freeByUser  = DefaultFree // wrong passwords of one user from one place
	freeByPlace = 30          // wrong passwords from one place
	maxProven   = 1024        // passwords that are remembered to be right: 32 bytes each
)

// Logins slows down logins that fail. It counts by user and place together,
// and by place alone, except that all programs of this machine share the place
// of loopback: there one with an old password must not shut out the others.
//
// A password that was right before never waits, so that its owner gets in
// whatever somebody else tries under the same name.
type Logins struct {
	users, places *Throttle
	secret        [sha256.Size]byte

	mu     sync.Mutex
	proven map[[sha256.Size]byte]struct{} // keyed hashes of user and password
}

// NewLogins returns Logins that know nobody yet.
func NewLogins() *Logins {
	l := &Logins{
		users:  New(Config{Free: freeByUser}),
		places: New(Config{Free: freeByPlace}),
		proven: make(map[[sha256.Size]byte]struct{}),
	}
	rand.Read(l.secret[:])
	return l
}

// Allow returns how long to wait before the password may be tried; zero when
// it may be tried now.
func (l *Logins) Allow(user, password string, from net.Addr) time.Duration {
	hash := l.hash(user, password)
	l.mu.Lock()
	_, proven := l.proven[hash]
	l.mu.Unlock()
	if proven {
		return 0
	}
	wait := l.users.Allow(userAt(user, from))
	if !listen.Loopback(from) {
		wait = max(wait, l.places.Allow(Remote(from)))
	}
	return wait
}

// Fail counts a wrong password.
func (l *Logins) Fail(user, password string, from net.Addr) {
	hash := l.hash(user, password)
	l.mu.Lock()
	delete(l.proven, hash) // it was taken away
	l.mu.Unlock()
	l.users.Fail(userAt(user, from))
	if !listen.Loopback(from) {
		l.places.Fail(Remote(from))
	}
}

// Success remembers a password that was right. The first time it also forgets
// the failures of the user at that place: they were mistakes. Later times do
// not, or whoever guesses would have a new start with each of its owner's logins.
func (l *Logins) Success(user, password string, from net.Addr) {
	hash := l.hash(user, password)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, proven := l.proven[hash]; proven {
		return
	}
	if len(l.proven) >= maxProven {
		clear(l.proven)
	}
	l.proven[hash] = struct{}{}
	l.users.Success(userAt(user, from))
}

func (l *Logins) hash(user, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.secret[:])
	h.Write([]byte(user))
	h.Write([]byte{0}) // in no user name of ours
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

// userAt is the key of a user at a place.
func userAt(user string, from net.Addr) string { return Remote(from) + " " + user }
