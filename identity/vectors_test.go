package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/identity/internal/vector"
	"github.com/peerpost/peerpost/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden vectors of this package; read the difference before you commit it")

// classes tells by which error a vector's failure is recognised. What has none of them is "malformed".
var classes = map[string]error{
	"foreign domain":  ErrForeignDomain,
	"address":         ErrAddress,
	"words":           ErrWords,
	"signature":       ErrSignature,
	"not canonical":   wire.ErrCanonical,
	"not valid now":   ErrExpired,
	"rollback":        ErrRollback,
	"fork":            ErrFork,
	"other occasion":  ErrAccess,
	"puzzle":          ErrPuzzle,
	"address, typing": errTyping,
}

// errTyping stands for an ErrAddress that tells the reader that they mistyped.
var errTyping = errors.New("mistyped")

func classOf(err error) string {
	if err == nil {
		return vector.Success
	}
	if errors.Is(err, ErrAddress) && strings.Contains(err.Error(), "checksum does not match") {
		return "address, typing"
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		if errors.Is(err, classes[class]) {
			return class
		}
	}
	return "malformed"
}

// TestVectors makes the vectors anew, compares them with those on disk (all of this package are deterministic), and
// runs the ones on disk.
func TestVectors(t *testing.T) {
	for _, kind := range []struct {
		name string
		make func(t *testing.T, add func(vector.Vector))
		run  func(t *testing.T, v vector.Vector) error
	}{
		{"address", makeAddresses, runAddress},
		{"seed", makeSeeds, runSeed},
		{"chain", makeChains, runChain},
		{"keys", makeKeys, runKeys},
		{"roster", makeRosters, runRoster},
		{"record", makeRecords, runRecord},
		{"pin", makePins, runPin},
		{"access", makeAccesses, runAccess},
		{"tombstone", makeTombstones, runTombstone},
		{"storage-receipt", makeStorageReceipts, runStorageReceipt},
		{"host", makeHosts, runHost},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var made []vector.Vector
			kind.make(t, func(v vector.Vector) {
				v.Kind, v.Name = kind.name, kind.name+"-"+v.Name
				made = append(made, v)
			})
			if *update {
				vector.Update(t, kind.name, made)
			}
			onDisk := vector.Load(t, kind.name)
			byName := map[string][]byte{}
			for _, v := range onDisk {
				byName[v.Name] = v.Format()
			}
			for _, v := range made {
				if !bytes.Equal(byName[v.Name], v.Format()) {
					t.Errorf("%s: the vector on disk differs from the one that is made now", v.Name)
				}
				delete(byName, v.Name)
			}
			for name := range byName {
				t.Errorf("%s: nothing makes this vector any more", name)
			}
			for _, v := range onDisk {
				t.Run(strings.TrimPrefix(v.Name, kind.name+"-"), func(t *testing.T) {
					err := kind.run(t, v)
					if got := classOf(err); got != v.Expect {
						t.Fatalf("%s: expected %s, got %s: %v", v.Comment, v.Expect, got, err)
					}
				})
			}
		})
	}
}

func ok(name, comment string) vector.Vector {
	return vector.Vector{Name: name, Expect: vector.Success, Comment: comment}
}

func bad(name, class, comment string) vector.Vector {
	if class != "malformed" && classes[class] == nil {
		panic("no such class: " + class)
	}
	return vector.Vector{Name: name, Expect: class, Comment: comment}
}

func withBody(v vector.Vector, body []byte) vector.Vector {
	v.Body = body
	return v
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v instead of %v", what, got, want)
	}
}

// Addresses: header input, or input-hex where it cannot stand in a line. A good one also has root and canonical.

