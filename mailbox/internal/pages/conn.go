package pages

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/ncruces/go-sqlite3/vfs/adiantum"
)

// Options of Open.
type Options struct {
	Cache int    // KiB of pages kept in memory; 0: 2048
	VFS   string // a registered one; empty: the encrypted one over the files of the machine
}

// Conn is one connection. It serves one goroutine at a time.
type Conn struct {
	db    *sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

// Row is the row a query stands on. What it returns as raw is valid until the function it was given to returns.
type Row = sqlite3.Stmt

// ErrKey reports a key that is not the one the database was made with, or a file that is no database.
var ErrKey = errors.New("wrong key or damaged database")

// Open opens the database at path, which is made when missing. The key has 32 bytes.
func Open(ctx context.Context, path string, key []byte, o Options) (*Conn, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("page key of %d bytes instead of 32", len(key))
	}
	if o.VFS == "" {
		o.VFS = vfsName
		registerOnce.Do(func() {
			vfs.Register(vfsName, gathering{adiantum.Wrap(vfs.Find(""), nil)})
		})
	}
	if o.Cache == 0 {
		o.Cache = 2048
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// SQLite would make it readable for others.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	slash := filepath.ToSlash(path)
	if !strings.HasPrefix(slash, "/") {
		slash = "/" + slash
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: slash, RawQuery: url.Values{"vfs": {o.VFS}}.Encode()}
	db, err := sqlite3.OpenContext(ctx, u.String())
	if err != nil {
		return nil, err
	}
	c := &Conn{db: db, stmts: make(map[string]*sqlite3.Stmt)}
	err = db.Exec("PRAGMA hexkey='" + hex.EncodeToString(key) + "'")
	if err == nil {
		err = db.Exec(fmt.Sprintf("PRAGMA busy_timeout=10000; PRAGMA temp_store=memory; PRAGMA cache_size=-%d;"+
			"PRAGMA journal_mode=wal; PRAGMA synchronous=full; PRAGMA secure_delete=fast; PRAGMA wal_autocheckpoint=0;"+
			"PRAGMA journal_size_limit=16777216; PRAGMA trusted_schema=off", o.Cache))
	}
	if errors.Is(err, sqlite3.NOTADB) || errors.Is(err, sqlite3.CORRUPT) {
		err = fmt.Errorf("%w: %w", ErrKey, err)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	c.stmts = nil
	return c.db.Close()
}

// Interrupt makes what runs on the connection end when ctx does.
func (c *Conn) Interrupt(ctx context.Context) { c.db.SetInterrupt(ctx) }

// Script runs statements that take no arguments and give no rows.
func (c *Conn) Script(sql string) error { return c.db.Exec(sql) }

// InTransaction reports whether one is open; SQLite ends it by itself after some errors.
func (c *Conn) InTransaction() bool { return !c.db.GetAutocommit() }

// LastID is the id of the row inserted last.
func (c *Conn) LastID() int64 { return c.db.LastInsertRowID() }

// Changes is how many rows the last statement changed.
func (c *Conn) Changes() int64 { return c.db.Changes() }

// TotalChanges is how many rows all statements changed since Open.
func (c *Conn) TotalChanges() int64 { return c.db.TotalChanges() }

// OnCommit has f told after each commit how many pages the write-ahead log holds.
func (c *Conn) OnCommit(f func(pages int)) {
	c.db.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		f(pages)
		return nil
	})
}

// Checkpoint copies the write-ahead log into the database as far as readers allow, without waiting for anybody.
func (c *Conn) Checkpoint() error {
	_, _, err := c.db.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	return err
}

// Exec runs one statement. The arguments are integers, strings, bytes or nil.
func (c *Conn) Exec(sql string, args ...any) error {
	return c.Query(sql, args, func(*Row) error { return nil })
}

// Query runs one statement and calls f for each row, until f fails. f must not run the same statement again.
func (c *Conn) Query(sql string, args []any, f func(*Row) error) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	for i, a := range args {
		if err := bind(s, i+1, a); err != nil {
			return err
		}
	}
	reset := false
	defer func() {
		if !reset { // f failed or panicked
			_ = s.Reset()
		}
	}()
	for s.Step() {
		if err := f(s); err != nil {
			return err
		}
	}
	err, reset = s.Err(), true
	if rerr := s.Reset(); err == nil {
		err = rerr
	}
	return err
}

// Get runs one statement and calls f with its first row; false when there is none.
func (c *Conn) Get(sql string, args []any, f func(*Row)) (bool, error) {
	found := false
	err := c.Query(sql, args, func(r *Row) error {
		if !found {
			found = true
			f(r)
		}
		return nil
	})
	return found, err
}

// Int runs one statement whose first row is one integer; 0 when there is no row.
func (c *Conn) Int(sql string, args ...any) (n int64, err error) {
	_, err = c.Get(sql, args, func(r *Row) { n = r.ColumnInt64(0) })
	return n, err
}

func (c *Conn) prepare(sql string) (*sqlite3.Stmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	s, _, err := c.db.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", sql, err)
	}
	c.stmts[sql] = s
	return s, nil
}

func bind(s *sqlite3.Stmt, i int, a any) error {
	switch a := a.(type) {
	case nil:
		return s.BindNull(i)
	case int:
		return s.BindInt64(i, int64(a))
	case int64:
		return s.BindInt64(i, a)
	case uint32:
		return s.BindInt64(i, int64(a))
	case uint64:
		return s.BindInt64(i, int64(a))
	case bool:
		return s.BindBool(i, a)
	case string:
		return s.BindText(i, a)
	case []byte:
		if a == nil {
			return s.BindNull(i)
		}
		return s.BindBlob(i, a)
	}
	return fmt.Errorf("argument %d has a type that is not stored: %T", i, a)
}

// IsFull reports whether an error means that the disk, or the share of it that is ours, is full: that the shared index
// cannot be made so large has no other cause.
func IsFull(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.IOERR_SHMSIZE) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota)
}

// IsInterrupted reports whether an error comes from a context that ended.
func IsInterrupted(err error) bool { return errors.Is(err, sqlite3.INTERRUPT) }
