package store

import (
	"fmt"
	"time"

	"github.com/peerpost/peerpost/identity/sealed"
)

// Limits of what a holder keeps. Each has a field in Limits under which a holder may choose otherwise.
const (
	// DefaultCapacity is how many bytes a holder keeps in all.
	DefaultCapacity = 10 << 30
	// InboxBytes is how many bytes of one inbox a holder keeps.
	InboxBytes = 512 << 20
	// InboxMessages is how many messages of one inbox a holder keeps.
	InboxMessages = 10_000
	// PeerShare is the part of an inbox's bytes and messages that one putting peer may fill in any case: one in this
	// many. Where others have left more room it may have half of that.
	PeerShare = 8
	// PutsPerMinute is how many offers, and deletes, one peer may make in the long run.
	PutsPerMinute = 60
	// PutBurst is how many it may make at once.
	PutBurst = 1000
	// DeliveriesPerMinute is how many messages one peer may offer straight to a machine's accounts in the long run.
	DeliveriesPerMinute = 600
	// DeliveryBurst is how many it may offer at once: it may be a friend with a full outbox, and no stamp is asked.
	DeliveryBurst = 20_000
	// TombstonesPerInbox is how many deleted messages of one inbox a holder remembers.
	TombstonesPerInbox = 50_000
	// UnseenPerPeer is how many messages that the holder never had one peer may have deleted.
	UnseenPerPeer = 10_000
	// Unseen is how many of all remembered messages may be ones that the holder never had. They are free for whoever
	// deletes them, so the larger part of Tombstones is kept for messages that were here.
	Unseen = 100_000
	// TombstoneBytesPerPeer is how many bytes of tombstones a holder keeps from one peer.
	TombstoneBytesPerPeer = 4 << 20
	// Tombstones is how many deleted messages a holder remembers in all; each takes about 100 bytes of memory.
	Tombstones = 500_000
	// StreamsPerPeer is how many streams one peer may have open, those that watch not counted.
	StreamsPerPeer = 8
	// WatchesPerPeer is how many streams of one peer may watch: a node opens one for each of its accounts.
	WatchesPerPeer = 32
	// Streams is how many streams a holder serves in all.
	Streams = 1024
	// BodyMemory is how many bytes of bodies a holder has in memory while they arrive. A quarter of it is for bodies of
	// up to 4 MiB.
	BodyMemory = 128 << 20
	// UpkeepRate is how many bytes a second upkeep sends.
	UpkeepRate = 1 << 20
)

// Bounds of the protocol. They are the same everywhere.
const (
	// MaxRequest is the largest request in bytes: a tombstone of 1,000 messages and its frame.
	MaxRequest = 64 << 10
	// MaxAnswer is the largest answer in bytes, bodies not counted.
	MaxAnswer = 512 << 10
	// MaxInboxes is how many inboxes one list, watch or digest names.
	MaxInboxes = 16
	// MaxIDs is how many messages one answer lists and one get or offer names.
	MaxIDs = 1000
	// GetBytes is how many bytes of bodies answer one get; the first message may be larger.
	GetBytes = 16 << 20
	// OfferTombstones is how many bytes of tombstones answer one offer; the first may be larger.
	OfferTombstones = 256 << 10
	// RequestsPerStream is how many requests one stream may carry.
	RequestsPerStream = 50_000
	// IdleTime is how long a stream may wait for its next request.
	IdleTime = time.Minute
	// AnswerTime is how long one frame may take on its way, and how long a peer may take to answer.
	AnswerTime = 10 * time.Second
	// MinRate is the number of bytes a second below which a body is given up, after AnswerTime.
	MinRate = 64 << 10
	// WatchBeat is how often a holder says on a watching stream that it is still there.
	WatchBeat = 2 * time.Minute

	// segmented is the size in bytes up to which a body lies in a segment of the journal. Above, a file of its own
	// is as quick and gives its space back at once.
	segmented = 256 << 10
	// overhead is what a message takes beside its body, in bytes: outer part, frames, a place in the index. It
	// counts, so that many small messages are not free.
	overhead = 512
)

// Limits of one holder. A field that is zero has the value of the constant of the same name.
type Limits struct {
	InboxBytes            int64
	InboxMessages         int
	PeerShare             int
	PutsPerMinute         int
	PutBurst              int
	DeliveriesPerMinute   int
	DeliveryBurst         int
	TombstonesPerInbox    int
	UnseenPerPeer         int
	Unseen                int
	TombstoneBytesPerPeer int64
	Tombstones            int
	StreamsPerPeer        int
	WatchesPerPeer        int
	Streams               int
	BodyMemory            int64
	UpkeepRate            int
	// StampDiscount is how many bits of work are asked less than sealed.StampBits says, for closed networks.
	StampDiscount int
}