func makeAddresses(t *testing.T, add func(vector.Vector)) {
	root := Seed(fixed("alice root")).Root()
	label := root.Label()
	good := func(name, comment, input, canonical string) {
		add(ok(name, comment).With("input", input).With("root", root[:]).With("canonical", canonical))
	}
	domain := label + "." + Suffix
	good("plain", "an ordinary address", "alice@"+domain, "alice@"+domain)
	good("upper", "the domain may come in either case, the local part stays", "Alice@"+strings.ToUpper(domain), "Alice@"+domain)
	good("tag", "a local part with a tag and every punctuation that is allowed", "a.b+tag!#$%&'*/=?^_`{|}~-@"+domain, "a.b+tag!#$%&'*/=?^_`{|}~-@"+domain)
	good("local-64", "the longest local part", strings.Repeat("a", 64)+"@"+domain, strings.Repeat("a", 64)+"@"+domain)

	fail := func(name, class, comment, input string) {
		v := bad(name, class, comment)
		if strings.ContainsFunc(input, func(r rune) bool { return r <= ' ' || r > '~' }) {
			add(v.With("input-hex", []byte(input)))
		} else {
			add(v.With("input", input))
		}
	}
	other := byte('a')
	if label[10] == 'a' {
		other = 'b'
	}
	fail("typo", "address, typing", "one character of the key is another", "alice@"+label[:10]+string(other)+label[11:]+"."+Suffix)
	fail("swapped", "address, typing", "two characters of the key changed places", "alice@"+label[:2]+label[3:4]+label[2:3]+label[4:]+"."+Suffix)
	check2 := root.check(2)
	version2 := labelEncoding.EncodeToString(slices.Concat(root[:], check2[:], []byte{2}))
	fail("version", "address", "version 2, with the right checksum", "alice@"+version2+"."+Suffix)
	fail("foreign", "foreign domain", "an address of ordinary mail", "alice@example.com")
	fail("foreign-lookalike", "foreign domain", "the suffix is not a label of its own", "alice@"+label+"x"+Suffix)
	fail("foreign-unicode", "foreign domain", "a Kelvin sign is not a k", "alice@"+label+".\u212aeerpost.alt")
	fail("short", "address", "the key lacks a character", "alice@"+label[1:]+"."+Suffix)
	fail("long", "address", "the key has a character more", "alice@"+label+"a."+Suffix)
	fail("alphabet", "address", "0 and 1 are not in the alphabet", "alice@"+"01"+label[2:]+"."+Suffix)
	fail("no-key", "address", "the suffix alone", "alice@"+Suffix)
	fail("subdomain", "address", "a label before the key", "alice@www."+domain)
	fail("trailing-dot", "address", "a dot after the domain", "alice@"+domain+".")
	fail("no-at", "address", "no @", "alice."+domain)
	fail("no-local", "address", "nothing before the @", "@"+domain)
	fail("no-domain", "address", "nothing after the @", "alice@")
	fail("two-at", "address", "two @", "alice@home@"+domain)
	fail("nul", "address", "a NUL byte", "al\x00ice@"+domain)
	fail("cr", "address", "a carriage return", "alice\r@"+domain)
	fail("lf", "address", "a line feed within the key", "alice@"+label[:20]+"\n"+label[20:]+"."+Suffix)
	fail("space", "address", "a space", "alice @"+domain)
	fail("quoted", "address", "a quoted local part", `"alice"@`+domain)
	fail("dot-first", "address", "the local part begins with a dot", ".alice@"+domain)
	fail("dot-last", "address", "the local part ends with a dot", "alice.@"+domain)
	fail("dot-twice", "address", "two dots in a row", "al..ice@"+domain)
	fail("unicode-local", "address", "a local part outside ASCII", "älice@"+domain)
	fail("local-65", "address", "a local part of 65 bytes", strings.Repeat("a", 65)+"@"+domain)
	fail("length", "address", "255 bytes in all", strings.Repeat("a", 254-len(domain))+"@"+domain)
}

func runAddress(t *testing.T, v vector.Vector) error {
	var input string
	if v.Has("input-hex") {
		input = string(v.Bytes(t, "input-hex"))
	} else {
		input = v.String(t, "input")
	}
	a, err := ParseAddress(input)
	if err != nil {
		return err
	}
	want(t, "root", a.Root, Root(v.Key(t, "root")))
	want(t, "canonical form", a.String(), v.String(t, "canonical"))
	return nil
}

// Seeds: recovery words, the seed they stand for, and the label of its root key.

func makeSeeds(t *testing.T, add func(vector.Vector)) {
	good := func(name, comment string, seed Seed) {
		add(ok(name, comment).With("words", seed.Words()).With("seed", seed[:]).With("label", seed.Root().Label()))
	}
	good("zero", "all bits zero", Seed{})
	good("ones", "all bits one", Seed(bytes.Repeat([]byte{0xff}, 32)))
	good("alice", "an ordinary seed", fixed("alice root"))
	words := strings.Fields(Seed(fixed("alice root")).Words())
	swapped := slices.Clone(words)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	add(bad("swapped", "words", "two words changed places").With("words", strings.Join(swapped, " ")))
	add(bad("short", "words", "23 words").With("words", strings.Join(words[1:], " ")))
	foreign := slices.Clone(words)
	foreign[7] = "peerpost"
	add(bad("foreign", "words", "a word that is not in the list").With("words", strings.Join(foreign, " ")))
}

func runSeed(t *testing.T, v vector.Vector) error {
	seed, err := SeedFromWords(v.String(t, "words"))
	if err != nil {
		return err
	}
	want(t, "seed", [32]byte(seed), v.Key(t, "seed"))
	want(t, "label", seed.Root().Label(), v.String(t, "label"))
	want(t, "words", seed.Words(), v.String(t, "words"))
	return nil
}

// Chains: the state of an epoch, the epochs advanced, the state then, and the seeds of that epoch's keys.

func makeChains(t *testing.T, add func(vector.Vector)) {
	for _, steps := range []int{0, 1, 6, 100} {
		c := Chain{epoch: 2976, state: fixed("alice chain")}
		v := ok(fmt.Sprint("steps-", steps), "the state after that many epochs, and what follows from it").
			With("state", c.state[:]).With("steps", steps)
		for range steps {
			c.Advance()
		}
		s, _ := c.Leaf(c.Head())
		add(v.With("next-state", c.state[:]).
			With("sealing-seed", s.seeds.Sealing[:]).With("fetch-seed", s.seeds.Fetch[:]).With("delete-seed", s.seeds.Delete[:]))
	}
}

