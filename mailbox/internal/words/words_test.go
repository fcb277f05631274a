package words

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

type block struct{ dict, posts []byte }

type segment struct {
	docs   []byte
	blocks []block
}

func (s *segment) add(dict, posts []byte) error {
	s.blocks = append(s.blocks, block{slices.Clone(dict), slices.Clone(posts)})
	return nil
}

func (s *segment) find(t testing.TB, n Needle, in Area) Found {
	docs, err := ParseDocs(s.docs)
	if err != nil {
		t.Fatal(err)
	}
	q := NewSearch(docs, n)
	for _, b := range s.blocks {
		if err := q.Block(b.dict, func() ([]byte, error) { return b.posts, nil }); err != nil {
			t.Fatal(err)
		}
	}
	return q.Result(in)
}

func (s *segment) source(t testing.TB) Source {
	docs, err := ParseDocs(s.docs)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	return Source{docs, func() ([]byte, []byte, bool, error) {
		if i == len(s.blocks) {
			return nil, nil, false, nil
		}
		i++
		return s.blocks[i-1].dict, s.blocks[i-1].posts, true, nil
	}}
}

func build(t testing.TB, b *Builder) *segment {
	s := &segment{}
	docs, err := b.Segment(s.add)
	if err != nil {
		t.Fatal(err)
	}
	s.docs = docs
	return s
}

type text struct{ header, body string }

// randomText makes texts in which every kind of word and of boundary occurs.
func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		switch r.IntN(14) {
		case 0:
			b.WriteString(strings.Repeat(string(rune('a'+r.IntN(3))), 50+r.IntN(100)))
		case 1:
			b.WriteString([]string{"東京", "京都へ行く", "ไทย", "한국어", "É", "straße", "ΑΒΓ", "\xff", "e\u0301"}[r.IntN(9)])
		case 2:
			b.WriteString([]string{"@", "...", "\r\n", "\t ", "-", "_", "\x00"}[r.IntN(7)])
		default:
			for range 1 + r.IntN(5) {
				b.WriteByte("abAB1"[r.IntN(5)])
			}
		}
		if r.IntN(3) == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func TestFindsSubstrings(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := map[int64]text{}
	var segments []*segment
	var builders []*Builder
	id := int64(0)
	for range 4 {
		b := NewBuilder()
		for range 40 {
			id += 1 + r.Int64N(3)
			d := text{Fold(randomText(r, 12)), Fold(randomText(r, 60))}
			texts[id] = d
			b.Add(id, d.header, d.body, false)
		}
		builders = append(builders, b)
		segments = append(segments, build(t, b))
	}
	var sources []Source
	for _, s := range segments {
		sources = append(sources, s.source(t))
	}
	merged := &segment{}
	dead := func(id int64) bool { return id%7 == 0 }
	var err error
	if merged.docs, err = Merge(sources, func(id int64) bool { return !dead(id) }, merged.add); err != nil {
		t.Fatal(err)
	}

	check := func(what string, n Needle, in Area, f Found, exists func(int64) bool) {
		t.Helper()
		sure, maybe := map[int64]bool{}, map[int64]bool{}
		for _, id := range f.Sure {
			sure[id] = true
		}
		for _, id := range f.Maybe {
			maybe[id] = true
		}
		for id, d := range texts {
			want := in&Header != 0 && n.In(d.header) || in&Body != 0 && n.In(d.body)
			if !exists(id) {
				if sure[id] || maybe[id] {
					t.Fatalf("%s: %q: document %d was left out", what, n.Text(), id)
				}
				continue
			}
			if want && !sure[id] && !maybe[id] {
				t.Fatalf("%s: %q in %d not found in %q, %q", what, n.Text(), in, d.header, d.body)
			}
			if !want && sure[id] {
				t.Fatalf("%s: %q in %d is not in %q, %q", what, n.Text(), in, d.header, d.body)
			}
		}
	}
	all := func(int64) bool { return true }
	ids := make([]int64, 0, len(texts))
	for id := range texts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for i := range 600 {
		d := texts[ids[r.IntN(len(ids))]]
		from := d.body
		if i%3 == 0 {
			from = d.header
		}
		runes := []rune(from)
		a := r.IntN(len(runes))
		s := string(runes[a:min(len(runes), a+1+r.IntN(1+r.IntN(60)))])
		if i%5 == 0 {
			s = strings.ToUpper(s)
		}
		n := NewNeedle(s)
		for _, in := range []Area{Header, Body, Header | Body} {
			var f, g Found
			for k := range segments {
				x := segments[k].find(t, n, in)
				f.Sure, f.Maybe = append(f.Sure, x.Sure...), append(f.Maybe, x.Maybe...)
				x = builders[k].Find(n, in)
				g.Sure, g.Maybe = append(g.Sure, x.Sure...), append(g.Maybe, x.Maybe...)
			}
			check("segments", n, in, f, all)
			check("builders", n, in, g, all)
			check("merged", n, in, merged.find(t, n, in), func(id int64) bool { return !dead(id) })
		}
	}
}

