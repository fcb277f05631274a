package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/identity"
)

func newKeyring(t testing.TB, now time.Time) *identity.Keyring {
	t.Helper()
	kr, err := identity.NewKeyring(identity.NewSeed(), uint64(now.Unix()), now)
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

// keysOf are the keys that a sender finds in the record of kr.
func keysOf(t testing.TB, kr *identity.Keyring, now time.Time) (identity.KeySet, identity.Epoch) {
	t.Helper()
	b, err := kr.SignRecord(identity.RecordParams{Now: now, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := identity.ParseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	e, keys, _ := r.KeysAt(now)
	return keys, e
}

func TestSealAndOpen(t *testing.T) {
	now := time.Now()
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	seen := map[ID]bool{}
	for _, size := range []int{0, 1, 3000, 65000, 70000, 1 << 20} {
		mail := bytes.Repeat([]byte{'x'}, size)
		in := &Inner{Kind: KindMail, To: bob.Root(), Recipient: "Bob+tag", Body: mail}
		m, err := Seal(alice, in, keys, e)
		if err != nil {
			t.Fatal(err)
		}
		if in.Inbox != keys.Inbox() || in.Device != alice.Device() || in.MessageID == [16]byte{} || in.Epoch != e {
			t.Fatalf("Seal left %+v", in)
		}
		if err := m.Outer.Check(now); err != nil {
			t.Fatal(err)
		}
		o, err := ParseOuter(m.Outer.Marshal())
		if err != nil || o != m.Outer || seen[o.ID()] {
			t.Fatalf("outer part %+v, %v", o, err)
		}
		seen[o.ID()] = true
		got, err := Open(bob, m)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Body, mail) || got.From != alice.Root() || got.Recipient != "Bob+tag" || got.MessageID != in.MessageID ||
			got.Time != in.Time || got.Expiry != m.Outer.Expiry {
			t.Fatalf("%d bytes: opened %+v", size, got)
		}
		if r, err := got.SenderRoster(); err != nil || r.Root != alice.Root() {
			t.Fatalf("roster: %v", err)
		}
		if r, err := got.Record(); err != nil || r != nil {
			t.Fatalf("a record came with it: %v", err)
		}
		if _, err := Open(alice, m); !errors.Is(err, ErrNoKey) {
			t.Fatalf("the sender opens it: %v", err)
		}
	}
}

// What is sealed again keeps its id and its date, and nothing else that a holder could recognise.
func TestSealAgain(t *testing.T) {
	now := time.Now()
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	in := &Inner{Kind: KindMail, To: bob.Root(), Recipient: "bob", Body: []byte("hello")}
	first, err := Seal(alice, in, keys, e)
	if err != nil {
		t.Fatal(err)
	}
	before := *in
	fallback := bob.Fallbacks()[0].Public()
	second, err := Seal(alice, in, fallback, identity.FallbackEpoch)
	if err != nil {
		t.Fatal(err)
	}
	if first.Outer.ID() == second.Outer.ID() || bytes.Equal(first.Body, second.Body) {
		t.Fatal("the message is the same")
	}
	for _, m := range []*Message{first, second} {
		got, err := Open(bob, m)
		if err != nil {
			t.Fatal(err)
		}
		if got.MessageID != before.MessageID || got.Time != before.Time || got.Expiry != before.Expiry {
			t.Fatal("id, date or expiry changed")
		}
	}
}

func TestSenderRecord(t *testing.T) {
	now := time.Now()
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	record := func(kr *identity.Keyring) []byte {
		b, err := kr.SignRecord(identity.RecordParams{Now: now, Sequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, test := range []struct {
		name   string
		record []byte
		ok     bool
	}{
		{"own", record(alice), true},
		{"foreign", record(bob), false},
		{"damaged", []byte("record"), false},
	} {
		m, err := Seal(alice, &Inner{Kind: KindMail, To: bob.Root(), Recipient: "bob", SenderRecord: test.record}, keys, e)
		if err != nil {
			t.Fatal(err)
		}
		in, err := Open(bob, m)
		if err != nil {
			t.Fatalf("%s: the record spoils the message: %v", test.name, err)
		}
		r, err := in.Record()
		if (err == nil) != test.ok || test.ok && r.Root() != alice.Root() {
			t.Fatalf("%s: %v", test.name, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	now := time.Now()
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	for name, change := range map[string]func(in *Inner, keys *identity.KeySet){
		"kind":             func(in *Inner, _ *identity.KeySet) { in.Kind = 0 },
		"nobody":           func(in *Inner, _ *identity.KeySet) { in.To = identity.Root{} },
		"local part":       func(in *Inner, _ *identity.KeySet) { in.Recipient = "b ob" },
		"large record":     func(in *Inner, _ *identity.KeySet) { in.SenderRecord = make([]byte, identity.MaxRecord+1) },
		"large receipt":    func(in *Inner, _ *identity.KeySet) { in.Kind, in.Body = KindReceipt, make([]byte, MaxReceipt+1) },
		"large mail":       func(in *Inner, _ *identity.KeySet) { in.Body = make([]byte, MaxMessage+1) },
		"late expiry":      func(in *Inner, _ *identity.KeySet) { in.Expiry = identity.DayAt(now) + 33 },
		"no sealing key":   func(_ *Inner, keys *identity.KeySet) { keys.Sealing = nil },
		"bad sealing key":  func(_ *Inner, keys *identity.KeySet) { keys.Sealing = bytes.Repeat([]byte{0xff}, identity.SealingSize) },
		"date of the past": func(in *Inner, _ *identity.KeySet) { in.Time = -1 },
	} {
		in, keys := &Inner{Kind: KindMail, To: bob.Root(), Recipient: "bob"}, keys
		change(in, &keys)
		_, err := Seal(alice, in, keys, e)
		if err == nil || strings.HasPrefix(name, "large") && name != "large record" != errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The largest message, with all that can go with it, keeps within the limits that holders enforce.
func TestLargestMessage(t *testing.T) {
	now := time.Now()
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	in := &Inner{
		Kind: KindMail, To: bob.Root(), Recipient: strings.Repeat("b", 64), Body: make([]byte, MaxMessage),
		SenderRecord: make([]byte, identity.MaxRecord),
	}
	m, err := Seal(alice, in, keys, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of mail make a body of %d bytes", len(in.Body), len(m.Body))
	if len(m.Body) > MaxBody {
		t.Fatalf("the limit is %d", MaxBody)
	}
	if err := m.Outer.Check(now); err != nil {
		t.Fatal(err)
	}
	got, err := Open(bob, m)
	if err != nil || len(got.Body) != MaxMessage {
		t.Fatal(err)
	}
	smallest, err := Seal(alice, &Inner{Kind: KindMail, To: bob.Root()}, keys, e)
	if err != nil || len(smallest.Body) != MinBody {
		t.Fatalf("the smallest body has %d bytes instead of %d: %v", len(smallest.Body), MinBody, err)
	}
}

// Messages of many sizes come out in few, and short ones all in one.
func TestPadme(t *testing.T) {
	last := 0
	for n := range 1 << 18 {
		p := Padme(n)
		if p < n || p < minPlaintext || p < last {
			t.Fatalf("Padme(%d) is %d after %d", n, p, last)
		}
		if p > minPlaintext && float64(p) > 1.12*float64(n) {
			t.Fatalf("Padme(%d) is %d, more than 12 %% above", n, p)
		}
		if Padme(p) != p {
			t.Fatalf("Padme(%d) is %d, which is padded to %d", n, p, Padme(p))
		}
		last = p
	}
}

// After the year's fallback set was replaced, and after the keys of an epoch were destroyed.
func TestOpenAfterKeysChanged(t *testing.T) {
	now := time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	seal := func(keys identity.KeySet, e identity.Epoch) *Message {
		m, err := Seal(alice, &Inner{Kind: KindMail, To: bob.Root(), Time: now.Unix()}, keys, e)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	current, fallback := seal(keys, e), seal(bob.Fallbacks()[0].Public(), identity.FallbackEpoch)
	later := now.AddDate(1, 1, 0)
	bob.Roll(later)
	for _, m := range []*Message{current, fallback} {
		if _, err := OpenAt(bob, m, later); err != nil {
			t.Fatal(err)
		}
	}
	if !bob.Destroy(keys.Inbox()) {
		t.Fatal("nothing destroyed")
	}
	if _, err := OpenAt(bob, current, later); !errors.Is(err, ErrNoKey) {
		t.Fatalf("with destroyed keys: %v", err)
	}
}

func TestDeletedBy(t *testing.T) {
	keys, o := account(t, "bob").Fallbacks()[0].Public(), fixedOuter()
	o.Inbox = keys.Inbox()
	tombstone := func() *identity.Tombstone {
		return &identity.Tombstone{Delete: keys.Delete, Fetch: keys.Fetch, Items: []identity.TombstoneItem{
			{ID: fixed("another"), Expiry: o.Expiry}, {ID: o.ID(), Expiry: o.Expiry},
		}}
	}
	if !o.DeletedBy(tombstone()) {
		t.Fatal("not deleted")
	}
	for name, change := range map[string]func(s *identity.Tombstone){
		"another delete key": func(s *identity.Tombstone) { s.Delete[0] ^= 1 },
		"another fetch key":  func(s *identity.Tombstone) { s.Fetch[0] ^= 1 },
		"keys changed over":  func(s *identity.Tombstone) { s.Fetch, s.Delete = s.Delete, s.Fetch },
		"another message":    func(s *identity.Tombstone) { s.Items[1].ID[0] ^= 1 },
		"another expiry":     func(s *identity.Tombstone) { s.Items[1].Expiry++ },
	} {
		s := tombstone()
		change(s)
		if o.DeletedBy(s) {
			t.Errorf("deleted by a tombstone for %s", name)
		}
	}
}

func TestOpenIsSafeForConcurrentUse(t *testing.T) {
	now := time.Now()
	alice, bob := newKeyring(t, now), newKeyring(t, now)
	keys, e := keysOf(t, bob, now)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				body := fmt.Append(nil, i, j)
				m, err := Seal(alice, &Inner{Kind: KindMail, To: bob.Root(), Body: body}, keys, e)
				if err != nil {
					t.Error(err)
					return
				}
				if in, err := Open(bob, m); err != nil || !bytes.Equal(in.Body, body) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The largest receipt keeps within its limit.
func TestLargestReceipt(t *testing.T) {
	r := Receipt{Items: make([]ReceiptItem, MaxReceiptItems)}
	for i := range r.Items {
		r.Items[i] = ReceiptItem{Status: StatusRefused, Reason: strings.Repeat("x", MaxReason), Time: 1 << 38}
	}
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseReceipt(b); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Receipt{}).Marshal(); err == nil {
		t.Fatal("an empty receipt was encoded")
	}
}

func FuzzParseOuter(f *testing.F) {
	o := fixedOuter()
	f.Add(o.Marshal())
	o.Stamp = &Stamp{Nonce: 7}
	f.Add(o.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOuter(b)
		if err != nil {
			return
		}
		if !bytes.Equal(o.Marshal(), b) || o.Size > MaxBody || len(b) > MaxOuter {
			t.Fatalf("accepted %x as %+v", b, o)
		}
		bare := o
		bare.Stamp = nil
		if bare.ID() != o.ID() {
			t.Fatal("the stamp is part of the id")
		}
		_ = o.Check(fixedTime)
		o.Stamped(0)
	})
}

func FuzzPlaintext(f *testing.F) {
	kr := account(f, "alice")
	for _, body := range []string{"", "hello", strings.Repeat("x", 5000)} {
		p := plan{from: kr, to: kr, secrets: kr.Fallbacks()[0]}
		p.inner = func(in *Inner) { in.Body, in.BodyHash = []byte(body), hashOf(body) }
		p.joined = func(b []byte) []byte {
			f.Add(b, []byte{}, len(b))
			return b
		}
		p.make(f)
	}
	f.Fuzz(func(t *testing.T, inner, padding []byte, length int) {
		plain := padded(inner)
		if length != len(inner) { // also dishonest ones
			plain = append(plain[:lengthSize+len(inner)], padding...)
			plain[0], plain[1], plain[2], plain[3] = byte(length>>24), byte(length>>16), byte(length>>8), byte(length)
		}
		in, fields, signature, err := parsePlaintext(plain)
		if err != nil {
			if in != nil || fields != nil {
				t.Fatal("something was released with the error")
			}
			return
		}
		again := rejoin(t, in, signature)
		if !bytes.Equal(padded(again), plain) {
			t.Fatalf("%x is not what %+v is encoded to", plain, in)
		}
		_ = in.proven(kr, fields, signature)
	})
}

// FuzzHeader: whatever passes has one stanza, for age too.
func FuzzHeader(f *testing.F) {
	kr := account(f, "alice")
	m, err := Seal(kr, &Inner{Kind: KindMail, To: kr.Root()}, kr.Fallbacks()[0].Public(), identity.FallbackEpoch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Body[:2000])
	f.Add([]byte("age-encryption.org/v1\n-> X25519 x\n\n--- "))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkHeader(b) != nil {
			return
		}
		count := &counter{}
		if _, err := age.Decrypt(bytes.NewReader(b), count); err == nil {
			t.Fatal("opened without a key")
		}
		if count.called && (len(count.types) != 1 || count.types[0] != stanzaType) {
			t.Fatalf("age sees %q", count.types)
		}
	})
}

// counter is an identity that only looks.
type counter struct {
	called bool
	types  []string
}

func (c *counter) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	c.called = true
	for _, s := range stanzas {
		c.types = append(c.types, s.Type)
	}
	return nil, age.ErrIncorrectIdentity
}

func FuzzParseReceipt(f *testing.F) {
	r := Receipt{Items: []ReceiptItem{{Status: StatusRefused, Reason: "full", Time: 5}, {Status: StatusDelivered}}}
	b, err := r.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReceipt(b)
		if err != nil {
			return
		}
		if again, err := r.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is not what %+v encodes to", b, r)
		}
	})
}