func runChain(t *testing.T, v vector.Vector) error {
	c := Chain{epoch: 1000, state: v.Key(t, "state")}
	ahead, reached := c.Leaf(1000 + Epoch(v.Int(t, "steps")))
	for range v.Int(t, "steps") {
		c.Advance()
	}
	s, _ := c.Leaf(c.Head())
	want(t, "state", c.state, v.Key(t, "next-state"))
	want(t, "reached", reached, true)
	want(t, "leaf derived ahead", ahead.seeds, s.seeds)
	want(t, "sealing seed", s.seeds.Sealing, v.Key(t, "sealing-seed"))
	want(t, "fetch seed", s.seeds.Fetch, v.Key(t, "fetch-seed"))
	want(t, "delete seed", s.seeds.Delete, v.Key(t, "delete-seed"))
	return nil
}

// Keys: the seeds of a set and its public half; the sealing key as the body and as age writes it.

func makeKeys(t *testing.T, add func(vector.Vector)) {
	for _, name := range []string{"alice", "bob"} {
		s := newSecrets(fixedSeeds(name))
		ks := s.Public()
		hash, inbox := ks.SealingHash(), ks.Inbox()
		add(withBody(ok(name, "from seeds to public keys; the body is the raw sealing key").
			With("sealing-seed", s.seeds.Sealing[:]).With("fetch-seed", s.seeds.Fetch[:]).With("delete-seed", s.seeds.Delete[:]).
			With("identity", s.Sealing().String()).With("recipient", s.Sealing().Recipient().String()).
			With("sealing-hash", hash[:]).With("fetch", ks.Fetch[:]).With("delete", ks.Delete[:]).With("inbox", inbox[:]), ks.Sealing))
	}
	short := newSecrets(fixedSeeds("alice")).Public().Sealing
	add(withBody(bad("short", "malformed", "a sealing key of 1,215 bytes"), short[1:]))
	// The first 1,152 bytes are numbers of 12 bits, all below 3,329.
	add(withBody(bad("modulus", "malformed", "a number in the ML-KEM key that is too large"), append([]byte{0xff, 0xff}, short[2:]...)))
}

func runKeys(t *testing.T, v vector.Vector) error {
	r, err := (KeySet{Sealing: v.Body}).Recipient()
	if err != nil {
		return err
	}
	s := newSecrets(secretSeeds{Sealing: v.Key(t, "sealing-seed"), Fetch: v.Key(t, "fetch-seed"), Delete: v.Key(t, "delete-seed")})
	ks := s.Public()
	want(t, "recipient", r.String(), v.String(t, "recipient"))
	want(t, "raw key", hex.EncodeToString(rawRecipient(r)), hex.EncodeToString(v.Body))
	want(t, "sealing key", hex.EncodeToString(ks.Sealing), hex.EncodeToString(v.Body))
	want(t, "identity", s.Sealing().String(), v.String(t, "identity"))
	want(t, "sealing hash", ks.SealingHash(), v.Key(t, "sealing-hash"))
	want(t, "fetch key", ks.Fetch, Public(v.Key(t, "fetch")))
	want(t, "delete key", ks.Delete, Public(v.Key(t, "delete")))
	want(t, "inbox", ks.Inbox(), Inbox(v.Key(t, "inbox")))
	want(t, "inbox of the secrets", s.Inbox(), ks.Inbox())
	return nil
}

// Rosters: the body is signed; a good one also has root, generation and a header for each device.

