package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

type pair struct {
	_ struct{} `cbor:",toarray"`
	A uint64
	B []byte
}

type sample struct {
	Version uint8    `cbor:"1,keyasint"`
	Name    string   `cbor:"2,keyasint"`
	Key     [4]byte  `cbor:"3,keyasint"`
	Pairs   []pair   `cbor:"4,keyasint"`
	Time    int64    `cbor:"10,keyasint"`
	Stamp   *pair    `cbor:"11,keyasint,omitempty"`
	Many    [][]byte `cbor:"24,keyasint"`
}

func TestMarshal(t *testing.T) {
	for _, test := range []struct {
		name string
		v    any
		hex  string
	}{
		{"zero", sample{}, "a6 0100 0260 034400000000 0480 0a00 181880"},
		{"nil is empty", sample{Pairs: []pair{}, Many: [][]byte{}}, "a6 0100 0260 034400000000 0480 0a00 181880"},
		{
			"full",
			sample{1, "ab", [4]byte{1, 2, 3, 4}, []pair{{A: 24, B: []byte{9}}}, -1, &pair{A: 1 << 32}, [][]byte{nil, {0}}},
			"a7 0101 02626162 034401020304 0481 8218184109 0a20 0b821b000000010000000040 18188240 4100",
		},
		{"signed", Signed{Payload: []byte{1}, Signature: []byte{2}}, "8241014102"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(test.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Marshal(test.v)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("encoded as\n%x\ninstead of\n%x", got, want)
			}
		})
	}
}

// Each has one fault that would let two encodings mean the same.
func TestUnmarshalRefuses(t *testing.T) {
	for _, test := range []struct{ name, hex string }{
		{"nothing", ""},
		{"cut short", "a6 0100 0260 034400000000 0480 0a00 1818"},
		{"trailing bytes", "a6 0100 0260 034400000000 0480 0a00 181880 00"},
		{"long integer", "a6 011800 0260 034400000000 0480 0a00 181880"},
		{"long length", "a6 0100 027800 034400000000 0480 0a00 181880"},
		{"long key", "a6 180100 0260 034400000000 0480 0a00 181880"},
		{"duplicate key", "a7 0100 0100 0260 034400000000 0480 0a00 181880"},
		{"unknown key", "a7 0100 0260 034400000000 0480 0500 0a00 181880"},
		{"unknown text key", "a7 0100 0260 034400000000 0480 0a00 181880 616100"},
		{"keys out of order", "a6 0260 0100 034400000000 0480 0a00 181880"},
		{"key absent", "a5 0100 0260 034400000000 0480 0a00"},
		{"indefinite map", "bf 0100 0260 034400000000 0480 0a00 181880 ff"},
		{"indefinite array", "a6 0100 0260 034400000000 049fff 0a00 181880"},
		{"indefinite string", "a6 0100 027f60ff 034400000000 0480 0a00 181880"},
		{"array too short", "a6 0100 0260 0343000000 0480 0a00 181880"},
		{"array too long", "a6 0100 0260 03450000000000 0480 0a00 181880"},
		{"array of integers", "a6 0100 0260 038400000000 0480 0a00 181880"},
		{"null list", "a6 0100 0260 034400000000 04f6 0a00 181880"},
		{"null integer", "a6 01f6 0260 034400000000 0480 0a00 181880"},
		{"null pointer", "a7 0100 0260 034400000000 0480 0a00 0bf6 181880"},
		{"undefined", "a6 0100 02f7 034400000000 0480 0a00 181880"},
		{"float", "a6 0100 0260 034400000000 0480 0af90000 181880"},
		{"bignum", "a6 0100 0260 034400000000 0480 0ac24101 181880"},
		{"tag", "d9d9f7a6 0100 0260 034400000000 0480 0a00 181880"},
		{"too large for the field", "a6 01190100 0260 034400000000 0480 0a00 181880"},
		{"negative for unsigned", "a6 0120 0260 034400000000 0480 0a00 181880"},
		{"bytes for text", "a6 0100 0240 034400000000 0480 0a00 181880"},
		{"invalid UTF-8", "a6 0100 0261ff 034400000000 0480 0a00 181880"},
		{"pair as map", "a6 0100 0260 034400000000 0481a0 0a00 181880"},
		{"pair too short", "a6 0100 0260 034400000000 04818100 0a00 181880"},
		{"pair too long", "a6 0100 0260 034400000000 048183004000 0a00 181880"},
		{"count without elements", "a6 0100 0260 034400000000 049affffffff 0a00 181880"},
		{"too deep", strings.Repeat("81", maxDepth+1) + "00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(test.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			v := sample{Version: 7, Name: "left from before"}
			if err := Unmarshal(b, &v); err == nil {
				t.Fatalf("accepted %x", b)
			}
			if v.Version != 0 || v.Name != "" || v.Pairs != nil {
				t.Fatalf("the value after an error is %+v", v)
			}
		})
	}
}

