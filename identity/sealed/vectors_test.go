package sealed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"filippo.io/age"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/internal/vector"
	"github.com/peerpost/peerpost/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden vectors of this package; read the difference before you commit it")

// fixedTime is the moment at which the golden vectors are made, here and in package identity.
var fixedTime = time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)

// account opens the keyring of a golden vault; package identity makes them.
func account(t testing.TB, name string) *identity.Keyring {
	t.Helper()
	v, err := identity.OpenVault(filepath.Join(vector.Dir(t), "vaults", name))
	if err != nil {
		t.Fatal(err)
	}
	kr, _, err := v.Unlock(t.Context(), "peerpost vector")
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

// fixed is a secret of the golden vectors: SHA-256 of its name.
func fixed(name string) [32]byte { return sha256.Sum256([]byte("peerpost vector " + name)) }

// classes tells by which error a vector's failure is recognised. What has none of them is "malformed".
var classes = map[string]error{
	"no key":      ErrNoKey,
	"malformed":   ErrMalformed,
	"forged":      ErrForged,
	"other place": ErrBinding,
	"future":      ErrFuture,
	"expired":     ErrExpired,
}

func classOf(err error) string {
	if err == nil {
		return vector.Success
	}
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		if errors.Is(err, classes[class]) {
			return class
		}
	}
	return "malformed"
}

