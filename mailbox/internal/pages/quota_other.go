//go:build !unix

package pages

import "syscall"

const errQuota = syscall.ENOSPC