func makeRosters(t *testing.T, add func(vector.Vector)) {
	seed := Seed(fixed("alice root"))
	root := seed.Root()
	device := func(n int) Device {
		return Device{Key: publicOf(fixedKey(fmt.Sprint("device ", n))), From: fixedTime.Unix() + int64(n)}
	}
	devices := func(n int) (out []Device) {
		for i := range n {
			out = append(out, device(i))
		}
		slices.SortFunc(out, func(a, b Device) int { return bytes.Compare(a.Key[:], b.Key[:]) })
		return out
	}
	payload := func(n int) rosterPayload { return rosterPayload{rosterVersion, root, 7, devices(n)} }
	sign := func(p rosterPayload) []byte { return Sign(ContextRoster, seed.key(), encode(p)) }
	for _, n := range []int{1, 2, MaxDevices} {
		p := payload(n)
		v := ok(fmt.Sprint("devices-", n), "signed by its root").With("root", root[:]).With("generation", p.Generation)
		for _, d := range p.Devices {
			v = v.With("device", fmt.Sprintf("%x %d", d.Key, d.From))
		}
		add(withBody(v, sign(p)))
	}
	fail := func(name, class, comment string, b []byte) { add(withBody(bad(name, class, comment), b)) }
	good := encode(payload(2))
	fail("foreign-root", "signature", "signed by another root key than it names", Sign(ContextRoster, Seed(fixed("bob root")).key(), good))
	fail("context", "signature", "signed as a record", Sign(ContextRecord, seed.key(), good))
	fail("no-context", "signature", "signed as plain Ed25519", wire.JoinSigned(good, ed25519.Sign(seed.key(), good)))
	flipped := sign(payload(2))
	flipped[len(flipped)-1] ^= 1
	fail("flipped", "signature", "one bit of the signature is another", flipped)
	fail("trailing", "malformed", "a byte follows", append(sign(payload(2)), 0))
	fail("version", "malformed", "version 2", sign(rosterPayload{2, root, 7, devices(1)}))
	fail("no-devices", "malformed", "no devices", sign(payload(0)))
	fail("many-devices", "malformed", "17 devices", sign(payload(MaxDevices+1)))
	twice := payload(2)
	twice.Devices[1] = twice.Devices[0]
	fail("twice", "malformed", "a device twice", sign(twice))
	unsorted := payload(2)
	slices.Reverse(unsorted.Devices)
	fail("unsorted", "malformed", "devices in descending order", sign(unsorted))
	past := payload(1)
	past.Devices[0].From = -1
	fail("past", "malformed", "a device from before the Unix epoch", sign(past))
	// {1: version, 2: root, …}: the first key in two bytes, and the same pair again.
	fail("long-key", "not canonical", "an integer in a longer form than it needs",
		Sign(ContextRoster, seed.key(), slices.Concat(good[:1], []byte{0x18, 1}, good[2:])))
	fail("duplicate", "malformed", "a key twice",
		Sign(ContextRoster, seed.key(), slices.Concat([]byte{good[0] + 1}, good[1:3], good[1:])))
	fail("unknown", "malformed", "a key that is not known", Sign(ContextRoster, seed.key(), slices.Concat([]byte{good[0] + 1}, good[1:], []byte{5, 0})))
	fail("indefinite", "malformed", "a map of indefinite length", Sign(ContextRoster, seed.key(), slices.Concat([]byte{0xbf}, good[1:], []byte{0xff})))
	fail("inner-trailing", "malformed", "a byte follows within the payload", Sign(ContextRoster, seed.key(), append(slices.Clone(good), 0)))
}

func runRoster(t *testing.T, v vector.Vector) error {
	r, err := ParseRoster(v.Body)
	if err != nil {
		return err
	}
	want(t, "root", r.Root, Root(v.Key(t, "root")))
	want(t, "generation", r.Generation, uint64(v.Int(t, "generation")))
	var devices []string
	for _, h := range v.Headers {
		if h.Name == "device" {
			devices = append(devices, h.Value)
		}
	}
	want(t, "number of devices", len(r.Devices), len(devices))
	for i, d := range r.Devices {
		want(t, "device", fmt.Sprintf("%x %d", d.Key, d.From), devices[i])
	}
	return nil
}

// Records: the body is signed; now is when it is looked at. A good one also has what it says.

// smallRecord is a record with the keys of one epoch.
func smallRecord(t testing.TB, sequence uint64) recordPayload {
	kr := fixedKeyring(t, "alice")
	s, _ := kr.SecretsFor(EpochAt(fixedTime))
	return recordPayload{
		Version:  recordVersion,
		Roster:   kr.Roster().Bytes(),
		Device:   kr.Device(),
		Sequence: sequence,
		Issued:   fixedTime.Unix(),
		Expires:  fixedTime.Add(MaxRecordLife).Unix(),
		Epochs:   []EpochKeys{{Epoch: EpochAt(fixedTime), Keys: s.Public()}},
		Fallback: kr.Fallbacks()[0].Public(),
		Hosts:    []Host{fixedHost(t, "alice")},
		Keepers:  []Host{fixedHost(t, "keeper")},
		Policy:   Policy{MaxMessage: 10 << 20, StampBits: 20},
	}
}

func signFixedRecord(p recordPayload) []byte {
	return Sign(ContextRecord, fixedKey("alice device"), encode(p))
}

