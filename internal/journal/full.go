package journal

import (
	"errors"
	"syscall"
)

// IsFull tells whether an error says that the disk, or somebody's part of it, is full.
func IsFull(err error) bool {
	for _, full := range fullErrors {
		if errors.Is(err, full) {
			return true
		}
	}
	return errors.Is(err, syscall.ENOSPC)
}
