package mailbox

import (
	"crypto/rand"
	"os"
	"sync"
)

const (
	// reserveSize is how much room is set aside in bytes. Deleting a message takes some 40 KiB of the write-ahead log,
	// and opening the index 32 KiB.
	reserveSize = 1 << 20
	// reserveLeast is the reserve in bytes that is given back as a whole.
	reserveLeast = 64 << 10
)

// reserve is a file that takes up room, so that there is some when the disk is full: without it no index could be
// opened, and no mail deleted to make room.
type reserve struct {
	path string
	mu   sync.Mutex
}

// fill makes the file as large as it should be. It holds random bytes, which no file system keeps in less room.
func (r *reserve) fill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() >= reserveSize {
		return err
	}
	b := make([]byte, reserveSize-st.Size())
	_, _ = rand.Read(b) // never fails
	if _, err := f.WriteAt(b, st.Size()); err != nil {
		_ = f.Truncate(st.Size())
		return storeError(err)
	}
	return nil
}

// spend gives half of the room back; false when there is none left.
func (r *reserve) spend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	st, err := os.Stat(r.path)
	switch {
	case err != nil || st.Size() == 0:
		return false
	case st.Size() <= reserveLeast:
		return os.Truncate(r.path, 0) == nil
	}
	return os.Truncate(r.path, st.Size()/2) == nil
}
