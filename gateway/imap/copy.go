package imap

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
)

// Copy puts messages into another folder too.
func (s *session) Copy(set imap.NumSet, to string) (*imap.CopyData, error) {
	ctx, end := s.begin(storeTimeout)
	defer end()
	v, err := s.folder()
	if err != nil {
		return nil, err
	}
	return s.transfer(ctx, "COPY", v, set, to, s.mailbox.Copy)
}

// Move puts messages into another folder. The library polls afterwards, which
// tells that they are gone from this one.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, to string) error {
	ctx, end := s.begin(storeTimeout)
	defer end()
	v, err := s.writable()
	if err != nil {
		return err
	}
	data, err := s.transfer(ctx, "MOVE", v, set, to, s.mailbox.Move)
	if err != nil || data == nil {
		return err
	}
	return w.WriteCopyData(data)
}

// transfer is what COPY and MOVE have in common. Its data is nil when there was
// nothing to do: the library cannot write an empty COPYUID.
func (s *session) transfer(ctx context.Context, what string, v *selected, set imap.NumSet, to string,
	do func(context.Context, int64, []mail.UID, string) (mail.Copied, error)) (*imap.CopyData, error) {
	spans, err := v.resolve(set)
	if err != nil {
		return nil, err
	}
	// A folder that is not there has the client make it, and try again.
	if _, err := s.mailbox.Folder(ctx, to); errors.Is(err, mail.ErrNoFolder) {
		return nil, refuse(imap.ResponseCodeTryCreate, "There is no such folder")
	} else if err != nil {
		return nil, s.answer(what, err)
	}
	uids := v.at(spans)
	if len(uids) == 0 {
		return nil, nil
	}
	c, err := do(ctx, v.id, uids, to)
	if err != nil {
		return nil, s.answer(what, err)
	}
	if len(c.From) == 0 || len(c.From) != len(c.To) {
		return nil, nil
	}
	return &imap.CopyData{UIDValidity: uint32(c.UIDValidity), SourceUIDs: uidSet(c.From), DestUIDs: uidSet(c.To)}, nil
}

// Expunge deletes what bears \Deleted. The library polls afterwards, which
// tells what is gone; it also calls Expunge for CLOSE, with a writer that
// writes nothing, and then a folder opened with EXAMINE is left alone.
func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	ctx, end := s.begin(storeTimeout)
	defer end()
	closing := w == nil || *w == imapserver.ExpungeWriter{}
	v, err := s.folder()
	if closing && (err != nil || v.readOnly) {
		return nil
	}
	if err == nil {
		v, err = s.writable()
	}
	if err != nil {
		return err
	}
	var list []mail.UID // nil: all
	if uids != nil {
		spans, err := v.resolve(*uids)
		if err != nil {
			return err
		}
		if list = v.at(spans); len(list) == 0 {
			return nil
		}
	}
	if _, err := s.mailbox.Expunge(ctx, v.id, list); err != nil {
		return s.answer("EXPUNGE", err)
	}
	return nil
}
