// Package mime reads Internet messages (RFC 5322, RFC 2045 ff.) that strangers
// wrote, within bounds, and edits their headers.
//
// [Parse] makes the index of a message in one pass: its envelope and its tree
// of parts with the places of their bytes. It is computed once, when a message
// is filed, and stored with [MarshalEnvelope] and [MarshalStructure]; every
// later answer about the message comes from it and from byte ranges, which
// [Section] names. Bad mail is not an error. What is malformed is read as the
// plain text it may be, what is beyond a limit becomes an opaque part
// (application/octet-stream), and no byte is lost either way.
//
// # Places
//
// Every [mail.Part] has three offsets into the message, Header ≤ Body ≤ End,
// and lies within its parent's Body and End:
//
//	BODY[]            root.Header … root.End     (all of the message)
//	BODY[HEADER]      root.Header … root.Body    (with the empty line)
//	BODY[TEXT]        root.Body   … root.End
//	BODY[1.2.MIME]    p.Header    … p.Body       (with the empty line)
//	BODY[1.2]         p.Body      … p.End        (still transfer-encoded)
//	BODY[3.HEADER]    p.Inner.Header … p.Inner.Body   (p is a message/rfc822)
//	BODY[3.TEXT]      p.Inner.Body   … p.Inner.End
//
// The line end before a boundary belongs to the boundary, not to the part. A
// header ends with its empty line, at a boundary or at the end of the message;
// a header whose first line is not a field is no header at all, and the body
// begins there. Body-Header is never above [MaxHeader].
//
// # Lines
//
// Lines end with CRLF or with a bare LF. A bare CR is a byte like any other.
//
// # Strings
//
// No string of an index holds CR, LF or NUL. Strings can hold bytes above 127,
// and those need not be UTF-8: they are as the sender wrote them. A parameter in
// pieces (RFC 2231) is put together; when it is encoded its name ends in "*" and
// [Param] decodes it. An address without a host has [MissingHost], so that only
// groups have none.
package mime

// What a message may ask of its reader. Beyond these it is shown with less
// structure, never refused.
const (
	MaxHeader    = 1 << 20 // bytes of one header with its empty line; the rest counts as body
	MaxFields    = 10_000  // fields of one header; later ones are not looked at
	MaxDepth     = 50      // parts within parts, the message itself being at depth 1
	MaxParts     = 2_000   // parts of a message, all levels; the last one takes in the rest
	MaxBoundary  = 200     // bytes of a multipart's boundary; RFC 2046 allows 70
	MaxAddresses = 10_000  // addresses of the envelope, groups' marks included, and of all inner envelopes together; later ones are left out
	MaxParams    = 64      // parameters of one field; later ones are left out
	MaxValue     = 4 << 10 // bytes of one address' parts, parameter, id or other short text; longer ones are cut
	MaxText      = 8 << 10 // bytes of one Subject, In-Reply-To or Content-Description; longer ones are cut
	MaxStructure = 1 << 20 // bytes of all strings of a structure; parts after that lose all but their type
)
