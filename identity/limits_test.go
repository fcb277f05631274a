package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever is longer than its kind ever is, is refused for its length, before anything looks inside.
func TestSizesBeforeBelief(t *testing.T) {
	for name, c := range map[string]struct {
		limit int
		parse func(b []byte) error
	}{
		"access":          {MaxAccess, func(b []byte) error { _, err := VerifyAccess(b, nil, [32]byte{}, fixedTime); return err }},
		"tombstone":       {MaxTombstone, func(b []byte) error { _, err := ParseTombstone(b); return err }},
		"storage receipt": {MaxStorageReceipt, func(b []byte) error { _, err := ParseStorageReceipt(b, make([]byte, 32)); return err }},
		"roster":          {MaxRoster, func(b []byte) error { _, err := ParseRoster(b); return err }},
		"record":          {MaxRecord, func(b []byte) error { _, err := ParseRecord(b); return err }},
		"keyring":         {maxKeyring, func(b []byte) error { _, err := parseKeyring(b); return err }},
		"file": {100, func(b []byte) error {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := readFile(path, 100)
			return err
		}},
	} {
		if err := c.parse(make([]byte, c.limit+1)); err == nil || !strings.Contains(err.Error(), fmt.Sprint(c.limit)) {
			t.Errorf("%s of %d bytes: %v", name, c.limit+1, err)
		}
		if err := c.parse(make([]byte, c.limit)); err != nil && strings.Contains(err.Error(), fmt.Sprint(c.limit)) {
			t.Errorf("%s of %d bytes: %v", name, c.limit, err)
		}
	}
}

func TestAccessNamesAPeer(t *testing.T) {
	s := newSecrets(randomSeeds())
	for _, n := range []int{0, 1, MaxPeer, MaxPeer + 1} {
		a := Access{Op: OpList, Fetch: publicOf(s.Fetch), Holder: make([]byte, n), Time: fixedTime.Unix()}
		_, err := VerifyAccess(Sign(ContextAccess, s.Fetch, encode(a)), a.Holder, a.Nonce, fixedTime)
		if good := n > 0 && n <= MaxPeer; (err == nil) != good {
			t.Errorf("holder of %d bytes: %v", n, err)
		}
	}
}

func TestLimitsOfLists(t *testing.T) {
	if err := (&lockedPayload{Version: vaultVersion, Fetch: make([]fetchPayload, maxFetchKeys+1)}).check(); err == nil {
		t.Error("too many fetch keys")
	}
	if err := (&lockedPayload{Version: vaultVersion, Records: make([][]byte, maxPresigned+1)}).check(); err == nil {
		t.Error("too many records")
	}
	if err := (&lockedPayload{Version: vaultVersion, Fetch: make([]fetchPayload, maxFetchKeys), Records: make([][]byte, maxPresigned)}).check(); err != nil {
		t.Error(err)
	}
	p := recordPayload{Version: recordVersion, Issued: 1, Expires: 2}
	keys := newSecrets(randomSeeds()).Public()
	p.Fallback = keys
	for e := range Epoch(MaxEpochs + 1) {
		p.Epochs = append(p.Epochs, EpochKeys{Epoch: e + 1, Keys: keys})
	}
	if err := p.check(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(MaxEpochs)) {
		t.Errorf("%d epochs: %v", len(p.Epochs), err)
	}
	p.Epochs = p.Epochs[1:]
	if err := p.check(); err != nil {
		t.Error(err)
	}
	if _, err := ParseAddress("a@" + strings.Repeat("b", maxAddress-1)); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxAddress)) {
		t.Errorf("long address: %v", err)
	}
	if HostPuzzle != 16 {
		t.Error("the puzzle of the open network has 16 bits")
	}
}

// What lies in clear are the keys of six weeks before and after this one, whatever else is kept.
func TestNearEpochs(t *testing.T) {
	const now = Epoch(2900)
	for d := -10; d <= 10; d++ {
		if got, want := nearEpoch(Epoch(int(now)+d), now), d >= -6 && d <= 6; got != want {
			t.Errorf("%d weeks from now: %v", d, got)
		}
	}
}

// A locked node can publish for five weeks, each record from the start of its week.
// A machine without a clock starts in the epoch that stands for the fallback keys. Whoever logs in to it then can do so
// again when the clock is right, and before.
func TestFirstWeekOfTime(t *testing.T) {
	for name, now := range map[string]time.Time{
		"begin": time.Unix(0, 0), "an hour": time.Unix(3600, 0), "before": time.Unix(-3600, 0), "end": time.Unix(epochSeconds-1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			v, kr := newTestVault(t)
			kr.Roll(now)
			if err := v.Save(kr); err != nil {
				t.Fatal(err)
			}
			got := unlock(t, reopen(t, v), "secret", "laptop")
			if all := got.Epochs(); all[0] != 1 || len(all) != 6+7 {
				t.Errorf("keys of the epochs %v", all)
			}

			early, err := NewKeyring(NewSeed(), 1, now)
			if err != nil {
				t.Fatal(err)
			}
			if v, err = CreateVault(filepath.Join(t.TempDir(), "early"), early, "alice", "laptop", "secret", quick); err != nil {
				t.Fatal(err)
			}
			if all := unlock(t, reopen(t, v), "secret", "laptop").Epochs(); all[0] != 1 {
				t.Errorf("an account of that week has keys of the epochs %v", all)
			}
		})
	}
}

