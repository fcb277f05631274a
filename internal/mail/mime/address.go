package mime

import (
	"strings"

	"github.com/peerpost/peerpost/internal/mail"
)

// What stands for the half of an address that is missing, so that it is not
// taken for a group. Neither can be delivered to.
const (
	MissingMailbox = "MISSING_MAILBOX"
	MissingHost    = "MISSING_DOMAIN"
)

// IsComplete says whether an address has both its halves and is not the mark of a group.
func IsComplete(a mail.Address) bool {
	return a.Mailbox != "" && a.Host != "" && a.Mailbox != MissingMailbox && a.Host != MissingHost
}

// ParseAddresses reads a list of addresses, at most MaxAddresses of them. It
// takes what RFC 5322 allows and makes the best of the rest: a mailbox without
// a host gets MissingHost, semicolons may divide the list, quotes and brackets
// may lack their end.
func ParseAddresses(value string) []mail.Address {
	return parseAddresses(unfold([]byte(value)), MaxAddresses)
}

func parseAddresses(s string, max int) []mail.Address {
	p := addressParser{s: s, max: max, lastSemicolon: strings.LastIndexByte(s, ';')}
	return p.list()
}

// addressParser reads a list from left to right; words are those of the
// address at hand.
type addressParser struct {
	s             string
	at            int
	max           int
	lastSemicolon int
	out           []mail.Address
	words         []word
	comment       string
	angle         bool   // an angle address was read
	spec          []word // its words
	inGroup       bool

	noQuote, noComment bool // one was found that does not end; further ones cannot either
}

// word is an atom (dots included), the text of a quoted string, or an "@".
type word struct {
	text   string
	spaced bool // a blank stands before it
	quoted bool
}

func (p *addressParser) list() []mail.Address {
	for p.at < len(p.s) && len(p.out) < p.max {
		switch c := p.s[p.at]; {
		case c == ',':
			p.at++
			p.flush()
		case c == ';':
			p.at++
			p.flush()
			if p.inGroup {
				p.out = append(p.out, mail.Address{})
				p.inGroup = false
				p.max++
			}
		case c == ':' && !p.inGroup && !p.angle && len(p.words) > 0 && p.at < p.lastSemicolon && len(p.out)+2 <= p.max:
			p.at++
			name := cut(phrase(p.words), MaxValue)
			if name == "" {
				name = MissingMailbox
			}
			p.out = append(p.out, mail.Address{Mailbox: name})
			p.inGroup = true
			p.max-- // for its end
			p.reset()
		case c == '<':
			if p.angle { // a comma is missing
				p.flush()
				continue
			}
			p.at++
			p.readAngle()
		default:
			p.words = p.readWord(p.words)
		}
	}
	if len(p.out) < p.max {
		p.flush()
	}
	if p.inGroup {
		p.out = append(p.out, mail.Address{})
	}
	return p.out
}

func (p *addressParser) reset() {
	p.words, p.spec, p.comment, p.angle = p.words[:0], p.spec[:0], "", false
}

// readWord appends the next word. Comments are put aside.
func (p *addressParser) readWord(words []word) []word {
	spaced := false
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t') {
		spaced = true
		p.at++
	}
	if p.at == len(p.s) {
		return words
	}
	switch p.s[p.at] {
	case ',', ';', '<', '>', ':':
		if spaced {
			return words // the caller knows what it means
		}
	case '(':
		if !p.noComment {
			if text, n := delimited(p.s[p.at:], '(', ')'); n > 0 {
				p.at += n
				if p.comment == "" {
					p.comment = text
				}
				if p.at < len(p.s) && p.s[p.at] != ' ' && len(words) > 0 {
					// A comment divides words as a blank does.
					return p.markSpaced(words)
				}
				return words
			}
			p.noComment = true
		}
	case '"':
		if !p.noQuote {
			if text, n := delimited(p.s[p.at:], '"', '"'); n > 0 {
				p.at += n
				return append(words, word{text, spaced, true})
			}
			p.noQuote = true
		}
	case '@':
		p.at++
		return append(words, word{"@", spaced, false})
	case '[':
		// A domain literal; its colons are part of it.
		if n := strings.IndexAny(p.s[p.at:], "],<>\""); n > 0 && p.s[p.at+n] == ']' {
			text := p.s[p.at : p.at+n+1]
			p.at += n + 1
			return append(words, word{text, spaced, false})
		}
	}
	start := p.at
	p.at++ // whatever it is, it is not looked at again
	for p.at < len(p.s) && strings.IndexByte(" \t,;<>@\"(:", p.s[p.at]) < 0 {
		p.at++
	}
	text := strings.Trim(p.s[start:p.at], `"()>`) // what is left of pairs
	if text == "" {
		return words
	}
	return append(words, word{text, spaced, false})
}

// markSpaced has no word to mark yet: it reads the next one and marks that.
func (p *addressParser) markSpaced(words []word) []word {
	n := len(words)
	if strings.IndexByte(",;<>:(", p.s[p.at]) >= 0 {
		return words
	}
	if words = p.readWord(words); len(words) > n {
		words[n].spaced = true
	}
	return words
}

