package words

import (
	"encoding/binary"
	"errors"
)

// ErrSegment reports bytes that are not a segment.
var ErrSegment = errors.New("damaged word index")

// maxDocuments is the most documents a segment may have: numbers are shifted by two bits.
const maxDocuments = 1 << 28

// Docs is the decoded list of the documents of a segment.
type Docs struct{ list []document }

// ParseDocs decodes the docs of a segment.
func ParseDocs(b []byte) (Docs, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > maxDocuments || count > uint64(len(b)) {
		return Docs{}, ErrSegment
	}
	b = b[n:]
	list := make([]document, 0, count)
	id := int64(0)
	for range count {
		v, n := binary.Uvarint(b)
		delta := int64(v >> 1)
		if n <= 0 || delta <= 0 || id+delta < id {
			return Docs{}, ErrSegment
		}
		b = b[n:]
		id += delta
		list = append(list, document{id, v&1 != 0})
	}
	if len(b) > 0 {
		return Docs{}, ErrSegment
	}
	return Docs{list}, nil
}

func appendDocs(b []byte, docs []document) []byte {
	b = binary.AppendUvarint(b, uint64(len(docs)))
	id := int64(0)
	for _, d := range docs {
		v := uint64(d.id-id) << 1
		if d.partial {
			v |= 1
		}
		b = binary.AppendUvarint(b, v)
		id = d.id
	}
	return b
}

// Len is the number of documents.
func (d Docs) Len() int { return len(d.list) }

// IDs calls f for each document, ascending.
func (d Docs) IDs(f func(id int64)) {
	for _, x := range d.list {
		f(x.id)
	}
}

// Found is what a search found, each ascending.
type Found struct {
	Sure  []int64 // contain the needle
	Maybe []int64 // the text must be looked at
}

// Search looks for one needle in one segment.
type Search struct{ search }

// NewSearch begins a search in the segment with these docs.
func NewSearch(d Docs, n Needle) *Search { return &Search{newSearch(d.list, n)} }

// Block searches a block. posts is called at most once, when its lists are
// needed.
func (s *Search) Block(dict []byte, posts func() ([]byte, error)) error {
	var lists []byte
	for k, p := range s.needle.patterns {
		var err error
		at, next := 0, 0 // number of the list that begins at next
		p.scan(dict, func(word int) {
			if err != nil {
				return
			}
			if lists == nil {
				if lists, err = posts(); err != nil {
					return
				}
			}
			for ; ; at++ {
				size, n := binary.Uvarint(lists[next:])
				if n <= 0 || size > uint64(len(lists)-next-n) {
					err = ErrSegment
					return
				}
				begin := next + n
				end := begin + int(size)
				if at == word {
					if !s.add(k, lists[begin:end]) {
						err = ErrSegment
					}
					return
				}
				next = end
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Result is what the blocks held in an area, or several.
func (s *Search) Result(in Area) Found { return s.result(in) }

// search collects, for each pattern of a needle, the documents that have a matching word.
type search struct {
	docs   []document
	needle Needle
	sets   [][2]bitset // of each pattern: in the header, in the body
}

func newSearch(docs []document, n Needle) search {
	s := search{docs: docs, needle: n, sets: make([][2]bitset, len(n.patterns))}
	for i := range s.sets {
		s.sets[i] = [2]bitset{newBitset(len(docs)), newBitset(len(docs))}
	}
	return s
}

// add adds a list to the documents of a pattern; false when it is damaged.
func (s *search) add(pattern int, posts []byte) bool {
	sets := &s.sets[pattern]
	return eachPost(posts, len(s.docs), func(number int, a Area) {
		if a&Header != 0 {
			sets[0].set(number - 1)
		}
		if a&Body != 0 {
			sets[1].set(number - 1)
		}
	})
}

// eachPost decodes a list.
func eachPost(posts []byte, docs int, f func(number int, a Area)) bool {
	number := 0
	for len(posts) > 0 {
		v, n := binary.Uvarint(posts)
		if n <= 0 || v>>2 == 0 || v>>2 > uint64(docs-number) || v&3 == 0 {
			return false
		}
		posts = posts[n:]
		number += int(v >> 2)
		f(number, Area(v&3))
	}
	return true
}

func (s *search) result(in Area) Found {
	hits := newBitset(len(s.docs))
	for i, area := range [...]Area{Header, Body} {
		if in&area == 0 {
			continue
		}
		all := newBitset(len(s.docs))
		all.fill(len(s.docs)) // a needle without words may be anywhere
		for _, p := range s.sets {
			all.and(p[i])
		}
		hits.or(all)
	}
	var r Found
	for i, d := range s.docs {
		switch {
		case hits.has(i) && s.needle.sure:
			r.Sure = append(r.Sure, d.id)
		case hits.has(i) || d.partial:
			r.Maybe = append(r.Maybe, d.id)
		}
	}
	return r
}

type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) and(o bitset)   { each(b, o, func(x, y uint64) uint64 { return x & y }) }
func (b bitset) or(o bitset)    { each(b, o, func(x, y uint64) uint64 { return x | y }) }

func (b bitset) fill(n int) {
	for i := range n {
		b.set(i)
	}
}

func each(b, o bitset, f func(x, y uint64) uint64) {
	for i := range b {
		b[i] = f(b[i], o[i])
	}
}
