package identity

import (
	"crypto/sha3"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// Suffix is the domain below which every address lies. The top level .alt is set aside for names that are never
// looked up in the DNS (RFC 9476).
const Suffix = "peerpost.alt"

const (
	// labelSize is the length of the domain label that holds a root key: 35 bytes in base32, without padding.
	labelSize = 56
	// labelVersion 1 means that the key is an Ed25519 root key.
	labelVersion = 1
	// maxAddress is the length of a mail address in bytes (RFC 5321, section 4.5.3.1.3: a path of 256 with its
	// angle brackets).
	maxAddress = 254
	// maxLocal is the length of a local part in bytes (RFC 5321, section 4.5.3.1.1).
	maxLocal = 64
)

var (
	// ErrAddress reports an address that is malformed or mistyped. What is wrong follows in the text.
	ErrAddress = errors.New("not a valid address")
	// ErrForeignDomain reports an address that lies outside Suffix: ordinary mail, which this network does not carry.
	ErrForeignDomain = errors.New("the domain is not under " + Suffix)
)

var labelEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Root is a root public key (Ed25519): the person, wherever they are reached and whatever devices they use.
type Root [32]byte

// Label is the domain label of the root: lower-case base32 of key, check and version, 56 characters.
func (r Root) Label() string {
	check := r.check(labelVersion)
	b := make([]byte, 0, 35)
	b = append(b, r[:]...)
	b = append(b, check[:]...)
	b = append(b, labelVersion)
	return labelEncoding.EncodeToString(b)
}

// String is the label.
func (r Root) String() string { return r.Label() }

// IsZero tells whether r was never set.
func (r Root) IsZero() bool { return r == Root{} }

// check is the first two bytes of SHA3-256("peerpost address" ‖ key ‖ version): a mistyped character goes unnoticed
// once in 65,536 times.
func (r Root) check(version byte) [2]byte {
	b := make([]byte, 0, 64)
	b = append(b, "peerpost address"...)
	b = append(b, r[:]...)
	b = append(b, version)
	sum := sha3.Sum256(b)
	return [2]byte{sum[0], sum[1]}
}

// ParseLabel reads a domain label in either case. Its errors are ErrAddress, and say when it is a typing error.
func ParseLabel(label string) (Root, error) {
	if len(label) != labelSize {
		return Root{}, fmt.Errorf("%w: the key has %d characters instead of %d", ErrAddress, len(label), labelSize)
	}
	// The decoder passes over line ends in silence, so that the result comes out short.
	b, err := labelEncoding.DecodeString(lowerASCII(label))
	if err != nil || len(b) != 35 {
		return Root{}, fmt.Errorf("%w: the key has a character outside a-z and 2-7", ErrAddress)
	}
	r, version := Root(b[:32]), b[34]
	if r.check(version) != [2]byte(b[32:34]) {
		return Root{}, fmt.Errorf("%w: the checksum does not match, so at least one character of the key is mistyped", ErrAddress)
	}
	if version != labelVersion {
		return Root{}, fmt.Errorf("%w: version %d of addresses is not known here", ErrAddress, version)
	}
	return r, nil
}

// Address is a mail address in this network. Only Root says who it is; the local part is the owner's to choose and
// to vary, and has no security meaning.
type Address struct {
	Local string // as it was written; compared without regard to case
	Root  Root
}

// ParseAddress reads local@label.peerpost.alt. The domain may come in either case. The local part is a dot-atom in
// ASCII of at most 64 bytes; quoted ones are refused. It gives ErrForeignDomain for an address of ordinary mail and
// ErrAddress for whatever is malformed or mistyped.
func ParseAddress(s string) (Address, error) {
	if len(s) > maxAddress {
		return Address{}, fmt.Errorf("%w: %d bytes, and %d are allowed", ErrAddress, len(s), maxAddress)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return Address{}, fmt.Errorf("%w: it has a space or a control character in it", ErrAddress)
		}
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return Address{}, fmt.Errorf("%w: there is no @ in it", ErrAddress)
	}
	local, domain := s[:at], s[at+1:]
	if domain == "" {
		return Address{}, fmt.Errorf("%w: nothing follows the @", ErrAddress)
	}
	lower := lowerASCII(domain)
	label, under := strings.CutSuffix(lower, "."+Suffix)
	if !under {
		if lower == Suffix || strings.TrimRight(lower, ".") != lower {
			return Address{}, fmt.Errorf("%w: the domain is not <key>.%s", ErrAddress, Suffix)
		}
		return Address{}, ErrForeignDomain
	}
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	root, err := ParseLabel(label)
	if err != nil {
		return Address{}, err
	}
	return Address{Local: local, Root: root}, nil
}

// Domain is the part after the @, in lower case.
func (a Address) Domain() string { return a.Root.Label() + "." + Suffix }

// String is the address with its domain in lower case and the local part as it was given.
func (a Address) String() string { return a.Local + "@" + a.Domain() }

// Equal tells whether both name the same local part, in whatever case, of the same person.
func (a Address) Equal(b Address) bool {
	return a.Root == b.Root && strings.EqualFold(a.Local, b.Local)
}

// ValidLocal tells whether s can stand before the @: a dot-atom (RFC 5322, section 3.2.3) in ASCII, 1 to 64 bytes.
func ValidLocal(s string) bool { return checkLocal(s) == nil }

func checkLocal(s string) error {
	if s == "" || len(s) > maxLocal {
		return fmt.Errorf("%w: the part before the @ has %d bytes, and 1 to %d are allowed", ErrAddress, len(s), maxLocal)
	}
	if s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return fmt.Errorf("%w: a dot of the part before the @ does not stand between two characters", ErrAddress)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) >= 0:
		default:
			return fmt.Errorf("%w: the part before the @ has a character that is not allowed there unquoted", ErrAddress)
		}
	}
	return nil
}

// lowerASCII lowers A to Z and nothing else: unlike strings.ToLower it turns no foreign letter into one of ours.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
