//go:build !unix

package journal

import "syscall"

// ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL of Windows.
var fullErrors = []error{syscall.Errno(39), syscall.Errno(112)}