func TestUnmarshalForgetsWhatWasThere(t *testing.T) {
	b, err := Marshal(sample{Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	v := sample{Name: "before", Stamp: &pair{A: 1}}
	if err := Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if v.Version != 1 || v.Name != "" || v.Stamp != nil {
		t.Fatalf("decoded as %+v", v)
	}
}

func TestSplitPair(t *testing.T) {
	for _, n := range []int{0, 1, 23, 24, 255, 256, 65535, 65536} {
		first, second := bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte{2}, n+1)
		b := JoinPair(first, second)
		same, err := Marshal(Signed{Payload: first, Signature: second})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, same) {
			t.Fatalf("%d: JoinPair writes other bytes than Marshal", n)
		}
		x, y, err := SplitPair(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x, first) || !bytes.Equal(y, second) {
			t.Fatalf("%d: SplitPair gives other strings back", n)
		}
		for _, bad := range [][]byte{b[:len(b)-1], append(bytes.Clone(b), 0)} {
			if _, _, err := SplitPair(bad); err == nil {
				t.Fatalf("%d: accepted with %d bytes", n, len(bad))
			}
		}
	}
	for _, bad := range []string{
		"", "80", "8140", "834040", "834040 40", "8260 40", "8240 60", "825800 40", "8240 5800", "8259000040", "825f40ff40",
		"825bffffffffffffffff", "825b7fffffffffffffff00", "8240 5bffffffffffffffff", "825c00", "f6", "a0",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(bad, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if x, y, err := SplitPair(b); err == nil {
			t.Errorf("accepted %s as %x and %x", bad, x, y)
		}
	}
}

func TestSplitSigned(t *testing.T) {
	sig := bytes.Repeat([]byte{7}, SignatureSize)
	payload, signature, err := SplitSigned(JoinSigned([]byte("payload"), sig))
	if err != nil {
		t.Fatal(err)
	}
	if string(payload) != "payload" || !bytes.Equal(signature, sig) {
		t.Fatalf("split into %q and %x", payload, signature)
	}
	if _, _, err := SplitSigned(JoinSigned([]byte("payload"), sig[1:])); err == nil {
		t.Fatal("accepted a signature of 63 bytes")
	}
	// What a caller appends to one part must not run into the other.
	_ = append(payload, 0xff)
	if !bytes.Equal(signature, sig) {
		t.Fatal("appending to the payload changed the signature")
	}
}

// FuzzUnmarshal: what is accepted is the one encoding of what it means.
func FuzzUnmarshal(f *testing.F) {
	for _, v := range []any{
		sample{},
		sample{1, "ab", [4]byte{1, 2, 3, 4}, []pair{{A: 24, B: []byte{9}}}, -1, &pair{A: 1 << 32}, [][]byte{nil, {0}}},
		Signed{Payload: []byte{1}, Signature: []byte{2}},
	} {
		b, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v sample
		if err := Unmarshal(b, &v); err == nil {
			again, err := Marshal(v)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x decodes to %+v, which encodes as %x", b, v, again)
			}
		}
		first, second, err := SplitPair(b)
		if err == nil && !bytes.Equal(JoinPair(first, second), b) {
			t.Fatalf("%x splits into %x and %x", b, first, second)
		}
		var s Signed
		if strict := Unmarshal(b, &s); (strict == nil) != (err == nil) {
			t.Fatalf("%x: Unmarshal says %v, SplitPair %v", b, strict, err)
		}
		if _, _, err := SplitSigned(b); err == nil && len(s.Signature) != SignatureSize {
			t.Fatalf("%x: a signature of %d bytes", b, len(s.Signature))
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	text, err := Marshal(sample{Version: 1, Name: "name", Pairs: make([]pair, 20), Many: make([][]byte, 20)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var v sample
		if err := Unmarshal(text, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func TestUnmarshalCanonicalIsToldApart(t *testing.T) {
	var v sample
	b, _ := hex.DecodeString("a601000260034400000000048" + "00a00181880")
	if err := Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	b[1], b[2], b[3], b[4] = 2, 0x60, 1, 0
	if err := Unmarshal(b, &v); !errors.Is(err, ErrCanonical) {
		t.Fatalf("keys out of order give %v", err)
	}
}
