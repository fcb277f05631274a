package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
)

// Messages are taken from the mailbox in batches, and written to the client
// only then: a slow client must not hold up the mailbox.
const (
	fetchBatch  = 256     // messages
	fetchWeight = 1 << 20 // bytes of envelopes and structures, about
)

// maxSections bounds what one FETCH asks of each message.
const maxSections = 64

var (
	errFull    = errors.New("batch is full")
	errAborted = errors.New("message could not be read to its end")
)

// Fetch shows messages.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	ctx, end := s.begin(0)
	defer end()
	v, err := s.folder()
	if err != nil {
		return err
	}
	f := &fetch{session: s, v: v, w: w, options: options}
	if err := f.check(); err != nil {
		return err
	}
	spans, err := v.resolve(set)
	if err != nil {
		return err
	}
	if err := f.all(ctx, v.at(spans)); err != nil {
		return err
	}
	if f.unread > 0 {
		return refuse(imap.ResponseCodeUnavailable, fmt.Sprintf("%d of the messages could not be read", f.unread))
	}
	return nil
}

// fetch is one FETCH command.
type fetch struct {
	*session
	v       *selected
	w       *imapserver.FetchWriter
	options *imap.FetchOptions

	parts  bool      // something beside UID and FLAGS is wanted
	want   mail.Want // of the index
	seen   bool      // what is fetched becomes \Seen
	unread int       // messages that could not be read

	flags    []imap.Flag // scratch
	describe describer
}

func (f *fetch) check() error {
	o := f.options
	if len(o.BinarySection) > 0 || len(o.BinarySectionSize) > 0 {
		return bad("BINARY is not supported")
	}
	if len(o.BodySection) > maxSections {
		return refuse(imap.ResponseCodeLimit, "Too many sections in one FETCH")
	}
	for _, b := range o.BodySection {
		// The answer names the offset, and the library writes 32 bits of it.
		if b.Partial != nil && b.Partial.Offset > math.MaxUint32 {
			return bad("Offset is too large")
		}
		if !b.Peek && !f.v.readOnly {
			f.seen = true
		}
		if !isWhole(b) {
			f.want.Structure = true
		}
	}
	f.want.Envelope = o.Envelope
	f.want.Structure = f.want.Structure || o.BodyStructure != nil
	f.parts = o.InternalDate || o.RFC822Size || o.Envelope || o.BodyStructure != nil || len(o.BodySection) > 0
	return nil
}

// all writes the responses for some UIDs. Those that are gone are passed over.
func (f *fetch) all(ctx context.Context, uids []mail.UID) error {
	if !f.parts {
		for batch := range slices.Chunk(uids, 4*fetchBatch) {
			entries, err := f.mailbox.Entries(ctx, f.v.id, batch)
			if err != nil {
				return f.answer("FETCH", err)
			}
			for _, e := range entries {
				if err := f.write(&mail.Message{Entry: e}, f.options.Flags, nil, nil); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if len(uids) <= fetchBatch {
		for len(uids) > 0 {
			list, rest, err := f.load(ctx, uids)
			if err == nil {
				err = f.batch(ctx, list)
			}
			if err != nil {
				return err
			}
			uids = rest
		}
		return nil
	}
	// The mailbox gets the next batch while this one is being written.
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan loaded)
	var loader sync.WaitGroup
	loader.Go(func() {
		defer close(batches)
		for len(uids) > 0 {
			var l loaded
			l.list, uids, l.err = f.loadSafely(ctx, uids)
			select {
			case batches <- l:
			case <-ctx.Done():
				return
			}
			if l.err != nil {
				return
			}
		}
	})
	defer loader.Wait()
	defer cancel()
	for l := range batches {
		if l.err == nil {
			l.err = f.batch(ctx, l.list)
		}
		if l.err != nil {
			return l.err
		}
	}
	return nil
}

// loaded is what the mailbox gave.
type loaded struct {
	list []*mail.Message
	err  error
}

// load gets the messages of the first UIDs, and returns the others.
func (f *fetch) load(ctx context.Context, uids []mail.UID) (list []*mail.Message, rest []mail.UID, err error) {
	n := min(len(uids), fetchBatch)
	weight := 0
	err = f.mailbox.Messages(ctx, f.v.id, uids[:n], f.want, func(m *mail.Message) error {
		if weight >= fetchWeight {
			return errFull
		}
		list = append(list, m)
		weight += weigh(m)
		return nil
	})
	if errors.Is(err, errFull) {
		n, _ = slices.BinarySearch(uids, list[len(list)-1].UID+1)
		err = nil
	}
	return list, uids[n:], f.answer("FETCH", err)
}

// loadSafely is load in a goroutine that the library does not watch over.
func (f *fetch) loadSafely(ctx context.Context, uids []mail.UID) (list []*mail.Message, rest []mail.UID, err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("panic in FETCH", "panic", p, "stack", string(debug.Stack()))
			f.conn.Abort()
			err = errAborted
		}
	}()
	return f.load(ctx, uids)
}

