// Package control lets the command talk to the running node. The node listens
// on a unix socket in its home that only its owner may open, and answers HTTP
// with JSON there:
//
//	GET    /v1/status
//	GET    /v1/outbox?account=A&id=I
//	POST   /v1/invite?account=A
//	GET    /v1/contacts?account=A             POST adds one
//	POST   /v1/send?from=A&to=B&to=C&subject=S&raw=1   the text is the body
//	GET    /v1/export?account=A               a tar of the mail
//	POST   /v1/accounts                       creates or restores one
//	GET    /v1/passwords?account=A            POST adds, DELETE removes one
//	POST   /v1/unlock
//	POST   /v1/stop
//
// A refusal is {"error":{"code","message","hint"}}. The package also holds the
// lock that keeps two nodes from running with one home.
//
// The socket is named control.sock. A home whose path is too long for the
// address of a unix socket has a file control.path instead, which says where
// in a private temporary directory the socket is.
package control
