package imap

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
)

// The library decides by itself what it offers and how it answers what it
// cannot read. Some of that is wrong for us and cannot be set, so the
// connection amends those lines. It does so only while no method of the
// session runs: no line that it looks at holds a byte of a message.
//
//   - UTF8=ACCEPT is taken out of the capabilities. The library offers it
//     always, but does not take folder names with a bare "&" once it is enabled,
//     which Thunderbird would do by default. Nothing is lost: 8-bit headers are
//     shown either way, and folder names go in modified UTF-7.
//   - What the library cannot parse (an unknown search key, a bad date) it calls
//     a bug of the server. It is one of the client: NO [SERVERBUG] becomes BAD.
//     Our own errors never look like that.
//   - After some refusals the library takes the rest of what the client sends,
//     perhaps the text of a message, for commands: a literal that the client did
//     not wait for the answer to, and a line that is too long. Then the
//     connection ends.
const (
	unwantedCap   = " UTF8=ACCEPT"
	serverBug     = "NO [SERVERBUG] Internal server error\r\n"
	syntaxError   = "BAD [CLIENTBUG] Syntax error\r\n"
	nonSync       = "BAD Non-synchronizing literals are limited to 4096 bytes\r\n"
	literalTooBig = "NO [TOOBIG] Literals are limited to "
	lineTooLong   = "imapwire: max size exceeded"
)

// amend returns what is to be sent instead of a line of the library, and
// whether the connection must end after it; mu is held.
func (c *conn) amend(p []byte) (q []byte, fatal bool) {
	tag, rest, ok := bytes.Cut(p, []byte(" "))
	if !ok || bytes.IndexByte(p, '\n') != len(p)-1 {
		return p, false
	}
	s := rest // what follows the tag or the star
	switch {
	case hasPrefix(s, "CAPABILITY ") && string(tag) == "*", hasPrefix(s, "OK [CAPABILITY "):
		return bytes.Replace(p, []byte(unwantedCap), nil, 1), false
	case string(s) == serverBug:
		return append(append(bytes.Clone(tag), ' '), syntaxError...), c.desync
	case string(s) == nonSync:
		return p, true
	case hasPrefix(s, literalTooBig):
		// A client that waits for leave has sent nothing after the size.
		t := c.tail
		return p, t[0] < '0' || t[0] > '9' || string(t[1:]) != "}\r\n"
	}
	return p, false
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// logger takes the library's log. Most of it is about clients that went away.
type logger struct {
	conn *conn
	log  *slog.Logger
}

func (l logger) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(format, "panic") {
		l.log.Error("panic in an IMAP session", "detail", text)
		return
	}
	if strings.Contains(text, lineTooLong) {
		l.conn.mu.Lock()
		l.conn.desync = true
		l.conn.mu.Unlock()
	}
	l.log.Debug("IMAP library reports", "detail", text)
}