func (l Limits) withDefaults() Limits {
	or(&l.InboxBytes, InboxBytes)
	or(&l.InboxMessages, InboxMessages)
	or(&l.PeerShare, PeerShare)
	or(&l.PutsPerMinute, PutsPerMinute)
	or(&l.PutBurst, PutBurst)
	or(&l.DeliveriesPerMinute, DeliveriesPerMinute)
	or(&l.DeliveryBurst, DeliveryBurst)
	or(&l.TombstonesPerInbox, TombstonesPerInbox)
	or(&l.UnseenPerPeer, UnseenPerPeer)
	or(&l.Unseen, Unseen)
	or(&l.TombstoneBytesPerPeer, TombstoneBytesPerPeer)
	or(&l.Tombstones, Tombstones)
	or(&l.StreamsPerPeer, StreamsPerPeer)
	or(&l.WatchesPerPeer, WatchesPerPeer)
	or(&l.Streams, Streams)
	or(&l.BodyMemory, BodyMemory)
	or(&l.UpkeepRate, UpkeepRate)
	return l
}

func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Share is how much of a limit one peer may use, when others use so much of it. Half of what they leave: so a friend
// with many pictures gets through to an empty inbox, and nobody fills it up for the others.
func Share(limit, others int64, part int) int64 {
	return max(limit/int64(part), (limit-others)/2)
}

// The most bits that the fill of an inbox and that of the whole holder add to a stamp.
const (
	maxInboxBits  = 2
	maxHolderBits = 4
)

// stampBits is the work asked for a message, when its inbox and the holder are filled to a part: what its size costs,
// one bit more per doubling of the inbox's fill above a quarter, one when the holder is more than half full, and one
// per halving of what is left then.
func (l Limits) stampBits(size uint64, inbox, holder float64) int {
	bits := sealed.StampBits(int(size)) - l.StampDiscount
	for i, f := 0, 0.25; i < maxInboxBits && inbox > f; i, f = i+1, f*2 {
		bits++
	}
	for i, left := 0, 0.5; i < maxHolderBits && 1-holder < left; i, left = i+1, left/2 {
		bits++
	}
	return max(bits, 0)
}

// bodyTime is how long a body of that many bytes may take.
func bodyTime(size uint64) time.Duration {
	return AnswerTime + time.Duration(size)*time.Second/MinRate
}

// Code says which limit a Refusal is about.
type Code uint8

// The codes. Those that time does not heal are so marked.
const (
	CodeInternal        Code = 1  // the holder could not write or read
	CodeMalformed       Code = 2  // for ever: the request is none
	CodeStreams         Code = 3  // StreamsPerPeer, WatchesPerPeer or Streams
	CodeRequests        Code = 4  // RequestsPerStream
	CodeMemory          Code = 5  // BodyMemory, or the peer's share of it
	CodeCapacity        Code = 6  // the holder's capacity, or its disk
	CodeInboxBytes      Code = 7  // InboxBytes
	CodeInboxMessages   Code = 8  // InboxMessages
	CodePeerBytes       Code = 9  // PeerShare of InboxBytes, or of what an account takes in before it is unlocked
	CodePeerMessages    Code = 10 // PeerShare of InboxMessages
	CodeRate            Code = 11 // PutsPerMinute and PutBurst, or DeliveriesPerMinute and DeliveryBurst
	CodeStamp           Code = 12 // the stamp is missing or shows too little work; Bits says how much is asked
	CodeExpiry          Code = 13 // for ever: expired, or expires too late
	CodeHash            Code = 14 // the body is not the one of the outer part
	CodeAccess          Code = 15 // for ever: a proof does not hold
	CodeNear            Code = 16 // the asker is not near the drop, as far as the holder knows
	CodeUnexpected      Code = 17 // upkeep of a message that the holder did not say it lacks
	CodeTombstones      Code = 18 // TombstonesPerInbox, UnseenPerPeer, Unseen, TombstoneBytesPerPeer or Tombstones
	CodeTombstone       Code = 19 // for ever: the tombstone does not hold
	CodeUnknownInbox    Code = 20 // for ever: nobody here has this inbox
	CodeMessageTooLarge Code = 21 // for ever: larger than the recipient takes
)

// A Refusal is the answer of a peer that does not do what it was asked. It is an error.
type Refusal struct {
	Code Code   `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint"`           // a sentence that names the limit
	Bits uint8  `cbor:"3,keyasint,omitempty"` // of CodeStamp: the work asked
}

// maxRefusalText is how much of a peer's sentence is believed, in bytes.
const maxRefusalText = 300

func (r *Refusal) Error() string {
	return fmt.Sprintf("refused (%d): %s", r.Code, printable(r.Text))
}

func refuse(c Code, format string, args ...any) *Refusal {
	return &Refusal{Code: c, Text: fmt.Sprintf(format, args...)}
}

// printable cuts a stranger's sentence to what may be shown and logged.
func printable(s string) string {
	b := make([]rune, 0, min(len(s), maxRefusalText))
	for _, r := range s {
		if len(b) == maxRefusalText {
			break
		}
		if r < ' ' || r == 0x7f || r >= 0x80 {
			r = '?'
		}
		b = append(b, r)
	}
	return string(b)
}
