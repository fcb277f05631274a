package imap

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxUnknown is how many commands that nobody knows a client may send before it logs in. Real ones send one
	// or two (ID, for one); whoever speaks another protocol sends more.
	maxUnknown = 8
	// maxCommandHead is how much of a line is looked at for the name of its command, in bytes.
	maxCommandHead = 128
)

// commands are those that the library knows.
var commands = []string{
	"NOOP", "CHECK", "LOGOUT", "CAPABILITY", "STARTTLS", "AUTHENTICATE", "UNAUTHENTICATE", "LOGIN", "ENABLE", "CREATE", "DELETE",
	"RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "STATUS", "LIST", "LSUB", "NAMESPACE", "IDLE", "SELECT", "EXAMINE", "CLOSE", "UNSELECT",
	"APPEND", "FETCH", "EXPUNGE", "STORE", "COPY", "MOVE", "SEARCH", "UID",
}

// literalAtEnd finds the size of a literal that follows a line.
var literalAtEnd = regexp.MustCompile(`\{([0-9]{1,10})\+?\}\r\n$`)

// opening is what a client sends until it has logged in. The library ends the
// connection over a command that it does not know then. So it gets NOOP with
// what the client wrote as arguments, which it refuses as a syntax error.
type opening struct {
	head    []byte // of a line, held back until the name of its command is known
	named   bool   // it is known, or there is none
	tail    []byte // the last bytes of the line
	literal int64  // bytes that are no line
	unknown int    // commands

	sasl     int  // spaces that follow the name AUTHENTICATE; 0 for other commands
	response bool // the line answers the server
}

// pass returns what the library gets of p.
func (o *opening) pass(p []byte) (q []byte) {
	for len(p) > 0 {
		if o.literal > 0 {
			n := min(o.literal, int64(len(p)))
			q, p = append(q, p[:n]...), p[n:]
			o.literal -= n
			continue
		}
		b := p[0]
		p = p[1:]
		if o.named || o.response {
			q = append(q, b)
			if o.sasl > 0 && b == ' ' {
				o.sasl++
			}
		} else if o.head = append(o.head, b); b == ' ' || b == '\n' || len(o.head) >= maxCommandHead {
			q = o.name(q)
		}
		const longest = len("{1234567890+}\r\n")
		if o.tail = append(o.tail, b); len(o.tail) > longest {
			o.tail = o.tail[1:]
		}
		if b == '\n' {
			o.endLine()
		}
	}
	return q
}

// name looks for the name of the command in the head of a line, and lets the head go when there is one or can be none.
func (o *opening) name(q []byte) []byte {
	tag, rest, ok := bytes.Cut(o.head, []byte(" "))
	if end := o.head[len(o.head)-1]; end != '\n' && len(o.head) < maxCommandHead && (!ok || len(rest) == 0) {
		return q // the tag alone
	}
	o.named = true
	name := strings.ToUpper(strings.TrimRight(string(rest), " \r\n"))
	if name == "AUTHENTICATE" {
		o.sasl = 1
	}
	if isAtom(name) && !slices.Contains(commands, name) && o.unknown < maxUnknown {
		o.unknown++
		q = append(append(q, tag...), " NOOP "...)
		return append(q, rest...)
	}
	return append(q, o.head...)
}

func isAtom(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\]`, r) })
}

// endLine begins the next line, or the literal after this one.
func (o *opening) endLine() {
	m := literalAtEnd.FindSubmatch(o.tail)
	o.tail = o.tail[:0]
	if m != nil {
		o.literal, _ = strconv.ParseInt(string(m[1]), 10, 64) // ten digits
		return
	}
	o.response = o.sasl == 1 // the mechanism alone, without an initial response
	o.head, o.named, o.sasl = o.head[:0], false, 0
}