// batch writes the responses for messages.
func (f *fetch) batch(ctx context.Context, list []*mail.Message) error {
	changed, err := f.markSeen(ctx, list)
	if err != nil {
		return err
	}
	for i, m := range list {
		if err := f.message(ctx, m, changed[i]); err != nil {
			return err
		}
	}
	return nil
}

// markSeen sets \Seen where fetching implies it, and tells which messages it
// was set on. That the flag cannot be set is no reason not to show a message.
func (f *fetch) markSeen(ctx context.Context, list []*mail.Message) (changed []bool, err error) {
	changed = make([]bool, len(list))
	if !f.seen {
		return changed, nil
	}
	var uids []mail.UID
	for _, m := range list {
		if !slices.Contains(m.Flags, mail.Seen) {
			uids = append(uids, m.UID)
		}
	}
	if len(uids) == 0 {
		return changed, nil
	}
	entries, _, err := f.mailbox.SetFlags(ctx, f.v.id, uids, mail.AddFlags, []mail.Flag{mail.Seen}, 0)
	if errors.Is(err, mail.ErrNoFolder) {
		return nil, f.answer("FETCH", err)
	}
	if err != nil {
		f.log.Warn("messages could not be marked as seen", "error", err)
		return changed, nil
	}
	f.v.tell(entries)
	i := 0
	for _, e := range entries {
		for i < len(list) && list[i].UID < e.UID {
			i++
		}
		if i < len(list) && list[i].UID == e.UID {
			list[i].Entry = e
			changed[i] = true
		}
	}
	return changed, nil
}

// section is the bytes that answer one BODY[...].
type section struct {
	item *imap.FetchItemBodySection
	at   mime.Range // in the message
	text []byte     // instead of at, when not nil
}

// message writes the response for one message.
func (f *fetch) message(ctx context.Context, m *mail.Message, seen bool) error {
	showFlags := f.options.Flags || seen
	if len(f.options.BodySection) == 0 {
		return f.write(m, showFlags, nil, nil)
	}
	body, err := f.mailbox.Body(ctx, f.v.id, m.UID)
	if errors.Is(err, mail.ErrNoMessage) {
		return nil
	}
	if err != nil {
		f.cannotRead(m, err)
		return nil
	}
	defer body.Close()
	sections := make([]section, len(f.options.BodySection))
	for i, item := range f.options.BodySection {
		if sections[i], err = locate(item, m, body); err != nil {
			f.cannotRead(m, err)
			return nil
		}
	}
	return f.write(m, showFlags, sections, body)
}

// cannotRead notes that a message is not shown. The others are.
func (f *fetch) cannotRead(m *mail.Message, err error) {
	f.unread++
	f.log.Warn("message could not be read", "folder", f.v.id, "uid", m.UID, "error", err)
}

// write writes one response. Until it is closed it holds a lock of the
// library's, so it is closed whatever happens.
func (f *fetch) write(m *mail.Message, flags bool, sections []section, body io.ReaderAt) (err error) {
	pos, ok := f.v.find(m.UID)
	if !ok {
		return nil
	}
	r := f.w.CreateMessage(uint32(pos) + 1)
	defer func() {
		if e := r.Close(); e != nil {
			f.conn.Abort() // half a line may be left
			err = cmp.Or(err, e)
		}
		f.conn.Release()
	}()
	if f.options.UID {
		r.WriteUID(imap.UID(m.UID))
	}
	if flags {
		f.flags = wireFlags(f.flags[:0], m.Flags)
		r.WriteFlags(f.flags)
	}
	if f.options.InternalDate {
		r.WriteInternalDate(m.Internal)
	}
	if f.options.RFC822Size {
		r.WriteRFC822Size(m.Size)
	}
	if f.options.Envelope {
		// Before it come numbers and flags only.
		e, date := envelope(m.Envelope), ""
		if m.Envelope != nil {
			date = m.Envelope.RawDate
		}
		if from, to := envelopeDate(e, date); from != to {
			f.conn.Substitute(from, to)
		}
		r.WriteEnvelope(e)
	}
	if f.options.BodyStructure != nil {
		r.WriteBodyStructure(f.describe.structure(m.Structure))
	}
	for _, sec := range sections {
		if err := f.section(r, sec, body); err != nil {
			// The client has been promised more bytes. There is no way back.
			f.conn.Abort()
			if !errors.Is(err, net.ErrClosed) {
				f.log.Warn("message broke off while it was sent", "folder", f.v.id, "uid", m.UID, "error", err)
			}
			return errAborted
		}
	}
	return nil
}

