// Package mailbox keeps one person's mail at rest: folders, messages, flags,
// search, and the outbox.
package mailbox
