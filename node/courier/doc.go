// Package courier carries one account's outgoing mail.
//
// Each message to one recipient is a transit. It is sealed as soon as the
// recipient's record is known, offered to the recipient's own hosts, and put
// into the recipient's drop when that did not end the matter within two
// seconds. It is tried again, ever more seldom, until the recipient's device
// says what became of it, a tombstone shows that the recipient has dealt with it
// and no refusal came since, or its time is over.
//
//	accepted ─ seal ─► offered to the hosts ─► delivered (a receipt came)
//	                     │ no host, or no receipt in 2 s
//	                     ▼
//	                  put with the holders ─► replicated ─► delivered
//	                                               └► expiry + 3 days ─► failed
//
// A locked account has no recipients, subjects or keys at hand. What it had
// sealed before stands in clear on the disk as parcels: the sealed bytes, the
// key of the recipient's record, and hosts. With those alone the courier goes
// on delivering; the outbox learns the outcome at the next unlock.
package courier
