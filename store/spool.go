package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/journal"
	"github.com/peerpost/peerpost/internal/wire"
)

// spoolSegment is the size of the spool's segments in bytes. There is a journal for each expiry day, and the last
// segment of each is read whole at open.
const spoolSegment = 16 << 20

// claimWait is how long a put waits for another one of the same message that is under way.
const claimWait = 2 * time.Second

// spool is what a holder keeps for others, on the disk:
//
//	days/<expiry day>/    a journal: outer parts, and bodies of up to 256 KiB
//	large/<expiry day>/   larger bodies, each a file named by the message id
//	graves/               a journal of tombstones
//
// and, in memory, an index that is rebuilt at open. Whatever says that a message is here says it of bytes on the
// disk. A large body is written under its final name and synced before its journal record, so the journal alone
// decides what exists.
type spool struct {
	dir      string
	capacity int64
	limits   Limits
	self     peer.ID
	log      *slog.Logger
	graves   *journal.Log

	mu       sync.Mutex
	days     map[identity.Day]*journal.Log
	inboxes  map[identity.Inbox]*inbox
	claims   map[sealed.ID]chan struct{} // bodies that are arriving
	touching map[sealed.ID]chan struct{} // messages whose bytes are being written or removed
	bytes    int64                       // kept and reserved
	cold     int64                       // of these, of cold copies
	messages int
	tombs    int
	unseen   int // of these, messages that were never here
	peers    map[peer.ID]*peerGraves
	evicted  uint64
	lost     uint64    // found missing or damaged
	full     time.Time // when the disk was last found to be full

	dayMu sync.Mutex // held while a journal is opened or closed

	appendTo func(*journal.Log, context.Context, []byte, []byte) (journal.Ref, error) // (*journal.Log).Append
}

// inbox is what the spool has of one drop.
type inbox struct {
	key      identity.Inbox
	entries  map[sealed.ID]*entry
	bytes    int64 // kept and reserved
	messages int   // kept and reserved
	xor      [32]byte
	from     map[peer.ID]*usage
	cold     bool // this holder is not among the nearest any more

	graves map[graveKey]*grave
	pins   int // tombstones on their way to the disk
}

// entry is one message that is kept.
type entry struct {
	inbox  *inbox
	from   *usage // nil for copies that upkeep brought
	ref    journal.Ref
	expiry identity.Day
	size   uint32
	large  bool
}

func (e *entry) cost() int64 { return int64(e.size) + overhead }

// usage is what one peer put into one inbox.
type usage struct {
	peer     peer.ID
	bytes    int64
	messages int
}

// meta is the header of a journal record of a message.
type meta struct {
	Outer []byte `cbor:"1,keyasint"` // with its stamp
	From  []byte `cbor:"2,keyasint"` // the peer that put it; empty when it came by upkeep
	Large bool   `cbor:"3,keyasint"` // the body has a file of its own
}

// openSpool opens the spool in dir, or makes one.
func openSpool(dir string, capacity int64, self peer.ID, limits Limits, log *slog.Logger, now time.Time) (*spool, error) {
	s := &spool{
		dir: dir, capacity: capacity, limits: limits, self: self, log: log,
		days:     make(map[identity.Day]*journal.Log),
		inboxes:  make(map[identity.Inbox]*inbox),
		claims:   make(map[sealed.ID]chan struct{}),
		touching: make(map[sealed.ID]chan struct{}),
		peers:    make(map[peer.ID]*peerGraves),
		appendTo: (*journal.Log).Append,
	}
	if err := s.load(now); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return s, nil
}

