// Package imap serves a mailbox to mail clients over IMAP4rev1.
//
// The protocol itself, its grammar and its extensions come from
// github.com/emersion/go-imap/v2; this package is the session behind it, and
// the connection beneath it. It knows no peer, key or disk: what it shows comes
// through [Accounts] and [Mailbox], from the index that was made when a message
// was filed and from byte ranges of its text. No message is ever parsed here.
//
// # A session's view
//
// A client counts the messages of a folder from 1, and the numbers may change
// only when it is told so (RFC 9051, 7.5.1). The session therefore remembers
// the UIDs that its client knows of. That slice belongs to the mailbox, is
// shared by all sessions and is never changed; after each command, and on each
// notice during IDLE, it is compared with the newest one, and the difference is
// told. Numbers are worked out from it and from nothing else, so a message that
// another session has expunged is passed over, not mistaken for its neighbour.
//
// # Between the library and the network
//
// A [net.Conn] of our own stands between them. It gathers the lines that the
// library flushes one by one, gives every write its own deadline, takes leave
// with a BYE, and drops whoever speaks HTTP. A framer cuts what the client says
// into commands, their lines and their literals, and hands the library one such
// piece at a time: the bytes of a literal cannot become a command, whatever the
// library thinks of the line before. What is no command is answered there, and
// before login what the library does not know: it would hang up over ID. The
// connection also amends a few lines of the library's own making; see guard.go.
//
// # Known limits
//
// These are the library's, and cannot be mended from here:
//   - BODYSTRUCTURE shows no Content-MD5, and the dates of messages within
//     messages in one form.
package imap
