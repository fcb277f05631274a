package control

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// lockByte is the byte that is locked: far behind the text, which stays readable.
const lockByte = 1 << 20

// lockFile locks a file until it is closed; false when another process has it.
func lockFile(f *os.File) (bool, error) {
	at := windows.Overlapped{Offset: lockByte}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

// ours is left to the access control of the user's temporary directory.
func ours(fs.FileInfo) bool { return true }

// private is left to the access control of the home.
func private(uintptr) {}
