// Package sealed is the message that travels: an outer part that holders see, and a body that only the recipient
// opens.
//
//	Message   = Outer, Body
//	Body      = one age file with exactly one stanza, mlkem768x25519
//	plaintext = length of inner (4 bytes, big-endian) ‖ inner ‖ zeros up to Padme
//	inner     = [signed: bytes, mail: bytes]
//	signed    = [fields: bytes, signature: bytes]
//	fields    = the encoding of Inner, with the hash of the mail
//
// The outer part names the inbox, the epoch, the expiry day and the hash of the body; its hash is the message's ID,
// under which holders keep, list and delete it. The inner part says who wrote it and repeats to whom, under which key
// and until when, so a recipient cannot seal it again to somebody else and nobody can move it to another inbox or
// day. It is signed by a device of the sender, inside, so that holders learn nothing of the author. The signature
// covers the mail by its SHA-256: Ed25519 itself would read it twice to sign and once to verify, by SHA-512, which
// took longer than all the rest for mail above 75 KB.
//
// Stamps are proofs of work over the ID: a bound on free storage with strangers.
package sealed
