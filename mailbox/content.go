package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
	"github.com/peerpost/peerpost/mailbox/internal/pages"
)

const (
	// smallMessage is the size in bytes up to which a message goes through the journal. A larger one is written
	// as its file at once: a second copy would cost more than the syncs it saves.
	smallMessage = 256 << 10
	// maxStoredHeader is the largest header in bytes that is kept in the index as well.
	maxStoredHeader = 16 << 10
	// sealOverhead is about what an age file is larger than a small message.
	sealOverhead = 2 << 10
	// chunkSize is what age encrypts at a time.
	chunkSize = 64 << 10
)

// contentName names the bytes of a message: its file is messages/<2 hex>/<30 hex>.age.
type contentName [16]byte

func (n contentName) path(dir string) string {
	h := hex.EncodeToString(n[:])
	return filepath.Join(dir, messagesDir, h[:2], h[2:]+".age")
}

// parseContentName reads the name of a file in one of the directories.
func parseContentName(sub, file string) (n contentName, ok bool) {
	b, err := hex.DecodeString(sub + trimAge(file))
	if err != nil || len(b) != len(n) {
		return n, false
	}
	n = contentName(b)
	return n, true
}

func trimAge(file string) string {
	if filepath.Ext(file) != ".age" {
		return "-" // not hex
	}
	return file[:len(file)-len(".age")]
}

// contentNames gives random names. Neighbours share a directory, so that one sync of it serves many files.
type contentNames struct {
	mu   sync.Mutex
	left int
	dir  byte
}

// perDirectory is how many names in a row share a directory.
const perDirectory = 64

func (c *contentNames) next() contentName {
	var n contentName
	_, _ = rand.Read(n[:]) // never fails
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		c.left, c.dir = perDirectory, n[0]
	}
	c.left--
	n[0] = c.dir
	return n
}

// content is where the bytes of a message are: in the journal while ref is set, in their file after that.
type content struct {
	id     int64
	name   contentName
	key    identity.FileKey
	ref    journal.Ref
	sealed int64 // bytes of the age file
	size   int64 // bytes of the message
}

func (c *content) inJournal() bool { return c.ref != journal.Ref{} }

// incoming is a message whose bytes are on the disk, and what the index will say about it.
type incoming struct {
	content
	envelope  []byte
	structure []byte
	header    []byte // nil when it is too large to be kept
	sent      time.Time
	messageID string
	subject   string
}

// describe fills in what the index will say about the message. header may be nil when it is too large to be kept.
func (in *incoming) describe(x *mime.Index, header []byte) {
	in.envelope, in.structure = mime.MarshalEnvelope(x.Envelope), mime.MarshalStructure(x.Structure)
	in.sent, in.messageID, in.subject = x.Envelope.Date, x.Envelope.MessageID, x.Envelope.Subject
	if len(header) <= maxStoredHeader {
		in.header = header
	}
}

// take puts a message on the disk. Until the index knows it, drop takes it back; after a crash nobody does,
// and the next Open sweeps it.
func (m *Mailbox) take(ctx context.Context, r io.Reader, size int64) (*incoming, error) {
	if size > m.maxMessage {
		return nil, mail.ErrTooLarge
	}
	if size < 0 {
		return nil, errors.New("message of negative size")
	}
	if size > smallMessage {
		return m.takeFile(ctx, r, size)
	}
	plain, sealed := m.buffer(), m.buffer()
	defer m.buffers.Put(plain)
	defer m.buffers.Put(sealed)
	plain.Grow(int(size) + bytes.MinRead)
	if _, err := io.CopyN(plain, r, size); err != nil {
		return nil, fmt.Errorf("read message: %w", noEOF(err))
	}
	in := &incoming{}
	if err := m.seal(sealed, &in.content, plain.Bytes()); err != nil {
		return nil, err
	}
	in.parse(plain.Bytes())
	if err := m.logContent(ctx, &in.content, recordMessage, sealed, nil); err != nil {
		return nil, err
	}
	m.recent.add(in.name, plain.Bytes())
	return in, nil
}

