package mailbox

import (
	"bytes"
	"slices"
	"sync"
)

// recentBytes is how many bytes of messages are kept at hand after they were filed.
const recentBytes = 8 << 20

// recent keeps the bytes of the small messages that were filed last: they are
// sealed, indexed and fetched at once, and need not be read from the disk for it.
type recent struct {
	mu    sync.Mutex
	bytes map[contentName][]byte
	order []contentName // the oldest first; some may be gone
	size  int
}

// add keeps a copy of a message. The oldest make room for it.
func (r *recent) add(name contentName, message []byte) {
	if len(message) > smallMessage {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes == nil {
		r.bytes = make(map[contentName][]byte)
	}
	r.bytes[name] = bytes.Clone(message)
	if r.order = append(r.order, name); len(r.order) > 2*len(r.bytes)+64 {
		r.order = slices.DeleteFunc(r.order, func(n contentName) bool { return r.bytes[n] == nil })
	}
	r.size += len(message)
	for r.size > recentBytes {
		r.drop(r.order[0])
		r.order = r.order[1:]
	}
}

// get returns a message, which must not be changed; nil when it is not at hand.
func (r *recent) get(name contentName) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes[name]
}

// forget lets go of a message.
func (r *recent) forget(name contentName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(name)
}

// drop is forget with the mutex held.
func (r *recent) drop(name contentName) {
	r.size -= len(r.bytes[name])
	delete(r.bytes, name)
}
