package mime

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/charset"

	"github.com/peerpost/peerpost/internal/mail"
)

const (
	maxTextParts = 200     // parts whose text is searched
	maxHTML      = 8 << 20 // bytes of HTML that are read of one part to find its text
	maxHTMLToken = 1 << 20 // bytes of one tag, comment or run of text; the part's text ends before a longer one
	htmlPerText  = 8       // bytes of HTML read for each byte of text that is wanted
)

// BodyText returns the searchable text of a message's body in UTF-8: parts of
// text decoded, HTML without its tags, the names of attachments, the headings of
// inner messages; at most max bytes. Its only errors are those of r.
func BodyText(r io.ReaderAt, root *mail.Part, max int) (string, error) {
	t := texter{r: r, left: max, parts: maxTextParts}
	err := t.part(root)
	return t.out.String(), err
}

type texter struct {
	r     io.ReaderAt
	out   strings.Builder
	left  int // bytes
	parts int
}

// write adds a piece of text as far as there is room.
func (t *texter) write(s string) {
	s = cut(s, t.left)
	t.out.WriteString(s)
	t.left -= len(s)
}

func (t *texter) line(s string) {
	if s != "" {
		t.write(s)
		t.write("\n")
	}
}

// part adds the text of a part and of all within; trees are at most MaxDepth deep.
func (t *texter) part(p *mail.Part) error {
	if t.left <= 0 || t.parts <= 0 {
		return nil
	}
	for _, c := range p.Children {
		if err := t.part(c); err != nil {
			return err
		}
	}
	if p.Inner != nil {
		if e := p.Envelope; e != nil {
			t.line(DecodeHeader(e.Subject))
			t.line(AddressText(e.From))
			t.line(AddressText(e.To))
			t.line(AddressText(e.Cc))
		}
		return t.part(p.Inner)
	}
	if p.IsMultipart() {
		return nil
	}
	t.line(FileName(p))
	if !isText(p) {
		return nil
	}
	t.parts--
	body, ok := Decode(t.r, p)
	if !ok {
		body = io.NewSectionReader(t.r, p.Body, p.End-p.Body)
	}
	isHTML := p.Subtype == "html"
	limit := int64(t.left)
	if isHTML {
		limit = min(limit*htmlPerText, maxHTML)
	}
	b, err := io.ReadAll(io.LimitReader(body, limit))
	if err != nil {
		return err
	}
	if int64(len(b)) == limit {
		b = wholeRunes(b)
	}
	s := textOf(b, Param(p.Params, "charset"), isHTML)
	if isHTML {
		t.html(s)
	} else {
		t.write(strings.ReplaceAll(s, "\x00", " "))
		t.write("\n")
	}
	return nil
}

// isText says that a leaf is made of text, whatever its transfer encoding.
func isText(p *mail.Part) bool {
	switch p.Type {
	case "text":
		return p.Disposition != "attachment" || p.Subtype == "plain" || p.Subtype == "html"
	case "message":
		return p.Subtype == "delivery-status" || p.Subtype == "disposition-notification" || p.Subtype == "global-delivery-status"
	}
	return false
}

// textOf converts a body to UTF-8. An HTML page can tell its charset itself.
func textOf(b []byte, name string, isHTML bool) string {
	if isHTML && name == "" && !utf8.Valid(b) {
		if e, _, _ := charset.DetermineEncoding(b[:min(len(b), 1024)], "text/html"); e != nil {
			if out, err := e.NewDecoder().Bytes(b); err == nil {
				return string(out)
			}
		}
	}
	return decodeCharset(name, bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
}

// wholeRunes cuts off the beginning of a rune that ends b.
func wholeRunes(b []byte) []byte {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i]
			}
			break
		}
	}
	return b
}

// html adds the text of a page. Blanks run together; elements that do not
// stand within a line end it.
func (t *texter) html(s string) {
	z := html.NewTokenizer(strings.NewReader(s))
	z.SetMaxBuf(maxHTMLToken)
	var line htmlLine
	defer func() {
		if line.begun {
			t.write("\n")
		}
	}()
	hidden := "" // the element whose text is not shown
	for t.left > 0 {
		kind := z.Next()
		switch kind {
		case html.ErrorToken:
			return // the end, or a token too long
		case html.TextToken:
			if hidden == "" {
				t.words(string(z.Text()), &line)
			}
			continue
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
		default:
			continue // comments
		}
		name, _ := z.TagName()
		switch tag := string(name); {
		case tag == "script" || tag == "style":
			if kind == html.StartTagToken {
				hidden = tag
			} else if tag == hidden {
				hidden = ""
			}
		case line.begun && !isInline(tag):
			t.write("\n")
			line = htmlLine{}
		}
	}
}

// htmlLine is what stands on a line of text so far.
type htmlLine struct {
	begun bool // with a word
	blank bool // and a blank after it, not yet written
}

// words adds text to a line with its blanks run together.
func (t *texter) words(s string, line *htmlLine) {
	for s != "" && t.left > 0 {
		n := strings.IndexFunc(s, isBlank)
		if n == 0 {
			line.blank = line.begun
			s = strings.TrimLeftFunc(s, isBlank)
			continue
		}
		if n < 0 {
			n = len(s)
		}
		if line.blank {
			t.write(" ")
		}
		t.write(s[:n])
		line.begun, line.blank = true, false
		s = s[n:]
	}
}

func isBlank(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xa0 }

// isInline says that an element stands within a line of text.
func isInline(tag string) bool {
	switch tag {
	case "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
		"ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr":
		return true
	}
	return false
}
