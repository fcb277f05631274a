package submission

import "bytes"

// foreignStarts are the first bytes of programs that speak something else. A
// web page can make a browser send an HTTP request to a port of localhost, with
// SMTP commands in its body, so the first line decides.
var foreignStarts = [...]string{
	"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "TRACE ", "OPTIONS ", "CONNECT ", "PRI ",
	"\x16\x03", // TLS handshake, on the plaintext listener
}

// longestForeign is the length of the longest of foreignStarts.
const longestForeign = len("OPTIONS ")

// judge looks at the first bytes of a connection. Until enough of them are
// there, no whole line is.
func judge(head []byte) (foreign, enough bool) {
	for _, s := range foreignStarts {
		if bytes.HasPrefix(head, []byte(s)) {
			return true, true
		}
	}
	return false, len(head) >= longestForeign || bytes.IndexByte(head, '\n') >= 0
}