func makeRecords(t *testing.T, add func(vector.Vector)) {
	kr := fixedKeyring(t, "alice")
	good := func(name, comment string, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		e, ks, fallback := r.KeysAt(fixedTime)
		root, hash, key, inbox := r.Root(), r.Hash(), RecordKeyHash(r.Root()), ks.Inbox()
		add(withBody(ok(name, comment).With("now", fixedTime).With("root", root[:]).With("record-key", RecordKey(root)).
			With("record-key-hash", key[:]).With("sequence", r.Sequence).With("issued", r.Issued).With("expires", r.Expires).
			With("epochs", len(r.Epochs)).With("epoch", e).With("inbox", inbox[:]).With("fallback", fallback).
			With("hosts", len(r.Hosts)).With("keepers", len(r.Keepers)).With("hash", hash[:]), b))
	}
	full, err := kr.SignRecord(RecordParams{Now: fixedTime, Sequence: 1_800_014_400, Hosts: []Host{fixedHost(t, "alice")}})
	if err != nil {
		t.Fatal(err)
	}
	good("full", "keys for six epochs, and one host", full)
	good("small", "keys for one epoch; a host, a keeper and a policy", signFixedRecord(smallRecord(t, 5)))
	hidden := smallRecord(t, 6)
	hidden.Hosts, hidden.Keepers = nil, nil
	good("hidden", "neither hosts nor keepers", signFixedRecord(hidden))
	past := smallRecord(t, 6)
	past.Epochs[0].Epoch--
	good("fallback", "no keys for this epoch, so the fallback set is used", signFixedRecord(past))
	edge := smallRecord(t, 7)
	edge.Issued, edge.Expires = fixedTime.Add(ClockTolerance).Unix(), fixedTime.Add(ClockTolerance+MaxRecordLife).Unix()
	good("tomorrow", "issued a day from now, which clocks may be off", signFixedRecord(edge))

	fail := func(name, class, comment string, b []byte) {
		add(withBody(bad(name, class, comment).With("now", fixedTime), b))
	}
	change := func(name, class, comment string, change func(p *recordPayload)) {
		p := smallRecord(t, 5)
		change(&p)
		fail(name, class, comment, signFixedRecord(p))
	}
	change("expired", "not valid now", "it expires this very second", func(p *recordPayload) {
		p.Issued, p.Expires = fixedTime.Unix()-3600, fixedTime.Unix()
	})
	change("future", "not valid now", "issued more than a day from now", func(p *recordPayload) {
		p.Issued, p.Expires = fixedTime.Add(ClockTolerance).Unix()+1, fixedTime.Add(2*ClockTolerance).Unix()
	})
	change("too-long", "malformed", "valid for 35 days and a second", func(p *recordPayload) { p.Expires++ })
	change("backwards", "malformed", "expires when it is issued", func(p *recordPayload) { p.Expires = p.Issued })
	change("before-time", "malformed", "issued before the Unix epoch", func(p *recordPayload) { p.Issued, p.Expires = -1, 1 })
	change("beyond-time", "malformed", "issued in the largest second there is", func(p *recordPayload) {
		p.Issued, p.Expires = 1<<63-2, 1<<63-1
	})
	change("version", "malformed", "version 2", func(p *recordPayload) { p.Version = 2 })
	change("foreign-device", "malformed", "the roster does not name the device", func(p *recordPayload) {
		b, err := SignRoster(fixed("alice root"), 1, []Device{{Key: publicOf(fixedKey("alice phone"))}})
		if err != nil {
			t.Fatal(err)
		}
		p.Roster = b
	})
	change("early-device", "malformed", "the device was added more than a day after the record's date", func(p *recordPayload) {
		p.Issued, p.Expires = fixedTime.Add(-ClockTolerance).Unix()-1, fixedTime.Unix()+1
	})
	change("foreign-roster", "signature", "the roster is not signed by the root that it names", func(p *recordPayload) {
		payload, err := Verify(ContextRoster, Public(kr.Root()), p.Roster)
		if err != nil {
			t.Fatal(err)
		}
		p.Roster = Sign(ContextRoster, fixedKey("bob root"), payload)
	})
	change("no-epochs", "malformed", "keys for no epoch", func(p *recordPayload) { p.Epochs = nil })
	change("epoch-zero", "malformed", "keys for epoch 0, which stands for the fallback set", func(p *recordPayload) { p.Epochs[0].Epoch = 0 })
	change("epochs-unsorted", "malformed", "an epoch twice", func(p *recordPayload) { p.Epochs = append(p.Epochs, p.Epochs[0]) })
	change("sealing-short", "malformed", "a sealing key of 1,215 bytes", func(p *recordPayload) {
		p.Fallback.Sealing = p.Fallback.Sealing[1:]
	})
	change("hosts-5", "malformed", "five hosts", func(p *recordPayload) { p.Hosts = slices.Repeat(p.Hosts, 5) })
	change("keepers-5", "malformed", "five keepers", func(p *recordPayload) { p.Keepers = slices.Repeat(p.Keepers, 5) })
	change("addrs-9", "malformed", "nine addresses of a host", func(p *recordPayload) {
		p.Hosts[0].Addrs = slices.Repeat(p.Hosts[0].Addrs[:1], 9)
	})
	change("addr-129", "malformed", "an address of 129 bytes", func(p *recordPayload) { p.Hosts[0].Addrs[0] = make([]byte, 129) })
	change("addr-empty", "malformed", "an address of no bytes", func(p *recordPayload) { p.Hosts[0].Addrs[0] = nil })
	change("peer-65", "malformed", "a peer id of 65 bytes", func(p *recordPayload) { p.Hosts[0].Peer = make([]byte, 65) })
	change("peer-empty", "malformed", "a peer id of no bytes", func(p *recordPayload) { p.Hosts[0].Peer = nil })
	change("stamp-33", "malformed", "a stamp of 33 bits is asked for", func(p *recordPayload) { p.Policy.StampBits = 33 })
	change("too-large", "malformed", "more than 10,240 bytes", func(p *recordPayload) {
		s, _ := kr.SecretsFor(EpochAt(fixedTime))
		for i := range 7 {
			p.Epochs = append(p.Epochs, EpochKeys{Epoch: EpochAt(fixedTime) + 1 + Epoch(i), Keys: s.Public()})
		}
	})
	payload := encode(smallRecord(t, 5))
	device := fixedKey("alice device")
	fail("foreign-signature", "signature", "signed by another device than it names", Sign(ContextRecord, fixedKey("bob device"), payload))
	fail("context", "signature", "signed as a message", Sign(ContextMessage, device, payload))
	fail("trailing", "malformed", "a byte follows", append(signFixedRecord(smallRecord(t, 5)), 0))
	fail("long-key", "not canonical", "an integer in a longer form than it needs",
		Sign(ContextRecord, device, slices.Concat(payload[:1], []byte{0x18, 1}, payload[2:])))
	fail("duplicate", "malformed", "a key twice",
		Sign(ContextRecord, device, slices.Concat([]byte{payload[0] + 1}, payload[1:3], payload[1:])))
}