// What could not be read again does not take the place of what can.
func TestSaveWritesWhatCanBeRead(t *testing.T) {
	v, kr := newTestVault(t)
	kr.keep(FallbackEpoch, newSecrets(randomSeeds()))
	if err := v.Save(kr); err == nil {
		t.Error("a keyring that cannot be read was written")
	}
	unlock(t, reopen(t, v), "secret", "laptop")
	for range maxFetchKeys {
		kr.fallbacks = append([]fallback{{replaced: 1, secrets: newSecrets(randomSeeds())}}, kr.fallbacks...)
	}
	delete(kr.leaves, FallbackEpoch)
	if err := v.Save(kr); err == nil {
		t.Error("a clear part that cannot be read was written")
	}
	unlock(t, reopen(t, v), "secret", "laptop")
}

func TestPresignedWeeks(t *testing.T) {
	kr, err := NewKeyring(fixed("alice root"), 1, fixedTime)
	if err != nil {
		t.Fatal(err)
	}
	records, err := kr.Presign(RecordParams{Now: fixedTime, Sequence: 1})
	if err != nil || len(records) != 5 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, b := range records {
		r, err := ParseRecord(b)
		if err != nil || !r.Issued.Equal((EpochAt(fixedTime) + Epoch(i) + 1).Start()) || r.Sequence%epochSeconds != 0 {
			t.Fatalf("record %d: issued %s, sequence %d, %v", i, r.Issued, r.Sequence, err)
		}
	}
}

// Numbers of whole weeks belong to the records that are signed in advance.
func TestNextSequenceLeavesWeeksOut(t *testing.T) {
	v := newVault(t.TempDir(), nil)
	start := EpochAt(fixedTime).Start()
	for _, now := range []time.Time{start.Add(-time.Second), start, start} {
		n, err := v.NextSequence(now)
		if err != nil || n%epochSeconds == 0 {
			t.Fatalf("sequence %d, %v", n, err)
		}
	}
	if v.sequence != uint64(start.Unix())+2 {
		t.Fatalf("the last is %d", v.sequence)
	}
}

// Keys go when a week has passed since the last message that was sealed to them could expire, a fallback set when it
// was published for a year and not for another, and the life of a message with its week.
func TestExpiredToTheSecond(t *testing.T) {
	kr, err := NewKeyring(fixed("alice root"), 1, fixedTime)
	if err != nil {
		t.Fatal(err)
	}
	at := EpochAt(fixedTime)
	over := (at + 2).Start().Add((31 + 1 + 7) * 24 * time.Hour)
	if got := kr.Expired(over.Add(-time.Second)); len(got) != 0 {
		t.Fatalf("%d inboxes a second before", len(got))
	}
	secrets, _ := kr.SecretsFor(at)
	if got := kr.Expired(over); len(got) != 1 || got[0] != secrets.Inbox() {
		t.Fatalf("%d inboxes", len(got))
	}
	year := fixedTime.Add(365 * 24 * time.Hour)
	first := kr.Fallbacks()[0].Inbox()
	kr.Roll(year.Add(-time.Second))
	if n := len(kr.Fallbacks()); n != 1 {
		t.Fatalf("%d fallback sets within the year", n)
	}
	kr.Roll(year)
	if n := len(kr.Fallbacks()); n != 2 {
		t.Fatalf("%d fallback sets after a year", n)
	}
	expired := func(now time.Time) bool {
		for _, in := range kr.Expired(now) {
			if in == first {
				return true
			}
		}
		return false
	}
	over = year.Add((365 + 37) * 24 * time.Hour)
	if expired(over.Add(-time.Second)) || !expired(over) {
		t.Fatal("a fallback set is not kept for a year and 37 days")
	}
}

func TestMaxPasswords(t *testing.T) {
	kr, err := NewKeyring(fixed("alice root"), 1, fixedTime)
	if err != nil {
		t.Fatal(err)
	}
	v, err := CreateVault(t.TempDir()+"/account", kr, "alice", "p0", "password number 0", WithWorkFactor(1))
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < MaxPasswords; i++ {
		if err := v.AddPassword(kr, fmt.Sprint("p", i), fmt.Sprint("password number ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.AddPassword(kr, "more", "one more password"); err == nil || !strings.Contains(err.Error(), fmt.Sprint(MaxPasswords)) {
		t.Fatalf("one more: %v", err)
	}
}