// buffer returns an empty buffer for a small message on its way to the journal.
func (m *Mailbox) buffer() *bytes.Buffer {
	b, ok := m.buffers.Get().(*bytes.Buffer)
	if !ok {
		return new(bytes.Buffer)
	}
	b.Reset()
	return b
}

// parse is describe for a message in memory.
func (in *incoming) parse(message []byte) {
	x := mime.ParseBytes(message)
	in.describe(x, bytes.Clone(message[x.Structure.Header:x.Structure.Body]))
}

// seal encrypts a message and names it.
func (m *Mailbox) seal(to *bytes.Buffer, c *content, message []byte) error {
	to.Grow(len(message) + sealOverhead + len(message)/chunkSize*16)
	w, key, err := m.atRest.Encrypt(to)
	if err == nil {
		_, err = w.Write(message)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("seal message: %w", err)
	}
	c.name, c.key = m.names.next(), key
	c.sealed, c.size = int64(to.Len()), int64(len(message))
	return nil
}

// takeFile is take for a large message, which is never in memory as a whole.
func (m *Mailbox) takeFile(ctx context.Context, r io.Reader, size int64) (_ *incoming, err error) {
	in := &incoming{content: content{name: m.names.next(), size: size}}
	path := in.name.path(m.dir)
	if err := m.makeMessageDir(ctx, path); err != nil {
		return nil, storeError(err)
	}
	f, err := createFile(path)
	if err != nil {
		return nil, storeError(err)
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(path)
			err = storeError(err)
		}
	}()
	buf := bufio.NewWriterSize(f, chunkSize)
	w, key, err := m.atRest.Encrypt(buf)
	if err != nil {
		return nil, fmt.Errorf("seal message: %w", err)
	}
	in.key = key
	if n, err := io.CopyN(w, contextReader{ctx, r}, size); err != nil {
		return nil, fmt.Errorf("store message after %d bytes: %w", n, noEOF(err))
	}
	if err := errors.Join(w.Close(), buf.Flush()); err != nil {
		return nil, fmt.Errorf("store message: %w", err)
	}
	if in.sealed, err = f.Seek(0, io.SeekCurrent); err != nil {
		return nil, err
	}
	if err := finishFile(f, path); err != nil {
		return nil, err
	}
	if err := syncDirOf(path); err != nil {
		return nil, err
	}
	plain, n, err := identity.OpenWithKey(f, in.sealed, in.key)
	if err != nil {
		return nil, err
	}
	x, err := mime.Parse(plain, n)
	if err != nil {
		return nil, err
	}
	var header []byte
	if n := x.Structure.Body - x.Structure.Header; n <= maxStoredHeader {
		header = make([]byte, n)
		if _, err := plain.ReadAt(header, x.Structure.Header); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		in.describe(x, header)
	} else {
		in.describe(x, nil)
	}
	return in, nil
}

func createFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func syncDirOf(path string) error { return durable.SyncDir(filepath.Dir(path)) }

// fileTime is the modification time of every message file: when it was filed is nobody's business.
var fileTime = time.Unix(0, 0)

// finishFile makes the bytes of a message file last.
func finishFile(f *os.File, path string) error {
	if err := os.Chtimes(path, fileTime, fileTime); err != nil {
		return err
	}
	return f.Sync()
}

