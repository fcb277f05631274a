package imap

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/peerpost/peerpost/internal/mail"
)

// Append stores a message that the client uploads. The library has checked
// its size against AppendLimit before it let the client send it.
func (s *session) Append(name string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	s.conn.Flush()
	upload := &upload{r: r, left: r.Size(), conn: s.conn}
	data, err := s.append(name, upload, options)
	if err != nil && upload.err == nil {
		// The library reads on to the end of the literal. Give a slow client
		// the time for it.
		io.Copy(io.Discard, upload)
	}
	if upload.err != nil {
		return nil, upload.err // the connection is broken
	}
	if upload.nul {
		return nil, errNUL
	}
	return data, err
}

func (s *session) append(name string, r *upload, options *imap.AppendOptions) (*imap.AppendData, error) {
	ctx, end := s.begin(0)
	defer end()
	flags, err := storedFlags(options.Flags)
	if err != nil {
		return nil, err
	}
	if r.left > s.mailbox.MaxMessage() {
		return nil, s.answer("APPEND", mail.ErrTooLarge)
	}
	if r.left == 0 {
		return nil, refuse(imap.ResponseCodeCannot, "An empty message cannot be stored")
	}
	f, err := s.mailbox.Folder(ctx, name)
	if errors.Is(err, mail.ErrNoFolder) {
		return nil, refuse(imap.ResponseCodeTryCreate, "There is no such folder")
	} else if err != nil {
		return nil, s.answer("APPEND", err)
	}
	when := options.Time
	if when.IsZero() {
		when = time.Now()
	}
	uid, err := s.mailbox.Append(ctx, f.ID, r, r.left, flags, when)
	if err != nil {
		return nil, s.answer("APPEND", err)
	}
	return &imap.AppendData{UID: imap.UID(uid), UIDValidity: uint32(f.UIDValidity)}, nil
}

// upload reads a message from the client, however long it takes, as long as
// something comes. A message that is cut off is an error, never a short one.
type upload struct {
	r    io.Reader
	left int64
	conn *conn
	nul  bool  // there is a NUL in it
	err  error // of the connection
}

// errNUL refuses what cannot be sent in a literal again (RFC 3501, 9: CHAR8).
var errNUL = bad("A message must not hold NUL")

func (u *upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.left == 0 {
		return 0, io.EOF
	}
	u.conn.SetReadDeadline(time.Now().Add(literalTimeout))
	n, err := u.r.Read(p)
	u.left -= int64(n)
	nul := !u.nul && bytes.IndexByte(p[:n], 0) >= 0
	u.nul = u.nul || nul
	if u.left > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	u.err = err
	if u.left == 0 {
		u.err = u.conn.EndAppend()
	}
	switch { // whoever has all bytes would not look at the error
	case u.err != nil:
		return 0, u.err
	case nul:
		return 0, errNUL
	}
	return n, nil
}
