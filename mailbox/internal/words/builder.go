package words

import (
	"encoding/binary"
	"slices"
)

// Area is where in a message a word stands, or is looked for.
type Area uint8

// The areas; they combine.
const (
	Header Area = 1 << iota
	Body
)

// The bounds of an index.
const (
	// maxDocument is how many bytes of different words are kept of one document. Ordinary mail has a few
	// thousand; above it the document becomes partial.
	maxDocument = 128 << 10
	// blockSize is the size of a dictionary block in bytes at which the next is begun.
	blockSize = 8 << 10
)

// Builder is an index of new documents in memory. It is not safe for concurrent use.
type Builder struct {
	docs  []document
	terms map[string]uint32 // word → place in lists
	lists []list
	size  int

	touched []uint32 // of the document being added
}

type document struct {
	id      int64
	partial bool
}

// list is the documents of one word.
type list struct {
	posts []byte // as in a segment
	last  uint32 // number of the last document
	area  Area   // in the document being added
}

// NewBuilder returns an empty index.
func NewBuilder() *Builder { return &Builder{terms: make(map[string]uint32)} }

// Len is the number of documents.
func (b *Builder) Len() int { return len(b.docs) }

// Size is about the number of bytes held.
func (b *Builder) Size() int { return b.size }

// Last is the highest number of a document, 0 when there is none.
func (b *Builder) Last() int64 {
	if len(b.docs) == 0 {
		return 0
	}
	return b.docs[len(b.docs)-1].id
}

// Add adds a document of folded texts. Its number must be above all others.
// partial says that the texts are not all there is.
func (b *Builder) Add(id int64, header, body string, partial bool) {
	b.touched = b.touched[:0]
	bytes := 0
	for _, t := range [...]struct {
		area Area
		text string
	}{{Header, header}, {Body, body}} {
		keep := func(w string) bool {
			n, ok := b.terms[w]
			if !ok {
				if bytes+len(w) > maxDocument {
					return false
				}
				n = uint32(len(b.lists))
				b.terms[string([]byte(w))] = n // not a piece of the text, which would stay
				b.lists = append(b.lists, list{})
				b.size += len(w) + 80
			}
			l := &b.lists[n]
			if l.area == 0 {
				if bytes += len(w); bytes > maxDocument {
					return false
				}
				b.touched = append(b.touched, n)
			}
			l.area |= t.area
			return true
		}
		split(t.text, func(w string, _ int) bool {
			if !pieces(w, keep) {
				partial = true
				return false
			}
			return true
		})
	}
	b.docs = append(b.docs, document{id, partial})
	number := uint32(len(b.docs))
	for _, n := range b.touched {
		l := &b.lists[n]
		before := len(l.posts)
		l.posts = binary.AppendUvarint(l.posts, uint64(number-l.last)<<2|uint64(l.area))
		l.last, l.area = number, 0
		b.size += len(l.posts) - before
	}
	b.size += 16
}

// Find looks for a needle in the texts of an area, or of several.
func (b *Builder) Find(n Needle, in Area) Found {
	s := newSearch(b.docs, n)
	for w, i := range b.terms {
		for k, p := range n.patterns {
			if p.matches(w) {
				s.add(k, b.lists[i].posts)
			}
		}
	}
	return s.result(in)
}

// Segment encodes the index. It calls block for each block, in order, and
// returns the docs.
func (b *Builder) Segment(block func(dict, posts []byte) error) (docs []byte, err error) {
	terms := make([]string, 0, len(b.terms))
	for w := range b.terms {
		terms = append(terms, w)
	}
	slices.Sort(terms)
	w := writer{block: block}
	for _, t := range terms {
		if l := b.lists[b.terms[t]]; len(l.posts) > 0 {
			if err := w.add([]byte(t), l.posts); err != nil {
				return nil, err
			}
		}
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	return appendDocs(nil, b.docs), nil
}

// writer cuts words and their lists into blocks.
type writer struct {
	block       func(dict, posts []byte) error
	dict, posts []byte
}

func (w *writer) add(word, posts []byte) error {
	if len(w.dict) == 0 {
		w.dict = append(w.dict, 0)
	}
	w.dict = append(append(w.dict, word...), 0)
	w.posts = append(binary.AppendUvarint(w.posts, uint64(len(posts))), posts...)
	if len(w.dict) >= blockSize {
		return w.flush()
	}
	return nil
}

func (w *writer) flush() error {
	if len(w.dict) == 0 {
		return nil
	}
	err := w.block(w.dict, w.posts)
	w.dict, w.posts = w.dict[:0], w.posts[:0]
	return err
}