// delimited reads a quoted string or a comment from its first byte to its end,
// with backslashes undone. n is 0 when it does not end. Comments nest.
func delimited(s string, open, end byte) (text string, n int) {
	depth := 0
	escaped := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			escaped = true
			i++
		case c == end && i > 0:
			if depth--; depth <= 0 {
				text = s[1:i]
				if escaped {
					text = undoBackslash(text)
				}
				return text, i + 1
			}
		case c == open:
			depth++
		}
	}
	return "", 0
}

func undoBackslash(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readAngle reads what follows a "<" up to ">", or, when that is missing, to the end of the address.
func (p *addressParser) readAngle() {
	p.angle = true
	if p.at < len(p.s) && p.s[p.at] == '@' {
		// A source route (RFC 5322, 4.4): passed over.
		if n := strings.IndexAny(p.s[p.at:], ":>"); n > 0 && p.s[p.at+n] == ':' {
			p.at += n + 1
		}
	}
	for p.at < len(p.s) {
		switch p.s[p.at] {
		case '>':
			p.at++
			return
		case ',', ';':
			return
		case '<':
			p.at++
		default:
			p.spec = p.readWord(p.spec)
		}
	}
}

// flush ends the address at hand.
func (p *addressParser) flush() {
	defer p.reset()
	if !p.angle && len(p.words) == 0 {
		return
	}
	var a mail.Address
	if p.angle {
		a.Name = phrase(p.words)
		_, a.Mailbox, a.Host = addrSpec(p.spec)
	} else {
		a.Name, a.Mailbox, a.Host = addrSpec(p.words)
	}
	if a.Name == "" {
		a.Name = strings.TrimSpace(p.comment)
	}
	a.Name = cut(a.Name, MaxValue)
	if len(a.Mailbox) > MaxValue || len(a.Host) > MaxValue {
		a.Mailbox, a.Host = "", ""
	}
	if a.Mailbox == "" {
		a.Mailbox = MissingMailbox
	}
	if a.Host == "" {
		a.Host = MissingHost
	}
	p.out = append(p.out, a)
}

// addrSpec reads words as an address, perhaps after a name without brackets.
func addrSpec(words []word) (name, mailbox, host string) {
	at := -1
	for i, w := range words {
		if w.text == "@" && !w.quoted {
			at = i
		}
	}
	if at < 0 {
		if len(words) == 1 {
			return "", words[0].text, ""
		}
		if n := len(words); n > 0 && strings.HasPrefix(words[n-1].text, ".") || joined(words) {
			return "", concat(words), ""
		}
		return phrase(words), "", ""
	}
	// The mailbox is the words before the "@" that no blank divides; dots bind over blanks.
	first := at
	for first > 0 {
		if first < at && words[first].spaced && !binds(words[first-1], words[first]) {
			break
		}
		first--
	}
	last := at + 1
	for last < len(words) && (last == at+1 || !words[last].spaced || binds(words[last-1], words[last])) {
		last++
	}
	return phrase(words[:first]), concat(words[first:at]), concat(words[at+1 : last])
}

// binds says that a blank between two words means nothing, as in "a . b".
func binds(a, b word) bool {
	return !a.quoted && strings.HasSuffix(a.text, ".") || !b.quoted && strings.HasPrefix(b.text, ".")
}

// joined says that no blank divides the words.
func joined(words []word) bool {
	for _, w := range words[min(1, len(words)):] {
		if w.spaced {
			return false
		}
	}
	return true
}

func concat(words []word) string {
	if len(words) == 1 {
		return words[0].text
	}
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w.text)
	}
	return b.String()
}

// phrase is words as a name.
func phrase(words []word) string {
	if len(words) == 1 {
		return strings.TrimSpace(words[0].text)
	}
	var b strings.Builder
	for i, w := range words {
		if i > 0 && w.spaced {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return strings.TrimSpace(b.String())
}

// closeGroup ends a group that a cut list left open; the list has room for it.
func closeGroup(list []mail.Address) []mail.Address {
	open := false
	for _, a := range list {
		if a.Host == "" {
			open = a.Mailbox != ""
		}
	}
	if open {
		list = append(list, mail.Address{})
	}
	return list
}

// FormatAddress writes an address for a header, quoted where it must be. A
// name that is not ASCII is written as it is, which needs SMTPUTF8; encode it
// before (RFC 2047) where that is not wanted.
func FormatAddress(a mail.Address) string {
	mailbox := a.Mailbox
	if !isDotAtom(mailbox) {
		mailbox = quote(mailbox)
	}
	spec := mailbox + "@" + unfold([]byte(a.Host))
	if a.Name == "" {
		return spec
	}
	name := a.Name
	for word := range strings.SplitSeq(name, " ") {
		if word == "" || !isPhraseWord(word) {
			name = quote(name)
			break
		}
	}
	return name + " <" + spec + ">"
}

// isPhraseWord says that a word of a name needs no quotes: an atom or an encoded word.
func isPhraseWord(s string) bool {
	encoded := strings.HasPrefix(s, "=?") && strings.HasSuffix(s, "?=")
	for i := range len(s) {
		if c := s[i]; !isAtom(c) && !(encoded && c > 32 && c < 127 && c != '"') {
			return false
		}
	}
	return true
}

func isAtom(c byte) bool {
	return c > 32 && c != 127 && strings.IndexByte(`()<>@,;:\".[]`, c) < 0
}

func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if !isAtom(s[i]) && s[i] != '.' {
			return false
		}
	}
	return true
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\r', '\n', 0:
			b.WriteByte(' ')
			continue
		case '"', '\\':
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}
