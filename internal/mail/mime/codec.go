package mime

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// The stored form of an index. Numbers are uvarints in their shortest form,
// signed ones in zigzag; a string is its length and its bytes. Nothing may follow.
//
//	envelope  = 1 heading
//	heading   = flags:byte addresses:number [date zone] rawDate subject inReplyTo messageID
//	            from [sender] [replyTo] to cc bcc
//	list      = count:number { name mailbox host }
//
//	structure = 1 parts:number params:number part
//	part      = flags:number skip:number header:number body:number lines:number type subtype encoding
//	            [params] [id] [description] [md5] [disposition] [dispositionParams] [language] [location]
//	            [count:number { part }] [heading part]
//
// addresses, parts and params count those of the whole heading or tree, so that
// each is allocated at once. skip is from the parent's Body to the part's Header.
const codecVersion = 1

// The flags of a heading.
const (
	hasDate = 1 << iota
	sameSender
	sameReplyTo
)

// The flags of a part.
const (
	hasParams = 1 << iota
	hasID
	hasDescription
	hasMD5
	hasDisposition
	hasDispositionParams
	hasLanguage
	hasLocation
	hasChildren
	hasInner
)

// errCoding is told for all that MarshalEnvelope and MarshalStructure do not write.
var errCoding = errors.New("not a stored index")

// MarshalEnvelope encodes an envelope for storage.
func MarshalEnvelope(e *mail.Envelope) []byte {
	return appendHeading(append(make([]byte, 0, 512), codecVersion), e)
}

// UnmarshalEnvelope decodes what MarshalEnvelope wrote, nothing else.
func UnmarshalEnvelope(b []byte) (*mail.Envelope, error) {
	d := decoder{s: string(b)}
	if d.byte() != codecVersion {
		return nil, errCoding
	}
	e := new(mail.Envelope)
	d.heading(e)
	if d.bad || d.s != "" {
		return nil, errCoding
	}
	return e, nil
}

// MarshalStructure encodes a tree of parts, as Parse makes it, for storage.
func MarshalStructure(p *mail.Part) []byte {
	parts, params := count(p)
	b := append(make([]byte, 0, 128*parts), codecVersion)
	b = binary.AppendUvarint(b, uint64(parts))
	b = binary.AppendUvarint(b, uint64(params))
	return appendPart(b, p, 0)
}

// UnmarshalStructure decodes what MarshalStructure wrote, nothing else. What it
// returns has the shape that Parse gives: places lie within those of the parent,
// a multipart has a part, a message within has an envelope.
func UnmarshalStructure(b []byte) (*mail.Part, error) {
	d := decoder{s: string(b)}
	if d.byte() != codecVersion {
		return nil, errCoding
	}
	const leastPart, leastParam = 8, 2 // bytes
	parts, params := d.count(MaxParts, leastPart), d.count(math.MaxInt32, leastParam)
	if d.bad || parts == 0 {
		return nil, errCoding
	}
	d.parts, d.params = make([]mail.Part, parts), make([]mail.Param, params)
	p := d.part(0, math.MaxInt64, 1)
	if d.bad || d.s != "" || len(d.parts) != 0 || len(d.params) != 0 {
		return nil, errCoding
	}
	return p, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendHeading(b []byte, e *mail.Envelope) []byte {
	var flags byte
	n := len(e.From) + len(e.To) + len(e.Cc) + len(e.Bcc)
	if !e.Date.IsZero() {
		flags |= hasDate
	}
	if slices.Equal(e.Sender, e.From) {
		flags |= sameSender
	} else {
		n += len(e.Sender)
	}
	if slices.Equal(e.ReplyTo, e.From) {
		flags |= sameReplyTo
	} else {
		n += len(e.ReplyTo)
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(n))
	if flags&hasDate != 0 {
		_, east := e.Date.Zone()
		b = binary.AppendVarint(b, e.Date.Unix())
		b = binary.AppendVarint(b, int64(east))
	}
	b = appendString(b, e.RawDate)
	b = appendString(b, e.Subject)
	b = appendString(b, e.InReplyTo)
	b = appendString(b, e.MessageID)
	b = appendList(b, e.From)
	if flags&sameSender == 0 {
		b = appendList(b, e.Sender)
	}
	if flags&sameReplyTo == 0 {
		b = appendList(b, e.ReplyTo)
	}
	b = appendList(b, e.To)
	b = appendList(b, e.Cc)
	return appendList(b, e.Bcc)
}

func appendList(b []byte, list []mail.Address) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for i := range list {
		b = appendString(b, list[i].Name)
		b = appendString(b, list[i].Mailbox)
		b = appendString(b, list[i].Host)
	}
	return b
}

