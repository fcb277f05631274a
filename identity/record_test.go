package identity

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"
)

// hosts makes n hosts with so many addresses of so many bytes each.
func hosts(n, addrs, size int) (out []Host) {
	for i := range n {
		h := Host{Peer: bytes.Repeat([]byte{byte(i)}, 38)}
		for j := range addrs {
			h.Addrs = append(h.Addrs, bytes.Repeat([]byte{byte(j)}, size))
		}
		out = append(out, h)
	}
	return out
}

func signAndParse(t *testing.T, kr *Keyring, p RecordParams) *Record {
	t.Helper()
	b, err := kr.SignRecord(p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The ordinary record fits as it is.
func TestRecordFits(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	p := RecordParams{Now: fixedTime, Sequence: 1, Hosts: hosts(3, 4, 36), Policy: Policy{MaxMessage: 40 << 20, StampBits: 18}}
	r := signAndParse(t, kr, p)
	t.Logf("%d bytes with %d epochs, a fallback set and 3 hosts with 4 addresses each", len(r.Bytes()), len(r.Epochs))
	if len(r.Epochs) != RecordEpochs || len(r.Hosts) != 3 {
		t.Fatalf("%d epochs and %d hosts", len(r.Epochs), len(r.Hosts))
	}
	for i, h := range r.Hosts {
		if len(h.Addrs) != 4 || !bytes.Equal(h.Peer, p.Hosts[i].Peer) {
			t.Fatalf("host %d lost addresses: %d", i, len(h.Addrs))
		}
	}
	for i, e := range r.Epochs {
		secrets, ok := kr.SecretsFor(e.Epoch)
		if !ok || e.Epoch != EpochAt(fixedTime)+Epoch(i) || !e.Keys.Equal(secrets.Public()) {
			t.Fatalf("epoch %d", e.Epoch)
		}
	}
	if !r.Fallback.Equal(kr.Fallbacks()[0].Public()) || r.Policy.MaxMessage != 40<<20 || r.Policy.StampBits != 18 {
		t.Fatal("fallback set or policy differ")
	}
	if r.Root() != kr.Root() || r.Device != kr.Device() || r.Expires.Sub(r.Issued) != MaxRecordLife {
		t.Fatal("root, device or dates differ")
	}
}

func TestRecordThins(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	count := func(hs []Host) (n []int) {
		for _, h := range hs {
			n = append(n, len(h.Addrs))
		}
		return n
	}
	for _, test := range []struct {
		name           string
		hosts, keepers []Host
		wantEpochs     int
		wantHosts      []int
		wantKeepers    []int
	}{
		{"nothing to thin", hosts(1, 8, 36), nil, 6, []int{8}, nil},
		{"addresses, longest lists first", append(hosts(2, 8, 128), hosts(1, 1, 128)...), nil, 6, []int{2, 2, 1}, nil},
		{"addresses of keepers too", hosts(2, 8, 128), hosts(2, 2, 30), 6, []int{2, 2}, []int{2, 2}},
		{"epochs after addresses", hosts(4, 8, 128), hosts(4, 8, 128), 5, []int{1, 1, 1, 1}, []int{1, 1, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 1, Hosts: test.hosts, Keepers: test.keepers})
			t.Logf("%d bytes", len(r.Bytes()))
			if len(r.Epochs) != test.wantEpochs || !slices.Equal(count(r.Hosts), test.wantHosts) || !slices.Equal(count(r.Keepers), test.wantKeepers) {
				t.Fatalf("%d epochs, addresses %v and %v", len(r.Epochs), count(r.Hosts), count(r.Keepers))
			}
			if r.Epochs[0].Epoch != EpochAt(fixedTime) {
				t.Fatal("the current epoch is gone")
			}
			if len(test.hosts) > 0 && len(test.hosts[0].Addrs) != 8 {
				t.Fatal("the caller's list was changed")
			}
		})
	}
	t.Run("all that can go", func(t *testing.T) {
		p := recordPayload{Epochs: make([]EpochKeys, 3), Hosts: hosts(1, 2, 5), Keepers: hosts(1, 2, 5)}
		steps := 0
		for p.thin() {
			steps++
		}
		if len(p.Epochs) != 2 || len(p.Hosts[0].Addrs) != 0 || len(p.Keepers[0].Addrs) != 0 || steps != 4 {
			t.Fatalf("%d steps leave %+v", steps, p)
		}
	})
	t.Run("over the limits", func(t *testing.T) {
		for _, p := range []RecordParams{
			{Now: fixedTime, Hosts: hosts(5, 1, 10)},
			{Now: fixedTime, Hosts: hosts(1, 9, 10)},
			{Now: fixedTime, Keepers: hosts(1, 1, 129)},
			{Now: fixedTime, Policy: Policy{StampBits: 33}},
		} {
			if _, err := kr.SignRecord(p); err == nil {
				t.Errorf("signed with %+v", p)
			}
		}
	})
}

