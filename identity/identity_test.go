package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func TestSeedWords(t *testing.T) {
	seed := NewSeed()
	words := seed.Words()
	got, err := SeedFromWords("  " + strings.ToUpper(strings.ReplaceAll(words, " ", "\n\t")))
	if err != nil {
		t.Fatal(err)
	}
	if got != seed {
		t.Fatal("the words give another seed back")
	}
	if NewSeed() == seed {
		t.Fatal("two seeds are the same")
	}
}

// Secrets that somebody prints or logs by mistake must not show.
func TestSecretsDoNotPrint(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	secrets, _ := kr.SecretsFor(EpochAt(fixedTime))
	host := &HostKey{private: fixedKey("host")}
	for _, v := range []any{
		Seed(fixed("alice root")), kr, secrets, host, kr.AtRest(), FileKey{1}, &Chain{state: fixed("x")},
		FetchKey{Key: secrets.Fetch}, []Seed{Seed(fixed("alice root"))}, struct{ S Seed }{Seed(fixed("alice root"))},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			s := fmt.Sprintf(verb, v)
			if !strings.Contains(s, "redacted") || len(s) > 60 {
				t.Errorf("%T prints with %s as %s", v, verb, s)
			}
		}
	}
}

func TestEpochs(t *testing.T) {
	for _, test := range []struct {
		time  time.Time
		epoch Epoch
		day   Day
	}{
		{time.Unix(0, 0), 0, 0},
		{time.Unix(-1, 0), 0, 0},
		{time.Unix(epochSeconds-1, 999), 0, 6},
		{time.Unix(epochSeconds, 0), 1, 7},
		{fixedTime, 2976, 20833},
		{time.Unix(math.MaxInt64, 0), math.MaxUint32, math.MaxUint32},
	} {
		want(t, fmt.Sprint("epoch of ", test.time), EpochAt(test.time), test.epoch)
		want(t, fmt.Sprint("day of ", test.time), DayAt(test.time), test.day)
	}
	e := EpochAt(fixedTime)
	if e.Start().After(fixedTime) || !(e + 1).Start().After(fixedTime) || e.Start().Weekday() != time.Thursday {
		t.Errorf("epoch %d starts on %s", e, e.Start())
	}
	want(t, "end of the day", DayAt(fixedTime).End(), time.Date(2027, 1, 16, 0, 0, 0, 0, time.UTC))
}

func TestChainRunsOneWay(t *testing.T) {
	c := NewChain(100)
	later, ok := c.Leaf(103)
	if !ok {
		t.Fatal("no leaf ahead of the head")
	}
	if c.Head() != 100 {
		t.Fatal("Leaf moved the head")
	}
	for range 3 {
		c.Advance()
	}
	same, ok := c.Leaf(103)
	if !ok || same.seeds != later.seeds {
		t.Fatal("the leaf changed when the head moved")
	}
	for _, e := range []Epoch{0, 102, 103 + maxAhead + 1} {
		if _, ok := c.Leaf(e); ok {
			t.Fatalf("epoch %d has a leaf with the head at %d", e, c.Head())
		}
	}
	if other, _ := NewChain(100).Leaf(103); other.seeds == later.seeds {
		t.Fatal("two chains have the same leaf")
	}
	seeds := later.seeds
	if seeds.Sealing == seeds.Fetch || seeds.Fetch == seeds.Delete || seeds.Delete == seeds.Sealing {
		t.Fatal("two keys of an epoch have the same seed")
	}
}

// What is made from bytes is what age makes of the same key.
func TestHybridKeysAreAges(t *testing.T) {
	secrets := newSecrets(fixedSeeds("alice"))
	recipient, err := secrets.Public().Recipient()
	if err != nil {
		t.Fatal(err)
	}
	if recipient.String() != secrets.Sealing().Recipient().String() {
		t.Fatal("raw bytes give another recipient")
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "hello")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	id, err := age.ParseHybridIdentity(identityString(secrets.seeds.Sealing))
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(&sealed, id)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello" {
		t.Fatalf("opened %q, %v", b, err)
	}
	generated, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	again, err := recipientFromRaw(rawRecipient(generated.Recipient()))
	if err != nil || again.String() != generated.Recipient().String() {
		t.Fatalf("a recipient that age generated comes back as another: %v", err)
	}
}

func TestSignaturesKeepTheirContext(t *testing.T) {
	key := fixedKey("alice device")
	pub := publicOf(key)
	all := []Context{ContextRoster, ContextRecord, ContextMessage, ContextAccess, ContextDelete, ContextStorageReceipt}
	for _, made := range all {
		signed := Sign(made, key, []byte("payload"))
		for _, read := range all {
			payload, err := Verify(read, pub, signed)
			if (err == nil) != (made == read) {
				t.Errorf("signed as %s, verified as %s: %v", made, read, err)
			}
			if err == nil && string(payload) != "payload" {
				t.Errorf("the payload came back as %q", payload)
			}
		}
		if _, err := Verify(made, publicOf(fixedKey("bob device")), signed); !errors.Is(err, ErrSignature) {
			t.Errorf("another key: %v", err)
		}
	}
}

