// Package foreign recognizes clients that speak another protocol. A web page
// can make a browser send an HTTP request to a port of localhost, with mail
// commands in its body; so the first bytes of a connection decide.
package foreign

import "bytes"

// Answer says whether a client speaks something else.
type Answer uint8

const (
	No Answer = iota
	Perhaps
	Yes
)

// Longest is the number of bytes that always suffice for a No or a Yes.
const Longest = len("OPTIONS ")

// starts are how other protocols begin. No mail client says them: they are no
// commands of SMTP, and nobody chooses such a tag in IMAP.
var starts = [...][]byte{
	[]byte("GET "), []byte("HEAD "), []byte("POST "), []byte("PUT "), []byte("PATCH "), []byte("DELETE "),
	[]byte("TRACE "), []byte("OPTIONS "), []byte("CONNECT "), []byte("PRI "),
	{0x16, 0x03}, // a TLS handshake, where there is no TLS
}

// Judge looks at the first bytes of a connection, as many as have come.
func Judge(head []byte) Answer {
	a := No
	for _, s := range starts {
		if bytes.HasPrefix(head, s) {
			return Yes
		}
		if bytes.HasPrefix(s, head) {
			a = Perhaps
		}
	}
	return a
}