func (s *spool) load(now time.Time) error {
	for _, d := range []string{s.dir, filepath.Join(s.dir, "days"), filepath.Join(s.dir, "large")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	// The journals sync the entries of their own directories.
	if err := errors.Join(durable.SyncDir(filepath.Dir(s.dir)), durable.SyncDir(s.dir)); err != nil {
		return err
	}
	graves, err := journal.Open(filepath.Join(s.dir, "graves"), journal.Options{SegmentSize: spoolSegment, Log: s.log})
	if err != nil {
		return err
	}
	s.graves = graves
	if err := s.loadGraves(now); err != nil {
		return err
	}
	days, err := s.daysOnDisk()
	if err != nil {
		return err
	}
	for _, d := range days {
		if !now.Before(gone(d)) {
			if err := s.removeDay(d); err != nil {
				return err
			}
			continue
		}
		if err := s.loadDay(d); err != nil {
			return err
		}
	}
	return nil
}

// gone is when a message that expires on a day is dropped: clocks may be off, so a day after its end.
func gone(d identity.Day) time.Time { return d.End().Add(identity.ClockTolerance) }

func (s *spool) dayDir(d identity.Day) string {
	return filepath.Join(s.dir, "days", strconv.FormatUint(uint64(d), 10))
}

func (s *spool) largeDir(d identity.Day) string {
	return filepath.Join(s.dir, "large", strconv.FormatUint(uint64(d), 10))
}

func (s *spool) largePath(d identity.Day, id sealed.ID) string {
	return filepath.Join(s.largeDir(d), hex.EncodeToString(id[:]))
}

func (s *spool) daysOnDisk() ([]identity.Day, error) {
	seen := make(map[identity.Day]bool)
	for _, sub := range []string{"days", "large"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, sub))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil && e.IsDir() {
				seen[identity.Day(n)] = true
			}
		}
	}
	var days []identity.Day
	for d := range seen {
		days = append(days, d)
	}
	slices.Sort(days)
	return days, nil
}

// loadDay reads the messages that expire on a day, and sweeps large bodies that no record names.
func (s *spool) loadDay(d identity.Day) error {
	log, err := s.day(d)
	if err != nil {
		return err
	}
	large := make(map[string]bool)
	err = log.Walk(func(ref journal.Ref, header []byte) error {
		id, e, from, err := s.entryOf(d, ref, header)
		if err != nil {
			s.log.Error("spool record is not readable", "day", d, "error", err)
			s.lost++
			log.Free(ref)
			return nil
		}
		box := s.box(e.inbox.key)
		defer s.tidy(box)
		if _, dup := box.entries[id]; dup || box.buried(id, e) {
			log.Free(ref)
			return nil
		}
		if e.large {
			info, err := os.Stat(s.largePath(d, id))
			if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != int64(e.size) {
				s.log.Error("spool file is lost", "message", id, "error", err)
				s.lost++
				log.Free(ref)
				return nil
			}
			// What cannot be looked at now is kept: a read will tell.
			large[filepath.Base(s.largePath(d, id))] = true
		}
		e.inbox = box
		s.charge(box, from, e.cost(), 1)
		if from != "" {
			e.from = box.from[from]
		}
		s.insert(id, e)
		return nil
	})
	if err != nil {
		return err
	}
	files, err := os.ReadDir(s.largeDir(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if !large[f.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(s.largeDir(d), f.Name())))
		}
	}
	return err
}

func (s *spool) entryOf(d identity.Day, ref journal.Ref, header []byte) (sealed.ID, *entry, peer.ID, error) {
	var m meta
	if err := wire.Unmarshal(header, &m); err != nil {
		return sealed.ID{}, nil, "", err
	}
	o, err := sealed.ParseOuter(m.Outer)
	if err != nil {
		return sealed.ID{}, nil, "", err
	}
	if o.Expiry != d {
		return sealed.ID{}, nil, "", errors.New("it expires on another day")
	}
	e := &entry{inbox: &inbox{key: o.Inbox}, ref: ref, expiry: o.Expiry, size: uint32(o.Size), large: m.Large}
	return o.ID(), e, peer.ID(m.From), nil
}

