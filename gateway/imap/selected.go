package imap

import (
	"errors"
	"runtime/debug"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
)

// selected is the folder that a session has selected, as its client knows it.
type selected struct {
	id       int64
	name     string
	readOnly bool
	gone     bool // deleted by this very session

	uids   []mail.UID  // what the client knows of; shared, never changed
	modseq mail.ModSeq // up to which it knows

	told  [][]mail.Entry  // flags that the client has been told since, or can work out
	saved []mail.UIDRange // SEARCHRES: what "$" stands for; sorted
}

// systemFlags can be set on every message, and so can keywords.
var systemFlags = []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}

// knownFlags are those that a folder is said to have. Others may be made.
var knownFlags = append(slices.Clone(systemFlags),
	imap.FlagForwarded, imap.FlagMDNSent, imap.FlagJunk, imap.FlagNotJunk, imap.FlagPhishing, imap.FlagImportant)

// Select opens a folder. The library calls Unselect before it.
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	ctx, end := s.begin(commandTimeout)
	defer end()
	s.sel = nil
	f, err := s.mailbox.Folder(ctx, name)
	if err != nil {
		return nil, s.answer("SELECT", err)
	}
	view, err := s.mailbox.View(ctx, f.ID)
	if err != nil {
		return nil, s.answer("SELECT", err)
	}
	v := &selected{id: f.ID, name: f.Name, readOnly: options.ReadOnly, uids: view.UIDs, modseq: view.ModSeq}
	data := &imap.SelectData{
		Flags:          knownFlags,
		PermanentFlags: []imap.Flag{},
		NumMessages:    uint32(len(v.uids)),
		UIDNext:        imap.UID(f.UIDNext),
		UIDValidity:    uint32(f.UIDValidity),
	}
	if n := len(v.uids); n > 0 {
		data.UIDNext = max(data.UIDNext, imap.UID(v.uids[n-1])+1)
	}
	if !v.readOnly {
		data.PermanentFlags = append(slices.Clone(systemFlags), imap.FlagWildcard)
	}
	if f.Unseen > 0 {
		// The first unseen one is mostly near the end, but in a folder with
		// many unread messages near the beginning.
		for batch := range slices.Chunk(v.uids, 4*fetchBatch) {
			entries, err := s.mailbox.Entries(ctx, v.id, batch)
			if err != nil {
				return nil, s.answer("SELECT", err)
			}
			i := slices.IndexFunc(entries, func(e mail.Entry) bool { return !slices.Contains(e.Flags, mail.Seen) })
			if i >= 0 {
				if pos, ok := v.find(entries[i].UID); ok {
					data.FirstUnseenSeqNum = uint32(pos) + 1
				}
				break
			}
		}
	}
	s.sel = v
	return data, nil
}

// Unselect closes the folder.
func (s *session) Unselect() error {
	_, end := s.begin(0)
	defer end()
	s.sel = nil
	return nil
}

// folder returns the selected folder; s.mu is held.
func (s *session) folder() (*selected, error) {
	switch {
	case s.sel == nil:
		return nil, bad("No folder is selected")
	case s.sel.gone:
		return nil, refuse(imap.ResponseCodeNonExistent, "The folder has been deleted")
	}
	return s.sel, nil
}

// writable is folder for commands that change it. The library does not keep
// EXAMINE from them.
func (s *session) writable() (*selected, error) {
	v, err := s.folder()
	if err == nil && v.readOnly {
		return nil, refuse(codeReadOnly, "The folder was opened with EXAMINE")
	}
	return v, err
}

// Poll tells what happened, after each command.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	_, end := s.begin(0)
	defer end()
	return s.update(w, allowExpunge)
}

