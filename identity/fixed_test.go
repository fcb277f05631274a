package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"
)

// fixedTime is the moment at which the golden vectors are made: Friday, 15 January 2027, noon UTC.
var fixedTime = time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC)

// fixed is a secret of the golden vectors: SHA-256 of its name.
func fixed(name string) [32]byte { return sha256.Sum256([]byte("peerpost vector " + name)) }

func fixedKey(name string) ed25519.PrivateKey {
	seed := fixed(name)
	return ed25519.NewKeyFromSeed(seed[:])
}

func fixedSeeds(name string) secretSeeds {
	return secretSeeds{Sealing: fixed(name + " sealing"), Fetch: fixed(name + " fetch"), Delete: fixed(name + " delete")}
}

// fixedRoster has the device of the person and no other.
func fixedRoster(t testing.TB, name string, generation uint64) *Roster {
	t.Helper()
	b, err := SignRoster(fixed(name+" root"), generation, []Device{{Key: publicOf(fixedKey(name + " device")), From: fixedTime.Unix()}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRoster(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fixedKeyring has all its secrets from fixed, and its chain begins at the epoch of fixedTime.
func fixedKeyring(t testing.TB, name string) *Keyring {
	t.Helper()
	kr, err := parseKeyring(encode(keyringPayload{
		Version:   keyringVersion,
		Roster:    fixedRoster(t, name, 1).Bytes(),
		Device:    fixed(name + " device"),
		Epoch:     EpochAt(fixedTime),
		Chain:     fixed(name + " chain"),
		Fallbacks: []fallbackPayload{{Created: fixedTime.Unix(), Seeds: fixedSeeds(name + " fallback")}},
		AtRest:    fixed(name + " at rest"),
		Page:      fixed(name + " page"),
	}))
	if err != nil {
		t.Fatal(err)
	}
	kr.accountSeed = fixed(name + " account")
	if !kr.Roll(fixedTime) {
		t.Fatal("Roll derived nothing")
	}
	return kr
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixedHost is a host with two addresses: /ip4/192.0.2.1/udp/4001/quic-v1 and /ip4/192.0.2.1/tcp/4001.
func fixedHost(t testing.TB, name string) Host {
	t.Helper()
	pub := publicOf(fixedKey(name + " host"))
	return Host{
		Peer:  append(unhex(t, "002408011220"), pub[:]...),
		Addrs: [][]byte{unhex(t, "04c000020191020fa1cd03"), unhex(t, "04c0000201060fa1")},
	}
}
