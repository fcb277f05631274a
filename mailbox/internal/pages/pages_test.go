package pages

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var testKey = bytes.Repeat([]byte{7}, 32)

func open(t testing.TB, dir string) *Conn {
	t.Helper()
	c, err := Open(t.Context(), filepath.Join(dir, "a.db"), testKey, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func tcheck(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingInClear(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a name? with #odd %41 letters")
	tcheck(t, os.Mkdir(dir, 0o700))
	c := open(t, dir)
	const secret = "correct horse battery staple"
	tcheck(t, c.Script("CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT)"))
	look := func() {
		t.Helper()
		entries, err := os.ReadDir(dir)
		tcheck(t, err)
		if len(entries) == 0 {
			t.Fatal("no files")
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			tcheck(t, err)
			for _, s := range []string{secret, "CREATE TABLE", "SQLite format"} {
				if bytes.Contains(b, []byte(s)) {
					t.Errorf("%s contains %q", e.Name(), s)
				}
			}
			if bytes.Contains(b, testKey) {
				t.Errorf("%s contains the key", e.Name())
			}
		}
	}
	for i := range 2000 {
		tcheck(t, c.Exec("INSERT INTO t VALUES(?,?)", i, secret))
	}
	look()
	tcheck(t, c.Checkpoint())
	look()
	tcheck(t, c.Close())
	look()
	c = open(t, dir)
	n, err := c.Int("SELECT count(*) FROM t WHERE s=?", secret)
	tcheck(t, err)
	if n != 2000 {
		t.Fatalf("%d rows", n)
	}
	wrong := bytes.Repeat([]byte{8}, 32)
	if _, err := Open(t.Context(), filepath.Join(dir, "a.db"), wrong, Options{}); !errors.Is(err, ErrKey) {
		t.Fatalf("wrong key: %v", err)
	}
}

// TestTornLog opens a database whose log ends in the middle of a block, or anywhere else.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	tcheck(t, c.Script("CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT)"))
	for i := range 20 {
		tcheck(t, c.Exec("INSERT INTO t VALUES(?,?)", i, strings.Repeat("x", 1000)))
	}
	db, err := os.ReadFile(filepath.Join(dir, "a.db"))
	tcheck(t, err)
	wal, err := os.ReadFile(filepath.Join(dir, "a.db-wal"))
	tcheck(t, err)
	last := int64(-1)
	for size := 0; size <= len(wal); size += 5003 {
		torn := t.TempDir()
		tcheck(t, os.WriteFile(filepath.Join(torn, "a.db"), db, 0o600))
		tcheck(t, os.WriteFile(filepath.Join(torn, "a.db-wal"), wal[:size], 0o600))
		c := open(t, torn)
		n := int64(0)
		if size > 3*walFrame {
			n, err = c.Int("SELECT count(*) FROM t")
			tcheck(t, err)
		}
		if n < last {
			t.Fatalf("%d rows of %d bytes, %d of fewer", n, size, last)
		}
		last = n
		tcheck(t, c.Close())
	}
	if last < 19 {
		t.Errorf("%d rows at the end", last)
	}
}

func TestReadersSeeCommits(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir)
	tcheck(t, w.Script("CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT)"))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		r := open(t, dir)
		wg.Go(func() {
			last := int64(0)
			for {
				var n, sum int64
				_, err := r.Get("SELECT count(*), coalesce(sum(length(s)),0) FROM t", nil, func(row *Row) {
					n, sum = row.ColumnInt64(0), row.ColumnInt64(1)
				})
				if err != nil || n < last || n%3 != 0 || sum != n*3000 {
					t.Errorf("%d rows after %d, %d bytes: %v", n, last, sum, err)
					return
				}
				last = n
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	c := open(t, dir)
	for i := range 150 {
		tcheck(t, w.Script("BEGIN IMMEDIATE"))
		for k := range 3 {
			tcheck(t, w.Exec("INSERT INTO t VALUES(?,?)", i*3+k, strings.Repeat(fmt.Sprint(i%10), 3000)))
		}
		tcheck(t, w.Script("COMMIT"))
		if i%40 == 0 {
			tcheck(t, c.Checkpoint())
		}
	}
	close(stop)
	wg.Wait()
}

func BenchmarkCommit(b *testing.B) {
	dir := b.TempDir()
	w := open(b, dir)
	tcheck(b, w.Script("CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT); CREATE TABLE u(id INTEGER PRIMARY KEY, s TEXT); CREATE TABLE v(id INTEGER PRIMARY KEY, s TEXT);"))
	s := strings.Repeat("x", 400)
	for i := 0; b.Loop(); i++ {
		tcheck(b, w.Script("BEGIN IMMEDIATE"))
		tcheck(b, w.Exec("INSERT INTO t VALUES(?,?)", i, s))
		tcheck(b, w.Exec("INSERT INTO u VALUES(?,?)", i, s))
		tcheck(b, w.Exec("INSERT INTO v VALUES(?,?)", i, s))
		tcheck(b, w.Script("COMMIT"))
		if i%1000 == 999 {
			tcheck(b, w.Checkpoint())
		}
	}
}