// TestVectors runs the vectors on disk. Those that are deterministic are made anew and compared before; sealed
// messages are not, since age draws keys at random: they are fixed bytes that have to open, or not, for ever.
func TestVectors(t *testing.T) {
	for _, kind := range []struct {
		name   string
		random bool
		make   func(t *testing.T, add func(vector.Vector))
		run    func(t *testing.T, v vector.Vector) error
	}{
		{"padme", false, makePadme, runPadme},
		{"stamp", false, makeStamps, runStamp},
		{"outer", false, makeOuters, runOuter},
		{"receipt", false, makeReceipts, runReceipt},
		{"sealed", true, makeSealed, runSealed},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var made []vector.Vector
			if *update || !kind.random {
				kind.make(t, func(v vector.Vector) {
					v.Kind, v.Name = kind.name, kind.name+"-"+v.Name
					made = append(made, v)
				})
			}
			if *update {
				vector.Update(t, kind.name, made)
			}
			onDisk := vector.Load(t, kind.name)
			if !kind.random {
				byName := map[string][]byte{}
				for _, v := range onDisk {
					byName[v.Name] = v.Format()
				}
				for _, v := range made {
					if !bytes.Equal(byName[v.Name], v.Format()) {
						t.Errorf("%s: the vector on disk differs from the one that is made now", v.Name)
					}
				}
				if len(made) != len(onDisk) {
					t.Errorf("%d vectors are on disk, %d are made", len(onDisk), len(made))
				}
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
	if classes[class] == nil {
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

// Padme: sizes before and after.

func makePadme(t *testing.T, add func(vector.Vector)) {
	v := ok("sizes", "size before and after padding, in bytes")
	for _, n := range []int{0, 1, 4095, 4096, 4097, 4352, 4353, 5000, 8191, 8192, 8193, 65535, 65536, 65537, 100000, 1 << 20, 1<<20 + 1, 10 << 20, 40<<20 + 12288} {
		v = v.With("size", fmt.Sprint(n, " ", Padme(n)))
	}
	add(v)
}

func runPadme(t *testing.T, v vector.Vector) error {
	for _, h := range v.Headers {
		var n, padded int
		if _, err := fmt.Sscan(h.Value, &n, &padded); err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprint("padded size of ", n), Padme(n), padded)
	}
	return nil
}

// Stamps: id, nonce, and the bits it is asked for.

func makeStamps(t *testing.T, add func(vector.Vector)) {
	id := ID(fixed("message 1"))
	for _, bits := range []int{0, 1, 8, 12, 18} {
		s, err := MakeStamp(t.Context(), id, bits)
		if err != nil {
			t.Fatal(err)
		}
		add(ok(fmt.Sprintf("bits-%02d", bits), "the smallest nonce with so many bits").With("id", id[:]).With("nonce", s.Nonce).With("bits", bits))
		if bits == 18 {
			other := ID(fixed("message 2"))
			add(bad("foreign", "malformed", "a stamp for another message").With("id", other[:]).With("nonce", s.Nonce).With("bits", bits))
			add(bad("too-few", "malformed", "a nonce with fewer bits than asked").With("id", id[:]).With("nonce", s.Nonce).With("bits", s.work(id)+1))
		}
	}
}

func runStamp(t *testing.T, v vector.Vector) error {
	s := Stamp{Nonce: uint64(v.Int(t, "nonce"))}
	if !s.Valid(v.Key(t, "id"), int(v.Int(t, "bits"))) {
		return errors.New("too little work")
	}
	return nil
}

// Outers: the body is the outer part, looked at at now. A good one also has its id.

func fixedOuter() Outer {
	return Outer{
		Version: 1, Suite: 1, Inbox: fixed("inbox"), Epoch: identity.EpochAt(fixedTime),
		Expiry: identity.DayAt(fixedTime) + 30, Hash: fixed("body"), Size: MinBody,
	}
}

func makeOuters(t *testing.T, add func(vector.Vector)) {
	good := func(name, comment string, change func(o *Outer)) {
		o := fixedOuter()
		change(&o)
		id := o.ID()
		add(withBody(ok(name, comment).With("now", fixedTime).With("id", id[:]).With("stamp-bits", StampBits(int(o.Size))), o.Marshal()))
	}
	good("plain", "without a stamp", func(o *Outer) {})
	good("stamped", "with a stamp, which is not part of the id", func(o *Outer) { o.Stamp = &Stamp{Nonce: 1 << 40} })
	good("fallback", "sealed to the fallback set", func(o *Outer) { o.Epoch = identity.FallbackEpoch })
	good("largest", "the largest body, which costs 28 bits", func(o *Outer) { o.Size = MaxBody })
	good("last-moment", "it expired yesterday, by our clock", func(o *Outer) { o.Expiry = identity.DayAt(fixedTime) - 1 })
	good("next-epoch", "sealed in the next epoch, by our clock", func(o *Outer) { o.Epoch++ })
	good("longest", "kept for as long as can be", func(o *Outer) { o.Expiry++ })
	fail := func(name, class, comment string, change func(o *Outer)) {
		o := fixedOuter()
		change(&o)
		add(withBody(bad(name, class, comment).With("now", fixedTime), o.Marshal()))
	}
	fail("version", "malformed", "version 2", func(o *Outer) { o.Version = 2 })
	fail("suite", "malformed", "suite 2", func(o *Outer) { o.Suite = 2 })
	fail("size-small", "malformed", "a body smaller than any", func(o *Outer) { o.Size = MinBody - 1 })
	fail("size-large", "malformed", "a body larger than any", func(o *Outer) { o.Size = MaxBody + 1 })
	fail("expired", "expired", "it expired the day before yesterday", func(o *Outer) { o.Expiry = identity.DayAt(fixedTime) - 2 })
	fail("too-long", "malformed", "it wants to be kept for 32 days", func(o *Outer) { o.Expiry += 2 })
	fail("epoch-future", "malformed", "sealed in the epoch after the next", func(o *Outer) { o.Epoch += 2 })
	b := fixedOuterBytes()
	raw := func(name, comment string, b []byte) {
		add(withBody(bad(name, "malformed", comment).With("now", fixedTime), b))
	}
	raw("trailing", "a byte follows", append(slices.Clone(b), 0))
	raw("cut-short", "a byte is missing", b[:len(b)-1])
	raw("long-key", "an integer in a longer form than it needs", slices.Concat(b[:1], []byte{0x18, 1}, b[2:]))
	raw("duplicate", "a key twice", slices.Concat([]byte{b[0] + 1}, b[1:3], b[1:]))
	raw("unknown", "a key that is not known", slices.Concat([]byte{b[0] + 1}, b[1:], []byte{9, 0}))
	raw("null-stamp", "a stamp that is null instead of absent", slices.Concat([]byte{b[0] + 1}, b[1:], []byte{8, 0xf6}))
	raw("too-large", "more than 512 bytes", slices.Concat([]byte{b[0] + 1}, b[1:], []byte{9, 0x59, 2, 0}, make([]byte, 512)))
}

func fixedOuterBytes() []byte {
	o := fixedOuter()
	return o.Marshal()
}

func runOuter(t *testing.T, v vector.Vector) error {
	o, err := ParseOuter(v.Body)
	if err != nil {
		return err
	}
	if err := o.Check(v.Time(t, "now")); err != nil {
		return err
	}
	want(t, "id", o.ID(), ID(v.Key(t, "id")))
	want(t, "stamp bits", StampBits(int(o.Size)), int(v.Int(t, "stamp-bits")))
	if !bytes.Equal(o.Marshal(), v.Body) {
		t.Error("encodes otherwise after decoding")
	}
	return nil
}

// Receipts: the body.

func makeReceipts(t *testing.T, add func(vector.Vector)) {
	receipt := func() Receipt {
		return Receipt{Items: []ReceiptItem{
			{MessageID: [16]byte{1}, Status: StatusDelivered, Time: fixedTime.Unix()},
			{MessageID: [16]byte{2}, Status: StatusRefused, Reason: "the mailbox is full", Time: fixedTime.Unix() + 1},
			{MessageID: [16]byte{3}, Status: StatusDisplayed, Time: fixedTime.Unix() + 2},
		}}
	}
	r := receipt()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v := ok("three", "one message delivered, one refused, one displayed")
	for _, i := range r.Items {
		v = v.With("item", fmt.Sprintf("%x %d %d %s", i.MessageID, i.Status, i.Time, i.Reason))
	}
	add(withBody(v, b))
	fail := func(name, comment string, change func(r *Receipt)) {
		r := receipt()
		change(&r)
		b, err := wire.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		add(withBody(bad(name, "malformed", comment), b))
	}
	fail("empty", "no items", func(r *Receipt) { r.Items = nil })
	fail("many", "501 items", func(r *Receipt) { r.Items = slices.Repeat(r.Items[:1], MaxReceiptItems+1) })
	fail("status-0", "status 0", func(r *Receipt) { r.Items[0].Status = 0 })
	fail("status-4", "status 4", func(r *Receipt) { r.Items[0].Status = 4 })
	fail("reason-place", "a reason for a delivery", func(r *Receipt) { r.Items[0].Reason = "why" })
	fail("reason-long", "a reason of 201 bytes", func(r *Receipt) { r.Items[1].Reason = strings.Repeat("a", MaxReason+1) })
	fail("reason-line", "a reason of two lines", func(r *Receipt) { r.Items[1].Reason = "full\r\nBcc: eve@example.com" })
	fail("reason-escape", "a reason with a terminal escape", func(r *Receipt) { r.Items[1].Reason = "\x1b[2J" })
	fail("time", "dated before the Unix epoch", func(r *Receipt) { r.Items[0].Time = -1 })
}

func runReceipt(t *testing.T, v vector.Vector) error {
	r, err := ParseReceipt(v.Body)
	if err != nil {
		return err
	}
	want(t, "number of items", len(r.Items), len(v.Headers))
	for i, h := range v.Headers {
		item := r.Items[i]
		want(t, "item", fmt.Sprintf("%x %d %d %s", item.MessageID, item.Status, item.Time, item.Reason), h.Value)
	}
	return nil
}

// Sealed messages: the body is the age file, the header outer the outer part. The recipient has the root key root and,
// for epoch, the secrets identity (as age writes it), fetch-seed and delete-seed; it opens the message at now. A good
// one also has what is inside.

// plan is how a message is made, step by step, so that each fault can be put in where it belongs. A nil step is the
// honest one.
type plan struct {
	from, to  *identity.Keyring
	secrets   *identity.Secrets // of to, that the message is sealed to
	epoch     identity.Epoch
	recipient *identity.Keyring // who opens it, when it is not to

	inner     func(in *Inner)                    // before it is encoded
	fields    func(b []byte) []byte              // the encoding of inner
	sign      func(fields []byte) []byte         // the signature
	mail      func(b []byte) []byte              // after it is signed
	joined    func(b []byte) []byte              // the inner part
	plaintext func(inner []byte) []byte          // with length and padding
	encrypt   func(plain []byte) ([]byte, error) // the age file
	body      func(b []byte) []byte              // the age file, after encryption
	outer     func(o *Outer)                     // before the message goes out
}

func (p *plan) make(t testing.TB) *Message {
	t.Helper()
	keys := p.secrets.Public()
	in := &Inner{
		Kind: KindMail, From: p.from.Root(), Device: p.from.Device(), Roster: p.from.Roster().Bytes(), To: p.to.Root(),
		SealingHash: keys.SealingHash(), Inbox: keys.Inbox(), Epoch: p.epoch, MessageID: [16]byte{1, 2, 3},
		Time: fixedTime.Unix(), Expiry: identity.DayAt(fixedTime) + 30, Recipient: "bob",
		Body: []byte("From: alice\r\nTo: bob\r\nSubject: hello\r\n\r\nHello, Bob.\r\n"),
	}
	in.BodyHash = sha256.Sum256(in.Body)
	if p.inner != nil {
		p.inner(in)
	}
	fields, err := wire.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	step(&fields, p.fields)
	signature := p.from.Sign(identity.ContextMessage, fields)
	if p.sign != nil {
		signature = p.sign(fields)
	}
	mail := in.Body
	step(&mail, p.mail)
	joined := wire.JoinPair(wire.JoinSigned(fields, signature), mail)
	step(&joined, p.joined)
	plain := padded(joined)
	if p.plaintext != nil {
		plain = p.plaintext(joined)
	}
	seal := ageTo(p.secrets.Sealing().Recipient())
	if p.encrypt != nil {
		seal = p.encrypt
	}
	body, err := seal(plain)
	if err != nil {
		t.Fatal(err)
	}
	step(&body, p.body)
	o := Outer{
		Version: 1, Suite: 1, Inbox: keys.Inbox(), Epoch: p.epoch, Expiry: identity.DayAt(fixedTime) + 30,
		Hash: sha256.Sum256(body), Size: uint64(len(body)),
	}
	if p.outer != nil {
		p.outer(&o)
	}
	return &Message{Outer: o, Body: body}
}

func step(b *[]byte, f func([]byte) []byte) {
	if f != nil {
		*b = f(slices.Clone(*b))
	}
}

// rejoin is the inner part that in stands for.
func rejoin(t testing.TB, in *Inner, signature []byte) []byte {
	t.Helper()
	fields, err := wire.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return wire.JoinPair(wire.JoinSigned(fields, signature), in.Body)
}

func hashOf(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func padded(inner []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(inner)))
	b = append(b, inner...)
	return append(b, make([]byte, Padme(len(b))-len(b))...)
}

func ageTo(recipients ...age.Recipient) func([]byte) ([]byte, error) {
	return func(plain []byte) ([]byte, error) {
		var out bytes.Buffer
		w, err := age.Encrypt(&out, recipients...)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(plain); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		return out.Bytes(), nil
	}
}

// both wraps for two recipients whom age would not let share a file.
type both [2]age.Recipient

func (b both) Wrap(key []byte) (out []*age.Stanza, err error) {
	for _, r := range b {
		stanzas, err := r.Wrap(key)
		if err != nil {
			return nil, err
		}
		out = append(out, stanzas...)
	}
	return out, nil
}

// renamed is a recipient whose stanza is changed.
type renamed struct {
	age.Recipient
	change func(s *age.Stanza)
}

func (r renamed) Wrap(key []byte) ([]*age.Stanza, error) {
	stanzas, err := r.Recipient.Wrap(key)
	for _, s := range stanzas {
		r.change(s)
	}
	return stanzas, err
}

func makeSealed(t *testing.T, add func(vector.Vector)) {
	cryptotest.SetGlobalRandom(t, 1)
	alice, bob, carol := account(t, "alice"), account(t, "bob"), account(t, "carol")
	epoch := identity.EpochAt(fixedTime)
	secretsOf := func(kr *identity.Keyring, e identity.Epoch) *identity.Secrets {
		s, ok := kr.SecretsFor(e)
		if !ok {
			t.Fatalf("no secrets for epoch %d", e)
		}
		return s
	}
	base := func() *plan {
		return &plan{from: alice, to: bob, secrets: secretsOf(bob, epoch), epoch: epoch}
	}
	finish := func(v vector.Vector, p *plan, m *Message) vector.Vector {
		reader, secrets := p.to, p.secrets
		if p.recipient != nil {
			reader, secrets = p.recipient, secretsOf(p.recipient, epoch)
		}
		root, name := reader.Root(), "bob"
		if reader == carol {
			name = "carol"
		}
		return withBody(v.With("now", fixedTime).With("recipient", name).With("root", root[:]).With("epoch", p.epoch).
			With("identity", secrets.Sealing().String()).With("fetch-seed", secrets.Fetch.Seed()).
			With("delete-seed", secrets.Delete.Seed()).With("outer", m.Outer.Marshal()), m.Body)
	}
	good := func(name, comment string, change func(p *plan)) {
		p := base()
		change(p)
		m := p.make(t)
		in, err := OpenAt(p.to, m, fixedTime)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id, hash := m.Outer.ID(), sha256.Sum256(in.Body)
		v := finish(ok(name, comment), p, m).With("id", id[:]).With("kind-of-message", in.Kind).With("from", in.From[:]).
			With("device", in.Device[:]).With("message-id", in.MessageID[:]).With("time", in.Time).With("expiry", in.Expiry).
			With("local-part", "<"+in.Recipient+">").With("mail-size", len(in.Body)).With("mail-hash", hash[:]).
			With("record-size", len(in.SenderRecord))
		add(v)
	}
	good("mail", "a short mail, padded to 4 KiB", func(p *plan) {})
	good("long", "a mail beyond the floor of the padding", func(p *plan) {
		p.inner = func(in *Inner) {
			in.Body = bytes.Repeat([]byte("peerpost\r\n"), 450)
			in.BodyHash = sha256.Sum256(in.Body)
		}
	})
	good("full", "a mail that needs no padding", func(p *plan) {
		p.inner = func(in *Inner) {
			in.Body = make([]byte, 4096-lengthSize-(1+3+501+3))
			for {
				in.BodyHash = sha256.Sum256(in.Body)
				fields, _ := wire.Marshal(in)
				n := lengthSize + len(wire.JoinPair(wire.JoinSigned(fields, make([]byte, 64)), in.Body))
				if n == 4096 {
					return
				}
				in.Body = make([]byte, len(in.Body)+4096-n)
			}
		}
	})
	good("empty", "a mail of no bytes", func(p *plan) {
		p.inner = func(in *Inner) { in.Body, in.BodyHash = nil, sha256.Sum256(nil) }
	})
	good("receipt", "a receipt", func(p *plan) {
		p.inner = func(in *Inner) {
			r := Receipt{Items: []ReceiptItem{{MessageID: [16]byte{9}, Status: StatusDelivered, Time: fixedTime.Unix()}}}
			b, err := r.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			in.Kind, in.Recipient, in.Body, in.BodyHash = KindReceipt, "", b, sha256.Sum256(b)
		}
	})
	good("fallback", "sealed to the fallback set, which epoch 0 names", func(p *plan) {
		p.secrets, p.epoch = bob.Fallbacks()[0], identity.FallbackEpoch
	})
	good("record", "with the sender's record", func(p *plan) {
		record, err := alice.SignRecord(identity.RecordParams{Now: fixedTime, Sequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		p.inner = func(in *Inner) { in.SenderRecord = record }
	})
	good("tomorrow", "dated a day from now, which clocks may be off", func(p *plan) {
		p.inner = func(in *Inner) { in.Time += 24 * 60 * 60 }
	})

	fail := func(name, class, comment string, change func(p *plan)) {
		p := base()
		change(p)
		add(finish(bad(name, class, comment), p, p.make(t)))
	}
	// The age file. Where it would come out shorter than any body may be, there is a longer mail in it.
	long := func(in *Inner) {
		in.Body = make([]byte, 8000)
		in.BodyHash = sha256.Sum256(in.Body)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	x25519 := id.Recipient()
	to := func(p *plan) age.Recipient { return p.secrets.Sealing().Recipient() }
	// Two stanzas of the hybrid kind do not fit into a header; a short one besides does.
	fail("two-stanzas", "malformed", "an X25519 stanza after the hybrid one", func(p *plan) { p.encrypt = ageTo(both{to(p), x25519}) })
	fail("two-stanzas-first", "malformed", "an X25519 stanza before the hybrid one", func(p *plan) { p.encrypt = ageTo(both{x25519, to(p)}) })
	fail("two-stanzas-hybrid", "malformed", "sealed to another recipient besides", func(p *plan) {
		p.encrypt = ageTo(to(p), secretsOf(carol, epoch).Sealing().Recipient())
	})
	fail("x25519", "malformed", "sealed to an X25519 key", func(p *plan) {
		p.inner = long
		p.encrypt = ageTo(x25519)
	})
	fail("scrypt", "malformed", "sealed to a passphrase", func(p *plan) {
		r, err := age.NewScryptRecipient("peerpost vector")
		if err != nil {
			t.Fatal(err)
		}
		r.SetWorkFactor(4)
		p.inner = long
		p.encrypt = ageTo(r)
	})
	fail("unknown-stanza", "malformed", "a stanza of a kind that is not known", func(p *plan) {
		p.encrypt = ageTo(renamed{to(p), func(s *age.Stanza) { s.Type = "mlkem768x25519b" }})
	})
	fail("argument", "malformed", "an argument of the stanza too many", func(p *plan) {
		p.encrypt = ageTo(renamed{to(p), func(s *age.Stanza) { s.Args = append(s.Args, "x") }})
	})
	fail("header-large", "malformed", "a header of more than 2 KiB", func(p *plan) {
		p.encrypt = ageTo(renamed{to(p), func(s *age.Stanza) { s.Body = append(s.Body, make([]byte, 600)...) }})
	})
	fail("not-age", "malformed", "not an age file", func(p *plan) {
		p.body = func(b []byte) []byte { b[0] ^= 1; return b }
	})
	fail("truncated", "malformed", "the last byte is missing", func(p *plan) {
		p.inner = long
		p.body = func(b []byte) []byte { return b[:len(b)-1] }
	})
	fail("appended", "malformed", "a byte follows", func(p *plan) { p.body = func(b []byte) []byte { return append(b, 0) } })
	fail("damaged", "malformed", "one bit of the mail is another", func(p *plan) {
		p.body = func(b []byte) []byte { b[len(b)-1000] ^= 1; return b }
	})
	fail("damaged-mac", "malformed", "one bit of the header's MAC is another", func(p *plan) {
		p.body = func(b []byte) []byte {
			i := bytes.Index(b, []byte("\n--- ")) + 5
			if b[i] != 'A' {
				b[i] = 'A'
			} else {
				b[i] = 'B'
			}
			return b
		}
	})
	fail("foreign-key", "malformed", "sealed to another key than the inbox has", func(p *plan) {
		p.encrypt = ageTo(secretsOf(bob, epoch+1).Sealing().Recipient())
	})
	// The plaintext.
	fail("padding-nonzero", "malformed", "the last byte of the padding is 1", func(p *plan) {
		p.plaintext = func(inner []byte) []byte { b := padded(inner); b[len(b)-1] = 1; return b }
	})
	fail("padding-long", "malformed", "padded to 4,352 bytes instead of 4,096", func(p *plan) {
		p.plaintext = func(inner []byte) []byte { return append(padded(inner), make([]byte, 256)...) }
	})
	fail("padding-short", "malformed", "padded to a byte less than it should", func(p *plan) {
		p.inner = func(in *Inner) { in.Body = make([]byte, 5000); in.BodyHash = sha256.Sum256(in.Body) }
		p.plaintext = func(inner []byte) []byte { b := padded(inner); return b[:len(b)-1] }
	})
	fail("length-long", "malformed", "the length goes beyond the end", func(p *plan) {
		p.plaintext = func(inner []byte) []byte { b := padded(inner); b[0] = 1; return b }
	})
	fail("length-short", "malformed", "the length ends a byte early", func(p *plan) {
		p.plaintext = func(inner []byte) []byte { b := padded(inner); b[3]--; return b }
	})
	fail("inner-trailing", "malformed", "a byte follows the inner part", func(p *plan) {
		p.joined = func(b []byte) []byte { return append(b, 0) }
	})
	// The fields.
	fail("long-key", "malformed", "an integer in a longer form than it needs", func(p *plan) {
		p.fields = func(b []byte) []byte { return slices.Concat(b[:1], []byte{0x18, 1}, b[2:]) }
	})
	fail("duplicate", "malformed", "a key twice", func(p *plan) {
		p.fields = func(b []byte) []byte { return slices.Concat([]byte{b[0] + 1}, b[1:3], b[1:]) }
	})
	fail("unknown-key", "malformed", "a key that is not known", func(p *plan) {
		p.fields = func(b []byte) []byte { return slices.Concat([]byte{b[0] + 1}, b[1:], []byte{15, 0}) }
	})
	fail("trailing", "malformed", "a byte follows the fields", func(p *plan) {
		p.fields = func(b []byte) []byte { return append(b, 0) }
	})
	fail("other-mail", "malformed", "the mail is not the one that was signed", func(p *plan) {
		p.mail = func(b []byte) []byte { b[0] ^= 1; return b }
	})
	fail("kind", "malformed", "kind 3", func(p *plan) { p.inner = func(in *Inner) { in.Kind = 3 } })
	fail("no-message-id", "malformed", "a message id of zeros", func(p *plan) { p.inner = func(in *Inner) { in.MessageID = [16]byte{} } })
	fail("local-part", "malformed", "a recipient with a line end", func(p *plan) { p.inner = func(in *Inner) { in.Recipient = "bob\r\n" } })
	fail("expires-late", "malformed", "it expires 32 days after its date", func(p *plan) {
		p.inner = func(in *Inner) { in.Expiry += 2 }
		p.outer = func(o *Outer) { o.Expiry += 2 }
	})
	fail("before-time", "malformed", "dated before the Unix epoch", func(p *plan) { p.inner = func(in *Inner) { in.Time = -1 } })
	fail("future", "future", "dated a day and a second from now", func(p *plan) {
		p.inner = func(in *Inner) { in.Time += 24*60*60 + 1 }
	})
	// Who wrote it.
	fail("context", "forged", "signed as a record", func(p *plan) {
		p.sign = func(fields []byte) []byte { return alice.Sign(identity.ContextRecord, fields) }
	})
	fail("foreign-signature", "forged", "signed by another device than it names", func(p *plan) {
		p.sign = func(fields []byte) []byte { return bob.Sign(identity.ContextMessage, fields) }
	})
	fail("foreign-device", "forged", "the roster does not name the device", func(p *plan) {
		p.inner = func(in *Inner) { in.Device = bob.Device() }
		p.sign = func(fields []byte) []byte { return bob.Sign(identity.ContextMessage, fields) }
	})
	fail("early", "forged", "dated more than a day before the device was added", func(p *plan) {
		p.inner = func(in *Inner) { in.Time -= 2 * 24 * 60 * 60; in.Expiry -= 2 }
		p.outer = func(o *Outer) { o.Expiry -= 2 }
	})
	fail("foreign-roster", "forged", "the roster is not signed by the root that it names", func(p *plan) {
		seed := fixed("bob root")
		p.inner = func(in *Inner) {
			payload, _, err := wire.SplitSigned(in.Roster)
			if err != nil {
				t.Fatal(err)
			}
			in.Roster = identity.Sign(identity.ContextRoster, ed25519.NewKeyFromSeed(seed[:]), payload)
		}
	})
	fail("other-person", "forged", "in the name of another person", func(p *plan) { p.inner = func(in *Inner) { in.From = carol.Root() } })
	// For whom it is.
	fail("no-key", "no key", "to an inbox of somebody else", func(p *plan) { p.outer = func(o *Outer) { o.Inbox = secretsOf(carol, epoch).Inbox() } })
	fail("foreign-delete", "no key", "to the inbox of the recipient's fetch key and another delete key", func(p *plan) {
		keys := p.secrets.Public()
		p.outer = func(o *Outer) { o.Inbox = identity.InboxOf(keys.Fetch, secretsOf(bob, epoch+1).Public().Delete) }
	})
	fail("to", "other place", "addressed to somebody else", func(p *plan) { p.inner = func(in *Inner) { in.To = carol.Root() } })
	fail("sealing-key", "other place", "signed for another sealing key", func(p *plan) {
		p.inner = func(in *Inner) { in.SealingHash = secretsOf(bob, epoch+1).Public().SealingHash() }
	})
	fail("inbox", "other place", "signed for another inbox", func(p *plan) {
		p.inner = func(in *Inner) { in.Inbox = secretsOf(bob, epoch+1).Inbox() }
	})
	fail("epoch", "other place", "signed for another epoch", func(p *plan) { p.inner = func(in *Inner) { in.Epoch++ } })
	fail("expiry", "other place", "signed for an earlier expiry than it travels with", func(p *plan) { p.inner = func(in *Inner) { in.Expiry-- } })
	fail("outer-expiry", "other place", "it travels with an earlier expiry than was signed", func(p *plan) { p.outer = func(o *Outer) { o.Expiry-- } })
	fail("outer-epoch", "other place", "an epoch that the inbox is not of, outside and inside", func(p *plan) {
		p.inner = func(in *Inner) { in.Epoch++ }
		p.outer = func(o *Outer) { o.Epoch++ }
	})
	fail("outer-hash", "malformed", "the hash is of another body", func(p *plan) { p.outer = func(o *Outer) { o.Hash[0] ^= 1 } })
	fail("outer-size", "malformed", "the size is of another body", func(p *plan) { p.outer = func(o *Outer) { o.Size++ } })
	fail("outer-suite", "malformed", "suite 2", func(p *plan) { p.outer = func(o *Outer) { o.Suite = 2 } })
	// What Alice wrote to Bob, sealed again by Bob to Carol.
	fail("resealed", "other place", "sealed again by its recipient to a third person", func(p *plan) {
		third := secretsOf(carol, epoch)
		p.recipient, p.encrypt = carol, ageTo(third.Sealing().Recipient())
		p.outer = func(o *Outer) { o.Inbox = third.Inbox() }
	})
}

func runSealed(t *testing.T, v vector.Vector) error {
	kr := account(t, v.String(t, "recipient"))
	want(t, "root", kr.Root(), identity.Root(v.Key(t, "root")))
	secrets, found := kr.SecretsFor(identity.Epoch(v.Int(t, "epoch")))
	if v.Int(t, "epoch") == 0 {
		secrets, found = kr.Fallbacks()[0], true
	}
	if !found || secrets.Sealing().String() != v.String(t, "identity") || !bytes.Equal(secrets.Fetch.Seed(), v.Bytes(t, "fetch-seed")) ||
		!bytes.Equal(secrets.Delete.Seed(), v.Bytes(t, "delete-seed")) {
		t.Fatal("the keys of the vector are not those of its recipient")
	}
	var o Outer // not ParseOuter: whatever is wrong must be noticed when the message is opened
	if err := wire.Unmarshal(v.Bytes(t, "outer"), &o); err != nil {
		t.Fatal(err)
	}
	in, err := OpenAt(kr, &Message{Outer: o, Body: v.Body}, v.Time(t, "now"))
	if err != nil {
		if in != nil {
			t.Error("something was released with the error")
		}
		return err
	}
	want(t, "id", o.ID(), ID(v.Key(t, "id")))
	want(t, "kind", int64(in.Kind), v.Int(t, "kind-of-message"))
	want(t, "sender", in.From, identity.Root(v.Key(t, "from")))
	want(t, "device", in.Device, identity.Public(v.Key(t, "device")))
	want(t, "message id", fmt.Sprintf("%x", in.MessageID), v.String(t, "message-id"))
	want(t, "time", in.Time, v.Int(t, "time"))
	want(t, "expiry", int64(in.Expiry), v.Int(t, "expiry"))
	want(t, "local part", "<"+in.Recipient+">", v.String(t, "local-part"))
	want(t, "size of the mail", int64(len(in.Body)), v.Int(t, "mail-size"))
	want(t, "hash of the mail", sha256.Sum256(in.Body), v.Key(t, "mail-hash"))
	want(t, "size of the record", int64(len(in.SenderRecord)), v.Int(t, "record-size"))
	if in.Kind == KindReceipt {
		if _, err := ParseReceipt(in.Body); err != nil {
			t.Error(err)
		}
	}
	return nil
}