// copyBuffers are for sending messages.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, gather)
	return &b
}}

func (f *fetch) section(r *imapserver.FetchResponseWriter, sec section, body io.ReaderAt) error {
	if sec.text != nil {
		w := r.WriteBodySection(sec.item, int64(len(sec.text)))
		_, err := w.Write(sec.text)
		return errors.Join(err, w.Close())
	}
	w := r.WriteBodySection(sec.item, sec.at.Len())
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	_, err := io.CopyBuffer(w, io.NewSectionReader(body, sec.at.Start, sec.at.Len()), *buf)
	return errors.Join(err, w.Close())
}

// locate finds the bytes that a BODY[...] asks for. What is not there is empty.
func locate(item *imap.FetchItemBodySection, m *mail.Message, body mail.Body) (section, error) {
	sec := section{item: item}
	if isWhole(item) {
		sec.at = mime.Range{End: body.Size()}
	} else if m.Structure != nil {
		r, ok := mime.Section(m.Structure, item.Part, specifier(item.Specifier))
		if ok && r.Start >= 0 && r.Start <= r.End {
			sec.at = mime.Range{Start: min(r.Start, body.Size()), End: min(r.End, body.Size())}
		}
	}
	if len(item.HeaderFields) > 0 || len(item.HeaderFieldsNot) > 0 {
		header := make([]byte, min(sec.at.Len(), mime.MaxHeader))
		if n, err := body.ReadAt(header, sec.at.Start); n < len(header) {
			return sec, err
		}
		sec.text = []byte{}
		switch {
		case len(header) == 0:
		case len(item.HeaderFields) > 0:
			sec.text = mime.SelectFields(header, item.HeaderFields, false)
		default:
			sec.text = mime.SelectFields(header, item.HeaderFieldsNot, true)
		}
		if item.Partial != nil {
			r := partial(mime.Range{End: int64(len(sec.text))}, item.Partial)
			sec.text = sec.text[r.Start:r.End]
		}
		return sec, nil
	}
	if item.Partial != nil {
		sec.at = partial(sec.at, item.Partial)
	}
	return sec, nil
}

// isWhole reports whether an item is BODY[]: all of the message, whatever its structure.
func isWhole(item *imap.FetchItemBodySection) bool {
	return len(item.Part) == 0 && item.Specifier == imap.PartSpecifierNone
}

// partial cuts a range to what <offset.size> asks for. Both come from the
// client and may be as large as they like.
func partial(r mime.Range, p *imap.SectionPartial) mime.Range {
	r.Start += min(max(p.Offset, 0), r.Len())
	r.End = r.Start + min(max(p.Size, 0), r.Len())
	return r
}

func specifier(s imap.PartSpecifier) mime.Specifier {
	switch s {
	case imap.PartSpecifierHeader:
		return mime.Header
	case imap.PartSpecifierText:
		return mime.Content
	case imap.PartSpecifierMIME:
		return mime.MIME
	}
	return mime.Whole
}

// weigh estimates the memory of a message's envelope and structure.
func weigh(m *mail.Message) int {
	n := 512
	if e := m.Envelope; e != nil {
		n += len(e.Subject) + len(e.InReplyTo) + len(e.MessageID)
		for _, list := range [...][]mail.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
			for _, a := range list {
				n += 64 + len(a.Name) + len(a.Mailbox) + len(a.Host)
			}
		}
	}
	return n + weighPart(m.Structure, 0)
}

func weighPart(p *mail.Part, depth int) int {
	if p == nil || depth > maxDepth {
		return 0
	}
	n := 512 + len(p.Description) + 64*len(p.Params) + 64*len(p.DispositionParams)
	if p.Envelope != nil {
		n += weigh(&mail.Message{Envelope: p.Envelope})
	}
	for _, c := range p.Children {
		n += weighPart(c, depth+1)
	}
	return n + weighPart(p.Inner, depth+1)
}
