package imaptest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/peerpost/peerpost/gateway/imap"
	"github.com/peerpost/peerpost/internal/mail"
	"github.com/peerpost/peerpost/internal/mail/mime"
)

// DefaultMaxMessage is the size in bytes of the largest message of a new Mailbox.
const DefaultMaxMessage = 40 << 20

// maxName is the number of bytes of the name of a folder.
const maxName = 200

// Mailbox is an imap.Mailbox in memory.
type Mailbox struct {
	Limit int64 // what MaxMessage returns; not to be changed in use

	intercept atomic.Pointer[func(string) error]

	mu            sync.RWMutex
	folders       map[int64]*folder
	subscriptions map[string]bool // names of folders that are gone
	lastID        int64
	validity      mail.UIDValidity
}

var _ imap.Mailbox = (*Mailbox)(nil)

// folder is guarded by the lock of its Mailbox.
type folder struct {
	id         int64
	name       string
	role       mail.Role
	validity   mail.UIDValidity
	next       mail.UID
	modseq     mail.ModSeq
	subscribed bool

	uids     []mail.UID // shared with views: only ever appended to or replaced
	messages map[mail.UID]*message
	log      []change // ascending by modseq
	watchers map[chan struct{}]struct{}
}

// change is one line of a folder's log.
type change struct {
	modseq   mail.ModSeq
	uid      mail.UID
	expunged bool
}

// message is never changed once others can see it, but for its entry.
type message struct {
	entry    mail.Entry // its Flags are replaced, not changed
	internal time.Time
	data     []byte
	index    *mime.Index
}

// New returns a mailbox with an INBOX and the folders of each role.
func New() *Mailbox {
	m := &Mailbox{Limit: DefaultMaxMessage, folders: make(map[int64]*folder), subscriptions: make(map[string]bool), validity: 1000}
	m.add("INBOX", mail.Inbox)
	m.add("Archive", mail.Archive)
	m.add("Drafts", mail.Drafts)
	m.add("Junk", mail.Junk)
	m.add("Sent", mail.Sent)
	m.add("Trash", mail.Trash)
	return m
}

// Intercept has f called at the start of each method that can fail, with its
// name; its error is the answer. It may also wait, or panic. Nil ends this.
func (m *Mailbox) Intercept(f func(method string) error) { m.intercept.Store(&f) }