// count returns the parts of a tree and their parameters.
func count(p *mail.Part) (parts, params int) {
	parts, params = 1, len(p.Params)+len(p.DispositionParams)
	for _, c := range p.Children {
		n, m := count(c)
		parts, params = parts+n, params+m
	}
	if p.Inner != nil {
		n, m := count(p.Inner)
		parts, params = parts+n, params+m
	}
	return parts, params
}

func appendPart(b []byte, p *mail.Part, start int64) []byte {
	flags := uint64(0)
	set := func(on bool, bit uint64) {
		if on {
			flags |= bit
		}
	}
	set(len(p.Params) > 0, hasParams)
	set(p.ID != "", hasID)
	set(p.Description != "", hasDescription)
	set(p.MD5 != "", hasMD5)
	set(p.Disposition != "", hasDisposition)
	set(len(p.DispositionParams) > 0, hasDispositionParams)
	set(len(p.Language) > 0, hasLanguage)
	set(p.Location != "", hasLocation)
	set(len(p.Children) > 0, hasChildren)
	set(p.Inner != nil, hasInner)

	b = binary.AppendUvarint(b, flags)
	b = binary.AppendUvarint(b, uint64(p.Header-start))
	b = binary.AppendUvarint(b, uint64(p.Body-p.Header))
	b = binary.AppendUvarint(b, uint64(p.End-p.Body))
	b = binary.AppendUvarint(b, uint64(p.Lines))
	b = appendString(b, p.Type)
	b = appendString(b, p.Subtype)
	b = appendString(b, p.Encoding)
	if flags&hasParams != 0 {
		b = appendParams(b, p.Params)
	}
	for _, s := range [...]string{p.ID, p.Description, p.MD5, p.Disposition} {
		if s != "" {
			b = appendString(b, s)
		}
	}
	if flags&hasDispositionParams != 0 {
		b = appendParams(b, p.DispositionParams)
	}
	if flags&hasLanguage != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Language)))
		for _, tag := range p.Language {
			b = appendString(b, tag)
		}
	}
	if flags&hasLocation != 0 {
		b = appendString(b, p.Location)
	}
	if flags&hasChildren != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Children)))
		for _, c := range p.Children {
			b = appendPart(b, c, p.Body)
		}
	}
	if flags&hasInner != 0 {
		e := p.Envelope
		if e == nil {
			e = &mail.Envelope{}
		}
		b = appendHeading(b, e)
		b = appendPart(b, p.Inner, p.Body)
	}
	return b
}

func appendParams(b []byte, params []mail.Param) []byte {
	b = binary.AppendUvarint(b, uint64(len(params)))
	for i := range params {
		b = appendString(b, params[i].Name)
		b = appendString(b, params[i].Value)
	}
	return b
}

// decoder reads from the front of s. All strings it gives are pieces of s.
type decoder struct {
	s         string
	bad       bool
	parts     []mail.Part    // not yet used
	params    []mail.Param   // not yet used
	addresses []mail.Address // of the heading at hand, not yet used
}

func (d *decoder) byte() byte {
	if d.s == "" {
		d.bad = true
		return 0
	}
	c := d.s[0]
	d.s = d.s[1:]
	return c
}

