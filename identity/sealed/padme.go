package sealed

import "math/bits"

// minPlaintext is the size of the smallest plaintext in bytes, so that short messages all look alike.
const minPlaintext = 4 << 10

// Padme is the size to which a plaintext of n bytes is padded: at least 4 KiB, and beyond that the next number whose
// lower bits are zero, at most 12 % more (less than 3 % above 10 MB). What shows is one of few sizes for each doubling
// (Nikitin et al., "Reducing metadata leakage from encrypted files and communication with PURBs", 2019).
func Padme(n int) int {
	if n <= minPlaintext {
		return minPlaintext
	}
	e := bits.Len(uint(n)) - 1 // floor(log2 n)
	s := bits.Len(uint(e))     // bits that e takes
	mask := 1<<max(e-s, 0) - 1 // lower bits that have to be zero
	return (n + mask) &^ mask
}
