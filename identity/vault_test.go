package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/identity/internal/vector"
	"github.com/peerpost/peerpost/internal/durable"
)

// quick makes scrypt take a millisecond.
var quick = WithWorkFactor(4)

func newTestVault(t testing.TB) (*Vault, *Keyring) {
	t.Helper()
	kr, err := NewKeyring(fixed("alice root"), 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	v, err := CreateVault(filepath.Join(t.TempDir(), "account"), kr, "Alice", "laptop", "secret", quick)
	if err != nil {
		t.Fatal(err)
	}
	return v, kr
}

func reopen(t testing.TB, v *Vault) *Vault {
	t.Helper()
	again, err := OpenVault(v.dir, quick)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func unlock(t testing.TB, v *Vault, password, name string) *Keyring {
	t.Helper()
	kr, got, err := v.Unlock(t.Context(), password)
	if err != nil || got != name {
		t.Fatalf("unlocked as %q: %v", got, err)
	}
	return kr
}

func refused(t testing.TB, v *Vault, password string) {
	t.Helper()
	if kr, _, err := v.Unlock(t.Context(), password); !errors.Is(err, ErrPassword) || kr != nil {
		t.Fatalf("the password %q gives %v", password, err)
	}
}

func TestVault(t *testing.T) {
	v, kr := newTestVault(t)
	if v.Unlocked() != kr {
		t.Fatal("a new vault is locked")
	}
	v = reopen(t, v)
	if v.Unlocked() != nil || v.Root() != kr.Root() || v.Local() != "Alice" || v.Address().String() != "Alice@"+kr.Root().Label()+"."+Suffix {
		t.Fatalf("opened as %s", v.Address())
	}
	if d := time.Since(v.Created()); d < 0 || d > time.Hour {
		t.Fatalf("created %s ago", d)
	}
	refused(t, v, "Secret")
	refused(t, v, "")
	got := unlock(t, v, "secret", "laptop")
	if !bytes.Equal(got.marshal(), kr.marshal()) {
		t.Fatal("another keyring came back")
	}
	if unlock(t, v, "secret", "laptop") != got || v.Unlocked() != got {
		t.Fatal("a second login got another keyring")
	}
	refused(t, v, "Secret")
	if _, err := OpenVault(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no account: %v", err)
	}
	if _, err := CreateVault(v.dir, kr, "alice", "x", "y", quick); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("an account over another: %v", err)
	}
	refused(t, v, "y")
	unlock(t, v, "secret", "laptop")
}

// A password that was accepted is recognised without scrypt, and a wrong one never is.
func TestUnlockedLoginsDoWithoutScrypt(t *testing.T) {
	v, kr := newTestVault(t)
	unlock(t, v, "secret", "laptop")
	v.scrypt <- struct{}{} // whoever wants scrypt now waits
	if unlock(t, v, "secret", "laptop") != kr {
		t.Fatal("another keyring")
	}
	wrong := make(chan error)
	go func() {
		_, _, err := v.Unlock(t.Context(), "wrong")
		wrong <- err
	}()
	select {
	case err := <-wrong:
		t.Fatalf("a wrong password was refused without scrypt: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	<-v.scrypt
	if err := <-wrong; !errors.Is(err, ErrPassword) {
		t.Fatal(err)
	}
	v.Lock()
	if v.Unlocked() != nil {
		t.Fatal("still unlocked")
	}
	if _, _, ok := v.recall("secret"); ok {
		t.Fatal("a locked vault remembers the password")
	}
	if unlock(t, v, "secret", "laptop") == kr {
		t.Fatal("a locked vault still had the keyring")
	}
}

func TestPasswords(t *testing.T) {
	v, kr := newTestVault(t)
	if err := v.AddPassword(kr, "phone", "other"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*Vault{v, reopen(t, v)} {
		if unlock(t, v, "other", "phone") != unlock(t, v, "secret", "laptop") {
			t.Fatal("two passwords give two keyrings")
		}
		all, err := v.Passwords()
		if err != nil || len(all) != 2 || all[0].Name != "laptop" || all[1].Name != "phone" || time.Since(all[1].Created) > time.Hour {
			t.Fatalf("passwords are %v, %v", all, err)
		}
	}
	for _, name := range []string{"", "Laptop", "a b", "../x", "a/b", ".", "-a", "a-", "ä", "a.age", string(make([]byte, 33))} {
		if err := v.AddPassword(kr, name, "pw"); !errors.Is(err, ErrPasswordName) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	if err := v.AddPassword(kr, "phone", "new"); !errors.Is(err, ErrPasswordName) {
		t.Errorf("a name that is taken: %v", err)
	}
	refused(t, v, "new")
	for _, password := range []string{"", string(make([]byte, maxPassword+1))} {
		if err := v.AddPassword(kr, "x", password); err == nil {
			t.Errorf("a password of %d bytes was added", len(password))
		}
	}
	if err := v.AddPassword(fixedKeyring(t, "bob"), "x", "pw"); err == nil {
		t.Error("a password for another account's keyring was added")
	}
	if err := v.RemovePassword("tablet"); !errors.Is(err, ErrPasswordName) {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := v.RemovePassword("laptop"); err != nil {
		t.Fatal(err)
	}
	refused(t, v, "secret") // at once, though it was accepted before
	unlock(t, v, "other", "phone")
	refused(t, reopen(t, v), "secret")
	if err := v.RemovePassword("phone"); !errors.Is(err, ErrLastPassword) {
		t.Fatalf("removing the last one: %v", err)
	}
	unlock(t, reopen(t, v), "other", "phone")
	for i := 1; i < MaxPasswords; i++ {
		if err := v.AddPassword(kr, fmt.Sprint("device-", i), fmt.Sprint("pw", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.AddPassword(kr, "one-more", "pw"); err == nil {
		t.Error("a thirty-third password was added")
	}
}

// A password that another process removed, or replaced by another of the same name, fails at once too.
func TestPasswordRemovedElsewhere(t *testing.T) {
	v, kr := newTestVault(t)
	if err := v.AddPassword(kr, "phone", "other"); err != nil {
		t.Fatal(err)
	}
	unlock(t, v, "other", "phone")
	elsewhere := reopen(t, v)
	if err := elsewhere.RemovePassword("phone"); err != nil {
		t.Fatal(err)
	}
	refused(t, v, "other")
	if err := elsewhere.AddPassword(unlock(t, elsewhere, "secret", "laptop"), "phone", "third"); err != nil {
		t.Fatal(err)
	}
	refused(t, v, "other")
	unlock(t, v, "third", "phone")
}

// One damaged password file does not shut out the others.
func TestDamagedPasswordFile(t *testing.T) {
	v, kr := newTestVault(t)
	if err := v.AddPassword(kr, "aaa", "other"); err != nil {
		t.Fatal(err)
	}
	path := v.passwordPath("aaa")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, b[:len(b)-1], bytes.Repeat([]byte("x"), maxPasswordFile+1)} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		v := reopen(t, v)
		refused(t, v, "other")
		unlock(t, v, "secret", "laptop")
	}
}

func TestSaveKeepsChanges(t *testing.T) {
	v, kr := newTestVault(t)
	later := time.Now().Add(3 * week)
	if !kr.Roll(later) {
		t.Fatal("nothing to save")
	}
	if err := v.Save(kr); err != nil {
		t.Fatal(err)
	}
	again := unlock(t, reopen(t, v), "secret", "laptop")
	if again.Roll(later) || !slices.Equal(again.Epochs(), kr.Epochs()) {
		t.Fatal("the change was not kept")
	}
	if err := v.Save(fixedKeyring(t, "bob")); err == nil {
		t.Fatal("saved the keyring of another account")
	}
	v.Lock()
	if err := v.Save(kr); err != nil {
		t.Fatalf("what was begun before the lock cannot be saved: %v", err)
	}
	other := unlock(t, v, "secret", "laptop")
	if err := v.Save(kr); !errors.Is(err, ErrStale) {
		t.Fatalf("saved over a keyring in use: %v", err)
	}
	if err := v.Save(other); err != nil {
		t.Fatal(err)
	}
}

// Whichever write fails, what was there before can still be read.
func TestFailedWritesLeaveTheOldState(t *testing.T) {
	for _, name := range []string{keyringFile, lockedFile, sequenceFile} {
		t.Run(name, func(t *testing.T) {
			v, kr := newTestVault(t)
			sequence, err := v.NextSequence(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			before := kr.Epochs()
			// A directory stands where the temporary file has to go.
			if err := os.Mkdir(v.path(name)+durable.TempSuffix, 0o700); err != nil {
				t.Fatal(err)
			}
			kr.Roll(time.Now().Add(week))
			failed := v.Save(kr)
			_, failedToo := v.NextSequence(time.Now())
			if failed == nil && failedToo == nil {
				t.Fatal("nothing failed")
			}
			again := reopen(t, v)
			got := unlock(t, again, "secret", "laptop")
			if epochs := got.Epochs(); len(epochs) < len(before) {
				t.Fatalf("%d epochs of %d are left", len(epochs), len(before))
			}
			if len(again.FetchKeys(time.Now())) < 8 {
				t.Fatalf("%d fetch keys are left", len(again.FetchKeys(time.Now())))
			}
			if err := os.Remove(v.path(name) + durable.TempSuffix); err != nil {
				t.Fatal(err)
			}
			if err := v.Save(kr); err != nil {
				t.Fatal(err)
			}
			if next, err := v.NextSequence(time.Now()); err != nil || next <= sequence {
				t.Fatalf("sequence %d after %d, %v", next, sequence, err)
			}
			if got := unlock(t, reopen(t, v), "secret", "laptop").Epochs(); !slices.Equal(got, kr.Epochs()) {
				t.Fatal("a later attempt did not save")
			}
		})
	}
}

// What could not be written is known to be due until it was written, though no time passes and Roll has nothing to do:
// else the keys of a record that was signed meanwhile would go with the next crash.
func TestSavedAfterFailures(t *testing.T) {
	for _, name := range []string{keyringFile, lockedFile} {
		t.Run(name, func(t *testing.T) {
			v, kr := newTestVault(t)
			now := time.Now()
			if !v.Saved(kr, now) {
				t.Fatal("a new account is not saved")
			}
			for _, change := range []struct {
				what string
				make func(*Keyring)
			}{ // the first two do not show in the clear part
				{"rolled", func(kr *Keyring) { kr.Roll(now.Add(40 * week)) }},
				{"destroyed", func(kr *Keyring) {
					if far, _ := kr.SecretsFor(EpochAt(now) + 20); !kr.Destroy(far.Inbox()) {
						t.Fatal("nothing was destroyed")
					}
				}},
				{"replaced", func(kr *Keyring) { kr.Roll(now.AddDate(2, 0, 0)) }},
			} {
				what := change.what
				kr := unlock(t, v, "secret", "laptop")
				kr.Roll(now.Add(30 * week))
				if err := v.Save(kr); err != nil {
					t.Fatal(err)
				}
				change.make(kr)
				if err := os.Mkdir(v.path(name)+durable.TempSuffix, 0o700); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if kr.Roll(now); v.Saved(kr, now) {
						t.Errorf("%s: nothing is due, and %v", what, v.Save(kr))
					}
					if v.Save(kr) == nil {
						t.Fatal("nothing failed")
					}
				}
				if err := os.Remove(v.path(name) + durable.TempSuffix); err != nil {
					t.Fatal(err)
				}
				if err := v.Save(kr); err != nil || !v.Saved(kr, now) {
					t.Errorf("%s: saved %v, %v", what, v.Saved(kr, now), err)
				}
				got := unlock(t, reopen(t, v), "secret", "laptop")
				if !bytes.Equal(got.marshal(), kr.marshal()) || !reopen(t, v).Saved(got, now) {
					t.Errorf("%s: the disk has something else", what)
				}
				v.Lock()
			}
		})
	}
}

// After a crash between the two files of a save the clear part is known to be due.
func TestSaveCutShort(t *testing.T) {
	v, kr := newTestVault(t)
	old, err := os.ReadFile(v.path(lockedFile))
	if err != nil {
		t.Fatal(err)
	}
	kr.Roll(time.Now().Add(fallbackLife))
	if err := v.Save(kr); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.path(lockedFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, v)
	if kr := unlock(t, again, "secret", "laptop"); kr.Roll(time.Now().Add(fallbackLife)) || again.Saved(kr, time.Now()) {
		t.Error("nothing is due")
	}
}

// What a crash leaves half written is not looked at.
func TestLeftoversOfCrashes(t *testing.T) {
	v, kr := newTestVault(t)
	for _, name := range []string{accountFile, keyringFile, lockedFile, sequenceFile, passwordDir + "/phone" + passwordExt} {
		if err := os.WriteFile(v.path(name)+durable.TempSuffix, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := reopen(t, v)
	got := unlock(t, again, "secret", "laptop")
	if err := again.Save(got); err != nil {
		t.Fatal(err)
	}
	if all, err := again.Passwords(); err != nil || len(all) != 1 {
		t.Fatalf("passwords are %v, %v", all, err)
	}
	// A creation that did not come to its end is no account, and can be begun again.
	if err := os.Remove(v.path(accountFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenVault(v.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("half an account: %v", err)
	}
	v, err := CreateVault(v.dir, kr, "alice", "desk", "third", quick)
	if err != nil {
		t.Fatal(err)
	}
	v = reopen(t, v)
	refused(t, v, "secret")
	unlock(t, v, "third", "desk")
}

func TestModes(t *testing.T) {
	v, kr := newTestVault(t)
	if err := v.AddPassword(kr, "phone", "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.NextSequence(time.Now()); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(v.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingSecretInClear looks for every secret of the keyring in every file of a locked account.
func TestNothingSecretInClear(t *testing.T) {
	v, kr := newTestVault(t)
	presigned, err := kr.Presign(RecordParams{Now: time.Now(), Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.SetPresigned(presigned); err != nil {
		t.Fatal(err)
	}
	if err := v.Save(kr); err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{
		"root seed": bytes.Clone(func() []byte { s := fixed("alice root"); return s[:] }()),
		"device":    kr.device.Seed(),
		"chain":     kr.chain.state[:],
		"at rest":   kr.atRestSeed[:],
		"page":      kr.page[:],
		"account":   kr.accountSeed[:],
		"password":  []byte("secret"),
	}
	fetch := map[string][]byte{}
	for _, e := range kr.Epochs() {
		s, _ := kr.SecretsFor(e)
		secrets[fmt.Sprint("sealing ", e)], secrets[fmt.Sprint("delete ", e)] = s.seeds.Sealing[:], s.seeds.Delete[:]
		fetch[fmt.Sprint("fetch ", e)] = s.seeds.Fetch[:]
	}
	s := kr.Fallbacks()[0]
	secrets["fallback sealing"], secrets["fallback delete"] = s.seeds.Sealing[:], s.seeds.Delete[:]
	fetch["fallback fetch"] = s.seeds.Fetch[:]
	files := 0
	err = filepath.WalkDir(v.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for name, secret := range secrets {
			if bytes.Contains(b, secret) {
				t.Errorf("%s holds in clear: %s", path, name)
			}
		}
		for name, key := range fetch {
			if bytes.Contains(b, key) != (filepath.Base(path) == lockedFile) {
				t.Errorf("%s: %s is in clear where it should not, or not where it should", path, name)
			}
		}
		return nil
	})
	if err != nil || files != 4 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestFetchKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(fixedTime))
		v, kr := newTestVault(t)
		at := EpochAt(fixedTime)
		check := func(from, to Epoch, fallbacks int) {
			t.Helper()
			keys := reopen(t, v).FetchKeys(time.Now())
			if len(keys) != int(to-from)+1+fallbacks {
				t.Fatalf("%d keys", len(keys))
			}
			for i, k := range keys {
				secrets, e, ok := kr.SecretsByInbox(k.Inbox())
				if !ok || e != k.Epoch || k.Fallback != (e == FallbackEpoch) || k.Delete != secrets.Public().Delete || !k.Key.Equal(secrets.Fetch) {
					t.Fatalf("key %d, of epoch %d, is not the keyring's", i, k.Epoch)
				}
				if !k.Fallback && (k.Epoch != from+Epoch(i)) {
					t.Fatalf("key %d is of epoch %d", i, k.Epoch)
				}
			}
		}
		check(at, at+6, 1)
		time.Sleep(2 * week) // locked
		check(at, at+6, 1)
		kr.Roll(time.Now())
		if err := v.Save(kr); err != nil {
			t.Fatal(err)
		}
		check(at, at+8, 1)
		time.Sleep(6 * week)
		check(at+2, at+8, 1) // of the eight weeks behind, six lie in clear; none was added while locked
		kr.Roll(time.Now())
		if err := v.Save(kr); err != nil {
			t.Fatal(err)
		}
		check(at+2, at+14, 1)
		time.Sleep(50 * week)
		kr.Roll(time.Now())
		if err := v.Save(kr); err != nil {
			t.Fatal(err)
		}
		check(at+52, at+64, 2)
	})
}

// A clock that was wrong for one save costs nothing when it is right again: the keys that are published are those that
// the account fetches with, unlocked at once, and locked after the next save, which is known to be due.
func TestFetchKeysAfterWrongClock(t *testing.T) {
	for name, wrong := range map[string]time.Time{
		"a year ahead": fixedTime.AddDate(1, 0, 0), "ten years ahead": fixedTime.AddDate(10, 0, 0),
		"a year behind": fixedTime.AddDate(-1, 0, 0), "1970": time.Unix(0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			kr := fixedKeyring(t, "alice")
			v, err := CreateVault(filepath.Join(t.TempDir(), "account"), kr, "alice", "laptop", "secret", quick)
			if err != nil {
				t.Fatal(err)
			}
			for _, now := range []time.Time{wrong, fixedTime, fixedTime.Add(week), fixedTime.Add(10 * week), fixedTime.Add(40 * week)} {
				kr.Roll(now)
				if now == wrong {
					if err := v.save(kr, now); err != nil {
						t.Fatal(err)
					}
					continue
				}
				r := signAndParse(t, kr, RecordParams{Now: now, Sequence: 1})
				has := func(v *Vault) bool {
					_, ks, _ := r.KeysAt(now)
					find := func(in Inbox) bool {
						return slices.ContainsFunc(v.FetchKeys(now), func(k FetchKey) bool { return k.Inbox() == in })
					}
					return find(ks.Inbox()) && find(r.Fallback.Inbox())
				}
				if !has(v) {
					t.Errorf("%v: unlocked, it does not know its own inbox", now)
				}
				if has(reopen(t, v)) {
					continue
				}
				if v.Saved(kr, now) {
					t.Errorf("%v: no save is due", now)
				}
				if err := v.save(kr, now); err != nil {
					t.Fatal(err)
				}
				if !v.Saved(kr, now) || !has(reopen(t, v)) {
					t.Errorf("%v: locked, it does not know its own inbox after a save", now)
				}
			}
		})
	}
}

// A locked node publishes what was signed in advance, week after week; the sequence never goes back or repeats.
func TestPresignedAndSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(fixedTime))
		v, kr := newTestVault(t)
		var published []*Record
		publish := func(b []byte) {
			t.Helper()
			r, err := ParseRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Valid(time.Now()); err != nil {
				t.Fatal(err)
			}
			if n := len(published); n > 0 {
				if verdict, err := Accept(published[n-1], r); err != nil {
					t.Fatalf("record %d after %d on %s: %v, %v", r.Sequence, published[n-1].Sequence, time.Now(), verdict, err)
				}
			}
			published = append(published, r)
		}
		unlocked := func() {
			t.Helper()
			kr.Roll(time.Now())
			if err := v.Save(kr); err != nil {
				t.Fatal(err)
			}
			sequence, err := v.NextSequence(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			p := RecordParams{Now: time.Now(), Sequence: sequence}
			b, err := kr.SignRecord(p)
			if err != nil {
				t.Fatal(err)
			}
			publish(b)
			records, err := kr.Presign(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.SetPresigned(records); err != nil {
				t.Fatal(err)
			}
		}
		if v.PresignedAt(time.Now()) != nil {
			t.Fatal("there is a record signed in advance in a new vault")
		}
		unlocked()
		if v.PresignedAt(time.Now()) != nil || len(v.PresignedRecords()) != presignWeeks {
			t.Fatal("a record of the coming weeks is out too early")
		}
		for range 5 { // locked
			v = reopen(t, v)
			time.Sleep(time.Until((EpochAt(time.Now()) + 1).Start()))
			publish(v.PresignedAt(time.Now()))
		}
		if first := published[0]; published[5].Sequence <= first.Sequence {
			t.Fatal("the locked node published nothing new")
		}
		time.Sleep(MaxRecordLife)
		if v.PresignedAt(time.Now()) != nil {
			t.Fatal("an expired record would be published")
		}
		unlocked()
		// At the very second of a week's start, after its record went out.
		time.Sleep(time.Until((EpochAt(time.Now()) + 1).Start()))
		publish(v.PresignedAt(time.Now()))
		unlocked()
		unlocked()
		v = reopen(t, v)
		unlocked()
		// A clock that is set back.
		last := published[len(published)-1].Sequence
		back, err := v.NextSequence(time.Now().Add(-52 * week))
		if err != nil || back <= last {
			t.Fatalf("sequence %d after %d: %v", back, last, err)
		}
		// New records in advance replace those whose time has come, which may have been published.
		time.Sleep(time.Until((EpochAt(time.Now()) + 1).Start()))
		publish(v.PresignedAt(time.Now()))
		if err := v.SetPresigned(nil); err != nil {
			t.Fatal(err)
		}
		v = reopen(t, v)
		if next, err := v.NextSequence(time.Now().Add(-52 * week)); err != nil || next <= published[len(published)-1].Sequence {
			t.Fatalf("sequence %d after %d: %v", next, published[len(published)-1].Sequence, err)
		}
		if err := v.SetPresigned(make([][]byte, maxPresigned+1)); err == nil {
			t.Fatal("too many records were kept")
		}
	})
}

// The owner gets an answer soon, whatever others try at the same time.
func TestPasswordsDoNotQueueForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _ := newTestVault(t)
		v.Lock()
		v.scrypt <- struct{}{} // one is at it, and takes long
		var wg sync.WaitGroup
		answers := make(map[string][]error)
		var mu sync.Mutex
		ask := func(ctx context.Context, password string) {
			wg.Go(func() {
				_, _, err := v.Unlock(ctx, password)
				mu.Lock()
				defer mu.Unlock()
				answers[password] = append(answers[password], err)
			})
			synctest.Wait()
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ask(short, "impatient")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := answers["impatient"]; len(err) != 1 || !errors.Is(err[0], context.DeadlineExceeded) {
			t.Errorf("whose time is over hears %v", err)
		}
		for range 100 { // from many places
			ask(t.Context(), "the same guess")
		}
		for range 20 { // the connections of a mail client
			ask(t.Context(), "secret")
		}
		for i := range maxTries {
			ask(t.Context(), fmt.Sprint("guess ", i))
		}
		for i := range maxTries {
			want := i >= maxTries-2
			if err := answers[fmt.Sprint("guess ", i)]; (len(err) == 1 && errors.Is(err[0], ErrBusy)) != want {
				t.Errorf("guess %d: %v", i, err)
			}
		}
		<-v.scrypt
		wg.Wait()
		for password, want := range map[string]error{"the same guess": ErrPassword, "secret": nil, "guess 0": ErrPassword} {
			for _, err := range answers[password] {
				if !errors.Is(err, want) {
					t.Errorf("%s: %v", password, err)
				}
			}
		}
		if len(v.tries) != 0 {
			t.Errorf("%d tries are left", len(v.tries))
		}
		// What was refused is tried anew: it may be a password by now.
		if err := v.AddPassword(v.keyring, "phone", "the same guess"); err != nil {
			t.Fatal(err)
		}
		unlock(t, v, "the same guess", "phone")

		// One answer serves all who waited with the same password: here it is the very same error.
		if err := os.RemoveAll(v.path(passwordDir)); err != nil {
			t.Fatal(err)
		}
		v.scrypt <- struct{}{}
		ask(t.Context(), "x")
		ask(t.Context(), "x")
		<-v.scrypt
		wg.Wait()
		if err := answers["x"]; len(err) != 2 || err[0] == nil || err[0] != err[1] {
			t.Errorf("two tries of one password: %v", err)
		}
	})
}

func TestVaultIsSafeForConcurrentUse(t *testing.T) {
	v, _ := newTestVault(t)
	v.Lock()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			name, password := fmt.Sprint("device-", i), fmt.Sprint("pw", i)
			for range 5 {
				got, _, err := v.Unlock(t.Context(), "secret")
				if err != nil {
					t.Error(err)
					return
				}
				if err := v.AddPassword(got, name, password); err != nil {
					t.Error(err)
				}
				if _, _, err := v.Unlock(t.Context(), password); err != nil {
					t.Error(err)
				}
				if err := v.RemovePassword(name); err != nil {
					t.Error(err)
				}
				if _, _, err := v.Unlock(t.Context(), password); !errors.Is(err, ErrPassword) {
					t.Errorf("a removed password: %v", err)
				}
				if _, err := v.NextSequence(time.Now()); err != nil {
					t.Error(err)
				}
				if i == 0 {
					v.Lock()
				}
				if err := v.Save(got); err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				}
				v.FetchKeys(time.Now())
			}
		})
	}
	wg.Wait()
}

// vaults is where the accounts of the golden vectors lie, for the tests of sealed messages. Their password is
// "peerpost vector". What is in them is not compared, only read: whatever this package ever wrote must stay readable.
func vaults(t testing.TB) string { return filepath.Join(vector.Dir(t), "vaults") }

func TestGoldenVaults(t *testing.T) {
	if *update {
		cryptotest.SetGlobalRandom(t, 1)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(fixedTime))
		for _, name := range []string{"alice", "bob", "carol"} {
			dir, kr := filepath.Join(vaults(t), name), fixedKeyring(t, name)
			if *update {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				v, err := CreateVault(dir, kr, name, "test", "peerpost vector", quick)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.NextSequence(fixedTime); err != nil {
					t.Fatal(err)
				}
				presigned, err := kr.Presign(RecordParams{Now: fixedTime, Sequence: uint64(fixedTime.Unix())})
				if err != nil {
					t.Fatal(err)
				}
				if err := v.SetPresigned(presigned[:1]); err != nil {
					t.Fatal(err)
				}
			}
			v, err := OpenVault(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := unlock(t, v, "peerpost vector", "test"); !bytes.Equal(got.marshal(), kr.marshal()) {
				t.Fatalf("the keyring of %s is another", name)
			}
			if len(v.FetchKeys(fixedTime)) != 8 || v.PresignedAt(fixedTime.Add(week)) == nil || v.sequence != uint64(fixedTime.Unix()) {
				t.Fatalf("the account of %s is another", name)
			}
		}
	})
}

func FuzzVaultFiles(f *testing.F) {
	v, _ := newTestVault(f)
	for _, name := range []string{accountFile, lockedFile} {
		b, err := os.ReadFile(v.path(name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(encode(sequencePayload{vaultVersion, 7}))
	f.Add(encode(keepersPayload{vaultVersion, []Host{{Peer: []byte("peer"), Addrs: [][]byte{[]byte("address")}}}}))
	f.Add(encode(hostKeyFile{hostKeyVersion, fixed("host")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range []payload{&accountPayload{}, &lockedPayload{}, &sequencePayload{}, &keepersPayload{}} {
			if parse(b, p) == nil && !bytes.Equal(encode(p), b) {
				t.Fatalf("%x is not what %T encodes to", b, p)
			}
		}
		locked := &Vault{}
		if parse(b, &locked.locked) == nil {
			locked.FetchKeys(fixedTime)
			locked.PresignedAt(fixedTime)
			locked.published(fixedTime)
		}
		if h, err := parseHostKey(b); err == nil && !bytes.Equal(encode(hostKeyFile{hostKeyVersion, [32]byte(h.private.Seed())}), b) {
			t.Fatalf("%x is another host key", b)
		}
	})
}

func BenchmarkUnlockAgain(b *testing.B) {
	v, _ := newTestVault(b)
	unlock(b, v, "secret", "laptop")
	for b.Loop() {
		if _, _, err := v.Unlock(b.Context(), "secret"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSave(b *testing.B) {
	v, kr := newTestVault(b)
	for b.Loop() {
		if err := v.Save(kr); err != nil {
			b.Fatal(err)
		}
	}
}