func (d *decoder) number() uint64 {
	if len(d.s) > 0 && d.s[0] < 0x80 {
		n := uint64(d.s[0])
		d.s = d.s[1:]
		return n
	}
	var n uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 {
				break // not the shortest form
			}
			d.s = d.s[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) signed() int64 {
	n := d.number()
	return int64(n>>1) ^ -int64(n&1)
}

// fail makes all that is read from now on empty.
func (d *decoder) fail() {
	d.bad = true
	d.s = ""
}

// count reads a number of things of which each takes at least size bytes.
func (d *decoder) count(max, size int) int {
	n := d.number()
	if n > uint64(max) || n > uint64(len(d.s)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.number()
	if n > uint64(len(d.s)) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

// some reads a string that is not empty.
func (d *decoder) some() string {
	s := d.string()
	if s == "" {
		d.fail()
	}
	return s
}

func (d *decoder) heading(e *mail.Envelope) {
	const leastAddress = 3 // bytes
	flags := d.byte()
	if flags&^(hasDate|sameSender|sameReplyTo) != 0 {
		d.fail()
	}
	n := d.count(3*MaxAddresses, leastAddress)
	if n > 0 {
		d.addresses = make([]mail.Address, n)
	}
	if flags&hasDate != 0 {
		const day = 24 * 3600
		unix, east := d.signed(), d.signed()
		if east <= -day || east >= day || unix < minUnix || unix > maxUnix {
			d.fail()
			return
		}
		loc := time.UTC
		if east != 0 {
			loc = time.FixedZone("", int(east))
		}
		if e.Date = time.Unix(unix, 0).In(loc); e.Date.IsZero() {
			d.fail()
		}
	}
	e.RawDate = d.string()
	e.Subject = d.string()
	e.InReplyTo = d.string()
	e.MessageID = d.string()
	e.From = d.list()
	if e.Sender = e.From; flags&sameSender == 0 {
		if e.Sender = d.list(); slices.Equal(e.Sender, e.From) {
			d.fail()
		}
	}
	if e.ReplyTo = e.From; flags&sameReplyTo == 0 {
		if e.ReplyTo = d.list(); slices.Equal(e.ReplyTo, e.From) {
			d.fail()
		}
	}
	e.To = d.list()
	e.Cc = d.list()
	e.Bcc = d.list()
	if len(d.addresses) != 0 {
		d.fail()
		d.addresses = nil
	}
}

// The years 1 to 9999 of any zone, in seconds since 1970.
const (
	minUnix = -62135596800 - 24*3600
	maxUnix = 253402300799 + 24*3600
)

func (d *decoder) list() []mail.Address {
	n := d.number()
	if n > uint64(len(d.addresses)) {
		d.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	list := d.addresses[:n:n]
	d.addresses = d.addresses[n:]
	for i := range list {
		list[i] = mail.Address{Name: d.string(), Mailbox: d.string(), Host: d.string()}
	}
	return list
}

func (d *decoder) part(start, limit int64, depth int) *mail.Part {
	if len(d.parts) == 0 || depth > MaxDepth {
		d.fail()
		return nil
	}
	p := &d.parts[0]
	d.parts = d.parts[1:]
	flags := d.number()
	if flags >= hasInner<<1 {
		d.fail()
	}
	p.Header = d.place(start, limit)
	p.Body = d.place(p.Header, limit)
	p.End = d.place(p.Body, limit)
	p.Lines = d.place(0, math.MaxInt64)
	p.Type = d.string()
	p.Subtype = d.string()
	p.Encoding = d.string()
	if flags&hasParams != 0 {
		p.Params = d.paramList()
	}
	if flags&hasID != 0 {
		p.ID = d.some()
	}
	if flags&hasDescription != 0 {
		p.Description = d.some()
	}
	if flags&hasMD5 != 0 {
		p.MD5 = d.some()
	}
	if flags&hasDisposition != 0 {
		p.Disposition = d.some()
	}
	if flags&hasDispositionParams != 0 {
		p.DispositionParams = d.paramList()
	}
	if flags&hasLanguage != 0 {
		n := d.count(maxLanguages, 1)
		if n == 0 {
			d.fail()
			return p
		}
		p.Language = make([]string, n)
		for i := range p.Language {
			p.Language[i] = d.string()
		}
	}
	if flags&hasLocation != 0 {
		p.Location = d.some()
	}
	if (flags&hasChildren != 0) != p.IsMultipart() || (flags&hasInner != 0) != isMessage(p) {
		d.fail()
		return p
	}
	if flags&hasChildren != 0 {
		n := d.number()
		if n == 0 || n > uint64(len(d.parts)) {
			d.fail()
			return p
		}
		p.Children = make([]*mail.Part, n)
		for i := range p.Children {
			if p.Children[i] = d.part(p.Body, p.End, depth+1); d.bad {
				return p
			}
		}
	}
	if flags&hasInner != 0 {
		p.Envelope = new(mail.Envelope)
		d.heading(p.Envelope)
		p.Inner = d.part(p.Body, p.End, depth+1)
	}
	return p
}

// place reads a distance from start that does not lead beyond limit.
func (d *decoder) place(start, limit int64) int64 {
	n := d.number()
	if n > uint64(limit-start) {
		d.fail()
		return start
	}
	return start + int64(n)
}

func (d *decoder) paramList() []mail.Param {
	n := d.number()
	if n == 0 || n > uint64(len(d.params)) {
		d.fail()
		return nil
	}
	list := d.params[:n:n]
	d.params = d.params[n:]
	for i := range list {
		list[i] = mail.Param{Name: d.string(), Value: d.string()}
	}
	return list
}
