package words

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold gives a text the form in which texts are compared: canonically
// composed (NFC), without case, every run of white space and line ends one
// space, every invalid byte U+FFFD.
func Fold(s string) string {
	ascii := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	if ascii {
		for i := range len(s) {
			c := s[i]
			if c == ' ' || c >= '\t' && c <= '\r' || c == 0 {
				space = true
				continue
			}
			if space {
				b.WriteByte(' ')
				space = false
			}
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			b.WriteByte(c)
		}
	} else {
		for _, r := range norm.NFC.String(s) {
			if r == 0 || unicode.IsSpace(r) {
				space = true
				continue
			}
			if space {
				b.WriteByte(' ')
				space = false
			}
			b.WriteRune(foldRune(r))
		}
	}
	if space {
		b.WriteByte(' ')
	}
	return b.String()
}

func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	return unicode.ToLower(unicode.ToUpper(r))
}

// kind says what part a rune has in a word.
type kind uint8

const (
	gap   kind = iota // stands between words
	part              // is part of a word
	whole             // is a word of its own
)

func kindOf(r rune) kind {
	switch {
	case r < utf8.RuneSelf:
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			return part
		}
		return gap
	case r < 0x0e00: // Latin, Greek, Cyrillic, … before Thai
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
		if unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) {
			return whole
		}
		return gap
	}
	if unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) {
		return part
	}
	return gap
}

// split calls f for each word of a folded text with its place, in order, until f is false.
func split(s string, f func(word string, at int) bool) {
	start := -1
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
		}
		k := kindOf(r)
		if k != part && start >= 0 {
			if !f(s[start:i], start) {
				return
			}
			start = -1
		}
		switch k {
		case part:
			if start < 0 {
				start = i
			}
		case whole:
			if !f(s[i:i+n], i) {
				return
			}
		}
		i += n
	}
	if start >= 0 {
		f(s[start:], start)
	}
}
