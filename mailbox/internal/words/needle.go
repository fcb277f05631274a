package words

import (
	"bytes"
	"strings"
)

// The bounds of a word.
const (
	maxWord = 64 // bytes; of a longer one pieces of this length are kept
	stride  = 32 // bytes from piece to piece: strings up to this length lie whole in one
)

// Needle is a string to be found.
type Needle struct {
	text     string // folded
	patterns []pattern
	sure     bool // a word that matches is the answer; otherwise the text must be looked at
}

// pattern is what a word has to look like: it contains the text, and begins or ends with it where that is set.
type pattern struct {
	text       string
	begin, end bool
}

// NewNeedle prepares a string, as it came, for the search.
func NewNeedle(s string) Needle {
	n := Needle{text: Fold(s)}
	split(n.text, func(w string, at int) bool {
		p := pattern{text: w, begin: at > 0, end: at+len(w) < len(n.text)}
		if len(w) > stride {
			p.text, p.end = w[:stride], false
		}
		n.patterns = append(n.patterns, p)
		return true
	})
	n.sure = len(n.patterns) == 1 && n.patterns[0].text == n.text
	return n
}

// Text is the folded string.
func (n Needle) Text() string { return n.text }

// In reports whether a folded text contains the string.
func (n Needle) In(folded string) bool { return strings.Contains(folded, n.text) }

func (p pattern) matches(word string) bool {
	switch {
	case p.begin && p.end:
		return word == p.text
	case p.begin:
		return strings.HasPrefix(word, p.text)
	case p.end:
		return strings.HasSuffix(word, p.text)
	}
	return strings.Contains(word, p.text)
}

// scan calls f with the number, from 0, of each matching word of a dictionary, ascending.
func (p pattern) scan(dict []byte, f func(word int)) {
	find := make([]byte, 0, len(p.text)+2)
	if p.begin {
		find = append(find, 0)
	}
	find = append(find, p.text...)
	if p.end {
		find = append(find, 0)
	}
	word, at := -1, 0 // words begun before at
	for at < len(dict) {
		i := bytes.Index(dict[at:], find)
		if i < 0 {
			return
		}
		in := at + i // a byte of the word or the NUL before it
		if p.begin {
			in++
		}
		word += bytes.Count(dict[at:in], nul)
		f(word)
		end := bytes.IndexByte(dict[in:], 0)
		if end < 0 {
			return
		}
		at = in + end // the NUL before the next word is not counted yet
	}
}

var nul = []byte{0}

// pieces calls f for what is kept of a word.
func pieces(w string, f func(string) bool) bool {
	if len(w) <= maxWord {
		return f(w)
	}
	for i := 0; i+maxWord < len(w); i += stride {
		if !f(w[i : i+maxWord]) {
			return false
		}
	}
	return f(w[len(w)-maxWord:])
}
