package sealed

import (
	"context"
	"errors"
	"testing"
)

func TestStampBits(t *testing.T) {
	for size, bits := range map[int]int{
		0: 18, MinBody: 18, 64 << 10: 18, 64<<10 + 1: 19, 128 << 10: 19, 128<<10 + 1: 20, 256 << 10: 20, 1 << 20: 22, 32 << 20: 27, MaxBody: 28,
	} {
		if got := StampBits(size); got != bits {
			t.Errorf("%d bytes ask for %d bits instead of %d", size, got, bits)
		}
	}
}

func TestMakeStamp(t *testing.T) {
	o := fixedOuter()
	bare := o.ID()
	if o.Stamped(-18) {
		t.Fatal("stamped without a stamp")
	}
	s, err := MakeStamp(t.Context(), bare, StampBits(int(o.Size))+1)
	if err != nil {
		t.Fatal(err)
	}
	o.Stamp = &s
	if !o.Stamped(0) || !o.Stamped(1) || o.Stamped(30) || o.ID() != bare {
		t.Fatalf("a stamp of %d bits", s.work(bare))
	}
	o.Expiry++
	if o.Stamped(0) {
		t.Fatal("the stamp is good for another message")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MakeStamp(cancelled, bare, maxStampBits); !errors.Is(err, context.Canceled) {
		t.Fatalf("after cancelling: %v", err)
	}
	if _, err := MakeStamp(t.Context(), bare, maxStampBits+1); err == nil {
		t.Fatal("a stamp of 41 bits was begun")
	}
}
