package journal

import (
	"io"
	"os"

	"github.com/peerpost/peerpost/internal/durable"
)

// disk makes the files that the journal writes. Tests put one in its place whose writes and syncs fail.
type disk interface {
	Create(path string) (file, error) // a new file, for reading and writing
	Open(path string) (file, error)   // an existing file, for reading and writing
	SyncDir(path string) error
}

// file is an open segment.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error // of the data and of what is needed to read it back
	Size() (int64, error)
}

type osDisk struct{}

type osFile struct{ *os.File }

func (osDisk) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) SyncDir(path string) error { return durable.SyncDir(path) }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
