package identity

import "crypto/rand"

// passwordAlphabet has 32 characters that are told apart in every typeface: no l, no o, no 0 and no 1.
const passwordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// NewPassword draws an app password at random: four groups of four characters, such as "k7qm-x2vd-9nhc-arw4", worth
// 80 bits.
func NewPassword() string {
	var random [16]byte
	rand.Read(random[:])
	b := make([]byte, 0, 19)
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b = append(b, '-')
		}
		b = append(b, passwordAlphabet[r%32])
	}
	return string(b)
}
