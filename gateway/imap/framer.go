package imap

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what a client says at once. The library has the same, and here they
// hold before it sees anything: it loses its place in lines that are too long.
const (
	maxLines   = 50<<10 - 64 // bytes of the lines of a command; some are left for the end of an APPEND
	maxLiteral = 4 << 10     // bytes of a literal, but for a message that is waited for
	maxCommand = 64 << 10    // bytes of lines and literals together, but for that message
	maxPieces  = 1000        // lines and literals
	maxTag     = 256
	maxReply   = 4000 // bytes of a line that answers "+"
)

// event is what a framer has found.
type event uint8

const (
	more     event = iota // bytes are missing
	complete              // the pieces are for the library
	proceed               // the client waits for leave to send a literal
	refused               // the client is to be told the status
	lost                  // the same, and nobody knows where its next command begins
)

// framer cuts what a client sends into commands, and a command into pieces: its
// lines, and the literals between them. The library gets one piece at a time,
// and no more of a command that it has answered. So a literal never stands
// where the library looks for a command, whatever it thinks of the line before.
//
// The zero value is ready. A command is gathered as a whole before the library
// sees any of it, and literals in it are asked for by the framer. Only the
// message of an APPEND whose client waits for leave is not: it is the library's
// to admit, and passes through.
type framer struct {
	in      []byte // came from the client, and belongs to no piece yet
	scanned int    // bytes of in that hold no end of a line

	tag, name string // name in upper case, with UID before it
	pieces    [][]byte
	status    string // why the command is refused
	upload    int64  // bytes of the message that are still to pass through
	announced int64  // and of the whole of it
	tail      bool   // the line after that message is still to come
	saves     bool   // a SEARCH that is not to be answered with its result

	lines   int  // so far
	text    int  // bytes of them
	size    int  // bytes of lines and literals
	literal int  // bytes of the literal that comes next, when within
	within  bool // a literal comes next
	message bool // the message of an APPEND is among the literals
	ended   bool // next begins anew
}

// clientBug is the status of a command that is not one.
func clientBug(text string) string { return "BAD [CLIENTBUG] " + text }

// add takes over what came from the client.
func (f *framer) add(p []byte) { f.in = append(f.in, p...) }

// begun reports whether the client is in the middle of a command.
func (f *framer) begun() bool { return len(f.in) > 0 || f.lines > 0 && !f.ended }

// take removes n bytes from what came.
func (f *framer) take(n int) []byte {
	b := slices.Clone(f.in[:n])
	f.in = f.in[n:]
	f.scanned = 0
	if len(f.in) == 0 {
		f.in = nil // a client that is silent costs nothing
	}
	return b
}

// next gathers a command. What is left of the one before is dropped: it has
// been answered.
func (f *framer) next() event {
	if f.ended {
		// A client whose message was not wanted has sent nothing of it, if it
		// waited for leave.
		early := f.upload > 0 && (f.upload < f.announced || len(f.in) > 0)
		*f = framer{in: f.in, scanned: f.scanned}
		if early {
			return f.lose(clientBug("No literal was asked for"))
		}
	}
	for {
		if f.within {
			if len(f.in) < f.literal {
				return more
			}
			f.takeLiteral()
		}
		line, e := f.line(maxLines - f.text)
		if e != complete {
			return e
		}
		f.lines++
		f.text += len(line)
		f.size += len(line)
		switch {
		case f.lines == 1:
			f.open(line)
		case f.message && len(bytes.TrimRight(line, "\r\n")) > 0:
			f.refuse(clientBug("APPEND takes one message, and nothing after it"))
		}
		size, sync, e := announcement(line)
		switch {
		case e == lost:
			return f.lose(clientBug("A literal must be announced at the end of a line"))
		case e == refused:
			f.refuse(clientBug("A quoted string does not end"))
			size = -1
		}
		if size < 0 {
			f.keep(line)
			f.ended = true
			return f.amend()
		}
		message := f.name == "APPEND" && !f.message && !f.opens(line)
		if message && sync && f.status == "" {
			f.pieces = append(f.pieces, line)
			f.upload, f.announced, f.tail, f.ended = size, size, true, true
			return complete
		}
		if size > maxLiteral {
			f.refuse("NO [TOOBIG] Literals are limited to " + strconv.Itoa(maxLiteral) + " bytes here")
		} else if f.size += int(size); f.size > maxCommand {
			f.refuse("NO [TOOBIG] The command is too long")
		}
		switch {
		case sync && f.status != "":
			f.ended = true
			if len(f.in) > 0 {
				return f.lose(f.status)
			}
			return refused
		case size > maxLiteral || f.size > maxCommand:
			return f.lose(f.status)
		}
		f.within, f.literal = true, int(size)
		f.message = f.message || message
		if sync {
			f.text++
			f.keep(granted(line))
			return proceed
		}
		f.keep(line)
	}
}