func (m *Mailbox) before(ctx context.Context, method string) error {
	if f := m.intercept.Load(); f != nil && *f != nil {
		if err := (*f)(method); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *Mailbox) add(name string, role mail.Role) *folder {
	m.lastID++
	m.validity++
	f := &folder{
		id: m.lastID, name: name, role: role, validity: m.validity, next: 1, modseq: 1, subscribed: true,
		messages: make(map[mail.UID]*message), watchers: make(map[chan struct{}]struct{}),
	}
	m.folders[f.id] = f
	delete(m.subscriptions, name)
	return f
}

func (m *Mailbox) byName(name string) *folder {
	if strings.EqualFold(name, "INBOX") {
		name = "INBOX"
	}
	for _, f := range m.folders {
		if f.name == name {
			return f
		}
	}
	return nil
}

func (f *folder) describe() mail.Folder {
	d := mail.Folder{
		ID: f.id, Name: f.name, Role: f.role, UIDValidity: f.validity, UIDNext: f.next,
		Messages: uint32(len(f.uids)), HighestModSeq: f.modseq, Subscribed: f.subscribed,
	}
	for _, msg := range f.messages {
		if !msg.has(mail.Seen) {
			d.Unseen++
		}
		if msg.has(mail.Deleted) {
			d.Deleted++
		}
		d.Size += int64(len(msg.data))
	}
	return d
}

func (msg *message) has(flag mail.Flag) bool { return hasFlag(msg.entry.Flags, flag) }

func hasFlag(list []mail.Flag, flag mail.Flag) bool {
	return slices.ContainsFunc(list, func(f mail.Flag) bool { return strings.EqualFold(string(f), string(flag)) })
}

// Folders implements imap.Mailbox.
func (m *Mailbox) Folders(ctx context.Context) ([]mail.Folder, error) {
	if err := m.before(ctx, "Folders"); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []mail.Folder
	for _, f := range m.folders {
		list = append(list, f.describe())
	}
	slices.SortFunc(list, func(a, b mail.Folder) int {
		switch {
		case a.Name == "INBOX":
			return -1
		case b.Name == "INBOX":
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, nil
}

// Folder implements imap.Mailbox.
func (m *Mailbox) Folder(ctx context.Context, name string) (mail.Folder, error) {
	if err := m.before(ctx, "Folder"); err != nil {
		return mail.Folder{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.byName(name)
	if f == nil {
		return mail.Folder{}, mail.ErrNoFolder
	}
	return f.describe(), nil
}

// CreateFolder implements imap.Mailbox.
func (m *Mailbox) CreateFolder(ctx context.Context, name string, role mail.Role) (mail.Folder, error) {
	if err := m.before(ctx, "CreateFolder"); err != nil {
		return mail.Folder{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byName(name) != nil {
		return mail.Folder{}, mail.ErrFolderExists
	}
	if !validName(name) {
		return mail.Folder{}, mail.ErrFolderName
	}
	m.parents(name)
	return m.add(name, role).describe(), nil
}

// parents makes the folders above a name.
func (m *Mailbox) parents(name string) {
	for i := range len(name) {
		if name[i] == mail.Separator && m.byName(name[:i]) == nil {
			m.add(name[:i], mail.NoRole)
		}
	}
}

func validName(name string) bool {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "*%") || strings.ContainsFunc(name, unicode.IsControl) {
		return false
	}
	return !slices.Contains(strings.Split(name, string(mail.Separator)), "")
}

// DeleteFolder implements imap.Mailbox.
func (m *Mailbox) DeleteFolder(ctx context.Context, name string) error {
	if err := m.before(ctx, "DeleteFolder"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.byName(name)
	switch {
	case f == nil:
		return mail.ErrNoFolder
	case f.role != mail.NoRole:
		return mail.ErrRoleFolder
	}
	delete(m.folders, f.id)
	if f.subscribed {
		m.subscriptions[f.name] = true
	}
	for c := range f.watchers {
		close(c)
	}
	f.watchers = nil
	return nil
}

// RenameFolder implements imap.Mailbox.
func (m *Mailbox) RenameFolder(ctx context.Context, from, to string) error {
	if err := m.before(ctx, "RenameFolder"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.byName(from)
	switch {
	case f == nil:
		return mail.ErrNoFolder
	case m.byName(to) != nil:
		return mail.ErrFolderExists
	case !validName(to) || strings.HasPrefix(to, f.name+string(mail.Separator)):
		return mail.ErrFolderName
	case f.role != mail.NoRole && f.role != mail.Inbox:
		return mail.ErrRoleFolder
	}
	m.parents(to)
	if f.role == mail.Inbox {
		t := m.add(to, mail.NoRole)
		m.transfer(f, t, f.uids, true)
		return nil
	}
	below := f.name + string(mail.Separator)
	for _, g := range m.folders {
		if strings.HasPrefix(g.name, below) {
			m.rename(g, to+g.name[len(f.name):])
		}
	}
	m.rename(f, to)
	return nil
}

func (m *Mailbox) rename(f *folder, to string) {
	f.name, f.subscribed = to, f.subscribed || m.subscriptions[to]
	delete(m.subscriptions, to)
}

// Subscribe implements imap.Mailbox.
func (m *Mailbox) Subscribe(ctx context.Context, name string, on bool) error {
	if err := m.before(ctx, "Subscribe"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.byName(name)
	switch {
	case f != nil:
		f.subscribed = on
	case on || !m.subscriptions[name]:
		return mail.ErrNoFolder
	}
	delete(m.subscriptions, name)
	return nil
}

// Subscriptions implements imap.Mailbox.
func (m *Mailbox) Subscriptions(ctx context.Context) ([]string, error) {
	if err := m.before(ctx, "Subscriptions"); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Sorted(maps.Keys(m.subscriptions)), nil
}

// View implements imap.Mailbox.
func (m *Mailbox) View(ctx context.Context, folder int64) (mail.View, error) {
	if err := m.before(ctx, "View"); err != nil {
		return mail.View{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.folders[folder]
	if f == nil {
		return mail.View{}, mail.ErrNoFolder
	}
	return mail.View{UIDs: slices.Clip(f.uids), ModSeq: f.modseq}, nil
}

// Entries implements imap.Mailbox.
func (m *Mailbox) Entries(ctx context.Context, folder int64, uids []mail.UID) ([]mail.Entry, error) {
	if err := m.before(ctx, "Entries"); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.folders[folder]
	if f == nil {
		return nil, mail.ErrNoFolder
	}
	list := make([]mail.Entry, 0, len(uids))
	for _, uid := range uids {
		if msg := f.messages[uid]; msg != nil {
			list = append(list, msg.entry)
		}
	}
	return list, nil
}

// Changes implements imap.Mailbox.
func (m *Mailbox) Changes(ctx context.Context, folder int64, since mail.ModSeq) (mail.Changes, error) {
	if err := m.before(ctx, "Changes"); err != nil {
		return mail.Changes{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.folders[folder]
	if f == nil {
		return mail.Changes{}, mail.ErrNoFolder
	}
	c := mail.Changes{ModSeq: f.modseq}
	i, _ := slices.BinarySearchFunc(f.log, since+1, func(c change, s mail.ModSeq) int { return cmp.Compare(c.modseq, s) })
	var uids []mail.UID
	for _, l := range f.log[i:] {
		if l.expunged {
			c.Expunged = append(c.Expunged, l.uid)
		} else {
			uids = append(uids, l.uid)
		}
	}
	slices.Sort(c.Expunged)
	slices.Sort(uids)
	for _, uid := range slices.Compact(uids) {
		if msg := f.messages[uid]; msg != nil {
			c.Entries = append(c.Entries, msg.entry)
		}
	}
	return c, nil
}

// Notify implements imap.Mailbox.
func (m *Mailbox) Notify(folder int64) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.folders[folder]
	if f == nil {
		close(c)
		return c, func() {}
	}
	f.watchers[c] = struct{}{}
	return c, func() {
		m.mu.Lock()
		delete(f.watchers, c)
		m.mu.Unlock()
	}
}

// Watchers returns the number of channels that Notify gave and nobody stopped.
func (m *Mailbox) Watchers() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := 0
	for _, f := range m.folders {
		n += len(f.watchers)
	}
	return n
}

// touched tells the watchers of a commit.
func (f *folder) touched() {
	for c := range f.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Messages implements imap.Mailbox.
func (m *Mailbox) Messages(ctx context.Context, folder int64, uids []mail.UID, want mail.Want, f func(*mail.Message) error) error {
	if err := m.before(ctx, "Messages"); err != nil {
		return err
	}
	m.mu.RLock()
	list := make([]mail.Message, 0, len(uids))
	fo := m.folders[folder]
	if fo == nil {
		m.mu.RUnlock()
		return mail.ErrNoFolder
	}
	for _, uid := range uids {
		if msg := fo.messages[uid]; msg != nil {
			d := mail.Message{Entry: msg.entry, Internal: msg.internal, Size: int64(len(msg.data))}
			if want.Envelope {
				d.Envelope = msg.index.Envelope
			}
			if want.Structure {
				d.Structure = msg.index.Structure
			}
			list = append(list, d)
		}
	}
	m.mu.RUnlock()
	for i := range list {
		if err := f(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// body is a mail.Body in memory.
type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// Body implements imap.Mailbox.
func (m *Mailbox) Body(ctx context.Context, folder int64, uid mail.UID) (mail.Body, error) {
	if err := m.before(ctx, "Body"); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.folders[folder]
	if f == nil {
		return nil, mail.ErrNoFolder
	}
	msg := f.messages[uid]
	if msg == nil {
		return nil, mail.ErrNoMessage
	}
	return body{bytes.NewReader(msg.data)}, nil
}

// Append implements imap.Mailbox.
func (m *Mailbox) Append(ctx context.Context, folder int64, r io.Reader, size int64, flags []mail.Flag, internal time.Time) (mail.UID, error) {
	if err := m.before(ctx, "Append"); err != nil {
		return 0, err
	}
	if size > m.Limit {
		return 0, mail.ErrTooLarge
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, err
	}
	msg := &message{internal: internal, data: data, index: mime.ParseBytes(data)}
	msg.entry.Flags = slices.Clone(flags)
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.folders[folder]
	if f == nil {
		return 0, mail.ErrNoFolder
	}
	f.modseq++
	f.put(msg)
	f.touched()
	return msg.entry.UID, nil
}

// put files a message under the mod-sequence that is being made.
func (f *folder) put(msg *message) {
	msg.entry.UID, msg.entry.ModSeq = f.next, f.modseq
	f.next++
	f.uids = append(f.uids, msg.entry.UID)
	f.messages[msg.entry.UID] = msg
	f.log = append(f.log, change{modseq: f.modseq, uid: msg.entry.UID})
}

// SetFlags implements imap.Mailbox.
func (m *Mailbox) SetFlags(ctx context.Context, folder int64, uids []mail.UID, op mail.FlagOp, flags []mail.Flag, unchangedSince mail.ModSeq) ([]mail.Entry, []mail.UID, error) {
	if err := m.before(ctx, "SetFlags"); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.folders[folder]
	if f == nil {
		return nil, nil, mail.ErrNoFolder
	}
	var entries []mail.Entry
	var modified []mail.UID
	changed := false
	for _, uid := range uids {
		msg := f.messages[uid]
		if msg == nil {
			continue
		}
		if unchangedSince > 0 && msg.entry.ModSeq > unchangedSince {
			modified = append(modified, uid)
			continue
		}
		before := msg.entry.ModSeq
		if to := combine(msg.entry.Flags, op, flags); !sameFlags(to, msg.entry.Flags) {
			if !changed {
				changed = true
				f.modseq++
			}
			msg.entry.Flags, msg.entry.ModSeq = to, f.modseq
			f.log = append(f.log, change{modseq: f.modseq, uid: uid})
		}
		entry := msg.entry
		entry.Before = before
		entries = append(entries, entry)
	}
	if changed {
		f.touched()
	}
	return entries, modified, nil
}

func combine(has []mail.Flag, op mail.FlagOp, flags []mail.Flag) []mail.Flag {
	var out []mail.Flag
	switch op {
	case mail.SetFlags:
		return slices.Clone(flags)
	case mail.AddFlags:
		out = slices.Clone(has)
		for _, f := range flags {
			if !hasFlag(out, f) {
				out = append(out, f)
			}
		}
	case mail.RemoveFlags:
		for _, f := range has {
			if !hasFlag(flags, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

func sameFlags(a, b []mail.Flag) bool {
	if len(a) != len(b) {
		return false
	}
	for _, f := range a {
		if !hasFlag(b, f) {
			return false
		}
	}
	return true
}

// Expunge implements imap.Mailbox.
func (m *Mailbox) Expunge(ctx context.Context, folder int64, uids []mail.UID) ([]mail.UID, error) {
	if err := m.before(ctx, "Expunge"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.folders[folder]
	if f == nil {
		return nil, mail.ErrNoFolder
	}
	if uids == nil {
		uids = f.uids
	}
	var gone []mail.UID
	for _, uid := range uids {
		if msg := f.messages[uid]; msg != nil && msg.has(mail.Deleted) {
			gone = append(gone, uid)
		}
	}
	f.remove(gone)
	return gone, nil
}

// remove takes messages out of the folder, in a commit of its own.
func (f *folder) remove(gone []mail.UID) {
	if len(gone) == 0 {
		return
	}
	f.modseq++
	for _, uid := range gone {
		delete(f.messages, uid)
		f.log = append(f.log, change{modseq: f.modseq, uid: uid, expunged: true})
	}
	left := make([]mail.UID, 0, len(f.messages))
	for _, uid := range f.uids {
		if f.messages[uid] != nil {
			left = append(left, uid)
		}
	}
	f.uids = left
	f.touched()
}

// Copy implements imap.Mailbox.
func (m *Mailbox) Copy(ctx context.Context, folder int64, uids []mail.UID, to string) (mail.Copied, error) {
	if err := m.before(ctx, "Copy"); err != nil {
		return mail.Copied{}, err
	}
	return m.copyOrMove(folder, uids, to, false)
}

// Move implements imap.Mailbox.
func (m *Mailbox) Move(ctx context.Context, folder int64, uids []mail.UID, to string) (mail.Copied, error) {
	if err := m.before(ctx, "Move"); err != nil {
		return mail.Copied{}, err
	}
	return m.copyOrMove(folder, uids, to, true)
}

func (m *Mailbox) copyOrMove(folder int64, uids []mail.UID, to string, move bool) (mail.Copied, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, t := m.folders[folder], m.byName(to)
	if f == nil || t == nil {
		return mail.Copied{}, mail.ErrNoFolder
	}
	return m.transfer(f, t, uids, move), nil
}

func (m *Mailbox) transfer(f, t *folder, uids []mail.UID, move bool) mail.Copied {
	c := mail.Copied{UIDValidity: t.validity}
	t.modseq++
	for _, uid := range uids {
		msg := f.messages[uid]
		if msg == nil {
			continue
		}
		n := &message{entry: msg.entry, internal: msg.internal, data: msg.data, index: msg.index}
		t.put(n)
		c.From = append(c.From, uid)
		c.To = append(c.To, n.entry.UID)
	}
	t.touched()
	if move {
		f.remove(c.From)
	}
	return c
}

// MaxMessage implements imap.Mailbox.
func (m *Mailbox) MaxMessage() int64 { return m.Limit }
