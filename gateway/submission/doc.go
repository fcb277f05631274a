// Package submission takes mail from mail clients over SMTP (RFC 6409).
//
// A Server listens on a plaintext listener, which must be on loopback and
// offers no STARTTLS, and on one with implicit TLS. Nothing but EHLO, NOOP and
// the like is possible before AUTH (PLAIN or LOGIN). Every recipient is
// answered at RCPT time, and the 250 after the message means that Submit took
// responsibility for it.
//
// The protocol itself is spoken by go-smtp. What it leaves open is closed here:
//
//   - server.go counts connections and ends them in order.
//   - conn.go stands between the socket and the library. It replaces the
//     library's deadlines by one for every read and a least rate, counts bytes,
//     ends the reading for good at the first error (so that the rest of a body
//     is never taken for commands, and a cut chunk never for a whole one), and
//     gathers the answers to pipelined commands into one write.
//   - foreign.go knows programs that speak something else, browsers above all.
//   - session.go holds what belongs to one client and one message.
//   - login.go counts wrong passwords.
//   - address.go refuses addresses that no mail system should ever see.
//   - body.go gathers a message in memory that was reserved before, and makes all
//     its line ends CRLF.
//   - direct.go reads the body of DATA past the library, which is much faster.
//   - reply.go holds what clients are told.
//
// Limits are the constants beside the code that keeps them and those of Config.
package submission