// amend changes what the library would get wrong.
func (f *framer) amend() event {
	if f.status == "" {
		before := total(f.pieces)
		switch f.name {
		case "SEARCH", "UID SEARCH":
			f.saves = onlySaves(f.name, f.pieces[0])
			sizeKeys(f.name, f.pieces)
		case "ENABLE":
			f.pieces[0] = enableNothing(f.pieces[0])
		}
		if f.text += total(f.pieces) - before; f.text > maxLines {
			f.refuse("NO [TOOBIG] The command is too long")
		}
	}
	if f.status != "" {
		f.pieces = nil
		return refused
	}
	return complete
}

// enableNothing takes out of an ENABLE what the library would enable although
// it is not offered: nothing can be enabled here. Other names it passes over.
func enableNothing(line []byte) []byte {
	words := strings.Split(string(line), " ")
	for i := 2; i < len(words); i++ {
		name := strings.TrimRight(words[i], "\r\n")
		if strings.EqualFold(name, "IMAP4rev2") || strings.EqualFold(name, "UTF8=ACCEPT") {
			words[i] = "X" + words[i][len(name):]
		}
	}
	return []byte(strings.Join(words, " "))
}

func total(pieces [][]byte) (n int) {
	for _, p := range pieces {
		n += len(p)
	}
	return n
}

// takeLiteral makes a piece of a literal. A message is looked at when it is filed.
func (f *framer) takeLiteral() {
	b := f.take(f.literal)
	f.within = false
	if !f.message && bytes.IndexByte(b, 0) >= 0 {
		f.refuse(clientBug("A literal must not hold NUL"))
	}
	if len(b) > 0 {
		f.keep(b)
	}
}

// keep adds a piece to those for the library.
func (f *framer) keep(b []byte) {
	if len(f.pieces) >= maxPieces {
		f.refuse("NO [TOOBIG] The command has too many literals")
	}
	if f.status == "" {
		f.pieces = append(f.pieces, b)
	} else {
		f.pieces = nil
	}
}

// line takes a line with its end. A lone LF ends one too, as it does for the library.
func (f *framer) line(most int) ([]byte, event) {
	i := bytes.IndexByte(f.in[f.scanned:], '\n')
	n := f.scanned + i + 1
	if i < 0 {
		n = len(f.in)
		f.scanned = n
	}
	if n > most {
		if f.lines == 0 {
			f.tag = tagOf(string(f.in[:min(n, maxTag+1)]))
		}
		return nil, f.lose(clientBug("The line is too long"))
	}
	if i < 0 {
		return nil, more
	}
	line := f.take(n)
	if bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(bytes.TrimSuffix(line[:n-1], []byte("\r")), '\r') >= 0 {
		if f.lines == 0 {
			f.tag = tagOf(string(line))
		}
		return nil, f.lose(clientBug("A line must not hold NUL or a lone CR"))
	}
	return line, complete
}

// reply takes what the client says while the library is busy with its command:
// the line after a message, or one that answers "+".
func (f *framer) reply() event {
	if !f.tail && f.name != "IDLE" && f.name != "AUTHENTICATE" {
		return f.lose(clientBug("The command could not be read"))
	}
	line, e := f.line(maxReply)
	if e != complete {
		return e
	}
	text := string(bytes.TrimRight(line, "\r\n"))
	switch size, _, e := announcement(line); {
	case f.tail && text != "":
		return f.lose(clientBug("APPEND takes one message, and nothing after it"))
	case e == lost || size >= 0:
		return f.lose(clientBug("No literal was asked for"))
	case f.name == "IDLE" && strings.EqualFold(text, "DONE"):
		line = []byte("DONE\r\n") // the library knows it in this form only
	}
	f.tail = false
	f.pieces = append(f.pieces, line)
	return complete
}

// hand gives the library of one piece what fits.
func (f *framer) hand(p []byte) int {
	n := copy(p, f.pieces[0])
	if f.pieces[0] = f.pieces[0][n:]; len(f.pieces[0]) == 0 {
		f.pieces = f.pieces[1:]
	}
	return n
}

// pass gives the library of the message what came together with the line before.
func (f *framer) pass(p []byte) int {
	n := copy(p, f.in[:min(int64(len(f.in)), f.upload)])
	f.take(n)
	f.upload -= int64(n)
	return n
}

