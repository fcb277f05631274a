package sealed

import (
	"fmt"
	"strings"
	"testing"

	"github.com/peerpost/peerpost/internal/wire"
)

// Whatever is longer than its kind ever is, is refused for its length, before anything looks inside.
func TestSizesBeforeBelief(t *testing.T) {
	for name, c := range map[string]struct {
		limit int
		parse func(b []byte) error
	}{
		"outer part": {MaxOuter, func(b []byte) error { _, err := ParseOuter(b); return err }},
		"receipt":    {MaxReceipt, func(b []byte) error { _, err := ParseReceipt(b); return err }},
		"inner part": {MaxInner, func(b []byte) error {
			inner := wire.JoinPair(b, nil)
			plain := make([]byte, Padme(lengthSize+len(inner)))
			plain[2], plain[3] = byte(len(inner)>>8), byte(len(inner))
			copy(plain[lengthSize:], inner)
			_, _, _, err := parsePlaintext(plain)
			return err
		}},
	} {
		if err := c.parse(make([]byte, c.limit+1)); err == nil || !strings.Contains(err.Error(), fmt.Sprint("limit ", c.limit)) {
			t.Errorf("%s of %d bytes: %v", name, c.limit+1, err)
		}
		if err := c.parse(make([]byte, c.limit)); err == nil || strings.Contains(err.Error(), "limit") {
			t.Errorf("%s of %d bytes: %v", name, c.limit, err)
		}
	}
}

// Each thing that a header may not have is refused for itself, before age sees it.
func TestHeaderRules(t *testing.T) {
	key := strings.Repeat("A", 1494) // base64 of 1,120 bytes
	hybrid := "-> " + stanzaType + " " + key + "\nAAAA\n"
	end := "--- AAAA\n"
	for name, c := range map[string]struct{ header, want string }{
		"good":            {ageIntro + hybrid + end, ""},
		"a short second":  {ageIntro + hybrid + "-> X25519 A\nA\n" + end, "more than one stanza"},
		"another kind":    {ageIntro + "-> X25519 " + key + "\nA\n" + end, "the stanza is not"},
		"a shorter key":   {ageIntro + "-> " + stanzaType + " " + key[1:] + "\nA\n" + end, "right size"},
		"one word more":   {ageIntro + "-> " + stanzaType + " " + key + " A\nA\n" + end, "right size"},
		"no stanza":       {ageIntro + end, "no stanza"},
		"long for itself": {ageIntro + hybrid + strings.Repeat("AAAA\n", 100) + end, fmt.Sprint("within ", 2048)},
		"not age":         {"age-encryption.org/v2\n" + hybrid + end, "not an age file"},
	} {
		err := checkHeader([]byte(c.header + strings.Repeat("x", 5000)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
