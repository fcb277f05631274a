package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/wire"
	"github.com/peerpost/peerpost/store"
	"github.com/peerpost/peerpost/store/storetest"
)

// TestReplay says the lines of the conversations in the document that begin with > to a real holder, or to a real
// host, and compares what it answers with those that begin with <.
func TestReplay(t *testing.T) {
	talks := map[string][]said{}
	for _, b := range read(t).blocks {
		if b.kind == "replay" {
			talks[b.args[0]] = append(talks[b.args[0]], lines(t, b)...)
		}
	}
	for _, name := range []string{"drop", "watch", "deliver"} {
		if len(talks[name]) == 0 {
			t.Errorf("there is no conversation %q", name)
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, dir)
				stream, end := s.open(name)
				defer end()
				s.talk(stream, talks[name])
			})
		})
	}
}

// said is one line of a conversation, with the lines that go on from it.
type said struct {
	line int
	who  byte // '>', '<', or '.' for what happens elsewhere
	text string
}

func lines(t *testing.T, b block) []said {
	t.Helper()
	var out []said
	for i, line := range b.lines {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimRight(line, " ")
		switch {
		case line == "":
		case line[0] == '>' || line[0] == '<' || line[0] == '.':
			out = append(out, said{b.line + 1 + i, line[0], strings.TrimSpace(line[1:])})
		case len(out) > 0:
			out[len(out)-1].text += " " + strings.TrimSpace(line)
		default:
			t.Fatalf("line %d: nobody says this", b.line+1+i)
		}
	}
	return out
}

// scene is a holder with the key of a vector, at the time of the vectors.
type scene struct {
	t      *testing.T
	key    *identity.HostKey
	self   peer.ID
	other  peer.ID
	holder *store.Holder
	nonce  [32]byte
}

// about is what the messages of a vector bring into a conversation.
type about struct {
	outer   sealed.Outer
	stamped []byte
	body    []byte
	fetch   ed25519.PrivateKey
	delete  ed25519.PrivateKey
}

const subject = "sealed-mail.txt" // of the conversations, unless they say otherwise