func runRecord(t *testing.T, v vector.Vector) error {
	r, err := ParseRecord(v.Body)
	if err != nil {
		return err
	}
	now := v.Time(t, "now")
	if err := r.Valid(now); err != nil {
		return err
	}
	e, ks, fallback := r.KeysAt(now)
	want(t, "root", r.Root(), Root(v.Key(t, "root")))
	want(t, "key", RecordKey(r.Root()), v.String(t, "record-key"))
	want(t, "hash of the key", RecordKeyHash(r.Root()), v.Key(t, "record-key-hash"))
	want(t, "sequence", r.Sequence, uint64(v.Int(t, "sequence")))
	want(t, "issued", r.Issued, v.Time(t, "issued"))
	want(t, "expires", r.Expires, v.Time(t, "expires"))
	want(t, "number of epochs", len(r.Epochs), int(v.Int(t, "epochs")))
	want(t, "epoch", e, Epoch(v.Int(t, "epoch")))
	want(t, "inbox", ks.Inbox(), Inbox(v.Key(t, "inbox")))
	want(t, "fallback", fmt.Sprint(fallback), v.String(t, "fallback"))
	want(t, "number of hosts", len(r.Hosts), int(v.Int(t, "hosts")))
	want(t, "number of keepers", len(r.Keepers), int(v.Int(t, "keepers")))
	want(t, "hash", r.Hash(), v.Key(t, "hash"))
	return nil
}

// Pins: the body is the record that comes after the one in pinned; a good one also has the verdict.

func makePins(t *testing.T, add func(vector.Vector)) {
	record := func(name string, generation, sequence uint64, change func(p *recordPayload)) []byte {
		p := smallRecord(t, sequence)
		p.Roster = fixedRoster(t, name, generation).Bytes()
		p.Device = publicOf(fixedKey(name + " device"))
		p.Hosts, p.Keepers = nil, nil
		if change != nil {
			change(&p)
		}
		return Sign(ContextRecord, fixedKey(name+" device"), encode(p))
	}
	old := record("alice", 2, 10, nil)
	pair := func(v vector.Vector, next []byte) { add(withBody(v.With("pinned", old), next)) }
	pair(ok("same", "the very same record").With("verdict", Same), old)
	pair(ok("sequence", "the next sequence").With("verdict", Newer), record("alice", 2, 11, nil))
	pair(ok("generation", "a newer roster, though a lower sequence").With("verdict", Newer), record("alice", 3, 1, nil))
	pair(bad("rollback", "rollback", "a lower sequence"), record("alice", 2, 9, nil))
	pair(bad("rollback-generation", "rollback", "an older roster, though a higher sequence"), record("alice", 1, 11, nil))
	pair(bad("fork", "fork", "the same sequence, and another record"), record("alice", 2, 10, func(p *recordPayload) { p.Policy.StampBits++ }))
	pair(bad("fork-roster", "fork", "the same generation, and another roster"), record("alice", 2, 11, func(p *recordPayload) {
		b, err := SignRoster(fixed("alice root"), 2, []Device{{Key: publicOf(fixedKey("alice device"))}})
		if err != nil {
			t.Fatal(err)
		}
		p.Roster = b
	}))
	pair(bad("person", "malformed", "the record of another person"), record("bob", 3, 11, nil))
}

