package identity

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

const week = 7 * 24 * time.Hour

func TestRoll(t *testing.T) {
	now := fixedTime
	kr, err := NewKeyring(fixed("alice root"), 1, now)
	if err != nil {
		t.Fatal(err)
	}
	at := EpochAt(now)
	if got := kr.Epochs(); len(got) != 7 || got[0] != at || got[6] != at+6 {
		t.Fatalf("a new keyring has %v", got)
	}
	if kr.Roll(now) {
		t.Fatal("Roll reports a change where there is none")
	}
	next, _ := kr.chain.Leaf(at + 7)
	if !kr.Roll(now.Add(week)) {
		t.Fatal("Roll reports no change a week later")
	}
	kept, ok := kr.SecretsFor(at + 7)
	if !ok || kept.seeds != next.seeds {
		t.Fatal("the keys of the seventh week are not the ones that could be derived before")
	}
	if kr.chain.Head() != at+8 {
		t.Fatalf("the head is at %d", kr.chain.Head())
	}
	if _, ok := kr.chain.Leaf(at + 7); ok {
		t.Fatal("the chain still yields keys that are kept")
	}
}

// Records signed in advance promise keys beyond those that are kept; after a long absence all of them are there.
func TestRollAfterLongAbsence(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	presigned, err := kr.Presign(RecordParams{Now: fixedTime, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	kr.Roll(fixedTime.Add(30 * week))
	for _, b := range presigned {
		r, err := ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Epochs {
			secrets, epoch, ok := kr.SecretsByInbox(e.Keys.Inbox())
			if !ok || epoch != e.Epoch || !secrets.Public().Equal(e.Keys) {
				t.Fatalf("the keys published for epoch %d are not held", e.Epoch)
			}
		}
	}
}

// A clock that ran ahead must not cost any keys.
func TestRollWithClockAhead(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	before := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 1})
	kr.Roll(fixedTime.AddDate(5, 0, 0))
	after := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 2})
	if !slices.EqualFunc(before.Epochs, after.Epochs, func(a, b EpochKeys) bool { return a.Keys.Equal(b.Keys) }) {
		t.Fatal("the keys of this week have changed")
	}
	if kr.Roll(fixedTime.AddDate(60, 0, 0)) {
		t.Fatal("a clock 60 years ahead was followed")
	}
}

// An account that was made by a clock years ahead works when the clock is put right, and keeps the same keys then.
func TestRollWithClockPutBack(t *testing.T) {
	kr, err := NewKeyring(fixed("alice root"), 1, fixedTime.AddDate(9, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kr.SignRecord(RecordParams{Now: fixedTime, Sequence: 1}); !errors.Is(err, ErrNoSecrets) {
		t.Fatalf("a record for epochs without keys: %v", err)
	}
	if !kr.Roll(fixedTime) || kr.Roll(fixedTime) {
		t.Fatal("Roll did not derive keys once")
	}
	r := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 1})
	again, err := parseKeyring(kr.marshal())
	if err != nil {
		t.Fatal(err)
	}
	again.Roll(fixedTime.Add(week))
	for _, e := range r.Epochs {
		if secrets, ok := again.SecretsFor(e.Epoch); !ok || !secrets.Public().Equal(e.Keys) {
			t.Fatalf("the keys of epoch %d are others", e.Epoch)
		}
	}
	if err := r.Valid(fixedTime); err != nil {
		t.Fatal(err)
	}
}

func TestFallback(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	first := kr.Fallbacks()[0]
	if kr.Roll(fixedTime.Add(fallbackLife-time.Second)) && len(kr.Fallbacks()) != 1 {
		t.Fatal("the fallback set was replaced before a year was over")
	}
	replaced := fixedTime.Add(fallbackLife)
	kr.Roll(replaced)
	if all := kr.Fallbacks(); len(all) != 2 || all[0].Inbox() == first.Inbox() || all[1].Inbox() != first.Inbox() {
		t.Fatalf("there are %d fallback sets", len(all))
	}
	r := signAndParse(t, kr, RecordParams{Now: replaced, Sequence: 1})
	if r.Fallback.Equal(first.Public()) {
		t.Fatal("the old set is published")
	}
	if _, e, ok := kr.SecretsByInbox(first.Inbox()); !ok || e != FallbackEpoch {
		t.Fatalf("the old set is found as epoch %d, %v", e, ok)
	}
	if slices.Contains(kr.Expired(replaced.Add(fallbackKeep-time.Second)), first.Inbox()) {
		t.Fatal("the old set expires too early")
	}
	if !slices.Contains(kr.Expired(replaced.Add(fallbackKeep)), first.Inbox()) {
		t.Fatal("the old set does not expire")
	}
	if kr.Destroy(kr.Fallbacks()[0].Inbox()) {
		t.Fatal("the set in use was destroyed")
	}
	if !kr.Destroy(first.Inbox()) || kr.Destroy(first.Inbox()) {
		t.Fatal("the old set was not destroyed once")
	}
	if _, _, ok := kr.SecretsByInbox(first.Inbox()); ok || len(kr.Fallbacks()) != 1 {
		t.Fatal("the old set is still there")
	}
}

