package identity

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// FileKey is the secret of one file at rest. Kept in an encrypted index it spares the key exchange when the file is
// read again.
type FileKey [16]byte

// Format keeps the key out of every verb of fmt.
func (k FileKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "filekey(redacted)") }

// AtRest is the key under which an account's own files lie on disk. The files are ordinary age files.
type AtRest struct {
	identity  *age.HybridIdentity
	recipient *age.HybridRecipient
}

func newAtRest(seed [32]byte) *AtRest {
	id := identityFromSeed(seed)
	return &AtRest{identity: id, recipient: id.Recipient()}
}

// Identity opens the files.
func (a *AtRest) Identity() *age.HybridIdentity { return a.identity }

// Recipient is what the files are sealed to.
func (a *AtRest) Recipient() *age.HybridRecipient { return a.recipient }

// Format keeps the key out of every verb of fmt.
func (a *AtRest) Format(f fmt.State, _ rune) { fmt.Fprint(f, "atrest(redacted)") }

// Encrypt begins an age file on dst and returns its file key. The file is complete when w is closed.
func (a *AtRest) Encrypt(dst io.Writer) (w io.WriteCloser, key FileKey, err error) {
	keep := &keepKey{HybridRecipient: a.recipient}
	w, err = age.Encrypt(dst, keep)
	if err != nil {
		return nil, FileKey{}, fmt.Errorf("encrypt at rest: %w", err)
	}
	return w, keep.key, nil
}

// Open gives random access to the plaintext of a file of the given size, and its file key. Each 64 KiB are
// authenticated when they are read; a damaged file may show it only in the middle.
func (a *AtRest) Open(src io.ReaderAt, size int64) (r io.ReaderAt, plain int64, key FileKey, err error) {
	header, err := age.ExtractHeader(io.NewSectionReader(src, 0, size))
	if err != nil {
		return nil, 0, FileKey{}, fmt.Errorf("open at rest: %w", err)
	}
	k, err := age.DecryptHeader(header, a.identity)
	if err != nil {
		return nil, 0, FileKey{}, fmt.Errorf("open at rest: %w", err)
	}
	if len(k) != len(key) {
		return nil, 0, FileKey{}, errors.New("open at rest: file key of another size")
	}
	key = FileKey(k)
	r, plain, err = OpenWithKey(src, size, key)
	return r, plain, key, err
}

// OpenWithKey is Open for a file whose key is known. It does without the key exchange.
func OpenWithKey(src io.ReaderAt, size int64, key FileKey) (r io.ReaderAt, plain int64, err error) {
	r, plain, err = age.DecryptReaderAt(src, size, age.NewInjectedFileKeyIdentity(key[:]))
	if err != nil {
		return nil, 0, fmt.Errorf("open at rest: %w", err)
	}
	return r, plain, nil
}

// keepKey is a recipient that remembers the file key it wrapped.
type keepKey struct {
	*age.HybridRecipient
	key FileKey
}

func (k *keepKey) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	if len(fileKey) != len(k.key) {
		return nil, nil, errors.New("file key of another size")
	}
	k.key = FileKey(fileKey)
	return k.HybridRecipient.WrapWithLabels(fileKey)
}
