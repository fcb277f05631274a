//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package control

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lockFile locks a file until it is closed; false when another process has it.
func lockFile(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// ours reports whether a file belongs to the user of this process and nobody
// else may use it.
func ours(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Getuid() && info.Mode().Perm()&0o077 == 0
}

// private makes a socket that is about to be bound accessible to its owner
// only, where the system lets one say so beforehand.
func private(fd uintptr) { syscall.Fchmod(int(fd), 0o600) }
