package mailbox

import (
	"slices"
	"strings"
	"sync"

	"github.com/peerpost/peerpost/internal/mail"
)

// The bounds of flags. Clients show a handful; these keep a row of the index small.
const (
	maxFlags      = 64  // of one message
	maxFlagLength = 128 // bytes
)

var errFlags = &mail.Error{Code: [3]int{5, 5, 4}, Public: "too many keywords, or one that is too long"}

// flagSet is a combination of flags, kept once for all messages that bear it. It never changes.
type flagSet struct {
	text    string // as stored: sorted, with a space between
	list    []mail.Flag
	seen    bool
	deleted bool
}

// flagSets knows every combination that is in use, and how each keyword was first spelt.
type flagSets struct {
	mu    sync.Mutex
	sets  map[string]*flagSet
	names map[string]mail.Flag // by lower case
}

func newFlagSets() *flagSets {
	return &flagSets{sets: make(map[string]*flagSet), names: make(map[string]mail.Flag)}
}

// parse returns the set that was stored as text.
func (s *flagSets) parse(text []byte) *flagSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.sets[string(text)]; f != nil {
		return f
	}
	var list []mail.Flag
	for name := range strings.FieldsSeq(string(text)) {
		list = append(list, mail.Flag(name))
	}
	f := s.of(list)
	s.sets[string(text)] = f
	return f
}

// make returns the set of some flags as a client sent them. What cannot be stored is left out (RFC 9051, 7.1:
// PERMANENTFLAGS says which); too many are an error.
func (s *flagSets) make(list []mail.Flag) (*flagSet, error) {
	var keep []mail.Flag
	for _, f := range list {
		f = f.Canonical()
		switch {
		case strings.HasPrefix(string(f), `\`):
			if !slices.Contains(systemFlags, f) {
				continue
			}
		case len(f) > maxFlagLength:
			return nil, errFlags
		case !validKeyword(f):
			continue
		}
		keep = append(keep, f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.of(keep)
	if len(f.list) > maxFlags {
		return nil, errFlags
	}
	return f, nil
}

var systemFlags = []mail.Flag{mail.Seen, mail.Answered, mail.Flagged, mail.Deleted, mail.Draft}

// validKeyword reports whether a keyword is an atom (RFC 9051, 9: flag-keyword).
func validKeyword(f mail.Flag) bool {
	for i := range len(f) {
		if c := f[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return len(f) > 0
}

// of returns the set of flags that may be stored. The mutex is held.
func (s *flagSets) of(flags []mail.Flag) *flagSet {
	list := make([]mail.Flag, 0, len(flags))
	for _, f := range flags {
		lower := strings.ToLower(string(f))
		spelt, ok := s.names[lower]
		if !ok {
			spelt = mail.Flag(strings.Clone(string(f)))
			s.names[lower] = spelt
		}
		list = append(list, spelt)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	var b strings.Builder
	for i, f := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(f))
	}
	if f := s.sets[b.String()]; f != nil {
		return f
	}
	f := &flagSet{text: b.String(), list: slices.Clip(list)}
	f.seen, f.deleted = slices.Contains(list, mail.Seen), slices.Contains(list, mail.Deleted)
	s.sets[f.text] = f
	return f
}

// apply returns the set that an operation makes of another.
func (s *flagSets) apply(old *flagSet, op mail.FlagOp, flags *flagSet) (*flagSet, error) {
	var list []mail.Flag
	switch op {
	case mail.SetFlags:
		return flags, nil
	case mail.AddFlags:
		list = slices.Concat(old.list, flags.list)
	case mail.RemoveFlags:
		for _, f := range old.list {
			if !slices.Contains(flags.list, f) {
				list = append(list, f)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.of(list)
	if len(f.list) > maxFlags {
		return nil, errFlags
	}
	return f, nil
}

// has reports whether the set has a flag, in any spelling.
func (f *flagSet) has(flag mail.Flag) bool {
	for _, x := range f.list {
		if strings.EqualFold(string(x), string(flag)) {
			return true
		}
	}
	return false
}
