// Package durable puts files on the disk so that they are there after a crash.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// TempSuffix marks a file that is being written. One that is left from a crash is overwritten by the next attempt.
const TempSuffix = ".tmp"

// WriteFile replaces the file at path, or leaves it as it was: the bytes go to a temporary file beside it, are synced,
// and take its name, which is synced in turn. Mode 0600. One caller at a time may write a file.
func WriteFile(path string, b []byte) error {
	temp := path + TempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory last.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call; NTFS journals names
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
