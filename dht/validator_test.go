package dht

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity"
)

func TestRecordKeyIsIdentitys(t *testing.T) {
	root := newPerson(t).root()
	if got, want := recordKey(identity.RecordKeyHash(root)), identity.RecordKey(root); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestValidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPerson(t), newPerson(t)
		rec := a.record(t)
		key := identity.RecordKey(a.root())
		var v recordValidator
		check := func(what, key string, value []byte, want bool) {
			t.Helper()
			if err := v.Validate(key, value); (err == nil) != want {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("a good record", key, rec, true)
		check("under somebody else's key", identity.RecordKey(b.root()), rec, false)
		check("under a key with something added", key+"a", rec, false)
		check("under no key", "", rec, false)
		check("in another namespace", "/pk/"+key[len("/peerpost/"):], rec, false)
		check("with a byte changed", key, append(bytes.Clone(rec[:len(rec)-1]), rec[len(rec)-1]^1), false)
		check("with a byte more", key, append(bytes.Clone(rec), 0), false)
		check("too large", key, make([]byte, identity.MaxRecord+1), false)
		check("empty", key, nil, false)

		issuedTomorrow := func(ahead time.Duration) []byte {
			r, err := a.keys.SignRecord(identity.RecordParams{Now: time.Now().Add(ahead), Sequence: 9})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		check("issued in 23 hours", key, issuedTomorrow(23*time.Hour), true)
		check("issued in 25 hours", key, issuedTomorrow(25*time.Hour), false)
		time.Sleep(identity.MaxRecordLife + 23*time.Hour)
		check("expired 23 hours ago", key, rec, true)
		time.Sleep(2 * time.Hour)
		check("expired 25 hours ago", key, rec, false)
	})
}

func TestSelect(t *testing.T) {
	p := newPerson(t)
	first, second, third := p.record(t), p.record(t), p.record(t)
	junk := []byte("no record")
	var v recordValidator
	for _, c := range []struct {
		what   string
		values [][]byte
		want   int
	}{
		{"one", [][]byte{first}, 0},
		{"the newest", [][]byte{first, third, second}, 1},
		{"the first of equals", [][]byte{first, second, second}, 1},
		{"equal to what is stored", [][]byte{second, second}, 0},
		{"junk loses", [][]byte{junk, first, nil}, 1},
	} {
		if got, err := v.Select("", c.values); err != nil || got != c.want {
			t.Errorf("%s: %d, %v", c.what, got, err)
		}
	}
	for _, values := range [][][]byte{nil, {junk}, {nil, junk}} {
		if _, err := v.Select("", values); err == nil {
			t.Errorf("chose from %q", values)
		}
	}
}

// Whatever a stranger sends, the validator answers, the same every time, and
// what it accepts fits the limits.
func FuzzValidate(f *testing.F) {
	p := newPerson(f)
	rec := p.record(f)
	key := identity.RecordKey(p.root())
	f.Add(key, rec)
	f.Add(key, rec[:len(rec)/2])
	f.Add("/peerpost/", []byte{})
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var v recordValidator
		err := v.Validate(key, value)
		if again := v.Validate(key, value); (err == nil) != (again == nil) {
			t.Fatalf("first %v, then %v", err, again)
		}
		if err == nil && len(value) > identity.MaxRecord {
			t.Fatal("accepted too large a record")
		}
		i, err := v.Select(key, [][]byte{value, rec, value})
		if err != nil || i > 1 {
			t.Fatalf("chose %d, %v", i, err)
		}
	})
}
