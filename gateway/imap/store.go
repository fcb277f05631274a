package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
)

// Bounds of keywords.
const (
	MaxKeyword  = 64  // bytes of a keyword
	MaxKeywords = 100 // keywords of a message
)

// Store changes flags.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, change *imap.StoreFlags, _ *imap.StoreOptions) error {
	ctx, end := s.begin(storeTimeout)
	defer end()
	v, err := s.writable()
	if err != nil {
		return err
	}
	flags, err := storedFlags(change.Flags)
	if err != nil {
		return err
	}
	spans, err := v.resolve(set)
	if err != nil {
		return err
	}
	uids := v.at(spans)
	if len(uids) == 0 {
		return nil
	}
	op := mail.SetFlags
	switch change.Op {
	case imap.StoreFlagsAdd:
		op = mail.AddFlags
		if slices.ContainsFunc(flags, isKeyword) {
			entries, err := s.mailbox.Entries(ctx, v.id, uids)
			if err != nil {
				return s.answer("STORE", err)
			}
			for _, e := range entries {
				if !fits(e.Flags, flags) {
					return refuse(imap.ResponseCodeLimit, "A message cannot have so many keywords")
				}
			}
		}
	case imap.StoreFlagsDel:
		op = mail.RemoveFlags
	}
	entries, _, err := s.mailbox.SetFlags(ctx, v.id, uids, op, flags, 0)
	if err != nil {
		return s.answer("STORE", err)
	}
	if change.Silent {
		v.tell(v.guessed(entries))
		return nil
	}
	v.tell(entries)
	_, byUID := set.(imap.UIDSet)
	var scratch []imap.Flag
	for _, e := range entries {
		pos, ok := v.find(e.UID)
		if !ok {
			continue
		}
		r := w.CreateMessage(uint32(pos) + 1)
		if byUID {
			r.WriteUID(imap.UID(e.UID))
		}
		scratch = wireFlags(scratch[:0], e.Flags)
		r.WriteFlags(scratch)
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// storedFlags checks flags that a client wants to set.
func storedFlags(flags []imap.Flag) ([]mail.Flag, error) {
	var out []mail.Flag
	n := 0
	for _, f := range flags {
		if strings.EqualFold(string(f), `\Recent`) {
			continue // not the client's to set; nobody has it
		}
		m := mail.Flag(f).Canonical()
		switch {
		case strings.HasPrefix(string(m), `\`):
			if !slices.Contains(systemFlags, imap.Flag(m)) {
				return nil, bad("There is no such system flag")
			}
		case !validKeyword(string(m)):
			return nil, bad("Not a valid keyword")
		case len(m) > MaxKeyword:
			return nil, refuse(imap.ResponseCodeLimit, "The keyword is too long")
		default:
			n++
		}
		if !slices.ContainsFunc(out, func(o mail.Flag) bool { return strings.EqualFold(string(o), string(m)) }) {
			out = append(out, m)
		}
		if n > MaxKeywords {
			return nil, refuse(imap.ResponseCodeLimit, "A message cannot have so many keywords")
		}
	}
	return out, nil
}

// fits reports whether a message can have flags beside those it has.
func fits(has, more []mail.Flag) bool {
	n := 0
	for _, f := range has {
		if isKeyword(f) {
			n++
		}
	}
	for _, f := range more {
		if isKeyword(f) && !slices.ContainsFunc(has, func(h mail.Flag) bool { return strings.EqualFold(string(h), string(f)) }) {
			n++
		}
	}
	return n <= MaxKeywords
}

func isKeyword(f mail.Flag) bool { return !strings.HasPrefix(string(f), `\`) }

// validKeyword reports whether s is an atom of printable ASCII.
func validKeyword(s string) bool {
	for i := range len(s) {
		switch c := s[i]; c {
		case '(', ')', '{', '%', '*', '"', '\\', ']':
			return false
		default:
			if c <= ' ' || c > '~' {
				return false
			}
		}
	}
	return s != ""
}

// wireFlags appends flags as they are shown. What cannot be written is left
// out: the library would drop the connection over it.
func wireFlags(dst []imap.Flag, flags []mail.Flag) []imap.Flag {
	if dst == nil {
		dst = make([]imap.Flag, 0, len(flags))
	}
	for _, f := range flags {
		if validKeyword(strings.TrimPrefix(string(f), `\`)) {
			dst = append(dst, imap.Flag(f))
		}
	}
	return dst
}
