package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData puts the data of a file on the disk and leaves out times, which nobody reads.
func syncData(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = unix.Fdatasync(int(fd)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, failed)
}

// punch gives parts of a file back to the file system, and tells how many bytes. One that cannot is left as it is.
func punch(path string, holes []hole) (bytes int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for _, h := range holes {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, h.from, h.to-h.from)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return bytes, nil
		}
		if err != nil {
			return bytes, err
		}
		bytes += h.to - h.from
	}
	return bytes, nil
}
