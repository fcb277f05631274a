package docs_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/peerpost/peerpost/node/host"
)

// labelBytes decodes the label of the address in a vector.
func labelBytes(t *testing.T, v vec) []byte {
	t.Helper()
	_, domain, _ := strings.Cut(v.header(t, "input"), "@")
	label, _, _ := strings.Cut(domain, ".")
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(label))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plaintext decrypts the body of a vector, with age and nothing else.
func plaintext(t *testing.T, v vec) []byte {
	t.Helper()
	id, err := age.ParseHybridIdentity(v.header(t, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(v.body), id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLabels derives the vectors of the chain with the labels of the document.
func TestLabels(t *testing.T) {
	var labels []string
	for _, tb := range read(t).tables {
		if tb.mark == "labels" {
			for _, row := range tb.rows {
				labels = append(labels, strings.Trim(row[1], "`"))
			}
		}
	}
	if len(labels) != 4 {
		t.Fatalf("there are %d labels", len(labels))
	}
	expand := func(state []byte, label string) []byte {
		b, err := hkdf.Expand(sha256.New, state, label, 32)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := vector(t, "chain-steps-1.txt")
	state := expand(v.hex(t, "state"), labels[0])
	for i, name := range []string{"next-state", "sealing-seed", "fetch-seed", "delete-seed"} {
		got := state
		if i > 0 {
			got = expand(state, labels[i])
		}
		if want := v.header(t, name); hex.EncodeToString(got) != want {
			t.Errorf("%s is %x with the label %q, and %s in the vector", name, got, labels[i], want)
		}
	}
}

// TestInvites reads the invites of the document and writes them again.
func TestInvites(t *testing.T) {
	seen := 0
	for _, b := range read(t).blocks {
		if b.kind != "invite" {
			continue
		}
		seen++
		text := strings.Join(b.lines, "")
		invite, err := host.ParseInvite(text)
		if err != nil {
			t.Errorf("line %d: %v", b.line, err)
			continue
		}
		if invite.String() != text {
			t.Errorf("line %d: it is written %s", b.line, invite)
		}
	}
	if seen == 0 {
		t.Error("there is no invite")
	}
}
