package words

import (
	"bytes"
	"encoding/binary"
)

// Source is a segment to be merged.
type Source struct {
	Docs Docs
	// Next returns the next block, false after the last. What it returned
	// before may change then.
	Next func() (dict, posts []byte, ok bool, err error)
}

// Merge joins segments into one. Their documents must ascend from source to
// source. Documents for which keep is false are left out. It calls block for
// each block, in order, and returns the docs.
func Merge(sources []Source, keep func(id int64) bool, block func(dict, posts []byte) error) (docs []byte, err error) {
	var kept []document
	cursors := make([]*cursor, len(sources))
	for i, s := range sources {
		c := &cursor{next: s.Next, numbers: make([]uint32, s.Docs.Len())}
		for k, d := range s.Docs.list {
			if n := len(kept); n > 0 && d.id <= kept[n-1].id {
				return nil, ErrSegment
			}
			if keep(d.id) {
				kept = append(kept, d)
				c.numbers[k] = uint32(len(kept))
			}
		}
		if err := c.advance(); err != nil {
			return nil, err
		}
		cursors[i] = c
	}
	w := writer{block: block}
	var word, list []byte
	for {
		var least *cursor
		for _, c := range cursors {
			if !c.done && (least == nil || bytes.Compare(c.word, least.word) < 0) {
				least = c
			}
		}
		if least == nil {
			break
		}
		word, list = append(word[:0], least.word...), list[:0]
		last := uint32(0)
		for _, c := range cursors {
			if c.done || !bytes.Equal(c.word, word) {
				continue
			}
			ok := eachPost(c.list, len(c.numbers), func(number int, a Area) {
				if n := c.numbers[number-1]; n > last {
					list = binary.AppendUvarint(list, uint64(n-last)<<2|uint64(a))
					last = n
				}
			})
			if !ok {
				return nil, ErrSegment
			}
			if err := c.advance(); err != nil {
				return nil, err
			}
		}
		if len(list) > 0 {
			if err := w.add(word, list); err != nil {
				return nil, err
			}
		}
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	return appendDocs(nil, kept), nil
}

// cursor walks over the words of a segment.
type cursor struct {
	next    func() (dict, posts []byte, ok bool, err error)
	numbers []uint32 // old number − 1 → new number; 0: left out

	dict, posts []byte // what is left of the block
	word, list  []byte
	done        bool
}

func (c *cursor) advance() error {
	for len(c.dict) == 0 {
		dict, posts, ok, err := c.next()
		if err != nil {
			return err
		}
		if !ok {
			c.done = true
			return nil
		}
		if len(dict) < 2 || dict[0] != 0 || dict[len(dict)-1] != 0 {
			return ErrSegment
		}
		c.dict, c.posts = dict[1:], posts
	}
	i := bytes.IndexByte(c.dict, 0)
	size, n := binary.Uvarint(c.posts)
	if i < 0 || n <= 0 || size > uint64(len(c.posts)-n) {
		return ErrSegment
	}
	if bytes.Compare(c.dict[:i], c.word) <= 0 && c.word != nil {
		return ErrSegment
	}
	c.word = append(make([]byte, 0, i), c.dict[:i]...)
	c.list = append(c.list[:0], c.posts[n:n+int(size)]...)
	c.dict, c.posts = c.dict[i+1:], c.posts[n+int(size):]
	return nil
}