// No key expires before the last message that can have been sealed to it.
func TestExpired(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	e := EpochAt(fixedTime)
	secrets, _ := kr.SecretsFor(e)
	lastSealed := (e + 1).Start().Add(week) // by a clock that is a week behind
	lastExpiry := DayAt(lastSealed.Add(MessageLife)).End()
	for now := fixedTime; now.Before(lastExpiry.Add(destroyGrace)); now = now.Add(12 * time.Hour) {
		if slices.Contains(kr.Expired(now), secrets.Inbox()) {
			t.Fatalf("expired on %s, though a message may live until %s", now, lastExpiry)
		}
	}
	if !slices.Contains(kr.Expired(lastExpiry.Add(destroyGrace+48*time.Hour)), secrets.Inbox()) {
		t.Fatal("does not expire")
	}
	all := kr.Expired(fixedTime.AddDate(0, 6, 0))
	if len(all) != 7 || all[0] != secrets.Inbox() {
		t.Fatalf("%d inboxes expire in half a year", len(all))
	}
	if !kr.Destroy(secrets.Inbox()) || kr.Destroy(secrets.Inbox()) || kr.Destroy(Inbox{}) {
		t.Fatal("not destroyed once")
	}
	if _, ok := kr.SecretsFor(e); ok {
		t.Fatal("still there")
	}
	if _, err := kr.SignRecord(RecordParams{Now: fixedTime}); !errors.Is(err, ErrNoSecrets) {
		t.Fatalf("a record for a destroyed epoch: %v", err)
	}
	kr.Roll(fixedTime) // a clock that is put back
	if again, ok := kr.SecretsFor(e); !ok || again.seeds == secrets.seeds {
		t.Fatal("destroyed keys came back, or none in their place")
	}
}

func TestKeyringEncoding(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	kr.Roll(fixedTime.Add(fallbackLife))
	b := kr.marshal()
	again, err := parseKeyring(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.marshal(), b) {
		t.Fatal("encodes otherwise after decoding")
	}
	if again.ExportAtRest() != kr.ExportAtRest() || !bytes.Equal(again.PageKey(), kr.PageKey()) || again.Device() != kr.Device() || again.Root() != kr.Root() {
		t.Fatal("keys differ after decoding")
	}
	for _, e := range kr.Epochs() {
		secrets, _ := kr.SecretsFor(e)
		if _, found, ok := again.SecretsByInbox(secrets.Inbox()); !ok || found != e {
			t.Fatalf("epoch %d is not found after decoding", e)
		}
	}
	if len(again.Fallbacks()) != 2 || again.Roll(fixedTime.Add(fallbackLife)) {
		t.Fatal("differs after decoding")
	}
}

func TestPresign(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	for _, sequence := range []uint64{0, uint64(fixedTime.Unix()), uint64(fixedTime.Unix()) + 100*epochSeconds} {
		records, err := kr.Presign(RecordParams{Now: fixedTime, Sequence: sequence, Hosts: hosts(1, 1, 20)})
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != presignWeeks {
			t.Fatalf("%d records", len(records))
		}
		last := sequence
		for i, b := range records {
			r, err := ParseRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			e := EpochAt(fixedTime) + 1 + Epoch(i)
			if !r.Issued.Equal(e.Start()) || r.Epochs[0].Epoch != e || len(r.Epochs) != RecordEpochs || len(r.Hosts) != 1 {
				t.Fatalf("record %d is issued on %s", i, r.Issued)
			}
			if r.Sequence <= last || r.Sequence%epochSeconds != 0 {
				t.Fatalf("record %d has sequence %d after %d", i, r.Sequence, last)
			}
			last = r.Sequence
			if err := r.Valid(fixedTime); !errors.Is(err, ErrExpired) && e.Start().After(fixedTime.Add(ClockTolerance)) {
				t.Fatalf("record %d is valid already: %v", i, err)
			}
			if err := r.Valid(e.Start()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestKeyringIsSafeForConcurrentUse(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	first, _ := kr.SecretsFor(EpochAt(fixedTime))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				kr.Roll(fixedTime.Add(time.Duration(i*10+j) * week))
				kr.SecretsByInbox(first.Inbox())
				kr.Expired(fixedTime.AddDate(1, 0, 0))
				kr.marshal()
				kr.clearKeys(fixedTime)
				if _, err := kr.Recipient(first.Public()); err != nil {
					t.Error(err)
				}
				if _, err := kr.ParseRoster(kr.Roster().Bytes()); err != nil {
					t.Error(err)
				}
				for _, inbox := range kr.Expired(fixedTime.AddDate(0, 3, 0)) {
					kr.Destroy(inbox)
				}
			}
		})
	}
	wg.Wait()
}

func TestCacheForgets(t *testing.T) {
	var c cache[int]
	built := 0
	get := func(i byte) int {
		v, err := c.get([32]byte{i}, func() (int, error) { built++; return int(i), nil })
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for range 3 {
		get(1)
	}
	if built != 1 {
		t.Fatalf("built %d times", built)
	}
	for i := range byte(3 * cacheSize) {
		if get(i) != int(i) {
			t.Fatal("something else came out")
		}
	}
	if len(c.m) > cacheSize {
		t.Fatalf("%d entries", len(c.m))
	}
	if _, err := c.get([32]byte{1, 1}, func() (int, error) { return 0, errors.New("no") }); err == nil || len(c.m) > cacheSize {
		t.Fatal("a failure is remembered")
	}
}

func FuzzParseKeyring(f *testing.F) {
	f.Add(fixedKeyring(f, "alice").marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		kr, err := parseKeyring(b)
		if err != nil {
			return
		}
		if !bytes.Equal(kr.marshal(), b) {
			t.Fatalf("%x encodes as %x", b, kr.marshal())
		}
		kr.Expired(fixedTime)
		kr.clearKeys(fixedTime)
	})
}
