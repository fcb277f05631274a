package imap

import (
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/peerpost/peerpost/internal/mail"
)

// whole checks what the library relies on: without it, it panics.
func whole(t *testing.T, bs imap.BodyStructure, depth int) {
	t.Helper()
	switch bs := bs.(type) {
	case *imap.BodyStructureMultiPart:
		if len(bs.Children) == 0 || bs.Extended == nil {
			t.Fatalf("incomplete: %#v", bs)
		}
		for _, c := range bs.Children {
			whole(t, c, depth+1)
		}
	case *imap.BodyStructureSinglePart:
		if bs.Extended == nil {
			t.Fatalf("incomplete: %#v", bs)
		}
		if m := bs.MessageRFC822; m != nil {
			if m.Envelope == nil {
				t.Fatalf("no envelope: %#v", bs)
			}
			whole(t, m.BodyStructure, depth+1)
		} else if bs.Type == "message" && (bs.Subtype == "rfc822" || bs.Subtype == "global") {
			t.Fatalf("a message that has no message: %#v", bs)
		}
		if bs.Type == "multipart" {
			t.Fatalf("a multipart that has no parts: %#v", bs)
		}
		if bs.Type == "text" && bs.Text == nil {
			t.Fatalf("a text without lines: %#v", bs)
		}
	default:
		t.Fatalf("%T", bs)
	}
}

func TestStructureIsWhole(t *testing.T) {
	deep := &mail.Part{Type: "text", Subtype: "plain"}
	deepMessage := &mail.Part{Type: "text", Subtype: "plain"}
	for range 10 * maxDepth {
		deep = &mail.Part{Type: "multipart", Subtype: "mixed", Children: []*mail.Part{deep}}
		deepMessage = &mail.Part{Type: "message", Subtype: "rfc822", Inner: deepMessage}
	}
	for name, p := range map[string]*mail.Part{
		"nil":             nil,
		"empty":           {},
		"empty multipart": {Type: "multipart", Subtype: "mixed"},
		"message":         {Type: "message", Subtype: "rfc822"},
		"global":          {Type: "message", Subtype: "global", Inner: &mail.Part{Type: "multipart", Subtype: "x"}},
		"other message":   {Type: "message", Subtype: "delivery-status"},
		"negative":        {Type: "text", Subtype: "plain", Body: 9, End: 3},
		"large":           {Type: "text", Subtype: "plain", End: 1 << 40},
		"deep":            deep,
		"deep message":    deepMessage,
		"text":            {Type: "text", Subtype: "html", Disposition: "inline"},
	} {
		t.Run(name, func(t *testing.T) { whole(t, new(describer).structure(p), 0) })
	}
}

func TestParams(t *testing.T) {
	var d describer
	m := d.params([]mail.Param{{Name: "Charset", Value: "a"}, {Name: "charset", Value: "b"}, {Name: "x", Value: "y"}})
	if len(m) != 2 || m["charset"] != "a" || m["x"] != "y" {
		t.Error(m)
	}
	for i := range 2 * maxCharsets {
		p := []mail.Param{{Name: "charset", Value: string(rune('a' + i))}}
		for range 2 {
			if m := d.params(p); len(m) != 1 || m["charset"] != p[0].Value {
				t.Error(m)
			}
		}
	}
	if len(d.charsets) != maxCharsets {
		t.Errorf("%d charsets are kept", len(d.charsets))
	}
}

func TestEnvelope(t *testing.T) {
	if e := envelope(nil); e == nil {
		t.Error("no envelope")
	}
	e := envelope(&mail.Envelope{InReplyTo: "<a@b> (x) <c@d>", From: []mail.Address{{Name: "n", Mailbox: "m", Host: "h"}}})
	if len(e.InReplyTo) != 2 || e.InReplyTo[1] != "c@d" || e.From[0] != (imap.Address{Name: "n", Mailbox: "m", Host: "h"}) || e.To != nil {
		t.Errorf("%+v", e)
	}
}