// makeMessageDir makes the directory of a message file that is about to be made.
func (m *Mailbox) makeMessageDir(ctx context.Context, path string) error {
	if err := m.soil(ctx); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// A record of the journal is
//
//	header = kind[1] ‖ name[16]
//	body   = age file ‖ meta ‖ length of meta in bytes (4, big endian)
//
// meta is empty but for accepted messages, where it is what accept.go says,
// sealed with XChaCha20-Poly1305 under a key derived from the page key: nonce ‖
// ciphertext, with the header as additional data. The age file of a large
// message is not in the record but already in its place.
const (
	recordMessage  = 1
	recordAccepted = 2
)

func recordHeader(kind byte, n contentName) []byte { return append([]byte{kind}, n[:]...) }

func parseRecordHeader(h []byte) (kind byte, n contentName, ok bool) {
	if len(h) != 1+len(n) {
		return 0, n, false
	}
	return h[0], contentName(h[1:]), true
}

// splitRecord divides the body of a record.
func splitRecord(body []byte) (sealed, meta []byte, err error) {
	end := len(body) - 4
	if end < 0 {
		return nil, nil, errRecord
	}
	n := binary.BigEndian.Uint32(body[end:])
	if uint64(n) > uint64(end) {
		return nil, nil, errRecord
	}
	begin := end - int(n)
	return body[:begin], body[begin:end], nil
}

var errRecord = errors.New("journal record is too short")

// logContent puts a sealed message into the journal; it is on the disk when it returns.
func (m *Mailbox) logContent(ctx context.Context, c *content, kind byte, sealed *bytes.Buffer, meta []byte) error {
	_, _ = sealed.Write(meta) // never fails
	_, _ = sealed.Write(binary.BigEndian.AppendUint32(nil, uint32(len(meta))))
	ref, err := m.journal.Append(ctx, recordHeader(kind, c.name), sealed.Bytes())
	if err != nil {
		return storeError(fmt.Errorf("store message: %w", err))
	}
	c.ref = ref
	return nil
}

// dropUnless takes back bytes whose operation has failed with err, or was not needed.
func (m *Mailbox) dropUnless(err error, c *content) {
	if !errors.Is(err, errUncertain) {
		m.drop(c)
	}
}

// drop takes back bytes that the index does not know.
func (m *Mailbox) drop(c *content) {
	m.recent.forget(c.name)
	if c.inJournal() {
		m.journal.Free(c.ref)
		return
	}
	m.unlink(c.name)
}

// unlink removes a message file.
func (m *Mailbox) unlink(n contentName) {
	if err := os.Remove(n.path(m.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.log.Warn("message file not removed", "error", err)
	}
}

// insert puts the message's bytes into the index.
func (t *tx) insert(in *incoming, refs int) error {
	t.content++
	in.id = t.content
	var ref []byte
	if in.inJournal() {
		ref = refBytes(in.ref)
	}
	if err := t.c.Exec("INSERT INTO content(id, name, key, ref, sealed, size, refs) VALUES(?,?,?,?,?,?,?)",
		in.id, in.name[:], in.key[:], ref, in.sealed, in.size, refs); err != nil {
		return err
	}
	if err := t.c.Exec("INSERT INTO heading(content, envelope, structure) VALUES(?,?,?)",
		in.id, nonNil(in.envelope), nonNil(in.structure)); err != nil {
		return err
	}
	if in.header != nil {
		if err := t.c.Exec("INSERT INTO header(content, bytes) VALUES(?,?)", in.id, in.header); err != nil {
			return err
		}
	}
	t.then(func() { t.m.filed(&in.content) })
	return nil
}

// refer counts references to contents up or down.
func (t *tx) refer(id int64, by int) error {
	return t.c.Exec("UPDATE content SET refs=refs+? WHERE id=?", by, id)
}

const contentColumns = "id, name, key, ref, sealed, size"

func scanContent(r *pages.Row) (c content, err error) {
	c.id, c.sealed, c.size = r.ColumnInt64(0), r.ColumnInt64(4), r.ColumnInt64(5)
	name, key, ref := r.ColumnRawBlob(1), r.ColumnRawBlob(2), r.ColumnRawBlob(3)
	if len(name) != len(c.name) || len(key) != len(c.key) {
		return c, errors.New("damaged row in the index")
	}
	c.name, c.key = contentName(name), identity.FileKey(key)
	if len(ref) > 0 {
		c.ref, err = parseRef(ref)
	}
	return c, err
}

func refBytes(r journal.Ref) []byte {
	b := binary.BigEndian.AppendUint32(nil, r.Segment)
	b = binary.BigEndian.AppendUint32(b, r.Offset)
	return binary.BigEndian.AppendUint32(b, r.Length)
}

func parseRef(b []byte) (r journal.Ref, err error) {
	if len(b) != 12 {
		return r, errors.New("damaged row in the index")
	}
	return journal.Ref{
		Segment: binary.BigEndian.Uint32(b), Offset: binary.BigEndian.Uint32(b[4:]), Length: binary.BigEndian.Uint32(b[8:]),
	}, nil
}

// source is an opened content.
type source struct {
	io.ReaderAt
	io.Closer
}

// contentOf looks a content up; mail.ErrNoMessage.
func contentOf(c *pages.Conn, id int64) (x content, err error) {
	var serr error
	found, err := c.Get("SELECT "+contentColumns+" FROM content WHERE id=?", []any{id}, func(r *pages.Row) { x, serr = scanContent(r) })
	switch {
	case err != nil:
		return x, err
	case !found:
		return x, mail.ErrNoMessage
	}
	return x, serr
}

// open opens the bytes of a message for reading. Where they are may be out of date by the time: it looks again then.
func (m *Mailbox) open(ctx context.Context, c content) (source, error) {
	for try := 0; ; try++ {
		s, err := m.openAt(&c)
		if err == nil || try == 2 || !errors.Is(err, journal.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
			return s, err
		}
		err = m.read(ctx, func(conn *pages.Conn) (err error) {
			c, err = contentOf(conn, c.id)
			return err
		})
		if err != nil {
			return source{}, err
		}
	}
}

func (m *Mailbox) openAt(c *content) (source, error) {
	if plain := m.recent.get(c.name); plain != nil {
		return source{bytes.NewReader(plain), io.NopCloser(nil)}, nil
	}
	var from io.ReaderAt
	var closer io.Closer = io.NopCloser(nil)
	if c.inJournal() {
		_, body, err := m.journal.Read(c.ref)
		if err != nil {
			return source{}, err
		}
		sealed, _, err := splitRecord(body)
		if err != nil {
			return source{}, err
		}
		from = bytes.NewReader(sealed)
	} else {
		f, err := os.Open(c.name.path(m.dir))
		if err != nil {
			return source{}, err
		}
		from, closer = f, f
	}
	plain, n, err := identity.OpenWithKey(from, c.sealed, c.key)
	if err == nil && n != c.size {
		err = fmt.Errorf("message has %d bytes instead of %d", n, c.size)
	}
	if err == nil && c.size <= chunkSize { // a part costs as much as all of it, and more when it is read again
		whole := make([]byte, c.size)
		if _, err = io.ReadFull(io.NewSectionReader(plain, 0, c.size), whole); err == nil {
			err = closer.Close()
			plain, closer = bytes.NewReader(whole), io.NopCloser(nil)
		}
	}
	if err != nil {
		_ = closer.Close()
		return source{}, err
	}
	return source{plain, closer}, nil
}

// deriveMetaKey derives the key of the journal's meta from the page key.
func deriveMetaKey(page []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, page, nil, "peerpost mailbox journal", chacha20poly1305.KeySize)
}

func (m *Mailbox) metaCipher() (cipher.AEAD, error) { return chacha20poly1305.NewX(m.metaKey) }

func (m *Mailbox) sealMeta(header, meta []byte) ([]byte, error) {
	a, err := m.metaCipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(meta)+a.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return a.Seal(nonce, nonce, meta, header), nil
}

func (m *Mailbox) openMeta(header, sealed []byte) ([]byte, error) {
	a, err := m.metaCipher()
	if err != nil {
		return nil, err
	}
	if len(sealed) < a.NonceSize() {
		return nil, errRecord
	}
	return a.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], header)
}

// contextReader reads until its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// noEOF makes an end that came too early an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
