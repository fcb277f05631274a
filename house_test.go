package peerpost_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/peerpost/peerpost/"

// TestImportsRunOneWay holds the picture of the house: what a package may know
// of ours, all it depends on included.
func TestImportsRunOneWay(t *testing.T) {
	rules := map[string][]string{ // package → prefixes of ours that it may depend on
		"internal/wire":      {},
		"internal/clock":     {"internal/durable", "internal/wire"},
		"internal/durable":   {},
		"internal/httpd":     {},
		"internal/journal":   {"internal/durable"},
		"internal/mail":      {},
		"internal/mail/mime": {"internal/mail"},
		"identity":           {"internal/durable", "internal/wire"},
		"identity/sealed":    {"identity", "internal/durable", "internal/wire"},
		"dht":                {"identity", "internal/durable", "internal/wire"},
		"store":              {"identity", "internal/durable", "internal/wire", "internal/journal", "internal/clock"},
		"mailbox":            {"mailbox/internal", "identity", "internal/durable", "internal/wire", "internal/journal", "internal/clock", "internal/mail"},
		"mailbox/dsn":        {"internal/mail"},
		"gateway/imap":       {"gateway/internal", "gateway/listen", "internal/mail"},
		"gateway/submission": {"gateway/internal", "gateway/listen", "internal/mail"},
		"gateway/listen":     {},
		"gateway/setup":      {},
		"node/courier":       {"identity", "internal", "mailbox", "store"},
		"node/host":          {"dht", "identity", "internal/durable", "internal/wire"},
	}
	for pkg, allowed := range rules {
		out, err := exec.Command("go", "list", "-deps", module+pkg).Output()
		if err != nil {
			t.Fatalf("%s: %v", pkg, err)
		}
		found := false
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			ours, ok := strings.CutPrefix(dep, module)
			if !ok {
				continue
			}
			if ours == pkg {
				found = true
				continue
			}
			if !under(ours, allowed) {
				t.Errorf("%s depends on %s", pkg, ours)
			}
		}
		if !found {
			t.Errorf("%s was not looked at", pkg)
		}
	}
}

// TestOnlyIdentitySeals keeps age and signing in one place.
func TestOnlyIdentitySeals(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], module)
		looked++
		for _, dep := range f[1:] {
			if strings.HasPrefix(dep, "filippo.io/age") && !under(pkg, []string{"identity"}) {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
	if looked < 15 {
		t.Fatalf("only %d packages were looked at", looked)
	}
}

// TestOnlyDurableSyncsDirectories keeps what a system cannot do in one place. What is opened to be read only and is
// synced is a directory.
func TestOnlyDurableSyncsDirectories(t *testing.T) {
	syncs := regexp.MustCompile(`(\w+), err :?= os\.Open\((?s:[^}]|\}\n\t)*?\b(\w+)\.Sync\(\)`)
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range syncs.FindAllSubmatch(b, -1) {
			if string(m[1]) != string(m[2]) {
				continue
			}
			if found++; path != filepath.Join("internal", "durable", "durable.go") {
				t.Errorf("%s syncs a directory", path)
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("found %d, %v", found, err)
	}
}

func under(pkg string, prefixes []string) bool {
	for _, p := range prefixes {
		if pkg == p || strings.HasPrefix(pkg, p+"/") {
			return true
		}
	}
	return false
}
