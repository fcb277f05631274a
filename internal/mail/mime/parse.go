package mime

import (
	"bytes"
	"io"
	"slices"

	"github.com/peerpost/peerpost/internal/mail"
)

// maxBoundaryLine is the length in bytes of the longest line that is looked at
// as a boundary: the boundary, its dashes and blanks that gateways added.
const maxBoundaryLine = 1000

// Index is what Parse finds.
type Index struct {
	Envelope  *mail.Envelope // Sender and ReplyTo are From when the fields are absent (RFC 9051, 7.5.2)
	Structure *mail.Part     // never nil; the header of the message is Structure.Header … Structure.Body
	Size      int64          // bytes of the message
	Lines     int64          // line ends of the whole message
}

// Parse makes the index of a message in one pass. Its only errors are those of r.
func Parse(r io.ReaderAt, size int64) (*Index, error) {
	p := parser{in: linesOf(r, size)}
	return p.parse()
}

// ParseBytes is Parse for a message in memory.
func ParseBytes(b []byte) *Index {
	p := parser{in: lines{size: int64(len(b)), buf: b, whole: true}}
	x, _ := p.parse() // nothing is read, so nothing fails
	return x
}

// parser holds the parts that are open at a place of the message, from the
// message itself to the innermost part. Boundaries of all of them are looked
// up at once, so that depth costs nothing.
type parser struct {
	in       lines
	stack    []frame
	owners   map[string]int // boundary → place in stack of the multipart that has it
	header   []byte         // so far, of the innermost part
	newlines int64          // line ends before the current line
	eol      int            // length of the line end before the current line
	parts    int            // made or promised, below MaxParts until the last
	rest     bool           // the last part is open and ends with the message
	envelope *mail.Envelope // of the message itself
	root     budget         // of that envelope
	inner    budget         // of all else
}

// frame is a part whose end has not been seen.
type frame struct {
	part      *mail.Part
	boundary  string // of a multipart whose closing boundary has not been seen
	inHeader  bool
	isMessage bool  // its header is that of a message
	inDigest  bool  // without a Content-Type it is a message/rfc822
	newlines  int64 // line ends before its body
}

func (p *parser) parse() (*Index, error) {
	p.owners = make(map[string]int)
	p.root = budget{text: MaxHeader, addresses: MaxAddresses}
	p.inner = budget{text: MaxStructure, addresses: MaxAddresses}
	root := &mail.Part{}
	p.parts = 1
	p.stack = append(p.stack, frame{part: root, inHeader: true, isMessage: true})
	split := false // the last piece ended between CR and perhaps LF
	for {
		at := p.in.offset()
		piece, first := p.in.next()
		if piece == nil {
			break
		}
		if level, closing, ok := p.boundary(piece, first); ok {
			p.atBoundary(level, closing, at, piece)
		} else if p.top().inHeader {
			piece = p.headerLine(piece, at, first)
		}
		p.eol = eol(piece)
		if p.eol == 1 && len(piece) == 1 && split {
			p.eol = 2
		}
		if p.eol > 0 {
			p.newlines++
		}
		split = len(piece) > 0 && piece[len(piece)-1] == '\r'
	}
	if p.in.err != nil {
		return nil, p.in.err
	}
	for p.top().inHeader {
		p.endHeader(p.in.size, p.newlines, false)
	}
	p.close(0, p.in.size, p.newlines)
	return &Index{Envelope: p.envelope, Structure: root, Size: p.in.size, Lines: p.newlines}, nil
}

func (p *parser) top() *frame { return &p.stack[len(p.stack)-1] }

// headerLine takes a line, or a piece of one, while the innermost part is in
// its header, and returns as much of it as it used. When the line is found to
// be the first of the body it is used there.
func (p *parser) headerLine(piece []byte, at int64, first bool) []byte {
	n := eol(piece)
	if first && n == len(piece) && len(p.header)+n <= MaxHeader {
		p.endHeader(at+int64(n), p.newlines+1, false)
		return piece
	}
	if first && !beginsHeader(piece) {
		// A part without a header; in a digest it is a message, perhaps without a header too.
		for p.top().inHeader && p.top().part.Header == at {
			p.endHeader(at, p.newlines, false)
		}
		if !p.top().inHeader {
			return piece
		}
	}
	if room := MaxHeader - len(p.header); len(piece) > room {
		p.in.back(len(piece) - room)
		piece = piece[:room]
		p.header = append(p.header, piece...)
		p.endHeader(at+int64(room), p.newlines, true)
		return piece
	}
	p.header = append(p.header, piece...)
	return piece
}

