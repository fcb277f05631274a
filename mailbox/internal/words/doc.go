// Package words finds texts that contain a given string, without reading them.
//
// IMAP's SEARCH asks for substrings ("oice" finds "invoice"), which an index
// of whole words does not answer. So the index has two halves: a dictionary of
// all words, small beside the texts because words repeat, which is scanned for
// the string; and for each word the list of the documents that have it. A
// string that lies within one word is answered for sure by that; a string of
// several words gives candidates, whose text the caller looks at.
//
// Texts are compared in the form that [Fold] gives them. A word is a run of
// letters, digits and marks; in scripts that put no spaces between words every
// letter is one. Words above 64 bytes (addresses of web pages, encoded data)
// are kept as overlapping pieces, so that strings up to 32 bytes within them
// are found as well.
//
// A [Segment] is an immutable index of some documents; newer documents make
// new segments, and [Merge] joins old ones. Documents are named by ascending
// numbers of the caller. Everything here works on bytes in memory; the caller
// keeps them.
//
// # Form of a segment
//
//	docs   = count ‖ count × (id − previous id)·2 + partial       varints
//	block  = dict, posts
//	dict   = NUL ‖ word NUL ‖ word NUL …      ascending, about 8 KiB
//	posts  = for each word: length of list in bytes ‖ list        varints
//	list   = (number − previous number)·4 + area …                varints
//
// Number is the place of the document in docs, from 1; the previous of the
// first is 0. Area is 1 for header, 2 for body, 3 for both. A partial document
// has more words than were kept: it is always a candidate.
package words
