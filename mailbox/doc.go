// Package mailbox keeps one person's mail at rest: folders, messages, flags,
// search, and the outbox. It knows no network.
//
// # Where things are
//
//	messages/<2 hex>/<30 hex>.age  one message each, a stock age file to the account's at-rest key
//	journal/                       the same age files, while they are new (package internal/journal)
//	index.db                       everything else, SQLite with encrypted pages (mailbox/internal/pages)
//	reserve                        nothing: room for deleting mail once the disk is full
//
// A new message is sealed and appended to the journal with one sync, then a
// row of the index is committed with another; what waits at the same time
// joins both. Files are made of the journal later, in batches, when nobody is
// in a hurry. A file lasts under its final name before the index points to it,
// and the index does before the record is freed. Messages above 256 KiB become
// files at once. Copies share the bytes; what nothing refers to is removed in
// the background.
//
// After a crash, Open finds records and files that no row points to and
// removes them: their messages were never acknowledged, or are expunged. An
// accepted message (Accept) is acknowledged as soon as the journal has it with
// its envelope; its rows follow, after a crash at the next Open. A row without
// its bytes cannot come about.
//
// # In memory
//
// The flags, UIDs and mod-sequences of open folders are in memory, as values
// that never change: a commit makes the next one and shares what stayed the
// same. Views, entries, changes and most of a search are answered from there
// without a lock. One writer at a time commits, and joins all operations that
// wait into one transaction; each has a savepoint of its own.
//
// # Search
//
// The text of the body and the header is searched for substrings, without
// regard to case, with runs of white space taken as one space (package
// mailbox/internal/words). Only the first 4 MiB of each are looked at.
//
// # What a thief of the directory learns
//
// The number of messages, their sizes to the byte and about when they came
// (from the order of the directory and, for a while, of the journal); how much
// the index changed between two copies.
package mailbox