// endHeader ends the header of the innermost part: its body begins at body,
// newlines line ends into the message. A message within begins its header at once.
func (p *parser) endHeader(body, newlines int64, cut bool) {
	f := p.top()
	f.inHeader = false
	f.newlines = newlines
	part := f.part
	part.Body = body

	h := readHeader(p.header)
	over := cut || h.fields > MaxFields
	if f.isMessage {
		if len(p.stack) == 1 {
			p.envelope = h.envelope(&p.root)
		} else {
			p.stack[len(p.stack)-2].part.Envelope = h.envelope(&p.inner)
		}
	}
	boundary := h.describe(part, f.inDigest, &p.inner)
	p.header = p.header[:0]

	switch {
	case over:
		makeOpaque(part)
	case part.IsMultipart():
		if boundary == "" {
			makePlain(part)
			return
		}
		// One part is promised for what every multipart has.
		if len(p.stack) == MaxDepth || p.parts+1 >= MaxParts || len(boundary) > MaxBoundary {
			makeOpaque(part)
			return
		}
		p.parts++
		if _, taken := p.owners[boundary]; !taken { // the outer one takes a boundary that both have
			p.owners[boundary] = len(p.stack) - 1
			f.boundary = boundary
		}
	case isMessage(part):
		if len(p.stack) == MaxDepth || p.parts+1 >= MaxParts || !isIdentity(part.Encoding) {
			makeOpaque(part)
			return
		}
		p.parts++
		part.Inner = &mail.Part{Header: body}
		p.stack = append(p.stack, frame{part: part.Inner, inHeader: true, isMessage: true})
	}
}

// boundary says whether a line is the boundary of an open multipart, and of which.
func (p *parser) boundary(piece []byte, first bool) (level int, closing, ok bool) {
	if !first || len(piece) < 3 || piece[0] != '-' || piece[1] != '-' || p.rest || len(p.owners) == 0 || len(piece) > maxBoundaryLine {
		return 0, false, false
	}
	b := bytes.TrimRight(piece[2:], " \t\r\n")
	if level, ok = p.owners[string(b)]; ok {
		return level, false, true
	}
	if b, ok = bytes.CutSuffix(b, []byte("--")); !ok {
		return 0, false, false
	}
	level, ok = p.owners[string(b)]
	return level, true, ok
}

// atBoundary ends the parts within the multipart at level and begins its next
// part, unless the boundary is the closing one.
func (p *parser) atBoundary(level int, closing bool, at int64, line []byte) {
	for p.top().inHeader {
		p.endHeader(at, p.newlines, false)
	}
	end, newlines := at-int64(p.eol), p.newlines-1
	if p.eol == 0 || end < p.top().part.Body {
		// The part ends where its header did, and so do all around it.
		end = p.top().part.Body
	}
	if end == at {
		newlines = p.newlines
	}
	p.close(level+1, end, newlines)

	f := p.top()
	if closing {
		delete(p.owners, f.boundary)
		f.boundary = ""
		return
	}
	after := at + int64(len(line))
	child := &mail.Part{Header: after}
	promised := len(f.part.Children) == 0
	f.part.Children = append(f.part.Children, child)
	next := frame{part: child, inHeader: true, inDigest: f.part.Subtype == "digest"}
	if !promised {
		if p.parts++; p.parts >= MaxParts {
			p.rest = true
			next.inHeader = false
			next.newlines = p.newlines + 1 // if the line has no end, nothing follows it
			child.Body = after
			child.Encoding = "7bit"
			makeOpaque(child)
		}
	}
	p.stack = append(p.stack, next)
}

// close ends the parts from the innermost out to the one at level.
func (p *parser) close(level int, end, newlines int64) {
	for i := len(p.stack) - 1; i >= level; i-- {
		f := &p.stack[i]
		f.part.End = end
		f.part.Lines = max(0, newlines-f.newlines)
		if f.boundary != "" {
			delete(p.owners, f.boundary)
		}
		if f.part.IsMultipart() && len(f.part.Children) == 0 {
			empty := &mail.Part{Header: end, Body: end, End: end, Encoding: "7bit"}
			makePlain(empty)
			f.part.Children = append(f.part.Children, empty)
		}
	}
	p.stack = p.stack[:level]
}

// makeOpaque makes a leaf of a part whose inside is not looked at.
func makeOpaque(p *mail.Part) {
	p.Type, p.Subtype = "application", "octet-stream"
	p.Params = without(p.Params, "boundary", "charset")
}

// makePlain makes a part what RFC 2045, 5.2 says it is when its type cannot be understood.
func makePlain(p *mail.Part) {
	p.Type, p.Subtype = "text", "plain"
	p.Params = append(without(p.Params, "boundary", "charset"), mail.Param{Name: "charset", Value: "us-ascii"})
}

func without(params []mail.Param, names ...string) []mail.Param {
	params = slices.DeleteFunc(params, func(p mail.Param) bool { return slices.Contains(names, p.Name) })
	if len(params) == 0 {
		return nil
	}
	return params
}

func isMessage(p *mail.Part) bool {
	return p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
}

// isIdentity says that an encoding leaves the bytes as they are.
func isIdentity(encoding string) bool {
	return encoding == "7bit" || encoding == "8bit" || encoding == "binary"
}