func TestRecordCompare(t *testing.T) {
	record := func(generation, sequence uint64, bits uint8) *Record {
		p := smallRecord(t, sequence)
		p.Roster = fixedRoster(t, "alice", generation).Bytes()
		p.Policy.StampBits = bits
		r, err := ParseRecord(signFixedRecord(p))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := record(1, 5, 0), record(1, 5, 1)
	if a.Compare(a) != 0 || a.Compare(b) == 0 || a.Compare(b) != -b.Compare(a) {
		t.Error("records of one sequence are not ordered")
	}
	if record(1, 6, 0).Compare(a) <= 0 || record(2, 1, 0).Compare(record(1, 6, 0)) <= 0 {
		t.Error("sequence or generation does not count")
	}
}

func TestPinBySteps(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	first := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 1})
	second := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 2})
	if verdict, err := (Pin{}).Accept(first); verdict != Newer || err != nil {
		t.Fatalf("a first record: %v, %v", verdict, err)
	}
	if verdict, err := Accept(nil, first); verdict != Newer || err != nil {
		t.Fatalf("a first record: %v, %v", verdict, err)
	}
	pin := second.Pin()
	if _, err := pin.Accept(first); !errors.Is(err, ErrRollback) {
		t.Fatalf("an older record: %v", err)
	}
	// A message under a newer roster arrives before the record that carries it.
	newer := fixedRoster(t, "alice", 9)
	if verdict, err := pin.AcceptRoster(newer); verdict != Newer || err != nil {
		t.Fatalf("a newer roster: %v, %v", verdict, err)
	}
	pin = pin.WithRoster(newer)
	if _, err := pin.Accept(second); !errors.Is(err, ErrRollback) {
		t.Fatalf("a record with the roster from before: %v", err)
	}
	if _, err := pin.AcceptRoster(kr.Roster()); !errors.Is(err, ErrRollback) {
		t.Fatalf("the roster from before: %v", err)
	}
	p := smallRecord(t, 1)
	p.Roster = newer.Bytes()
	third, err := ParseRecord(signFixedRecord(p))
	if err != nil {
		t.Fatal(err)
	}
	if verdict, err := pin.Accept(third); verdict != Newer || err != nil {
		t.Fatalf("the record with the newer roster: %v, %v", verdict, err)
	}
}

func TestKeysAt(t *testing.T) {
	kr := fixedKeyring(t, "alice")
	r := signAndParse(t, kr, RecordParams{Now: fixedTime, Sequence: 1})
	for week := range RecordEpochs {
		e, ks, fallback := r.KeysAt(fixedTime.Add(time.Duration(week) * 7 * 24 * time.Hour))
		if fallback || e != EpochAt(fixedTime)+Epoch(week) || !ks.Equal(r.Epochs[week].Keys) {
			t.Fatalf("week %d: epoch %d, fallback %v", week, e, fallback)
		}
	}
	for _, now := range []time.Time{fixedTime.AddDate(0, 0, -7), fixedTime.AddDate(0, 0, 7*RecordEpochs)} {
		e, ks, fallback := r.KeysAt(now)
		if !fallback || e != FallbackEpoch || !ks.Equal(r.Fallback) {
			t.Fatalf("%s: epoch %d, fallback %v", now, e, fallback)
		}
	}
}

