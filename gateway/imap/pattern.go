package imap

import (
	"strings"

	"github.com/peerpost/peerpost/internal/mail"
)

// pattern is what LIST looks for: "*" matches anything, "%" anything within
// one level (RFC 9051, 6.3.9).
type pattern string

// newPattern joins the reference and the pattern of a LIST.
func newPattern(reference, p string) pattern {
	s := reference + p
	// INBOX is the one name that is compared without regard to case.
	if n := len("INBOX"); len(s) >= n && strings.EqualFold(s[:n], "INBOX") && (len(s) == n || s[n] == mail.Separator) {
		s = "INBOX" + s[n:]
	}
	return pattern(s)
}

// match takes time in proportion to both lengths, whatever the wildcards: it
// moves all places of the pattern where a match may stand along the name.
func (p pattern) match(name string) bool {
	at := make([]bool, len(p)+1) // at[i]: name so far matches p[:i]
	next := make([]bool, len(p)+1)
	at[0] = true
	p.skip(at)
	for i := range len(name) {
		c := name[i]
		clear(next)
		for j := range len(p) {
			if !at[j] {
				continue
			}
			switch {
			case p[j] == '*', p[j] == '%' && c != mail.Separator:
				next[j] = true
			case p[j] == c && p[j] != '%':
				next[j+1] = true
			}
		}
		p.skip(next)
		at, next = next, at
	}
	return at[len(p)]
}

// skip lets wildcards match nothing.
func (p pattern) skip(at []bool) {
	for j := range len(p) {
		if at[j] && (p[j] == '*' || p[j] == '%') {
			at[j+1] = true
		}
	}
}
