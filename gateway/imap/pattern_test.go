package imap

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		ref, pattern, name string
		want               bool
	}{
		{"", "*", "INBOX", true},
		{"", "*", "a/b/c", true},
		{"", "%", "a", true},
		{"", "%", "a/b", false},
		{"", "%/%", "a/b", true},
		{"", "%/%", "a/b/c", false},
		{"", "a/%", "a/b", true},
		{"", "a/%", "a", false},
		{"", "a*", "a/b", true},
		{"", "*b", "a/b", true},
		{"", "*b", "a/c", false},
		{"", "a%c", "abc", true},
		{"", "a%c", "a/c", false},
		{"", "inbox", "INBOX", true},
		{"", "Inbox/x", "INBOX/x", true},
		{"", "inboxes", "INBOXes", false},
		{"a/", "%", "a/b", true},
		{"a/", "%", "b", false},
		{"", "", "", true},
		{"", "", "a", false},
		{"", "a", "ab", false},
		{"", "Grüße*", "Grüße/x", true},
		{"", "*%*%*", "x", true},
	} {
		if got := newPattern(c.ref, c.pattern).match(c.name); got != c.want {
			t.Errorf("%q %q matches %q: %v", c.ref, c.pattern, c.name, got)
		}
	}
}

func TestPatternsAreQuick(t *testing.T) {
	p := newPattern("", strings.Repeat("*a", 500)+"b")
	began := time.Now()
	if p.match(strings.Repeat("a", 1000)) {
		t.Error("matched")
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("*a%b*", "xa/b")
	f.Add("%/%", "a/b")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, p, name string) {
		if len(p) > 30 || len(name) > 100 || strings.ContainsAny(name, "\n\r") {
			return
		}
		var re strings.Builder
		re.WriteString(`\A`)
		for i := range len(p) {
			switch p[i] {
			case '*':
				re.WriteString(`(?s:.)*`)
			case '%':
				re.WriteString(`[^/]*`)
			default:
				if p[i] >= 0x80 {
					return // the expression counts in characters
				}
				re.WriteString(regexp.QuoteMeta(p[i : i+1]))
			}
		}
		re.WriteString(`\z`)
		if want, got := regexp.MustCompile(re.String()).MatchString(name), pattern(p).match(name); got != want {
			t.Errorf("%q matches %q: %v", p, name, got)
		}
	})
}
