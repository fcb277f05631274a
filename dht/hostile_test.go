package dht

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/peerpost/peerpost/identity"
)

// addHostile adds a server that finds peers like any other, but answers puts and
// gets as it likes: answer returns what to send, nil for silence.
func (n *testNet) addHostile(answer func(req *pb.Message) *pb.Message) *testNode {
	n.t.Helper()
	nd := n.add()
	nd.host.SetStreamHandler(Protocol, func(s network.Stream) {
		defer s.Close()
		frames := msgio.NewVarintReaderSize(s, network.MessageSizeMax)
		b, err := frames.ReadMsg()
		if err != nil {
			return
		}
		req := new(pb.Message)
		if err := proto.Unmarshal(b, req); err != nil {
			n.t.Error(err)
			return
		}
		resp := req
		if req.GetType() == pb.Message_FIND_NODE {
			resp = pb.NewMessage(pb.Message_FIND_NODE, nil, 0)
		} else if resp = answer(req); resp == nil {
			io.Copy(io.Discard, s) // until the asker gives up
			return
		}
		if err := writeMessage(s, resp); err != nil {
			n.t.Log(err)
		}
	})
	return nd
}

// Whatever a server answers to a put, only the record itself is an
// acknowledgement, and nothing takes longer than PeerTimeout.
func TestHostileAnswersToPut(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(req *pb.Message) *pb.Message
		acks   int
	}{
		{"what it got", func(req *pb.Message) *pb.Message { return req }, 1},
		{"no record", func(req *pb.Message) *pb.Message { return pb.NewMessage(req.GetType(), req.GetKey(), 0) }, 0},
		{"an empty record", func(req *pb.Message) *pb.Message {
			m := pb.NewMessage(req.GetType(), req.GetKey(), 0)
			m.Record = record.MakePutRecord("", nil)
			return m
		}, 0},
		{"another record", func(req *pb.Message) *pb.Message {
			req.Record.Value = append(req.Record.Value, 0)
			return req
		}, 0},
		{"nothing", func(*pb.Message) *pb.Message { return nil }, 0},
		{"too much", func(req *pb.Message) *pb.Message {
			req.Record.TimeReceived = string(bytes.Repeat([]byte("a"), 2*maxReply))
			return req
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t)
				a := n.add()
				a.join(n.addHostile(c.answer))
				time.Sleep(time.Minute)
				start := time.Now()
				res, err := a.Publish(t.Context(), newPerson(t).record(t))
				if err != nil || res != (PublishResult{Acks: c.acks, Asked: 1}) {
					t.Errorf("publish: %+v, %v", res, err)
				}
				if d := time.Since(start); d > LookupDeadline+PeerTimeout {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

// Records that are not what was asked for are not believed, an honest node's
// answer prevails, and correcting those who lacked it harms nobody.
func TestHostileAnswersToGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		p, other := newPerson(t), newPerson(t)
		old, good, foreign := p.record(t), p.record(t), other.record(t)
		broken := append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1)
		key := identity.RecordKey(p.root())
		show := func(value []byte) func(req *pb.Message) *pb.Message {
			return func(req *pb.Message) *pb.Message {
				m := pb.NewMessage(req.GetType(), req.GetKey(), 0)
				if req.GetType() == pb.Message_GET_VALUE {
					m.Record = record.MakePutRecord(key, value)
				}
				return m // to a put: no record, which would once have been the end of the asker
			}
		}
		for _, value := range [][]byte{old, foreign, broken, nil, []byte("junk")} {
			n.addHostile(show(value)).join(n.nodes[0])
		}
		time.Sleep(time.Minute)
		if _, err := n.nodes[1].Publish(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		reader := n.add()
		for _, nd := range n.nodes[:len(n.nodes)-1] {
			if err := reader.AddPeer(t.Context(), nd.info()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		got, _, err := reader.Resolve(t.Context(), p.root())
		if err != nil || got.Sequence != 2 {
			t.Errorf("resolved %v, %v", sequence(got), err)
		}
		time.Sleep(time.Minute) // those that lacked it are being corrected
		if _, _, err := reader.Resolve(t.Context(), newPerson(t).root()); !errors.Is(err, ErrNotFound) {
			t.Errorf("a stranger: %v", err)
		}
	})
}

// A peer that takes a request and says nothing costs PeerTimeout, not the 10 s
// of the library; one whose asker loses interest costs nothing.
func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(2)
		a, b := n.nodes[0], n.nodes[1]
		n.wire.Cut(a.at, b.at)
		start := time.Now()
		if err := a.kad.Ping(t.Context(), b.self); err == nil || time.Since(start) != PeerTimeout {
			t.Errorf("gave up after %v: %v", time.Since(start), err)
		}
		start = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := a.kad.Ping(ctx, b.self); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("ended after %v: %v", time.Since(start), err)
		}
		n.wire.Heal(a.at, b.at)
	})
}