// update compares what the client knows with what there is, and tells the
// difference; s.mu is held. Its errors are those of the connection. What cannot
// be told now, because numbers would change or the mailbox failed, is told by a
// later update.
func (s *session) update(w *imapserver.UpdateWriter, allowExpunge bool) error {
	v := s.sel
	if v == nil || v.gone {
		return nil
	}
	changes, err := s.mailbox.Changes(s.ctx, v.id, v.modseq)
	if err != nil {
		s.cannotUpdate(err)
		return nil
	}
	if changes.ModSeq == v.modseq && len(changes.Entries) == 0 && len(changes.Expunged) == 0 {
		return nil
	}
	view, err := s.mailbox.View(s.ctx, v.id)
	if err != nil {
		s.cannotUpdate(err)
		return nil
	}
	// The view may be newer than the changes. It rules which messages there
	// are; newer flags come with the next changes.
	expunged := missing(v.uids, view.UIDs)
	if len(expunged) > 0 && !allowExpunge {
		return nil
	}
	s.conn.Cork()
	defer s.conn.Uncork()
	for _, pos := range slices.Backward(expunged) { // from the end: earlier numbers stay
		if err := w.WriteExpunge(uint32(pos) + 1); err != nil {
			return err
		}
	}
	if len(view.UIDs) > len(v.uids)-len(expunged) {
		if err := w.WriteNumMessages(uint32(len(view.UIDs))); err != nil {
			return err
		}
	}
	var known mail.UID
	if n := len(v.uids); n > 0 {
		known = v.uids[n-1]
	}
	before := v.told
	v.uids, v.modseq, v.told = view.UIDs, changes.ModSeq, nil
	for _, e := range changes.Entries {
		if e.UID > known {
			break // new ones are asked for
		}
		pos, ok := v.find(e.UID)
		if !ok || wasTold(before, e) {
			continue
		}
		if err := w.WriteMessageFlags(uint32(pos)+1, imap.UID(e.UID), wireFlags(nil, e.Flags)); err != nil {
			return err
		}
	}
	return nil
}

// cannotUpdate deals with an update that the mailbox failed.
func (s *session) cannotUpdate(err error) {
	switch {
	case errors.Is(err, mail.ErrNoFolder):
		s.conn.Hangup("The selected folder has been deleted")
	case s.ctx.Err() == nil:
		s.log.Warn("changes of a folder could not be told", "error", err)
	}
}

// missing returns the positions of the UIDs that were there and are there no more.
func missing(was, is []mail.UID) []int {
	// UIDs only ever come at the end. If the last one that was there is still
	// at its place, so are all before it.
	if n := len(was); n == 0 || n <= len(is) && is[n-1] == was[n-1] {
		return nil
	}
	var gone []int
	for i, uid := range was {
		for len(is) > 0 && is[0] < uid {
			is = is[1:]
		}
		if len(is) == 0 || is[0] != uid {
			gone = append(gone, i)
		}
	}
	return gone
}

// wasTold reports whether a session made a change itself and has answered it.
func wasTold(told [][]mail.Entry, e mail.Entry) bool {
	for _, list := range told {
		i, ok := slices.BinarySearchFunc(list, e.UID, func(x mail.Entry, uid mail.UID) int {
			return int(int64(x.UID) - int64(uid))
		})
		if ok && list[i].ModSeq == e.ModSeq {
			return true
		}
	}
	return false
}

// maxTold bounds selected.told. What is forgotten is told twice, which does no harm.
const maxTold = 64

// tell notes that the client has heard of entries, or need not.
func (v *selected) tell(entries []mail.Entry) {
	if len(entries) == 0 {
		return
	}
	if len(v.told) >= maxTold {
		v.told = append(v.told[:0], v.told[1:]...)
	}
	v.told = append(v.told, entries)
}

// guessed returns those of the entries of a change, made by this session, whose flags the client works out right
// without being told: nothing that others did, and it has not heard of, came before the change (RFC 3501, 6.4.6).
func (v *selected) guessed(entries []mail.Entry) []mail.Entry {
	var known []mail.Entry
	for _, e := range entries {
		if e.Before <= v.modseq || wasTold(v.told, mail.Entry{UID: e.UID, ModSeq: e.Before}) {
			known = append(known, e)
		}
	}
	return known
}

// Idle tells what happens, as it happens, until stop. It runs beside the
// goroutine that reads from the client, and the library may go on before it
// has returned. A panic here would be swallowed by the library and leave a
// client that waits for ever.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.idle.Add(1)
	v, mailbox := s.sel, s.mailbox
	s.mu.Unlock()
	defer s.idle.Done()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in IDLE", "panic", p, "stack", string(debug.Stack()))
			s.conn.Hangup("Internal error")
		}
	}()

	var notices <-chan struct{}
	if v != nil && !v.gone {
		c, cancel := mailbox.Notify(v.id)
		defer cancel()
		notices = c
	}
	for {
		if err := s.updateIdle(w, v); err != nil {
			return err
		}
		select {
		case _, ok := <-notices:
			if !ok {
				notices = nil // the folder is gone; the update says so
			}
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

// updateIdle is update, unless the session has gone on to another folder.
func (s *session) updateIdle(w *imapserver.UpdateWriter, v *selected) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sel != v || s.closed {
		return nil
	}
	return s.update(w, true)
}
