// Package docs_test holds protocol.md against the code: its numbers against the constants, its tables of fields
// against the structs, its examples against the golden vectors, and its conversations against a holder that answers.
package docs_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// document is protocol.md taken apart.
type document struct {
	text   string
	tables []table
	blocks []block
}

// table is one table, with the comment that stands before it.
type table struct {
	line int
	mark string // of <!-- mark -->; "" when there is none
	head []string
	rows [][]string
}

// block is one block of code.
type block struct {
	line  int
	kind  string   // first word after the fence
	args  []string // the others
	lines []string
}

func read(t *testing.T) *document {
	t.Helper()
	b, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	d := &document{text: string(b)}
	lines := strings.Split(d.text, "\n")
	mark := ""
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
			words := strings.Fields(strings.TrimLeft(line, " `"))
			bl := block{line: i + 1}
			if len(words) > 0 {
				bl.kind, bl.args = words[0], words[1:]
			}
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
				bl.lines = append(bl.lines, strings.TrimPrefix(lines[i], indent))
			}
			d.blocks = append(d.blocks, bl)
		case strings.HasPrefix(line, "<!--"):
			mark = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(line, "<!--"), "-->"))
			continue
		case strings.HasPrefix(line, "|"):
			tb := table{line: i + 1, mark: mark, head: cells(line)}
			for i += 2; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
				row := cells(lines[i])
				if len(row) != len(tb.head) {
					t.Errorf("line %d: %d cells instead of %d", i+1, len(row), len(tb.head))
					continue
				}
				tb.rows = append(tb.rows, row)
			}
			i--
			d.tables = append(d.tables, tb)
		}
		if strings.TrimSpace(line) != "" {
			mark = ""
		}
	}
	return d
}

func cells(line string) []string {
	var out []string
	for _, c := range strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|") {
		out = append(out, strings.TrimSpace(c))
	}
	return out
}

// TestConstants compares every table whose last column is "constant" with the code.
func TestConstants(t *testing.T) {
	seen := 0
	for _, tb := range read(t).tables {
		if tb.head[len(tb.head)-1] != "constant" {
			continue
		}
		at := slices.Index(tb.head, "value")
		if at < 0 {
			at = len(tb.head) - 2
		}
		for _, row := range tb.rows {
			name := strings.Trim(row[len(row)-1], "`")
			got, err := constantOf(name)
			if err != nil {
				t.Errorf("line %d: %s: %v", tb.line, name, err)
				continue
			}
			want, err := quantity(row[at])
			if err != nil {
				t.Errorf("line %d: %s: %v", tb.line, name, err)
				continue
			}
			if got != want {
				t.Errorf("line %d: %s is %s in the document and %s in the code", tb.line, name, want, got)
			}
			seen++
		}
	}
	if seen < 100 {
		t.Errorf("only %d constants are compared", seen)
	}
}

// TestConstantsAreThere demands that what these packages export as a limit stands in the document.
func TestConstantsAreThere(t *testing.T) {
	// These are no business of another implementation.
	private := []string{"identity.DefaultWorkFactor", "identity.MaxPasswords"}
	d := read(t)
	for _, pkg := range []string{"identity", "sealed", "store"} {
		for _, name := range exported(t, pkg) {
			full := pkg + "." + name
			if slices.Contains(private, full) {
				continue
			}
			if v, err := constantOf(full); err != nil || slices.Contains([]string{"identity.Same", "identity.Newer"}, full) {
				continue // made by counting, and told in words
			} else if strings.Contains(d.text, "`"+full+"`") || strings.HasPrefix(v, `"`) && strings.Contains(d.text, "`"+strings.Trim(v, `"`)+"`") {
				continue
			}
			t.Errorf("%s is not in the document", full)
		}
	}
}

// TestStructs compares the tables of fields with the structs that are encoded.
func TestStructs(t *testing.T) {
	normal := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	seen := 0
	for _, tb := range read(t).tables {
		kind, name, ok := strings.Cut(tb.mark, " ")
		if !ok || kind != "struct" && kind != "tuple" {
			continue
		}
		seen++
		fields, err := fieldsOf(name)
		if err != nil {
			t.Errorf("line %d: %s: %v", tb.line, name, err)
			continue
		}
		if len(fields) != len(tb.rows) {
			t.Errorf("line %d: %s has %d fields in the document and %d in the code", tb.line, name, len(tb.rows), len(fields))
			continue
		}
		for i, f := range fields {
			row := tb.rows[i]
			if kind == "tuple" {
				row = append([]string{""}, row...)
			}
			if normal(row[1]) != normal(f.name) || row[0] != f.key || strings.Contains(row[2], "optional") != f.optional {
				t.Errorf("line %d: %s: field %s %s (%s) is %s %s, optional %v, in the code",
					tb.line, name, row[0], row[1], row[2], f.key, f.name, f.optional)
			}
		}
	}
	if seen < 25 {
		t.Errorf("only %d structs are compared", seen)
	}
}