// day opens the journal of an expiry day, or makes it.
func (s *spool) day(d identity.Day) (*journal.Log, error) {
	s.mu.Lock()
	log := s.days[d]
	s.mu.Unlock()
	if log != nil {
		return log, nil
	}
	s.dayMu.Lock()
	defer s.dayMu.Unlock()
	s.mu.Lock()
	log = s.days[d]
	s.mu.Unlock()
	if log != nil {
		return log, nil
	}
	log, err := journal.Open(s.dayDir(d), journal.Options{SegmentSize: spoolSegment, Log: s.log})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.days[d] = log
	s.mu.Unlock()
	return log, nil
}

// box returns what is kept of an inbox, or begins it. It is called with the lock held, or at open.
func (s *spool) box(key identity.Inbox) *inbox {
	b := s.inboxes[key]
	if b == nil {
		b = &inbox{key: key, entries: make(map[sealed.ID]*entry), from: make(map[peer.ID]*usage)}
		s.inboxes[key] = b
	}
	return b
}

// tidy forgets an inbox of which nothing is left. It is called with the lock held.
func (s *spool) tidy(b *inbox) {
	if b.messages == 0 && len(b.graves) == 0 && b.pins == 0 {
		delete(s.inboxes, b.key)
	}
}

// charge counts a message in, or out with negative numbers. It is called with the lock held.
func (s *spool) charge(b *inbox, from peer.ID, bytes int64, messages int) {
	s.bytes += bytes
	s.messages += messages
	b.bytes += bytes
	b.messages += messages
	if b.cold {
		s.cold += bytes
	}
	if from == "" {
		return
	}
	u := b.from[from]
	if u == nil {
		u = &usage{peer: from}
		b.from[from] = u
	}
	u.bytes += bytes
	u.messages += messages
	if u.messages == 0 {
		delete(b.from, from)
	}
}

// insert puts an entry, which was charged, into the index. It is called with the lock held.
func (s *spool) insert(id sealed.ID, e *entry) {
	e.inbox.entries[id] = e
	xor(&e.inbox.xor, id)
}

// drop takes an entry out of the index and returns what its bytes are freed with, for after the lock. It is called
// with the lock held.
func (s *spool) drop(id sealed.ID, e *entry) func() {
	b := e.inbox
	delete(b.entries, id)
	xor(&b.xor, id)
	var from peer.ID
	if e.from != nil {
		from = e.from.peer
	}
	s.charge(b, from, -e.cost(), -1)
	s.tidy(b)
	log, ref := s.days[e.expiry], e.ref
	return func() {
		if log != nil {
			log.Free(ref)
		}
		if e.large {
			s.removeLarge(e, id)
		}
	}
}

// removeLarge removes the file of a message that is out of the index, unless it has come back meanwhile.
func (s *spool) removeLarge(e *entry, id sealed.ID) {
	defer s.touch(id)()
	s.mu.Lock()
	b := s.inboxes[e.inbox.key]
	back := b != nil && b.entries[id] != nil
	s.mu.Unlock()
	if back {
		return
	}
	if err := os.Remove(s.largePath(e.expiry, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("spool file not removed", "message", id, "error", err)
	}
}

// touch waits until nobody else writes or removes the bytes of a message; what it returns lets the next one.
func (s *spool) touch(id sealed.ID) (release func()) {
	for {
		s.mu.Lock()
		other := s.touching[id]
		if other == nil {
			mine := make(chan struct{})
			s.touching[id] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.touching, id)
				s.mu.Unlock()
				close(mine)
			}
		}
		s.mu.Unlock()
		<-other
	}
}

func xor(d *[32]byte, id sealed.ID) {
	for i := range d {
		d[i] ^= id[i]
	}
}

// reservation is the room for one message whose body is arriving.
type reservation struct {
	s     *spool
	box   *inbox
	outer *sealed.Outer
	id    sealed.ID
	from  peer.ID // "" for upkeep
	cost  int64
	claim chan struct{} // nil when another put of the same message is under way
	done  bool
}

// offered is what a spool knows about a message that is offered.
type offered struct {
	have      bool
	tombstone []byte
}

