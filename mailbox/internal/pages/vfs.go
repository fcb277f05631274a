package pages

import (
	"errors"
	"sync"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/ncruces/go-sqlite3/vfs/adiantum"
)

// vfsName is how SQLite knows the encrypted file system.
const vfsName = "peerpost"

var registerOnce sync.Once

// Register makes an encrypted file system over another, for Options.VFS.
func Register(name string, base vfs.VFS) {
	vfs.Register(name, gathering{adiantum.Wrap(base, nil)})
}

// gathering joins the writes to a write-ahead log. SQLite writes each frame
// in two pieces that do not fit the blocks of the cipher, so that every block
// would be read, decrypted, encrypted and written three times. Joined, it is
// written once.
//
// Nobody sees the difference: frames count only once the shared index names
// them, which is after the log has been synced, and a sync writes what was
// gathered. SQLite may sync in the middle of the last frame, which is there to
// fill a block; the rest of that frame is not gathered.
type gathering struct{ vfs.VFS }

func (g gathering) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := vfsutil.WrapOpenFilename(g.VFS, name, flags)
	if err != nil || flags&vfs.OPEN_WAL == 0 {
		return file, flags, err
	}
	return &walFile{File: file}, flags, nil
}

const (
	maxGather = 1 << 20 // bytes of a log that wait in memory for the sync

	// A log is a header and frames (https://sqlite.org/fileformat2.html#walformat).
	walHeader   = 32
	walFrame    = 24 + 4096
	cipherBlock = 4096
)

type walFile struct {
	vfs.File
	buf     []byte
	at      int64 // where buf belongs
	through bool  // until the frame ends
}

func (w *walFile) WriteAt(p []byte, off int64) (int, error) {
	if w.through {
		w.through = !frameEnds(off + int64(len(p)))
		n, err := w.File.WriteAt(p, off)
		return n, asFull(err)
	}
	end := w.at + int64(len(w.buf))
	if len(w.buf) > 0 && (off < w.at || off > end || len(w.buf)+len(p) > maxGather) {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	if len(w.buf) == 0 {
		w.at = off
	}
	i := int(off - w.at)
	n := copy(w.buf[i:], p)
	w.buf = append(w.buf, p[n:]...)
	return len(p), nil
}

// frameEnds reports whether a frame of a log ends at an offset, or its header.
func frameEnds(off int64) bool { return off >= walHeader && (off-walHeader)%walFrame == 0 }

// flush writes what was gathered. After an error it is given up, like any write that failed.
func (w *walFile) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.File.WriteAt(w.buf, w.at)
	err = asFull(err)
	if w.buf = w.buf[:0]; cap(w.buf) > maxGather/4 {
		w.buf = nil
	}
	return err
}

func (w *walFile) ReadAt(p []byte, off int64) (int, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.File.ReadAt(p, off)
}

func (w *walFile) Sync(flags vfs.SyncFlag) error {
	if len(w.buf) > 0 {
		w.through = !frameEnds(w.at + int64(len(w.buf)))
	}
	if err := w.flush(); err != nil {
		return err
	}
	return asFull(w.File.Sync(flags))
}

// asFull gives an error that means a full disk the code by which SQLite, and IsFull, know it. A sync can find the disk
// full too, and so can a quota.
func asFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota) {
		return vfs.SystemError(err, sqlite3.FULL)
	}
	return err
}

func (w *walFile) Truncate(size int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.File.Truncate(size)
}

// Size leaves out a torn block at the end, which cannot be decrypted: to read it would be an error, and recovery would
// stop at it.
func (w *walFile) Size() (int64, error) {
	if err := w.flush(); err != nil {
		return 0, err
	}
	size, err := w.File.Size()
	return size &^ (cipherBlock - 1), err
}

func (w *walFile) Close() error {
	err := w.flush()
	if cerr := w.File.Close(); err == nil {
		err = cerr
	}
	return err
}
