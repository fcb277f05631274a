package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// lockName is the file in the home that the running node keeps locked. It is
// never removed, since a lock on a removed file keeps nobody out.
const lockName = "peerpost.lock"

// A node that is just ending, and a command that just looks, hold the lock for
// a moment; so Lock tries for a second.
const (
	lockPatience = time.Second
	lockRetry    = 20 * time.Millisecond
)

// Lock is the right to use a home alone. It ends with the process, however
// that ends.
type Lock struct {
	home string

	mu   sync.Mutex
	file *os.File // nil after Close
}

// AcquireLock makes the home if need be, for its owner only, and locks it. When
// another process has it, the error is an ErrRunning that names the process.
// Whoever changes anything in a home holds its lock.
func AcquireLock(ctx context.Context, home string) (*Lock, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("making the home: %w", err)
	}
	end := time.Now().Add(lockPatience)
	for {
		l, err := tryLock(home)
		if !errors.Is(err, ErrRunning) || time.Now().After(end) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockRetry):
		}
	}
}

func tryLock(home string) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(home, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the home: %w", err)
	}
	ok, err := lockFile(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the home: %w", err)
	}
	if !ok {
		pid := readPID(f)
		f.Close()
		e := *ErrRunning
		if pid > 0 {
			e.Message += fmt.Sprintf(" (pid %d)", pid)
		}
		return nil, &e
	}
	// The number is for people; the lock holds without it.
	if f.Truncate(0) == nil {
		f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	return &Lock{home: home, file: f}, nil
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 20)) // digits of an int64 and more
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// Home is the directory that is locked.
func (l *Lock) Home() string { return l.home }

// Close gives the home free. It may be called twice.
func (l *Lock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	l.file.Truncate(0)
	err := l.file.Close()
	l.file = nil
	return err
}