func TestAtRest(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	mail := bytes.Repeat([]byte("From: alice\r\n"), 20000)
	var file bytes.Buffer
	w, key, err := kr.AtRest().Encrypt(&file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(mail); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	src, size := bytes.NewReader(file.Bytes()), int64(file.Len())

	r, plain, sameKey, err := kr.AtRest().Open(src, size)
	if err != nil {
		t.Fatal(err)
	}
	if sameKey != key || plain != int64(len(mail)) {
		t.Fatalf("file key equal: %v; %d bytes of %d", sameKey == key, plain, len(mail))
	}
	part := make([]byte, 1000)
	if _, err := r.ReadAt(part, 150000); err != nil || !bytes.Equal(part, mail[150000:151000]) {
		t.Fatalf("a part reads wrongly: %v", err)
	}
	r, plain, err = OpenWithKey(src, size, key)
	if err != nil || plain != int64(len(mail)) {
		t.Fatalf("with the file key: %d bytes, %v", plain, err)
	}
	if _, err := r.ReadAt(part, 0); err != nil || !bytes.Equal(part, mail[:1000]) {
		t.Fatalf("with the file key: %v", err)
	}
	id, err := age.ParseHybridIdentity(kr.ExportAtRest())
	if err != nil {
		t.Fatal(err)
	}
	d, err := age.Decrypt(src, id)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(d); err != nil || !bytes.Equal(b, mail) {
		t.Fatalf("with the exported key: %v", err)
	}
	if _, _, _, err := fixedKeyring(t, "bob").AtRest().Open(src, size); err == nil {
		t.Fatal("another account opened the file")
	}
	if _, _, err := OpenWithKey(src, size, FileKey{}); err == nil {
		t.Fatal("a wrong file key opened the file")
	}
}

func TestHostKey(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "host.key")
	h, err := LoadOrCreateHostKey(ctx, path, 6)
	if err != nil {
		t.Fatal(err)
	}
	if bits := PuzzleBits(h.Public()); bits < 6 {
		t.Fatalf("the puzzle has %d bits", bits)
	}
	again, err := LoadOrCreateHostKey(ctx, path, 0)
	if err != nil || !again.Private().Equal(h.Private()) {
		t.Fatalf("another key was read back: %v", err)
	}
	if _, err := LoadOrCreateHostKey(ctx, path, 200); !errors.Is(err, ErrPuzzle) {
		t.Fatalf("a key with too few bits: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := GenerateHostKey(cancelled, 200); !errors.Is(err, context.Canceled) {
		t.Fatalf("after cancelling: %v", err)
	}
}

func TestNewPassword(t *testing.T) {
	seen := map[string]bool{}
	letters := map[rune]bool{}
	for range 200 {
		p := NewPassword()
		if len(p) != 19 || seen[p] {
			t.Fatalf("password %q", p)
		}
		seen[p] = true
		for _, c := range strings.ReplaceAll(p, "-", "") {
			letters[c] = true
		}
	}
	if len(letters) != 32 {
		t.Fatalf("%d different characters", len(letters))
	}
}

func TestSignersKeepTheLimits(t *testing.T) {
	key := fixedKey("alice")
	for name, f := range map[string]func(){
		"access": func() { SignAccess(key, Access{Op: OpGet, Holder: []byte{1}, IDs: make([][32]byte, MaxAccessIDs+1)}) },
		"empty":  func() { SignTombstone(key, Tombstone{}) },
		"tombstone": func() {
			SignTombstone(key, Tombstone{Items: make([]TombstoneItem, MaxTombstoneItems+1)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Fatal("signed")
				}
			}()
			f()
		})
	}
	// The largest ones fit their limits in bytes.
	ids := make([][32]byte, MaxAccessIDs)
	proof := SignAccess(key, Access{Op: strings.Repeat("x", maxOp), Holder: make([]byte, MaxPeer), Time: maxTime, IDs: ids})
	if _, err := VerifyAccess(proof, make([]byte, MaxPeer), [32]byte{}, time.Unix(maxTime, 0)); err != nil {
		t.Errorf("largest access proof: %v", err)
	}
	items := make([]TombstoneItem, MaxTombstoneItems)
	for i := range items {
		items[i].Expiry = math.MaxUint32
	}
	if _, err := ParseTombstone(SignTombstone(key, Tombstone{Time: maxTime, Items: items})); err != nil {
		t.Errorf("largest tombstone: %v", err)
	}
	devices := make([]Device, MaxDevices)
	for i := range devices {
		devices[i] = Device{Key: publicOf(fixedKey(fmt.Sprint(i))), From: maxTime}
	}
	roster, err := SignRoster(fixed("alice root"), math.MaxUint64, devices)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRoster(roster); err != nil {
		t.Errorf("largest roster: %v", err)
	}
	if _, err := SignRoster(fixed("alice root"), 1, append(devices[:1:1], devices[0])); err == nil {
		t.Error("a roster with a device twice was signed")
	}
}