func runPin(t *testing.T, v vector.Vector) error {
	old, err := ParseRecord(v.Bytes(t, "pinned"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := ParseRecord(v.Body)
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := Accept(old, next)
	if err != nil {
		return err
	}
	want(t, "verdict", fmt.Sprint(verdict), v.String(t, "verdict"))
	if (next.Compare(old) > 0) != (verdict == Newer) {
		t.Errorf("the verdict is %d, but Compare gives %d", verdict, next.Compare(old))
	}
	return nil
}

// Access proofs: the body is looked at by holder, which drew nonce, at now.

func makeAccesses(t *testing.T, add func(vector.Vector)) {
	key := fixedKey("alice fetch")
	access := func() Access {
		return Access{
			Op: OpGet, Fetch: publicOf(key), Delete: publicOf(fixedKey("alice delete")), Holder: fixedHost(t, "holder").Peer, Nonce: fixed("nonce"),
			Time: fixedTime.Unix(), IDs: [][32]byte{fixed("message 1"), fixed("message 2")},
		}
	}
	here := func(v vector.Vector, b []byte) {
		nonce := fixed("nonce")
		add(withBody(v.With("now", fixedTime).With("holder", fixedHost(t, "holder").Peer).With("nonce", nonce[:]), b))
	}
	good := func(name, comment string, change func(a *Access)) {
		a := access()
		change(&a)
		inbox := a.Inbox()
		here(ok(name, comment).With("op", a.Op).With("fetch", a.Fetch[:]).With("delete", a.Delete[:]).With("inbox", inbox[:]).
			With("ids", len(a.IDs)), SignAccess(key, a))
	}
	good("get", "two messages are asked for", func(a *Access) {})
	good("list", "the whole inbox is asked for", func(a *Access) { a.Op, a.IDs = OpList, nil })
	good("slow", "the clock of the owner is a day behind", func(a *Access) { a.Time -= daySeconds })
	good("fast", "the clock of the owner is a day ahead", func(a *Access) { a.Time += daySeconds })
	good("foreign-delete", "with another delete key it opens another inbox", func(a *Access) { a.Delete = publicOf(fixedKey("bob delete")) })
	fail := func(name, class, comment string, change func(a *Access)) {
		a := access()
		change(&a)
		here(bad(name, class, comment), Sign(ContextAccess, key, encode(a)))
	}
	fail("foreign-nonce", "other occasion", "another nonce", func(a *Access) { a.Nonce[31] ^= 1 })
	fail("foreign-holder", "other occasion", "another holder", func(a *Access) { a.Holder = fixedHost(t, "keeper").Peer })
	fail("old", "other occasion", "made more than a day ago", func(a *Access) { a.Time -= daySeconds + 1 })
	fail("future", "other occasion", "made more than a day from now", func(a *Access) { a.Time += daySeconds + 1 })
	fail("foreign-key", "signature", "signed by another key than the fetch key it names", func(a *Access) { a.Fetch = publicOf(fixedKey("bob fetch")) })
	fail("delete-key", "signature", "it names the delete key as its fetch key", func(a *Access) { a.Fetch = a.Delete })
	fail("no-op", "malformed", "no operation", func(a *Access) { a.Op = "" })
	fail("long-op", "malformed", "an operation of 17 bytes", func(a *Access) { a.Op = strings.Repeat("a", 17) })
	fail("no-holder", "malformed", "no holder", func(a *Access) { a.Holder = nil })
	fail("many", "malformed", "1,001 messages", func(a *Access) { a.IDs = make([][32]byte, MaxAccessIDs+1) })
	here(bad("context", "signature", "signed as a deletion"), Sign(ContextDelete, key, encode(access())))
	free := access()
	free.Fetch = Public{1}
	here(bad("small-order", "signature", "by a key of small order, for which anybody signs"), byNobody(encode(free)))
}

func runAccess(t *testing.T, v vector.Vector) error {
	a, err := VerifyAccess(v.Body, v.Bytes(t, "holder"), v.Key(t, "nonce"), v.Time(t, "now"))
	if err != nil {
		return err
	}
	want(t, "operation", a.Op, v.String(t, "op"))
	want(t, "fetch key", a.Fetch, Public(v.Key(t, "fetch")))
	want(t, "delete key", a.Delete, Public(v.Key(t, "delete")))
	want(t, "inbox", a.Inbox(), Inbox(v.Key(t, "inbox")))
	want(t, "number of ids", len(a.IDs), int(v.Int(t, "ids")))
	return nil
}

// byNobody signs for the key Public{1}, the point of order 1: the same signature holds for every payload.
func byNobody(payload []byte) []byte {
	return wire.JoinSigned(payload, append([]byte{1}, make([]byte, 63)...))
}

// Tombstones: the body is looked at at now.

func makeTombstones(t *testing.T, add func(vector.Vector)) {
	key := fixedKey("alice delete")
	tombstone := func() Tombstone {
		return Tombstone{
			Delete: publicOf(key), Fetch: publicOf(fixedKey("alice fetch")), Time: fixedTime.Unix(),
			Items: []TombstoneItem{{ID: fixed("message 1"), Expiry: DayAt(fixedTime) + 30}, {ID: fixed("message 2"), Expiry: DayAt(fixedTime)}},
		}
	}
	good := func(name, comment string, priv ed25519.PrivateKey) {
		s := tombstone()
		s.Delete = publicOf(priv)
		inbox := s.Inbox()
		add(withBody(ok(name, comment).With("now", fixedTime).With("delete", s.Delete[:]).With("fetch", s.Fetch[:]).With("inbox", inbox[:]).
			With("items", len(s.Items)), SignTombstone(priv, s)))
	}
	good("two", "two messages are deleted", key)
	good("foreign-delete", "with another delete key it is of another inbox", fixedKey("bob delete"))
	fail := func(name, class, comment string, change func(s *Tombstone)) {
		s := tombstone()
		change(&s)
		add(withBody(bad(name, class, comment).With("now", fixedTime), Sign(ContextDelete, key, encode(s))))
	}
	fail("foreign-key", "signature", "signed by another key than the delete key it names", func(s *Tombstone) { s.Delete = publicOf(fixedKey("bob delete")) })
	fail("fetch-key", "signature", "it names the fetch key as its delete key", func(s *Tombstone) { s.Delete = s.Fetch })
	fail("empty", "malformed", "no messages", func(s *Tombstone) { s.Items = nil })
	fail("many", "malformed", "1,001 messages", func(s *Tombstone) { s.Items = make([]TombstoneItem, MaxTombstoneItems+1) })
	fail("late", "malformed", "a message that would expire in 33 days", func(s *Tombstone) { s.Items[0].Expiry = DayAt(fixedTime) + 33 })
	fail("future", "malformed", "made more than a day from now", func(s *Tombstone) { s.Time += daySeconds + 1 })
	add(withBody(bad("context", "signature", "signed as an access proof").With("now", fixedTime), Sign(ContextAccess, key, encode(tombstone()))))
	free := tombstone()
	free.Delete = Public{1}
	add(withBody(bad("small-order", "signature", "by a key of small order, for which anybody signs").With("now", fixedTime),
		byNobody(encode(free))))
}

func runTombstone(t *testing.T, v vector.Vector) error {
	s, err := ParseTombstone(v.Body)
	if err != nil {
		return err
	}
	if err := s.Check(v.Time(t, "now")); err != nil {
		return err
	}
	want(t, "delete key", s.Delete, Public(v.Key(t, "delete")))
	want(t, "fetch key", s.Fetch, Public(v.Key(t, "fetch")))
	want(t, "inbox", s.Inbox(), Inbox(v.Key(t, "inbox")))
	want(t, "number of items", len(s.Items), int(v.Int(t, "items")))
	return nil
}

// Storage receipts: the body must come from host.

func makeStorageReceipts(t *testing.T, add func(vector.Vector)) {
	host := &HostKey{private: fixedKey("holder host")}
	r := StorageReceipt{ID: fixed("message 1"), Inbox: newSecrets(fixedSeeds("alice")).Inbox(), Expiry: DayAt(fixedTime) + 30, Time: fixedTime.Unix()}
	from := func(v vector.Vector, b []byte) { add(withBody(v.With("host", []byte(host.Public())), b)) }
	from(ok("good", "signed by the host").With("id", r.ID[:]).With("inbox", r.Inbox[:]).With("expiry", r.Expiry).With("time", r.Time),
		SignStorageReceipt(host, r))
	from(bad("foreign-host", "signature", "signed by another host"), SignStorageReceipt(&HostKey{private: fixedKey("keeper host")}, r))
	from(bad("context", "signature", "signed as a message"), Sign(ContextMessage, host.private, encode(r)))
	past := r
	past.Time = -1
	from(bad("past", "malformed", "dated before the Unix epoch"), SignStorageReceipt(host, past))
	b := encode(r)
	from(bad("long-key", "not canonical", "an integer in a longer form than it needs"),
		Sign(ContextStorageReceipt, host.private, slices.Concat(b[:1], []byte{0x18, 1}, b[2:])))
}

func runStorageReceipt(t *testing.T, v vector.Vector) error {
	r, err := ParseStorageReceipt(v.Body, v.Bytes(t, "host"))
	if err != nil {
		return err
	}
	want(t, "id", r.ID, v.Key(t, "id"))
	want(t, "inbox", r.Inbox, Inbox(v.Key(t, "inbox")))
	want(t, "expiry", r.Expiry, Day(v.Int(t, "expiry")))
	want(t, "time", r.Time, v.Int(t, "time"))
	return nil
}

// Hosts: the seed of a host key, its public half, and how much of the puzzle it solves.

func makeHosts(t *testing.T, add func(vector.Vector)) {
	best := map[int]bool{}
	for i := range 3000 {
		key := fixedKey(fmt.Sprint("host ", i))
		pub := key.Public().(ed25519.PublicKey)
		bits := PuzzleBits(pub)
		if best[bits] || bits != 0 && bits < 8 {
			continue
		}
		best[bits] = true
		sum := sha256.Sum256(append([]byte("peerpost host"), pub...))
		add(ok(fmt.Sprintf("bits-%02d", bits), "a key and its puzzle").With("seed", key.Seed()).With("public", []byte(pub)).
			With("hash", sum[:]).With("bits", bits))
	}
}

func runHost(t *testing.T, v vector.Vector) error {
	pub := ed25519.NewKeyFromSeed(v.Bytes(t, "seed")).Public().(ed25519.PublicKey)
	want(t, "public key", hex.EncodeToString(pub), v.String(t, "public"))
	want(t, "bits", PuzzleBits(pub), int(v.Int(t, "bits")))
	return nil
}

// TestLoaderFailsOnNothing: a loader that finds no vectors must not pass in silence.
func TestLoaderFailsOnNothing(t *testing.T) {
	var failed bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := &recorder{TB: t, failed: &failed}
		vector.Load(r, "no-such-kind")
	}()
	<-done
	if !failed {
		t.Fatal("loading vectors of an unknown kind passed")
	}
}

// recorder notes a fatal failure instead of failing the test.
type recorder struct {
	testing.TB
	failed *bool
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(string, ...any) {
	*r.failed = true
	runtime.Goexit()
}
