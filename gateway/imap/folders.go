package imap

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
)

// maxPatterns bounds the patterns of one LIST.
const maxPatterns = 32

// Create makes a folder. A separator at the end says that it is to hold others,
// which all can.
func (s *session) Create(name string, options *imap.CreateOptions) error {
	ctx, end := s.begin(commandTimeout)
	defer end()
	role := mail.NoRole
	for _, attr := range options.SpecialUse {
		r, ok := roleOf(attr)
		if !ok || role != mail.NoRole && r != role {
			return refuse(codeUseAttr, "There is no such special use here")
		}
		role = r
	}
	if role != mail.NoRole {
		folders, err := s.mailbox.Folders(ctx)
		if err != nil {
			return s.answer("CREATE", err)
		}
		if slices.ContainsFunc(folders, func(f mail.Folder) bool { return f.Role == role }) {
			return refuse(codeUseAttr, "Another folder has that special use")
		}
	}
	_, err := s.mailbox.CreateFolder(ctx, strings.TrimSuffix(name, string(mail.Separator)), role)
	return s.answer("CREATE", err)
}

// Delete deletes a folder with its messages.
func (s *session) Delete(name string) error {
	ctx, end := s.begin(commandTimeout)
	defer end()
	// Whoever deletes the folder that it has selected need not be thrown out.
	own := false
	if s.sel != nil && !s.sel.gone {
		f, err := s.mailbox.Folder(ctx, name)
		own = err == nil && f.ID == s.sel.id
	}
	if err := s.mailbox.DeleteFolder(ctx, name); err != nil {
		return s.answer("DELETE", err)
	}
	if own {
		s.sel.gone = true
	}
	return nil
}

// Rename renames a folder and those below it.
func (s *session) Rename(from, to string, _ *imap.RenameOptions) error {
	ctx, end := s.begin(commandTimeout)
	defer end()
	return s.answer("RENAME", s.mailbox.RenameFolder(ctx, from, strings.TrimSuffix(to, string(mail.Separator))))
}

// Subscribe puts a folder on the list of those that LSUB shows.
func (s *session) Subscribe(name string) error { return s.subscribe(name, true) }

// Unsubscribe undoes Subscribe.
func (s *session) Unsubscribe(name string) error { return s.subscribe(name, false) }

// Unsubscribing a name that is not on the list is no mistake: after a RENAME the
// old one has gone from it.
func (s *session) subscribe(name string, on bool) error {
	ctx, end := s.begin(commandTimeout)
	defer end()
	err := s.mailbox.Subscribe(ctx, name, on)
	if !on && errors.Is(err, mail.ErrNoFolder) {
		return nil
	}
	return s.answer("SUBSCRIBE", err)
}

// Status tells the counters of a folder.
func (s *session) Status(name string, options *imap.StatusOptions) (*imap.StatusData, error) {
	ctx, end := s.begin(commandTimeout)
	defer end()
	if options.DeletedStorage {
		return nil, bad("QUOTA is not supported")
	}
	f, err := s.mailbox.Folder(ctx, name)
	if err != nil {
		return nil, s.answer("STATUS", err)
	}
	return s.status(f), nil
}

// status gives all counters, whichever were asked for: the library panics over
// one that is missing.
func (s *session) status(f mail.Folder) *imap.StatusData {
	var recent uint32
	var deletedStorage int64
	limit := uint32(min(s.mailbox.MaxMessage(), math.MaxUint32))
	return &imap.StatusData{
		Mailbox:        f.Name,
		NumMessages:    &f.Messages,
		NumRecent:      &recent,
		UIDNext:        imap.UID(f.UIDNext),
		UIDValidity:    uint32(f.UIDValidity),
		NumUnseen:      &f.Unseen,
		NumDeleted:     &f.Deleted,
		Size:           &f.Size,
		AppendLimit:    &limit,
		DeletedStorage: &deletedStorage,
		HighestModSeq:  uint64(f.HighestModSeq),
	}
}