// open reads tag and name from the first line. The library gives up the
// connection over a line without them.
func (f *framer) open(line []byte) {
	s := string(bytes.TrimRight(line, "\r\n"))
	f.tag = tagOf(s)
	if s == "" {
		f.refuse(clientBug("The line is empty"))
		return
	}
	if f.tag == "" {
		f.refuse(clientBug("The command has no tag"))
		return
	}
	rest := strings.TrimPrefix(s[len(f.tag):], " ")
	name := atomOf(rest)
	f.name = strings.ToUpper(name)
	if f.name == "UID" {
		sub, ok := strings.CutPrefix(rest[len(name):], " ")
		if sub = atomOf(sub); !ok || sub == "" {
			f.name = ""
		} else {
			f.name += " " + strings.ToUpper(sub)
		}
	}
	if f.name == "" {
		if strings.EqualFold(s, "DONE") {
			f.tag = ""
		}
		f.refuse(clientBug("The line holds no command"))
	}
}

// opens reports whether a line announces the first argument of a command.
func (f *framer) opens(line []byte) bool {
	before := line[:bytes.LastIndexByte(line, '{')]
	return f.lines == 1 && len(before) <= len(f.tag)+len(f.name)+2
}

// refuse notes why the command is not for the library. The first reason counts.
func (f *framer) refuse(status string) {
	if f.status == "" {
		f.status = status
	}
}

// lose gives up.
func (f *framer) lose(status string) event {
	f.refuse(status)
	f.in, f.scanned, f.pieces, f.upload, f.ended = nil, 0, nil, 0, true
	return lost
}

// announcement says which literal follows a line: none when the size is
// negative. The line is refused when it ends within a quoted string, and nobody
// can say what the client means when it seems to announce a literal there.
func announcement(line []byte) (size int64, sync bool, e event) {
	size = -1
	s := bytes.TrimRight(line, "\r\n")
	exact := bytes.TrimRight(s, " ")
	if n := len(exact); n > 0 && exact[n-1] == '}' {
		digits := exact[bytes.LastIndexByte(exact, '{')+1 : n-1]
		digits, ok := bytes.CutSuffix(digits, []byte("+"))
		if len(digits) > 0 && len(digits) < n-1 && !bytes.ContainsFunc(digits, notDigit) {
			var err error
			if size, err = strconv.ParseInt(string(digits), 10, 64); err != nil {
				size = math.MaxInt64
			}
			sync = !ok
		}
	}
	switch open := quoteIsOpen(s); {
	case size >= 0 && (open || len(exact) < len(s)):
		return size, sync, lost
	case open:
		return -1, false, refused
	}
	return size, sync, complete
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

// quoteIsOpen reports whether a line ends within a quoted string. The library
// would take the next lines for more of it.
func quoteIsOpen(s []byte) bool {
	open := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			open = !open
		case open && s[i] == '\\':
			i++
		}
	}
	return open
}

// known reports whether the library knows a command.
func known(name string) bool {
	switch name {
	case "APPEND", "AUTHENTICATE", "CAPABILITY", "CHECK", "CLOSE", "COPY", "CREATE", "DELETE", "ENABLE", "EXAMINE", "EXPUNGE", "FETCH",
		"IDLE", "LIST", "LOGIN", "LOGOUT", "LSUB", "MOVE", "NAMESPACE", "NOOP", "RENAME", "SEARCH", "SELECT", "STARTTLS", "STATUS", "STORE",
		"SUBSCRIBE", "UNAUTHENTICATE", "UNSELECT", "UNSUBSCRIBE",
		"UID COPY", "UID EXPUNGE", "UID FETCH", "UID MOVE", "UID SEARCH", "UID STORE":
		return true
	}
	return false
}

// granted is a line whose literal the client has been given leave to send: the
// library need not do so again.
func granted(line []byte) []byte {
	i := bytes.LastIndexByte(line, '}')
	return slices.Concat(line[:i], []byte("+"), line[i:])
}

// tagOf returns the tag at the beginning of a line, or "".
func tagOf(s string) string {
	tag := atomOf(s)
	rest := s[len(tag):]
	if len(tag) > maxTag || strings.ContainsFunc(tag, func(r rune) bool { return r == '+' || r < ' ' || r > '~' }) || rest != "" && rest[0] != ' ' {
		return ""
	}
	return tag
}

// atomOf returns the atom at the beginning of a text. The library has the same
// idea of what belongs to one.
func atomOf(s string) string {
	for i := range len(s) {
		if strings.IndexByte(`(){ %*"\]`, s[i]) >= 0 || unicode.IsControl(rune(s[i])) {
			return s[:i]
		}
	}
	return s
}