func newScene(t *testing.T, dir string) *scene {
	now, err := strconv.ParseInt(vector(t, subject).header(t, "now"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.Unix(now, 0))) // the clock of a bubble begins in the year 2000
	s := &scene{t: t}
	file := filepath.Join(dir, "host.key")
	s.key = hostKey(t, file, "host-bits-10.txt")
	s.self = storetest.PeerID(s.key)
	s.other = storetest.PeerID(hostKey(t, file+".other", "host-bits-09.txt"))
	s.holder, err = store.Open(store.HolderConfig{
		Dir: filepath.Join(dir, "holding"), Self: s.self, HostKey: s.key, Near: near{s.self, s.other},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.holder.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// near is a neighbourhood that knows these nodes and no others.
type near []peer.ID

func (n near) Nearest(context.Context, []byte, int) ([]peer.ID, error) { return n, nil }
func (n near) Solved(peer.ID) bool                                     { return true }
func (n near) Changed() <-chan struct{}                                { return nil }

// hostKey writes the host key of a vector to a file and has it loaded.
func hostKey(t *testing.T, path, name string) *identity.HostKey {
	t.Helper()
	b, err := wire.Marshal(struct {
		Version uint8    `cbor:"1,keyasint"`
		Seed    [32]byte `cbor:"2,keyasint"`
	}{1, [32]byte(vector(t, name).hex(t, "seed"))})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := identity.LoadOrCreateHostKey(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// open begins a conversation.
func (s *scene) open(name string) (conn *talk, end func()) {
	asks, answers := storetest.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if name == "deliver" {
			r := store.NewReceiver(store.ReceiverConfig{HostKey: s.key, Accept: &taker{}})
			r.ServeDeliver(context.Background(), answers, s.other)
			return
		}
		s.holder.Serve(context.Background(), answers, s.other)
	}()
	return &talk{asks, bufio.NewReader(asks)}, func() {
		if err := asks.Close(); err != nil {
			s.t.Error(err)
		}
		<-done
	}
}

type talk struct {
	*storetest.Stream
	in *bufio.Reader
}

// taker takes every message.
type taker struct{}

func (*taker) Have(sealed.ID, sealed.Outer) bool                      { return false }
func (*taker) Accept(context.Context, *sealed.Message, peer.ID) error { return nil }

// talk goes through a conversation.
func (s *scene) talk(c *talk, all []said) {
	for _, line := range all {
		if err := s.step(c, line); err != nil {
			s.t.Fatalf("line %d: %v", line.line, err)
		}
	}
}

var putElsewhere = regexp.MustCompile(`^(\S+\.txt) is put, on another stream$`)

func (s *scene) step(c *talk, line said) error {
	if name, ok := strings.CutPrefix(line.text, "body of "); ok {
		body := s.about(name).body
		if line.who == '>' {
			_, err := c.Write(body)
			return err
		}
		got := make([]byte, len(body))
		if _, err := io.ReadFull(c.in, got); err != nil {
			return err
		}
		if !bytes.Equal(got, body) {
			return fmt.Errorf("another body came than that of %s", name)
		}
		return nil
	}
	switch line.who {
	case '>':
		var b []byte
		for _, part := range parts(line.text) {
			if part.name == "" {
				b = append(b, part.bytes...)
				continue
			}
			v, err := s.say(part.name)
			if err != nil {
				return err
			}
			b = append(b, v...)
		}
		_, err := c.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
		return err
	case '<':
		n, err := binary.ReadUvarint(c.in)
		if err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c.in, b); err != nil {
			return err
		}
		return s.hear(line.text, b)
	default:
		m := putElsewhere.FindStringSubmatch(line.text)
		if m == nil {
			return fmt.Errorf("nobody knows how %q is done", line.text)
		}
		other, end := s.open("drop")
		defer end()
		s.talk(other, []said{
			{line.line, '>', "a1 01 a1 01 <stamped outer of " + m[1] + ">"}, {line.line, '<', "a1 02 f5"},
			{line.line, '>', "body of " + m[1]}, {line.line, '<', "a1 03 <receipt of " + m[1] + ">"},
		})
		return nil
	}
}

// part of a line is bytes, or the name of something.
type part struct {
	bytes []byte
	name  string
}

var partForm = regexp.MustCompile(`<[^>]+>|\S+`)

func parts(text string) []part {
	var out []part
	for _, token := range partForm.FindAllString(text, -1) {
		if token[0] == '<' {
			out = append(out, part{name: strings.Trim(token, "<>")})
			continue
		}
		b, err := hex.DecodeString(token)
		if err != nil {
			b = nil // which matches nothing and is no request
		}
		out = append(out, part{bytes: b})
	}
	return out
}

// of splits "id of sealed-receipt.txt".
func of(name string) (what, file string) {
	if what, file, ok := strings.Cut(name, " of "); ok {
		return what, file
	}
	return name, subject
}

func (s *scene) about(file string) about {
	v := vector(s.t, file)
	o, err := sealed.ParseOuter(v.hex(s.t, "outer"))
	if err != nil {
		s.t.Fatal(err)
	}
	a := about{
		outer: o, body: v.body,
		fetch: ed25519.NewKeyFromSeed(v.hex(s.t, "fetch-seed")), delete: ed25519.NewKeyFromSeed(v.hex(s.t, "delete-seed")),
	}
	stamp, err := sealed.MakeStamp(s.t.Context(), o.ID(), sealed.StampBits(int(o.Size)))
	if err != nil {
		s.t.Fatal(err)
	}
	stamped := o
	stamped.Stamp = &stamp
	a.stamped = stamped.Marshal()
	return a
}

// say is the CBOR of something that has a name.
func (s *scene) say(name string) ([]byte, error) {
	what, file := of(name)
	a := s.about(file)
	id := a.outer.ID()
	proof := func(op string, ids ...[32]byte) []byte {
		return identity.SignAccess(a.fetch, identity.Access{
			Op: op, Delete: public(a.delete), Holder: []byte(s.self), Nonce: s.nonce, Time: time.Now().Unix(), IDs: ids,
		})
	}
	var b []byte
	switch what {
	case "outer":
		b = a.outer.Marshal()
	case "stamped outer":
		b = a.stamped
	case "id":
		b = id[:]
	case "inbox":
		b = a.outer.Inbox[:]
	case "list proof":
		b = proof(identity.OpList)
	case "get proof":
		b = proof(identity.OpGet, id)
	case "watch proof":
		b = proof(identity.OpWatch)
	case "tombstone":
		b = identity.SignTombstone(a.delete, identity.Tombstone{
			Fetch: public(a.fetch), Time: time.Now().Unix(),
			Items: []identity.TombstoneItem{{ID: id, Expiry: a.outer.Expiry}},
		})
	default:
		return nil, fmt.Errorf("nobody knows what %q is", name)
	}
	return wire.Marshal(b)
}

func public(k ed25519.PrivateKey) identity.Public {
	return identity.Public(k.Public().(ed25519.PublicKey))
}

// hear compares an answer with a line of the document.
func (s *scene) hear(text string, b []byte) error {
	rest := b
	for _, part := range parts(text) {
		if part.name == "" {
			if len(part.bytes) == 0 || !bytes.HasPrefix(rest, part.bytes) {
				return fmt.Errorf("the answer is %x, which does not go on with %x after %x", b, part.bytes, b[:len(b)-len(rest)])
			}
			rest = rest[len(part.bytes):]
			continue
		}
		var item cbor.RawMessage
		after, err := cbor.UnmarshalFirst(rest, &item)
		if err != nil {
			return fmt.Errorf("the answer is %x, which has no <%s> after %x: %w", b, part.name, b[:len(b)-len(rest)], err)
		}
		rest = after
		if err := s.heard(part.name, item); err != nil {
			return fmt.Errorf("<%s>: %w", part.name, err)
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("the answer is %x, with %d bytes more than it should have", b, len(rest))
	}
	return nil
}

func (s *scene) heard(name string, item []byte) error {
	what, file := of(name)
	var b []byte
	switch what {
	case "text":
		var text string
		if err := wire.Unmarshal(item, &text); err != nil || text == "" {
			return fmt.Errorf("%x is no sentence: %w", item, err)
		}
		return nil
	case "nonce":
		if err := wire.Unmarshal(item, &b); err != nil || len(b) != len(s.nonce) {
			return fmt.Errorf("%x is no nonce: %w", item, err)
		}
		s.nonce = [32]byte(b)
		return nil
	case "receipt":
		if err := wire.Unmarshal(item, &b); err != nil {
			return err
		}
		r, err := identity.ParseStorageReceipt(b, s.key.Public())
		if err != nil {
			return err
		}
		o := s.about(file).outer
		if want := (identity.StorageReceipt{ID: o.ID(), Inbox: o.Inbox, Expiry: o.Expiry, Time: time.Now().Unix()}); r != want {
			return fmt.Errorf("it says %v instead of %v", r, want)
		}
		return nil
	}
	want, err := s.say(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(item, want) {
		return fmt.Errorf("%x instead of %x", item, want)
	}
	return nil
}
