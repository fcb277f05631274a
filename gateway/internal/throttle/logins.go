package throttle

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/peerpost/peerpost/gateway/listen"
)

// The pace of Logins. A mail client with an old password tries every few
// minutes from the same place as its owner's other clients.
const (
	freeByUser  = DefaultFree // wrong passwords of one account from one place
	freeByPlace = 30          // wrong passwords from one place
	maxProven   = 1024        // passwords that are remembered to be right: 32 bytes each
)

// Logins slows down logins that fail. It counts by account and place together,
// and by place alone, except that all programs of this machine share the place
// of loopback: there one with an old password must not shut out the others.
// A try counts from when it begins, so that nobody gets more of them by trying
// side by side; but the clients of somebody who logs in with one password from
// many connections at once make one try, which fails once.
//
// A password that was right before never waits, so that its owner gets in
// whatever somebody else tries under the same name.
type Logins struct {
	users, places *Throttle
	secret        [sha256.Size]byte

	mu      sync.Mutex
	proven  map[[sha256.Size]byte]struct{} // keyed hashes of account and password
	running map[guess]*tries               // that have begun
}

// tries are those of one guess at once.
type tries struct {
	n      int
	failed bool // one of them, which has been counted
}

// guess is a password of an account that is tried from a place.
type guess struct {
	hash  [sha256.Size]byte // of account and password
	place string
}

// NewLogins returns Logins that know nobody yet.
func NewLogins() *Logins {
	l := &Logins{
		users:   New(Config{Free: freeByUser}),
		places:  New(Config{Free: freeByPlace}),
		proven:  make(map[[sha256.Size]byte]struct{}),
		running: make(map[guess]*tries),
	}
	rand.Read(l.secret[:])
	return l
}

// Account tells accounts apart by the name that a client logs in with: the
// domain of an address is the account's key, and what stands before it is free.
// A name without a domain stands for itself, in any case.
func Account(user string) string {
	return strings.ToLower(strings.ToUpper(user[strings.LastIndexByte(user, '@')+1:]))
}

// Try is a password that is being tried. Right, Wrong or End must be called.
type Try struct {
	logins  *Logins
	guess   guess
	user    string // key in users
	counted bool   // in places as well
	free    bool   // it was right before
	ended   bool
}

// Begin begins to try a password, or returns how long to wait before.
func (l *Logins) Begin(user, password string, from net.Addr) (*Try, time.Duration) {
	account, place := Account(user), Remote(from)
	t := &Try{logins: l, guess: guess{l.hash(account, password), place}, user: place + " " + account, counted: !listen.Loopback(from)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, t.free = l.proven[t.guess.hash]; t.free {
		return t, 0
	}
	same := l.running[t.guess]
	if same == nil {
		wait := l.users.Allow(t.user)
		if t.counted {
			wait = max(wait, l.places.Allow(place))
		}
		if wait > 0 {
			return nil, wait
		}
		l.users.Begin(t.user)
		if t.counted {
			l.places.Begin(place)
		}
		same = new(tries)
		l.running[t.guess] = same
	}
	same.n++
	return t, 0
}

// Wrong counts a wrong password, once for all that try it at the same time.
func (t *Try) Wrong() {
	l := t.logins
	l.mu.Lock()
	defer l.mu.Unlock()
	if !t.ended && t.first() {
		l.users.Fail(t.user)
		if t.counted {
			l.places.Fail(t.guess.place)
		}
	}
	delete(l.proven, t.guess.hash) // it was taken away
	t.end()
}

// first tells whether no other try of the same guess, of those that run, has failed before. l.mu is held.
func (t *Try) first() bool {
	if t.free {
		_, proven := t.logins.proven[t.guess.hash]
		return proven
	}
	same := t.logins.running[t.guess]
	first := !same.failed
	same.failed = true
	return first
}

// Right remembers a password that was right. The first time it also forgets
// the failures of the account at that place: they were mistakes. Later times do
// not, or whoever guesses would have a new start with each of its owner's logins.
func (t *Try) Right() {
	l := t.logins
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, proven := l.proven[t.guess.hash]; !proven {
		if len(l.proven) >= maxProven {
			clear(l.proven)
		}
		l.proven[t.guess.hash] = struct{}{}
		l.users.Success(t.user)
	}
	t.end()
}

// End takes the try back, if nothing was learned of the password. It does
// nothing after Right or Wrong.
func (t *Try) End() {
	t.logins.mu.Lock()
	defer t.logins.mu.Unlock()
	t.end()
}

// end is End with the lock held.
func (t *Try) end() {
	if t.ended {
		return
	}
	t.ended = true
	l := t.logins
	if t.free {
		return
	}
	same := l.running[t.guess]
	if same.n--; same.n > 0 {
		return
	}
	delete(l.running, t.guess)
	l.users.End(t.user)
	if t.counted {
		l.places.End(t.guess.place)
	}
}

func (l *Logins) hash(account, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.secret[:])
	h.Write([]byte(account))
	h.Write([]byte{0}) // in no user name of ours
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}
