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
//   - A SEARCH that wants its result to be saved and nothing else is not answered
//     with an ESEARCH (RFC 5182, 2.1). The library takes it for one that wants all.
//   - What the library cannot parse (an unknown search key, a bad date) it calls
//     a bug of the server. It is one of the client: NO [SERVERBUG] becomes BAD.
//     Our own errors never look like that.
const (
	unwantedCap = " UTF8=ACCEPT"
	serverBug   = "NO [SERVERBUG] Internal server error\r\n"
	syntaxError = "BAD [CLIENTBUG] Syntax error\r\n"
)

// amend returns what is to be sent instead of a line of the library; mu is held.
func (c *conn) amend(p []byte) []byte {
	tag, rest, ok := bytes.Cut(p, []byte(" "))
	if !ok || bytes.IndexByte(p, '\n') != len(p)-1 {
		return p
	}
	switch {
	case hasPrefix(rest, "CAPABILITY ") && string(tag) == "*", hasPrefix(rest, "OK [CAPABILITY "):
		return bytes.Replace(p, []byte(unwantedCap), nil, 1)
	case c.saves && string(tag) == "*" && hasPrefix(rest, "ESEARCH "):
		return nil
	case string(rest) == serverBug:
		return append(append(bytes.Clone(tag), ' '), syntaxError...)
	}
	return p
}

// answers reports whether a line is the one that ends a command.
func answers(line []byte, tag string) bool {
	return hasPrefix(line, tag) && hasPrefix(line[len(tag):], " ")
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// logger takes the library's log. Most of it is about clients that went away.
type logger struct {
	log *slog.Logger
}

func (l logger) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(format, "panic") {
		l.log.Error("panic in an IMAP session", "detail", text)
		return
	}
	l.log.Debug("IMAP library reports", "detail", text)
}
