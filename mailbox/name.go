package mailbox

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/peerpost/peerpost/internal/mail"
)

// The bounds of a folder's name. Clients make directories of them, where 255 bytes is the common limit.
const (
	maxLevel  = 255 // bytes of one level
	maxLevels = 10
)

// inboxName is how INBOX is spelt here; clients may write it in any case (RFC 9051, 5.1).
const inboxName = "INBOX"

// canonicalName gives a folder's name its one spelling: composed (NFC), and
// INBOX in capitals. mail.ErrFolderName.
func canonicalName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: not UTF-8", mail.ErrFolderName)
	}
	name = norm.NFC.String(name)
	levels := strings.Split(name, string(mail.Separator))
	if len(levels) > maxLevels {
		return "", fmt.Errorf("%w: more than %d levels", mail.ErrFolderName, maxLevels)
	}
	for _, l := range levels {
		switch {
		case l == "" || l == "." || l == "..":
			return "", fmt.Errorf("%w: a level is empty or made of dots", mail.ErrFolderName)
		case len(l) > maxLevel:
			return "", fmt.Errorf("%w: a level is longer than %d bytes", mail.ErrFolderName, maxLevel)
		case strings.ContainsFunc(l, badInName):
			return "", fmt.Errorf("%w: it contains control characters", mail.ErrFolderName)
		}
	}
	if strings.EqualFold(levels[0], inboxName) {
		levels[0] = inboxName
	}
	return strings.Join(levels, string(mail.Separator)), nil
}

// badInName: controls, line separators, and what is no character at all (RFC 5198, 2).
func badInName(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || r == 0xfeff || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef
}

// parents returns the names above a name, from the top.
func parents(name string) []string {
	var above []string
	for i, r := range name {
		if r == mail.Separator {
			above = append(above, name[:i])
		}
	}
	return above
}

// isBelow reports whether a name lies below another.
func isBelow(name, above string) bool {
	return len(name) > len(above) && name[len(above)] == mail.Separator && strings.HasPrefix(name, above)
}
