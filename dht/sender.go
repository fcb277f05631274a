package dht

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/proto"
)

// maxReply is how large an answer may be, in bytes: a record and 20 peers with
// all their addresses take a tenth of it.
const maxReply = 512 << 10

// errNoReply says that an answer lacks what it must contain.
var errNoReply = errors.New("the answer says nothing about the record")

// sender carries the requests of the Kademlia library: one stream each, which
// costs no round trip because identify has told that the peer is a server. It
// differs from the library's own in three ways. A request may take PeerTimeout,
// not 10 s. An answer has a bound of its own. And an answer to a put that names
// no record is an error; the library would dereference nil.
type sender struct {
	host   host.Host
	protos []protocol.ID
}

func newSender(h host.Host, protos []protocol.ID) pb.MessageSenderWithDisconnect {
	return &sender{h, protos}
}

// SendRequest sends a request and waits for its answer.
func (s *sender) SendRequest(ctx context.Context, p peer.ID, req *pb.Message) (*pb.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, PeerTimeout)
	defer cancel()
	start := time.Now()
	var answer *pb.Message
	err := s.talk(ctx, p, req, func(st network.Stream) (err error) {
		answer, err = readReply(st, req.GetType())
		return err
	})
	if err != nil {
		return nil, err
	}
	s.host.Peerstore().RecordLatency(p, time.Since(start))
	return answer, nil
}

// SendMessage sends a message that is not answered.
func (s *sender) SendMessage(ctx context.Context, p peer.ID, m *pb.Message) error {
	ctx, cancel := context.WithTimeout(ctx, PeerTimeout)
	defer cancel()
	return s.talk(ctx, p, m, func(network.Stream) error { return nil })
}

// OnDisconnect has nothing to do: no stream outlives its request.
func (s *sender) OnDisconnect(context.Context, peer.ID) {}

// talk opens a stream, sends a message, lets read take the answer, and closes
// the stream. All of it ends with ctx, which has a deadline.
func (s *sender) talk(ctx context.Context, p peer.ID, m *pb.Message, read func(network.Stream) error) error {
	st, err := s.host.NewStream(ctx, p, s.protos...)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	st.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	defer stop()
	if err = writeMessage(st, m); err == nil {
		err = read(st)
	}
	if err != nil {
		st.Reset()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	return st.Close()
}

// writeMessage writes a message behind its length, in one piece.
func writeMessage(w io.Writer, m *pb.Message) error {
	size := proto.Size(m)
	b := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+size), uint64(size))
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readReply reads the answer to a request of some kind.
func readReply(r io.Reader, kind pb.Message_MessageType) (*pb.Message, error) {
	frames := msgio.NewVarintReaderSize(r, maxReply)
	b, err := frames.ReadMsg()
	defer frames.ReleaseMsg(b)
	if err != nil {
		return nil, err
	}
	m := new(pb.Message)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	if kind == pb.Message_PUT_VALUE && m.GetRecord() == nil {
		return nil, errNoReply
	}
	return m, nil
}
