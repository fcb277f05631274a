// Package identity says who somebody is, without a server that says so: the address that is a public key, the roster
// of devices the key signs, the weekly keys of an inbox, the record that publishes them, the proofs made with them,
// and the files that keep them.
//
//	root key ──signs──> roster ──names──> device key ──signs──> identity record, messages
//	    │                                                            │
//	  address                                     names, per week: sealing, fetch and delete key
//
// The root key is the address. It is made from a Seed, which is shown once as recovery words and is not kept. The
// roster it signs lives in the Keyring and in every record.
//
// The keys of a week (an Epoch) come from a Chain that runs one way, so what was destroyed cannot be derived again.
// Holders file sealed mail under an Inbox, the hash of the public fetch and delete key of a week. They list it for
// whoever signs with the one and delete it for whoever signs with the other, who name both. The keys are two, so that
// a locked node can collect but not delete.
//
// Every signature is made and checked here, as Ed25519ctx with one context for each kind of thing, over exactly the
// bytes that travel (see Sign). The package knows no network: peers and their addresses are bytes.
package identity
