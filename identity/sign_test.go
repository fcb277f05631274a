package identity

import (
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"
)

// Nobody signs with a key of small order, though the library takes what anybody can make for one.
func TestSmallOrderKeys(t *testing.T) {
	taken := 0
	for _, text := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			var pub Public
			if _, err := hex.Decode(pub[:], []byte(text)); err != nil {
				t.Fatal(err)
			}
			pub[31] |= sign
			for i := range 16 {
				payload := []byte{byte(i)}
				// S = 0, and R is one of the same points: for some payload that is what the equation asks for.
				for _, r := range smallOrder {
					signature := make([]byte, ed25519.SignatureSize)
					_, _ = hex.Decode(signature, []byte(r))
					for _, x := range []byte{0, 0x80} {
						signature[31] = signature[31]&0x7f | x
						options := &ed25519.Options{Hash: crypto.Hash(0), Context: string(ContextDelete)}
						if ed25519.VerifyWithOptions(pub[:], payload, signature, options) != nil {
							continue
						}
						taken++
						if err := VerifySignature(ContextDelete, pub, payload, signature); !errors.Is(err, ErrSignature) {
							t.Fatalf("%s has signed: %v", pub, err)
						}
					}
				}
			}
		}
	}
	if taken == 0 {
		t.Error("no forgery was made")
	}
	t.Logf("%d forgeries", taken)
}

// A signature holds in one encoding only: S must be reduced.
func TestSignatureNotMalleable(t *testing.T) {
	priv := newDevice()
	signature := Signature(ContextRecord, priv, []byte("payload"))
	// The order of the base point, little-endian (RFC 8032, section 5.1).
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i := range order {
		carry += int(signature[32+i]) + int(order[i])
		signature[32+i] = byte(carry)
		carry >>= 8
	}
	if err := VerifySignature(ContextRecord, publicOf(priv), []byte("payload"), signature); !errors.Is(err, ErrSignature) {
		t.Fatalf("S + L: %v", err)
	}
}
