package sealed

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

const (
	// maxHeader is the size of the largest age header in bytes. Ours have 1,627.
	maxHeader = 2 << 10
	// ageOverhead is what age adds to a plaintext of up to 64 KiB, in bytes: header, nonce (16) and tag (16).
	ageOverhead = 1627 + 16 + 16
)

const (
	// encapsulationSize is the length of the encapsulated key in bytes: an ML-KEM-768 ciphertext (1,088) and an
	// X25519 key (32).
	encapsulationSize = 1120

	ageIntro   = "age-encryption.org/v1\n"
	stanzaHead = "-> "
	stanzaType = "mlkem768x25519"
)

// checkHeader looks at the age header before age does: short, exactly one stanza, and that of the hybrid kind. age
// itself would take a thousand stanzas of any kind and try them all.
func checkHeader(file []byte) error {
	head := file[:min(len(file), maxHeader)]
	rest, ok := bytes.CutPrefix(head, []byte(ageIntro))
	if !ok {
		return errors.New("age header: not an age file of version 1")
	}
	stanzas := 0
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return fmt.Errorf("age header: it does not end within %d bytes", maxHeader)
		}
		rest = after
		switch {
		case bytes.HasPrefix(line, []byte(stanzaHead)):
			if stanzas++; stanzas > 1 {
				return errors.New("age header: more than one stanza")
			}
			fields := bytes.Split(line[len(stanzaHead):], []byte(" "))
			if string(fields[0]) != stanzaType {
				return errors.New("age header: the stanza is not " + stanzaType)
			}
			if len(fields) != 2 || len(fields[1]) != base64.RawStdEncoding.EncodedLen(encapsulationSize) {
				return errors.New("age header: the stanza has no encapsulated key of the right size")
			}
		case bytes.HasPrefix(line, []byte("---")):
			if stanzas != 1 {
				return errors.New("age header: no stanza")
			}
			return nil
		case stanzas == 0:
			return errors.New("age header: no stanza")
		}
	}
}
