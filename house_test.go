package peerpost_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/peerpost/peerpost/"

// TestImportsRunOneWay holds the picture of the house: what a package may know
// of ours, all it depends on included.
func TestImportsRunOneWay(t *testing.T) {
	rules := map[string][]string{ // package → prefixes of ours that it may depend on
		"internal/wire":      {},
		"internal/clock":     {"internal/wire"},
		"internal/httpd":     {},
		"internal/journal":   {},
		"internal/mail":      {},
		"internal/mail/mime": {"internal/mail"},
		"identity":           {"internal/wire"},
		"identity/sealed":    {"identity", "internal/wire"},
		"dht":                {"identity", "internal/wire"},
		"store":              {"identity", "internal/wire", "internal/journal", "internal/clock"},
		"mailbox":            {"mailbox/internal", "identity", "internal/wire", "internal/journal", "internal/clock", "internal/mail"},
		"mailbox/dsn":        {"internal/mail"},
		"gateway/imap":       {"gateway/internal", "gateway/listen", "internal/mail"},
		"gateway/submission": {"gateway/internal", "gateway/listen", "internal/mail"},
		"gateway/listen":     {},
		"gateway/setup":      {},
		"node/courier":       {"identity", "internal", "mailbox", "store"},
		"node/host":          {"dht", "identity", "internal/wire"},
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

func under(pkg string, prefixes []string) bool {
	for _, p := range prefixes {
		if pkg == p || strings.HasPrefix(pkg, p+"/") {
			return true
		}
	}
	return false
}