// look tells whether a message is here or was deleted.
func (s *spool) look(o *sealed.Outer, id sealed.ID) (offered, error) {
	s.mu.Lock()
	b := s.inboxes[o.Inbox]
	if b == nil {
		s.mu.Unlock()
		return offered{}, nil
	}
	_, have := b.entries[id]
	g := b.graves[graveKey{id, o.Expiry}]
	s.mu.Unlock()
	if g != nil {
		_, blob, err := s.graves.Read(g.ref)
		if err != nil {
			return offered{}, fmt.Errorf("read tombstone: %w", err)
		}
		return offered{tombstone: blob}, nil
	}
	return offered{have: have}, nil
}

// await waits until another put of the message is through, for a short while.
func (s *spool) await(ctx context.Context, id sealed.ID) {
	s.mu.Lock()
	claim := s.claims[id]
	s.mu.Unlock()
	if claim == nil {
		return
	}
	t := time.NewTimer(claimWait)
	defer t.Stop()
	select {
	case <-claim:
	case <-t.C:
	case <-ctx.Done():
	}
}

// reserve makes room for a message, or says which limit is in the way. Copies that upkeep brings are not counted
// against the peer that brings them, nor do they need more work than their sender did.
func (s *spool) reserve(o *sealed.Outer, id sealed.ID, from peer.ID, upkeep bool) (*reservation, error) {
	r := &reservation{s: s, outer: o, id: id, from: from, cost: int64(o.Size) + overhead}
	if upkeep {
		r.from = ""
	}
	s.mu.Lock()
	free, err := s.admit(r, upkeep)
	s.mu.Unlock()
	for _, f := range free {
		f()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// admit is reserve with the lock held. What it evicted is to be freed in any case.
func (s *spool) admit(r *reservation, upkeep bool) (free []func(), err error) {
	l := s.limits
	b := s.box(r.outer.Inbox)
	defer func() {
		if err != nil {
			s.tidy(b)
		}
	}()
	if b.messages+1 > l.InboxMessages {
		return nil, refuse(CodeInboxMessages, "the inbox has %d messages here, and %d are kept", b.messages, l.InboxMessages)
	}
	if b.bytes+r.cost > l.InboxBytes {
		return nil, refuse(CodeInboxBytes, "the inbox has %d bytes here, and %d are kept", b.bytes, l.InboxBytes)
	}
	if r.from != "" {
		have, bytes := 0, int64(0)
		if u := b.from[r.from]; u != nil {
			have, bytes = u.messages, u.bytes
		}
		if most := Share(int64(l.InboxMessages), int64(b.messages-have), l.PeerShare); int64(have+1) > most {
			return nil, refuse(CodePeerMessages, "you have put %d messages into this inbox, and %d are kept from one peer", have, most)
		}
		if most := Share(l.InboxBytes, b.bytes-bytes, l.PeerShare); bytes+r.cost > most {
			return nil, refuse(CodePeerBytes, "you have put %d bytes into this inbox, and %d are kept from one peer", bytes, most)
		}
	}
	fill := max(float64(b.bytes)/float64(l.InboxBytes), float64(b.messages)/float64(l.InboxMessages))
	whole := float64(s.bytes-s.cold) / float64(s.capacity) // cold copies make room
	if upkeep {
		fill, whole = 0, 0
	}
	if bits := l.stampBits(r.outer.Size, fill, whole); bits > 0 && (r.outer.Stamp == nil || !r.outer.Stamp.Valid(r.id, bits)) {
		refusal := refuse(CodeStamp, "the inbox is filled to %d %% and this holder to %d %%, and a stamp of %d bits is asked",
			int(100*fill), int(100*whole), bits)
		refusal.Bits = uint8(bits)
		return nil, refusal
	}
	if time.Since(s.full) < fullPause {
		return nil, errFull
	}
	if s.bytes+r.cost > s.capacity {
		free = s.evict(s.bytes+r.cost-s.capacity, b, false)
	}
	if s.bytes+r.cost > s.capacity {
		return free, refuse(CodeCapacity, "%d bytes are kept here, of %d", s.bytes, s.capacity)
	}
	s.charge(b, r.from, r.cost, 1)
	r.box = b
	if s.claims[r.id] == nil {
		r.claim = make(chan struct{})
		s.claims[r.id] = r.claim
	}
	return free, nil
}

// evict drops cold copies, those of the furthest drops first, until so many bytes are free. The inbox that asks for
// room is spared. When all of them are not enough, none is dropped, unless partly. It is called with the lock held.
func (s *spool) evict(need int64, spare *inbox, partly bool) (free []func()) {
	type far struct {
		box      *inbox
		distance [32]byte
	}
	var cold []far
	sum := int64(0)
	for _, b := range s.inboxes {
		if b.cold && b != spare && len(b.entries) > 0 {
			cold = append(cold, far{b, distance(s.self, b.key)})
			sum += b.bytes
		}
	}
	if sum < need && !partly {
		return nil
	}
	slices.SortFunc(cold, func(a, b far) int { return bytes.Compare(b.distance[:], a.distance[:]) })
	for _, c := range cold {
		for id, e := range c.box.entries {
			if need <= 0 {
				return free
			}
			need -= e.cost()
			free = append(free, s.drop(id, e))
			s.evicted++
		}
	}
	return free
}

const (
	// fullPause is how long nothing is taken in after the disk was found to be full, so that nobody sends bodies for
	// nothing.
	fullPause = 10 * time.Second
	// fullEvict is how many bytes of cold copies go at least when it is, and fullTries how often.
	fullEvict = 16 << 20
	fullTries = 4
)

// errFull says that the disk has no room, whatever the capacity is.
var errFull = refuse(CodeCapacity, "the disk of this holder is full")

// makingRoom writes, and when the disk is full, since others fill it too, drops cold copies and tries again. What is
// written is on the disk whole or not at all.
func (s *spool) makingRoom(need int64, spare *inbox, write func() error) error {
	err := write()
	for try := 0; try < fullTries && journal.IsFull(err); try++ {
		s.mu.Lock()
		free := s.evict(max(need, fullEvict), spare, true)
		var logs []*journal.Log
		for _, log := range s.days {
			logs = append(logs, log)
		}
		s.mu.Unlock()
		if len(free) == 0 {
			break
		}
		for _, f := range free {
			f()
		}
		for _, log := range logs {
			log.Trim()
		}
		err = write()
	}
	if !journal.IsFull(err) {
		return err
	}
	s.log.Error("disk is full", "dir", s.dir, "error", err)
	s.mu.Lock()
	s.full = time.Now()
	s.mu.Unlock()
	return errFull
}

// release gives the room back. It does nothing after commit.
func (r *reservation) release() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.finish(false)
}

// finish ends the reservation. It is called with the lock held.
func (r *reservation) finish(kept bool) {
	if r.done {
		return
	}
	r.done = true
	if !kept {
		r.s.charge(r.box, r.from, -r.cost, -1)
		r.s.tidy(r.box)
	}
	if r.claim != nil {
		delete(r.s.claims, r.id)
		close(r.claim)
	}
}

// commit puts the body, which was checked, on the disk. It returns after the sync. When the message was deleted
// meanwhile, it returns the tombstone. fresh tells whether it was not here before.
func (r *reservation) commit(ctx context.Context, body []byte) (tombstone []byte, fresh bool, err error) {
	s := r.s
	defer r.release()
	defer s.touch(r.id)()
	if was, err := s.look(r.outer, r.id); err != nil || was.have || was.tombstone != nil {
		return was.tombstone, false, err
	}
	e := &entry{inbox: r.box, expiry: r.outer.Expiry, size: uint32(r.outer.Size), large: len(body) > segmented}
	header, err := wire.Marshal(meta{Outer: r.outer.Marshal(), From: []byte(r.from), Large: e.large})
	if err != nil {
		return nil, false, err
	}
	var log *journal.Log
	err = s.makingRoom(r.cost, r.box, func() (err error) {
		if log, err = s.day(e.expiry); err != nil {
			return err
		}
		inSegment := body
		if e.large {
			if err := s.writeLarge(e.expiry, r.id, body); err != nil {
				return err
			}
			inSegment = nil
		}
		e.ref, err = s.appendTo(log, ctx, header, inSegment)
		return err
	})
	if err != nil {
		if e.large {
			_ = os.Remove(s.largePath(e.expiry, r.id)) // else the next open does it
		}
		return nil, false, err
	}

	s.mu.Lock()
	dead := r.box.buried(r.id, e)
	if !dead {
		if r.from != "" {
			e.from = r.box.from[r.from]
		}
		s.insert(r.id, e)
		r.finish(true)
	}
	s.mu.Unlock()
	if !dead {
		return nil, true, nil
	}
	log.Free(e.ref)
	if e.large {
		err = os.Remove(s.largePath(e.expiry, r.id))
	}
	was, lookErr := s.look(r.outer, r.id)
	return was.tombstone, false, errors.Join(err, lookErr)
}

// writeLarge writes a body under its final name, and syncs the file, its directory and that one's entry. A file that is
// there already is from a put that did not get to its journal record.
func (s *spool) writeLarge(d identity.Day, id sealed.ID, body []byte) error {
	dir := s.largeDir(d)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(s.largePath(d, id), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(body); err != nil {
		return errors.Join(err, f.Close())
	}
	// Both at once: the file system makes one commit of them. Whoever made the directory may not have synced its entry.
	entry := make(chan error, 1)
	go func() { entry <- errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir))) }()
	return errors.Join(f.Sync(), <-entry, f.Close())
}

