// Package vector reads and writes the golden vectors in testdata/vectors, from which a second implementation of the
// protocol can be tested without this one.
//
// A vector is a text file: header lines, an empty line, and the bytes under test in base64. Each one that must fail
// has exactly one fault.
//
//	vector  = *header [LF body]
//	header  = name ": " value LF
//	body    = *(1*64 base64 character, LF)          standard alphabet, padded; all but the last line full
//
// Every vector has the headers kind, expect (success, or the class of the failure) and comment. The others belong to
// the kind; bytes among them are in hexadecimal, times in Unix seconds.
package vector

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Success is the expectation of a vector that must be accepted.
const Success = "success"

const columns = 64

// Vector is one golden vector. Its name is that of its file, without the extension.
type Vector struct {
	Name    string
	Kind    string
	Expect  string
	Comment string
	Headers []Header // of its kind
	Body    []byte
}

// Header is a line of a vector.
type Header struct{ Name, Value string }

// With returns v with one header more. Bytes are written in hexadecimal, times in Unix seconds.
func (v Vector) With(name string, value any) Vector {
	var s string
	switch value := value.(type) {
	case []byte:
		s = hex.EncodeToString(value)
	case time.Time:
		s = strconv.FormatInt(value.Unix(), 10)
	default:
		s = fmt.Sprint(value)
	}
	v.Headers = append(v.Headers[:len(v.Headers):len(v.Headers)], Header{name, s})
	return v
}

// String is the value of a header, which must be there.
func (v Vector) String(t testing.TB, name string) string {
	t.Helper()
	for _, h := range v.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	t.Fatalf("%s: there is no header %q", v.Name, name)
	return ""
}

// Has tells whether there is such a header.
func (v Vector) Has(name string) bool {
	for _, h := range v.Headers {
		if h.Name == name {
			return true
		}
	}
	return false
}

// Bytes is the value of a header in hexadecimal.
func (v Vector) Bytes(t testing.TB, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.String(t, name))
	if err != nil {
		t.Fatalf("%s: header %q: %v", v.Name, name, err)
	}
	return b
}

// Key is the value of a header with 32 bytes in hexadecimal.
func (v Vector) Key(t testing.TB, name string) [32]byte {
	t.Helper()
	b := v.Bytes(t, name)
	if len(b) != 32 {
		t.Fatalf("%s: header %q has %d bytes instead of 32", v.Name, name, len(b))
	}
	return [32]byte(b)
}

// Int is the value of a header in decimal.
func (v Vector) Int(t testing.TB, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(v.String(t, name), 10, 64)
	if err != nil {
		t.Fatalf("%s: header %q: %v", v.Name, name, err)
	}
	return n
}

// Time is the value of a header in Unix seconds.
func (v Vector) Time(t testing.TB, name string) time.Time {
	t.Helper()
	return time.Unix(v.Int(t, name), 0).UTC()
}

// Format is the text of the vector's file.
func (v Vector) Format() []byte {
	var out bytes.Buffer
	for _, h := range append([]Header{{"kind", v.Kind}, {"expect", v.Expect}, {"comment", v.Comment}}, v.Headers...) {
		fmt.Fprintf(&out, "%s: %s\n", h.Name, h.Value)
	}
	if v.Body != nil {
		out.WriteByte('\n')
		text := base64.StdEncoding.EncodeToString(v.Body)
		for len(text) > 0 {
			n := min(columns, len(text))
			out.WriteString(text[:n])
			out.WriteByte('\n')
			text = text[n:]
		}
	}
	return out.Bytes()
}

// Parse reads the text of a vector's file.
func Parse(name string, text []byte) (Vector, error) {
	v := Vector{Name: name}
	head, body, hasBody := bytes.Cut(text, []byte("\n\n"))
	for line := range strings.Lines(string(head)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			return Vector{}, fmt.Errorf("%s: %q is no header", name, line)
		}
		switch key {
		case "kind":
			v.Kind = value
		case "expect":
			v.Expect = value
		case "comment":
			v.Comment = value
		default:
			v.Headers = append(v.Headers, Header{key, value})
		}
	}
	if hasBody {
		b, err := base64.StdEncoding.DecodeString(string(body))
		if err != nil {
			return Vector{}, fmt.Errorf("%s: body: %w", name, err)
		}
		v.Body = b
	}
	if v.Kind == "" || v.Expect == "" || v.Comment == "" {
		return Vector{}, fmt.Errorf("%s: kind, expect or comment is missing", name)
	}
	if !bytes.Equal(v.Format(), text) {
		return Vector{}, fmt.Errorf("%s: not in the form in which vectors are written", name)
	}
	return v, nil
}

// Dir is testdata/vectors, at the root of the module.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "vectors")
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("there is no go.mod above the working directory")
		}
		dir = parent
	}
}

// Load reads all vectors of a kind. It fails when there is none: a test that reads nothing proves nothing.
func Load(t testing.TB, kind string) []Vector {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(Dir(t), kind+"-*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Vector
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Parse(strings.TrimSuffix(filepath.Base(path), ".txt"), text)
		if err != nil {
			t.Fatal(err)
		}
		if v.Kind == kind {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		t.Fatalf("there are no vectors of kind %s in %s", kind, Dir(t))
	}
	return out
}

// Update replaces the vectors of a kind by others.
func Update(t testing.TB, kind string, vectors []Vector) {
	t.Helper()
	dir := Dir(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	old, err := filepath.Glob(filepath.Join(dir, kind+"-*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range old {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := Parse(filepath.Base(path), text); err == nil && v.Kind != kind {
			continue // the name of its kind begins with that of ours
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range vectors {
		if v.Kind != kind || !strings.HasPrefix(v.Name, kind+"-") {
			t.Fatalf("vector %s is not named for its kind %s", v.Name, kind)
		}
		if err := os.WriteFile(filepath.Join(dir, v.Name+".txt"), v.Format(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