func TestSureWithinAWord(t *testing.T) {
	b := NewBuilder()
	b.Add(1, Fold("Subject: Invoice 2024"), Fold("see the invoices"), false)
	b.Add(2, Fold("Subject: other"), Fold("nothing of that"), false)
	for _, c := range []struct {
		needle      string
		in          Area
		sure, maybe []int64
	}{
		{"OICE", Header | Body, []int64{1}, nil},
		{"oices", Header, nil, nil},
		{"oices", Body, []int64{1}, nil},
		{"the inv", Body, nil, []int64{1}},
		{"he inv", Body, nil, []int64{1}},
		{"subject: o", Header, nil, []int64{2}},
		{"subject: o", Body, nil, nil},
		{":", Header, nil, []int64{1, 2}},
	} {
		f := b.Find(NewNeedle(c.needle), c.in)
		if !slices.Equal(f.Sure, c.sure) || !slices.Equal(f.Maybe, c.maybe) {
			t.Errorf("%q in %d: %v, want %v and %v", c.needle, c.in, f, c.sure, c.maybe)
		}
	}
}

func TestHugeDocumentIsPartial(t *testing.T) {
	var s strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&s, "word%d ", i)
	}
	b := NewBuilder()
	b.Add(5, "header", Fold(s.String()), false)
	if b.Size() > 2<<20 {
		t.Fatalf("%d bytes for one document", b.Size())
	}
	seg := build(t, b)
	if f := seg.find(t, NewNeedle("word39999"), Body); !slices.Equal(f.Maybe, []int64{5}) {
		t.Fatalf("found %v", f)
	}
}

func FuzzFold(f *testing.F) {
	f.Add("Hello  World\r\n")
	f.Add("ÉÀ\xff\x00東京")
	f.Fuzz(func(t *testing.T, s string) {
		a := Fold(s)
		if b := Fold(a); len(s) < 1000 && strings.ToValidUTF8(a, "") == a && b != a && !strings.ContainsFunc(a, unstable) {
			t.Fatalf("%q folds to %q, then to %q", s, a, b)
		}
		split(a, func(w string, at int) bool {
			if a[at:at+len(w)] != w {
				t.Fatal("word in another place")
			}
			return true
		})
		NewNeedle(s)
	})
}

// unstable runes compose anew once their case is gone.
func unstable(r rune) bool { return r >= 0x80 }

func FuzzSegment(f *testing.F) {
	b := NewBuilder()
	b.Add(3, "from anna", "hello world", false)
	b.Add(9, "from bob", "hello anna", true)
	s := build(f, b)
	f.Add(s.docs, s.blocks[0].dict, s.blocks[0].posts)
	f.Fuzz(func(t *testing.T, docs, dict, posts []byte) {
		d, err := ParseDocs(docs)
		if err != nil {
			return
		}
		q := NewSearch(d, NewNeedle("ann"))
		if q.Block(dict, func() ([]byte, error) { return posts, nil }) == nil {
			q.Result(Header | Body)
		}
		s := &segment{docs: docs, blocks: []block{{dict, posts}}}
		out := &segment{}
		_, _ = Merge([]Source{s.source(t)}, func(int64) bool { return true }, out.add)
	})
}

func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	vocabulary := make([]string, 20000)
	for i := range vocabulary {
		vocabulary[i] = fmt.Sprintf("w%x", r.Uint32())
	}
	z := rand.NewZipf(r, 1.2, 4, uint64(len(vocabulary)-1))
	texts := make([]string, 512)
	for i := range texts {
		var s strings.Builder
		for s.Len() < 4000 {
			s.WriteString(vocabulary[z.Uint64()] + " ")
		}
		texts[i] = Fold(s.String())
	}
	b.ReportAllocs()
	var x *Builder
	for i := 0; b.Loop(); i++ {
		if i%512 == 0 {
			x = NewBuilder()
		}
		x.Add(int64(i+1), "from anna subject something", texts[i%512], false)
	}
}
