package wire

import "testing"

func TestDepth(t *testing.T) {
	for depth, good := range map[int]bool{maxDepth: true, maxDepth + 1: false, 10_000: false} {
		b := make([]byte, depth)
		for i := range b {
			b[i] = 0x81 // an array of one
		}
		b[depth-1] = 0x80 // an empty one
		var v []any
		if err := Unmarshal(b, &v); (err == nil) != good {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
}

func TestElements(t *testing.T) {
	for n, good := range map[int]bool{maxElements: true, maxElements + 1: false} {
		b, err := Marshal(make([]uint16, n))
		if err != nil {
			t.Fatal(err)
		}
		var list []uint16
		if err := Unmarshal(b, &list); (err == nil) != good {
			t.Errorf("%d elements: %v", n, err)
		}
		pairs := make(map[uint16]bool)
		for i := range n {
			pairs[uint16(i)] = true
		}
		if b, err = Marshal(pairs); err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(b, &pairs); (err == nil) != good {
			t.Errorf("%d pairs: %v", n, err)
		}
	}
}