func FuzzParseRoster(f *testing.F) {
	f.Add(fixedRoster(f, "alice", 7).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoster(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), b) || len(r.Devices) == 0 || len(r.Devices) > MaxDevices {
			t.Fatalf("accepted %x as %+v", b, r)
		}
	})
}

// FuzzRosterPayload signs whatever comes, so that the fuzzer gets behind the signature.
func FuzzRosterPayload(f *testing.F) {
	seed := Seed(fixed("alice root"))
	payload, err := Verify(ContextRoster, Public(seed.Root()), fixedRoster(f, "alice", 7).Bytes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := ParseRoster(Sign(ContextRoster, seed.key(), payload))
		if err != nil {
			return
		}
		if !bytes.Equal(encode(rosterPayload{rosterVersion, r.Root, r.Generation, r.Devices}), payload) {
			t.Fatalf("%x is not what %+v encodes to", payload, r)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	for sequence := range uint64(2) {
		p := smallRecord(f, sequence)
		f.Add(encode(p), signFixedRecord(p))
	}
	device := fixedKey("alice device")
	f.Fuzz(func(t *testing.T, payload, record []byte) {
		for _, b := range [][]byte{record, Sign(ContextRecord, device, payload)} {
			r, err := ParseRecord(b)
			if err != nil {
				continue
			}
			if !bytes.Equal(r.Bytes(), b) || len(b) > MaxRecord || r.Expires.Sub(r.Issued) > MaxRecordLife ||
				len(r.Epochs) > MaxEpochs || len(r.Hosts) > MaxHosts || len(r.Keepers) > MaxHosts {
				t.Fatalf("accepted %+v", r)
			}
			r.KeysAt(fixedTime)
			if verdict, err := Accept(r, r); verdict != Same || err != nil {
				t.Fatalf("a record beside itself: %v, %v", verdict, err)
			}
		}
	})
}

func FuzzProofs(f *testing.F) {
	key := fixedKey("alice fetch")
	host := &HostKey{private: key}
	f.Add(encode(Access{Op: OpGet, Fetch: publicOf(key), Holder: []byte{1}, Time: fixedTime.Unix(), IDs: make([][32]byte, 2)}))
	f.Add(encode(Tombstone{Delete: publicOf(key), Time: fixedTime.Unix(), Items: make([]TombstoneItem, 2)}))
	f.Add(encode(StorageReceipt{Inbox: Inbox{1}, Expiry: 1, Time: fixedTime.Unix()}))
	f.Add(SignStorageReceipt(host, StorageReceipt{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []Context{"", ContextAccess, ContextDelete, ContextStorageReceipt} {
			proof := b
			if c != "" {
				proof = Sign(c, key, b)
			}
			if a, err := VerifyAccess(proof, []byte{1}, [32]byte{}, fixedTime); err == nil && len(a.IDs) > MaxAccessIDs {
				t.Fatalf("accepted %+v", a)
			}
			if s, err := ParseTombstone(proof); err == nil {
				if len(s.Items) == 0 || len(s.Items) > MaxTombstoneItems || !bytes.Equal(encode(*s), b) && c == ContextDelete {
					t.Fatalf("accepted %+v", s)
				}
				_ = s.Check(fixedTime)
			}
			if r, err := ParseStorageReceipt(proof, host.Public()); err == nil && c != "" && !bytes.Equal(encode(r), b) {
				t.Fatalf("accepted %x as %+v", b, r)
			}
		}
	})
}

func BenchmarkParseRecord(b *testing.B) {
	kr := fixedKeyring(b, "alice")
	record, err := kr.SignRecord(RecordParams{Now: fixedTime, Sequence: 1, Hosts: hosts(3, 4, 36)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(record); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignRecord(b *testing.B) {
	kr := fixedKeyring(b, "alice")
	for b.Loop() {
		if _, err := kr.SignRecord(RecordParams{Now: fixedTime, Sequence: 1, Hosts: hosts(3, 4, 36)}); err != nil {
			b.Fatal(err)
		}
	}
}