// TestExamples compares the examples with the vectors that they name.
func TestExamples(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range read(t).blocks {
		if len(b.args) == 0 || !strings.HasSuffix(b.args[0], ".txt") {
			continue
		}
		v := vector(t, b.args[0])
		seen[v.headers["kind"][0]] = true
		switch b.kind {
		case "vector":
			for _, line := range b.lines {
				name, value, ok := strings.Cut(line, ": ")
				if !ok || !slices.Contains(v.headers[name], value) {
					t.Errorf("line %d: %s has no header %q", b.line, b.args[0], line)
				}
			}
		case "hex":
			compare(t, b, v.body)
		case "label":
			compare(t, b, labelBytes(t, v))
		case "plaintext":
			compare(t, b, plaintext(t, v))
		default:
			t.Errorf("line %d: a block of kind %q names a vector", b.line, b.kind)
		}
	}
	for _, kind := range kinds(t) {
		if !seen[kind] && kind != "pin" {
			t.Errorf("there is no example of kind %s", kind)
		}
	}
}

// TestBackoff compares the waits between attempts with the code.
func TestBackoff(t *testing.T) {
	var told []string
	for _, tb := range read(t).tables {
		if tb.mark != "backoff" {
			continue
		}
		for _, row := range tb.rows {
			var waits []string
			for _, w := range strings.Split(row[1], ", ") {
				q, err := quantity(w)
				if err != nil {
					t.Fatal(err)
				}
				waits = append(waits, q)
			}
			told = append(told, strings.Join(waits, " "))
		}
	}
	code, err := listsIn("courier", "backoff")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, code) {
		t.Errorf("the waits are %q in the document and %q in the code", told, code)
	}
}

// TestKinds holds the table of section 23 against the files.
func TestKinds(t *testing.T) {
	var told []string
	for _, tb := range read(t).tables {
		if tb.head[0] == "kind" {
			for _, row := range tb.rows {
				told = append(told, strings.Trim(row[0], "`"))
			}
		}
	}
	slices.Sort(told)
	if there := kinds(t); !slices.Equal(told, there) {
		t.Errorf("the document names the kinds %v, and there are %v", told, there)
	}
}

// TestContents holds the list at the top against the headings.
func TestContents(t *testing.T) {
	d := read(t)
	var listed, there []string
	for _, m := range regexp.MustCompile(`(?m)^(\d+)\. \[(.+)\]\(#(.+)\)$`).FindAllStringSubmatch(d.text, -1) {
		listed = append(listed, m[1]+". "+m[2])
		if anchor(m[1]+". "+m[2]) != m[3] {
			t.Errorf("the link to %q should be #%s", m[2], anchor(m[1]+". "+m[2]))
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(d.text, -1) {
		there = append(there, m[1])
	}
	if !slices.Equal(listed, there) {
		t.Errorf("listed are %q, and there are %q", listed, there)
	}
	for _, m := range regexp.MustCompile(`section (\d+(?:\.\d+)?)`).FindAllStringSubmatch(d.text, -1) {
		if !regexp.MustCompile(`(?m)^##+ `+regexp.QuoteMeta(m[1])+`\.? `).MatchString(d.text) && !strings.Contains(d.text, m[0]+" there") {
			// RFC sections carry their number in another form: "section 5.1," after an RFC's name.
			if !regexp.MustCompile(`RFC \d+[^.]{0,3}, ` + regexp.QuoteMeta(m[0])).MatchString(d.text) {
				t.Errorf("there is no %s", m[0])
			}
		}
	}
}

func anchor(heading string) string {
	s := strings.ToLower(heading)
	s = regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(s, "")
	return strings.ReplaceAll(s, " ", "-")
}

// A vector is one file of testdata/vectors.
type vec struct {
	headers map[string][]string
	body    []byte
}

func (v vec) header(t *testing.T, name string) string {
	t.Helper()
	if len(v.headers[name]) != 1 {
		t.Fatalf("vector has no single header %q", name)
	}
	return v.headers[name][0]
}

func (v vec) hex(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.header(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vector(t *testing.T, name string) vec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(text), "\n\n")
	v := vec{headers: make(map[string][]string)}
	for _, line := range strings.Split(strings.TrimSuffix(head, "\n"), "\n") {
		key, value, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("%s: %q is no header", name, line)
		}
		v.headers[key] = append(v.headers[key], value)
	}
	if v.body, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", "")); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

func kinds(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "vectors", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatal("there are no vectors", err)
	}
	var all []string
	for _, p := range paths {
		if k := vector(t, filepath.Base(p)).header(t, "kind"); !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	slices.Sort(all)
	return all
}

var hexToken = regexp.MustCompile(`^(?:[0-9a-f]{2})+$|^\.\.(\d+)\.\.$`)

// compare checks bytes against a block in hexadecimal.
func compare(t *testing.T, b block, got []byte) {
	t.Helper()
	rest := got
	for i, line := range b.lines {
		line, _, _ = strings.Cut(line, "#")
		for _, token := range strings.Fields(line) {
			m := hexToken.FindStringSubmatch(token)
			if m == nil {
				t.Fatalf("line %d: %q is not in hexadecimal", b.line+1+i, token)
			}
			if m[1] != "" {
				n, err := strconv.Atoi(m[1])
				if err != nil || n > len(rest) {
					t.Errorf("line %d: %d bytes left out, and %d are left", b.line+1+i, n, len(rest))
					return
				}
				rest = rest[n:]
				continue
			}
			want, err := hex.DecodeString(token)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(rest, want) {
				t.Errorf("line %d: %s instead of %x", b.line+1+i, token, rest[:min(len(want), len(rest))])
				return
			}
			rest = rest[len(want):]
		}
	}
	if len(rest) > 0 {
		t.Errorf("line %d: the example lacks %d bytes at the end", b.line, len(rest))
	}
}
