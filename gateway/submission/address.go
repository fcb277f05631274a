package submission

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Lengths of an address in bytes (RFC 5321, 4.5.3.1; erratum 1690 of RFC 3696).
const (
	maxLocal   = 64
	maxAddress = 254
)

var (
	errAddressForm = errors.New("not a mail address")
	errAddressLong = errors.New("address is too long")
	errAddressUTF8 = errors.New("address needs smtputf8")
)

// checkAddress returns an address in the one form in which the Submitter gets
// it, with the local part quoted where it must be. The library hands addresses
// over unquoted and without having looked at their characters.
func checkAddress(a string, allowUTF8 bool) (string, error) {
	local, domain, ok := strings.Cut(a, "@")
	if !ok || local == "" || domain == "" {
		return "", errAddressForm
	}
	if !utf8.ValidString(a) {
		return "", errAddressForm
	}
	for _, r := range a {
		switch {
		case r < ' ' || 0x7F <= r && r < 0xA0: // C0, DEL, C1
			return "", errAddressForm
		case r >= 0x80 && !allowUTF8:
			return "", errAddressUTF8
		}
	}
	// Also refuses a second @: quoted or not, it would read differently here and there.
	if !isDomain(domain) {
		return "", errAddressForm
	}
	if !isDotString(local) {
		local = quote(local)
	}
	if len(local) > maxLocal || len(local)+1+len(domain) > maxAddress {
		return "", errAddressLong
	}
	return local + "@" + domain, nil
}

// isDotString reports whether a local part needs no quotes (RFC 5321, 4.1.2; RFC 6531, 3.3).
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, r := range atom {
			if !isAlphanumeric(r) && r < 0x80 && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) {
				return false
			}
		}
	}
	return true
}

// isDomain reports whether s looks like a domain or an address literal. Whether
// there is such a domain is for the Submitter to say.
func isDomain(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok || inner == "" {
			return false
		}
		for _, r := range inner {
			if !isAlphanumeric(r) && r != '.' && r != ':' && r != '-' {
				return false
			}
		}
		return true
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" {
			return false
		}
		for _, r := range label {
			if !isAlphanumeric(r) && r < 0x80 && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// quote writes a local part as a quoted string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}