// The library's own request and ours are the same bytes, and every answer is
// read or refused.
func FuzzReply(f *testing.F) {
	m := pb.NewMessage(pb.Message_PUT_VALUE, []byte("key"), 0)
	m.Record = record.MakePutRecord("key", []byte("value"))
	var b bytes.Buffer
	if err := writeMessage(&b, m); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), true)
	f.Add(b.Bytes()[:b.Len()-3], false)
	f.Add(binary.AppendUvarint(nil, 1<<40), false)
	f.Fuzz(func(t *testing.T, b []byte, put bool) {
		kind := pb.Message_GET_VALUE
		if put {
			kind = pb.Message_PUT_VALUE
		}
		m, err := readReply(bytes.NewReader(b), kind)
		if err != nil {
			return
		}
		if put && m.GetRecord() == nil {
			t.Fatal("an answer without a record")
		}
		var again bytes.Buffer
		if err := writeMessage(&again, m); err != nil {
			t.Fatal(err)
		}
		if _, err := readReply(&again, kind); err != nil {
			t.Fatal(err)
		}
	})
}

// What the sender guards against is still there in the library. When this fails,
// the guard may go.
func TestLibraryWouldPanic(t *testing.T) {
	m, err := pb.NewProtocolMessenger(emptyAnswers{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("the library survives an answer without a record")
		}
	}()
	m.PutValue(t.Context(), peer.ID("somebody"), record.MakePutRecord("key", []byte("value")))
}

type emptyAnswers struct{}

func (emptyAnswers) SendRequest(context.Context, peer.ID, *pb.Message) (*pb.Message, error) {
	return new(pb.Message), nil
}

func (emptyAnswers) SendMessage(context.Context, peer.ID, *pb.Message) error { return nil }

// putRaw puts a message to a node as a stranger may, and tells whether it was
// answered.
func (nd *testNode) putRaw(to *testNode, m *pb.Message) bool {
	t := nd.net.t
	t.Helper()
	if err := nd.host.Connect(t.Context(), to.info()); err != nil {
		t.Fatal(err)
	}
	s, err := nd.host.NewStream(t.Context(), to.self, Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if err := writeMessage(s, m); err != nil {
		t.Fatal(err)
	}
	frames := msgio.NewVarintReaderSize(s, network.MessageSizeMax)
	b, err := frames.ReadMsg()
	frames.ReleaseMsg(b)
	return err == nil
}

// Whoever puts a record again may add to the message what he likes: it is not
// kept, so nobody's record is made too large to be answered with, and no room
// is taken.
func TestPaddedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		n.grow(6)
		holders := slices.Clone(n.nodes)
		p := newPerson(t)
		rec, key := p.record(t), identity.RecordKey(p.root())
		if _, err := holders[0].Publish(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		stranger := n.add(func(c *Config) { c.Mode = Client })
		for _, to := range holders {
			m := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
			m.Record = record.MakePutRecord(key, rec)
			m.Record.ProtoReflect().SetUnknown(padding(maxReply + 1<<10))
			if !stranger.putRaw(to, m) {
				t.Error("the put was refused: the test shows nothing")
			}
		}
		for _, nd := range holders {
			for _, e := range nd.store.list() {
				if e.size > int64(len(rec))+512 {
					t.Errorf("a record of %d bytes takes %d", len(rec), e.size)
				}
			}
		}
		reader := n.add(func(c *Config) { c.Mode = Client })
		reader.join(holders[0])
		if _, got, err := reader.Resolve(t.Context(), p.root()); err != nil || !bytes.Equal(got, rec) {
			t.Errorf("resolved %d bytes, %v", len(got), err)
		}
	})
}

// padding is a protobuf field that nobody knows.
func padding(size int) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 3000, protowire.BytesType), make([]byte, size))
}