// errMissing says that a message is not here, or not any more.
var errMissing = errors.New("message is not here")

// held is a message that is read from the spool.
type held struct {
	entry *entry
	outer []byte
	size  int64
	body  io.ReadCloser
}

// size tells the size of a message's body.
func (s *spool) size(key identity.Inbox, id sealed.ID) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.inboxes[key]; b != nil {
		if e := b.entries[id]; e != nil {
			return uint64(e.size), true
		}
	}
	return 0, false
}

// open reads a message. Bodies up to segmented bytes are in memory then, larger ones come from their file. A message
// whose bytes are lost is forgotten, so that upkeep brings it back. One that only cannot be read now is kept.
func (s *spool) open(key identity.Inbox, id sealed.ID) (*held, error) {
	s.mu.Lock()
	b := s.inboxes[key]
	if b == nil || b.entries[id] == nil {
		s.mu.Unlock()
		return nil, errMissing
	}
	e := b.entries[id]
	log, ref := s.days[e.expiry], e.ref
	s.mu.Unlock()
	if log == nil {
		return nil, journal.ErrClosed
	}
	header, body, err := log.Read(ref)
	for errors.Is(err, journal.ErrNotFound) {
		// It may have been moved just now.
		s.mu.Lock()
		moved := e.ref != ref
		ref = e.ref
		s.mu.Unlock()
		if !moved {
			break
		}
		header, body, err = log.Read(ref)
	}
	var m meta
	if err == nil {
		if err = wire.Unmarshal(header, &m); err != nil {
			err = errors.Join(journal.ErrDamaged, err)
		}
	}
	h := &held{entry: e, outer: m.Outer, size: int64(e.size), body: io.NopCloser(bytes.NewReader(body))}
	if err == nil && e.large {
		h.body, err = os.Open(s.largePath(e.expiry, id))
	}
	if err == nil {
		return h, nil
	}
	if !isLost(err) {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	s.forget(id, e, err)
	return nil, errMissing
}

// isLost tells whether an error of a read says that the bytes are gone or others, and not that they could not be read
// at the moment, as when there are no file descriptors left.
func isLost(err error) bool {
	for _, lost := range []error{journal.ErrDamaged, journal.ErrNotFound, fs.ErrNotExist, io.EOF, io.ErrUnexpectedEOF, errWrongBody} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// errWrongBody says that a body is not the one of its outer part.
var errWrongBody = errors.New("the body does not have its hash")

// forget drops a message whose bytes are not what they were, unless it has been dropped.
func (s *spool) forget(id sealed.ID, e *entry, cause error) {
	s.mu.Lock()
	b := s.inboxes[e.inbox.key]
	if b == nil || b.entries[id] != e {
		s.mu.Unlock()
		return
	}
	free := s.drop(id, e)
	s.lost++
	s.mu.Unlock()
	s.log.Error("spool message is lost", "message", id, "error", cause)
	free()
}

// readBody reads the whole body of a message that is kept here, and forgets the message when it is another one.
func (s *spool) readBody(id sealed.ID, h *held, o *sealed.Outer) ([]byte, error) {
	body := make([]byte, o.Size)
	_, err := io.ReadFull(h.body, body)
	if err == nil && !hashes(o, body) {
		err = errWrongBody
	}
	if err == nil {
		return body, nil
	}
	if !isLost(err) {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	s.forget(id, h.entry, err)
	return nil, errMissing
}

// list returns ids of an inbox above one, ascending, and whether there are more.
func (s *spool) list(key identity.Inbox, after sealed.ID, most int) (items []listItem, more bool) {
	s.mu.Lock()
	if b := s.inboxes[key]; b != nil {
		for id, e := range b.entries {
			if after == (sealed.ID{}) || less(after, id) {
				items = append(items, listItem{ID: id, Size: uint64(e.size)})
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(items, func(a, b listItem) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if len(items) > most {
		return items[:most:most], true
	}
	return items, false
}

func less(a, b sealed.ID) bool { return bytes.Compare(a[:], b[:]) < 0 }

// digest sums up an inbox.
func (s *spool) digest(key identity.Inbox) digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digest{Inbox: key}
	if b := s.inboxes[key]; b != nil {
		d.Count, d.XOR = uint64(len(b.entries)), b.xor
	}
	return d
}

// offers returns all messages of an inbox as offers, in pages.
func (s *spool) offers(key identity.Inbox) []*offerRequest {
	var items []offerItem
	s.mu.Lock()
	if b := s.inboxes[key]; b != nil {
		for id, e := range b.entries {
			items = append(items, offerItem{ID: id, Expiry: e.expiry})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(items, func(a, b offerItem) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var pages []*offerRequest
	for page := range slices.Chunk(items, MaxIDs) {
		pages = append(pages, &offerRequest{Inbox: key, Items: page})
	}
	if len(pages) > 0 {
		pages[len(pages)-1].Last = true
	}
	return pages
}

// setCold notes whether this holder is among the nearest of an inbox.
func (s *spool) setCold(key identity.Inbox, cold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.inboxes[key]
	if b == nil || b.cold == cold {
		return
	}
	if b.cold = cold; cold {
		s.cold += b.bytes
	} else {
		s.cold -= b.bytes
	}
}

// keys lists the inboxes of which there are messages.
func (s *spool) keys() []identity.Inbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []identity.Inbox
	for k, b := range s.inboxes {
		if len(b.entries) > 0 {
			keys = append(keys, k)
		}
	}
	return keys
}

// expire drops what is over: messages a day after their last day, tombstones with them.
func (s *spool) expire(now time.Time) (messages int, err error) {
	s.dayMu.Lock()
	defer s.dayMu.Unlock()
	s.mu.Lock()
	var over []identity.Day
	for d := range s.days {
		if !now.Before(gone(d)) {
			over = append(over, d)
		}
	}
	var logs []*journal.Log
	if len(over) > 0 {
		for _, b := range s.inboxes {
			for id, e := range b.entries {
				if !now.Before(gone(e.expiry)) {
					s.drop(id, e) // its bytes go with the day
					messages++
				}
			}
		}
	}
	for _, d := range over {
		logs = append(logs, s.days[d])
		delete(s.days, d)
	}
	s.mu.Unlock()
	for i, d := range over {
		err = errors.Join(err, logs[i].Close(), s.removeDay(d))
	}
	s.expireGraves(now)
	return messages, err
}

// A segment of which no more than the part sparse is live is emptied, so that a few messages that nobody collects do
// not keep the space of the many that were. When the spool takes more than the part tight of its capacity on the disk,
// dead records included, segments are emptied of which dense of what they take is live. So a spool does not take much
// more than its capacity / dense: besides, there are the segments that are not full yet, one for each day.
const (
	sparse = 0.3
	tight  = 0.75
	dense  = 0.7
)

// disk is how many bytes the spool takes on the disk, with records that were freed and are not given back yet.
func (s *spool) disk() int64 {
	s.mu.Lock()
	logs := slices.Collect(maps.Values(s.days))
	bytes := s.bytes
	s.mu.Unlock()
	for _, log := range append(logs, s.graves) {
		st := log.Status()
		bytes += st.DiskBytes - st.LiveBytes
	}
	return bytes
}

// compact moves messages out of segments of which little is left. A crash on the way leaves a message twice, which
// the next open mends.
func (s *spool) compact(ctx context.Context) error {
	type place struct {
		day     identity.Day
		segment uint32
	}
	s.mu.Lock()
	days := make(map[identity.Day]*journal.Log, len(s.days))
	for d, log := range s.days {
		days[d] = log
	}
	s.mu.Unlock()
	old := make(map[place]bool)
	ofDisk := 0.0
	if float64(s.disk()) > tight*float64(s.capacity) {
		ofDisk = dense
	}
	for d, log := range days {
		for _, n := range log.Sparse(sparse, ofDisk) {
			old[place{d, n}] = true
		}
	}
	if len(old) == 0 {
		return nil
	}
	type moving struct {
		id sealed.ID
		e  *entry
	}
	var list []moving
	s.mu.Lock()
	for _, b := range s.inboxes {
		for id, e := range b.entries {
			if old[place{e.expiry, e.ref.Segment}] {
				list = append(list, moving{id, e})
			}
		}
	}
	s.mu.Unlock()
	for _, m := range list {
		if err := s.move(ctx, days[m.e.expiry], m.id, m.e); err != nil {
			return err
		}
	}
	return nil
}

// move writes a message's record anew and frees the old one.
func (s *spool) move(ctx context.Context, log *journal.Log, id sealed.ID, e *entry) error {
	defer s.touch(id)()
	s.mu.Lock()
	from := e.ref
	s.mu.Unlock()
	header, body, err := log.Read(from)
	if errors.Is(err, journal.ErrNotFound) || errors.Is(err, journal.ErrClosed) {
		return nil
	}
	if errors.Is(err, journal.ErrDamaged) {
		s.forget(id, e, err)
		return nil
	}
	if err != nil {
		return err
	}
	to, err := log.Append(ctx, header, body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	b := s.inboxes[e.inbox.key]
	here := b != nil && b.entries[id] == e
	if here {
		e.ref = to
	}
	s.mu.Unlock()
	if here {
		log.Free(from)
	} else {
		log.Free(to)
	}
	return nil
}

func (s *spool) removeDay(d identity.Day) error {
	return errors.Join(os.RemoveAll(s.dayDir(d)), os.RemoveAll(s.largeDir(d)))
}

func (s *spool) close() error {
	s.mu.Lock()
	days := s.days
	s.days = make(map[identity.Day]*journal.Log)
	s.mu.Unlock()
	var errs []error
	for _, log := range days {
		errs = append(errs, log.Close())
	}
	if s.graves != nil {
		errs = append(errs, s.graves.Close())
	}
	return errors.Join(errs...)
}
