package sealed

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/peerpost/peerpost/identity"
)

var sizes = []struct {
	name string
	n    int
}{{"1KB", 1 << 10}, {"75KB", 75 << 10}, {"10MB", 10 << 20}}

func BenchmarkSeal(b *testing.B) {
	now := time.Now()
	alice, bob := newKeyring(b, now), newKeyring(b, now)
	secrets, _ := bob.SecretsFor(identity.EpochAt(now))
	for _, size := range sizes {
		body := bytes.Repeat([]byte("peerpost"), size.n/8)
		b.Run(size.name, func(b *testing.B) {
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				in := &Inner{Kind: KindMail, To: bob.Root(), Recipient: "bob", Body: body}
				if _, err := Seal(alice, in, secrets.Public(), identity.EpochAt(now)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	now := time.Now()
	alice, bob := newKeyring(b, now), newKeyring(b, now)
	secrets, _ := bob.SecretsFor(identity.EpochAt(now))
	for _, size := range sizes {
		in := &Inner{Kind: KindMail, To: bob.Root(), Recipient: "bob", Body: bytes.Repeat([]byte("peerpost"), size.n/8)}
		m, err := Seal(alice, in, secrets.Public(), identity.EpochAt(now))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(size.name, func(b *testing.B) {
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(bob, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMakeStamp(b *testing.B) {
	for _, bits := range []int{StampBits(4 << 10), StampBits(128 << 10)} {
		b.Run(fmt.Sprintf("%dbits", bits), func(b *testing.B) {
			var id ID
			for b.Loop() {
				id[0]++
				if id[0] == 0 {
					id[1]++
				}
				if _, err := MakeStamp(b.Context(), id, bits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
