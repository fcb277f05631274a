package mailbox

import (
	"errors"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestCanonicalName(t *testing.T) {
	for in, want := range map[string]string{
		"Work":                        "Work",
		"iNbOx":                       "INBOX",
		"inbox/Sub":                   "INBOX/Sub",
		"Sub/inbox":                   "Sub/inbox",
		"R&D":                         "R&D",
		"Büro":                        "Büro",
		"Bu\u0308ro":                  "Büro",
		"a b/c.d":                     "a b/c.d",
		"日本語/メール":                     "日本語/メール",
		strings.Repeat("a/", 9) + "b": strings.Repeat("a/", 9) + "b",
		strings.Repeat("x", 255):      strings.Repeat("x", 255),
	} {
		if got, err := canonicalName(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "/", "a/", "/a", "a//b", ".", "a/..", "a\x00", "a\nb", "a\x7f", "\xff", "a\u2028b", "a\ufffe", "\U0001ffff",
		strings.Repeat("a/", 10) + "b", strings.Repeat("x", 256),
	} {
		if got, err := canonicalName(in); !errors.Is(err, mail.ErrFolderName) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func FuzzCanonicalName(f *testing.F) {
	f.Add("INBOX/x")
	f.Add("Bu\u0308ro")
	f.Fuzz(func(t *testing.T, name string) {
		a, err := canonicalName(name)
		if err != nil {
			return
		}
		if b, err := canonicalName(a); err != nil || a != b {
			t.Fatalf("%q becomes %q, then %q: %v", name, a, b, err)
		}
	})
}
