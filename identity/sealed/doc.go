// Package sealed is the message that travels: an outer part that holders see, and a body that only the recipient
// opens.
//
//	Message   = Outer, Body
//	Body      = one age file with exactly one stanza, mlkem768x25519
//	plaintext = length (4 bytes, big-endian) ‖ [Inner, signature] ‖ zeros up to Padme
//
// The outer part names the inbox, the epoch, the expiry day and the hash of the body; its hash is the message's ID,
// under which holders keep, list and delete it. The inner part says who wrote it and repeats to whom, under which key
// and until when, so a recipient cannot seal it again to somebody else and nobody can move it to another inbox or
// day. It is signed by a device of the sender, inside, so that holders learn nothing of the author.
//
// Stamps are proofs of work over the ID: a bound on free storage with strangers.
package sealed
