// Package pages is an SQLite database whose pages are encrypted.
//
// Pages go through Adiantum (4 KiB blocks, the tweak is the offset); the
// write-ahead log as well. Temporary tables stay in memory. What a thief of
// the files learns is their sizes and, from several copies, which blocks
// changed; the shared-memory file beside them holds page numbers only. Pages
// are not authenticated: whoever can write to the disk can garble them.
//
// Commits are on the disk when they return (WAL, synchronous=FULL).
package pages