// List shows the folders that match.
func (s *session) List(w *imapserver.ListWriter, reference string, patterns []string, options *imap.ListOptions) error {
	ctx, end := s.begin(commandTimeout)
	defer end()
	if options.ReturnStatus != nil && options.ReturnStatus.DeletedStorage {
		return bad("QUOTA is not supported")
	}
	if len(patterns) == 0 {
		// LIST "" "" asks for the separator.
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: mail.Separator})
	}
	if len(patterns) > maxPatterns {
		return refuse(imap.ResponseCodeLimit, "Too many patterns in one LIST")
	}
	var ps []pattern
	for _, p := range patterns {
		ps = append(ps, newPattern(reference, p))
	}
	folders, err := s.mailbox.Folders(ctx)
	if err != nil {
		return s.answer("LIST", err)
	}
	var gone []string
	if options.SelectSubscribed {
		if gone, err = s.mailbox.Subscriptions(ctx); err != nil {
			return s.answer("LIST", err)
		}
	}
	t := newTree(folders, gone)
	lsub := s.conn.Command() == "LSUB" // the library asks for it as for LIST (SUBSCRIBED)
	for _, n := range t.nodes {
		if !slices.ContainsFunc(ps, func(p pattern) bool { return p.match(n.Name) }) {
			continue
		}
		if lsub && n.below && !n.Subscribed && slices.ContainsFunc(ps, func(p pattern) bool { return strings.Contains(string(p), "%") && p.match(n.Name) }) {
			// The way to one that is subscribed (RFC 3501, 6.3.9).
			err := w.WriteList(&imap.ListData{Mailbox: n.Name, Delim: mail.Separator, Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}})
			if err != nil {
				return err
			}
			continue
		}
		below := options.SelectRecursiveMatch && n.below
		if options.SelectSubscribed && !n.Subscribed && !below {
			continue
		}
		if options.SelectSpecialUse && roleAttr(n.Role) == "" {
			continue
		}
		data := &imap.ListData{Mailbox: n.Name, Delim: mail.Separator, Attrs: n.attrs(options)}
		if below {
			data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		}
		if options.ReturnStatus != nil && n.exists {
			data.Status = s.status(n.Folder)
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// node is a folder in the tree of all. A folder whose parent is missing gets
// one that cannot be selected, so that a client that goes down level by level
// finds it.
type node struct {
	mail.Folder
	exists   bool
	added    bool // to the nodes of the tree
	children bool // has folders below it
	below    bool // and one of them is subscribed
}

type tree struct {
	nodes []*node // in the order of the mailbox, made-up parents before their first child
	names map[string]*node
}

// newTree makes the tree of folders, and of names that are subscribed though their folder is gone.
func newTree(folders []mail.Folder, gone []string) *tree {
	t := &tree{names: make(map[string]*node, len(folders)+len(gone))}
	for _, f := range folders {
		t.names[f.Name] = &node{Folder: f, exists: true}
	}
	for _, name := range gone {
		if t.names[name] == nil { // it may have been made just now
			t.names[name] = &node{Folder: mail.Folder{Name: name, Subscribed: true}}
		}
	}
	for _, f := range folders {
		t.add(t.names[f.Name])
	}
	for _, name := range gone {
		t.add(t.names[name])
	}
	return t
}

// add puts a node at the end, and those above it that do not exist before it, unless they are there.
func (t *tree) add(n *node) {
	for i := range len(n.Name) {
		if n.Name[i] != mail.Separator {
			continue
		}
		parent := t.names[n.Name[:i]]
		if parent == nil {
			parent = &node{Folder: mail.Folder{Name: n.Name[:i]}}
			t.names[parent.Name] = parent
		}
		if !parent.exists {
			t.append(parent)
		}
		parent.children = parent.children || n.exists
		parent.below = parent.below || n.Subscribed
	}
	t.append(n)
}

func (t *tree) append(n *node) {
	if !n.added {
		n.added = true
		t.nodes = append(t.nodes, n)
	}
}

func (n *node) attrs(options *imap.ListOptions) []imap.MailboxAttr {
	attrs := []imap.MailboxAttr{}
	if !n.exists {
		attrs = append(attrs, imap.MailboxAttrNonExistent)
		if !n.Subscribed { // LSUB says of such a one that it is only the way to another (RFC 3501, 6.3.9)
			attrs = append(attrs, imap.MailboxAttrNoSelect)
		}
	}
	if n.children {
		attrs = append(attrs, imap.MailboxAttrHasChildren)
	} else {
		attrs = append(attrs, imap.MailboxAttrHasNoChildren)
	}
	if n.Subscribed && (options.ReturnSubscribed || options.SelectSubscribed) {
		attrs = append(attrs, imap.MailboxAttrSubscribed)
	}
	if a := roleAttr(n.Role); a != "" {
		attrs = append(attrs, a)
	}
	return attrs
}

// roles are the special uses of a folder that IMAP knows and we have.
var roles = [...]mail.Role{mail.Archive, mail.Drafts, mail.Junk, mail.Sent, mail.Trash}

func roleAttr(r mail.Role) imap.MailboxAttr {
	if slices.Contains(roles[:], r) {
		return imap.MailboxAttr(r)
	}
	return ""
}

func roleOf(a imap.MailboxAttr) (mail.Role, bool) {
	for _, r := range roles {
		if strings.EqualFold(string(a), string(r)) {
			return r, true
		}
	}
	return mail.NoRole, false
}
