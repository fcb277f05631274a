//go:build unix

package journal

import "syscall"

var fullErrors = []error{syscall.EDQUOT}
