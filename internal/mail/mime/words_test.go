package mime

import (
	stdmime "mime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestDecodeHeader(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "",
		"plain":                              "plain",
		"=?utf-8?q?Gr=C3=BC=C3=9Fe?=":        "Grüße",
		"=?UTF-8?B?R3LDvMOfZQ==?= x":         "Grüße x",
		"a =?iso-8859-1?Q?=E4_b?= c":         "a ä b c",
		"=?utf-8?q?a?= =?utf-8?q?b?=":        "ab",
		"=?utf-8?q?a?=\t =?utf-8?b?Yg?= c":   "ab c",
		"=?utf-8?q?a?= b =?utf-8?q?c?=":      "a b c",
		"=?utf-8?q?a=C3?= =?utf-8?q?=A4b?=":  "aäb", // a character divided between words
		"=?utf-8*de?q?=C3=A4?=":              "ä",
		"=?utf-8?q?with blank?=":             "with blank",
		"=?gb2312?b?suLK1A==?=":              "测试",
		"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=": "日本",
		"=?windows-1251?q?=CF=F0=E8?=":       "При",
		"=?koi8-r?q?=F0?=":                   "П",
		"=?no-such-charset?q?abc?=":          "abc",
		"=?utf-8?q?bad=ZZ=?=":                "bad=ZZ=",
		"=?utf-8?b?!!!?=":                    "",
		"=?utf-8?x?abc?=":                    "=?utf-8?x?abc?=",
		"=?utf-8?q?open":                     "=?utf-8?q?open",
		"=??q?a?=":                           "=??q?a?=",
		"=? =?utf-8?q?a?=":                   "=? a",
		"=?utf-8?q?a?= =? =?utf-8?q?b?=":     "a =? b",
		"caf\xe9":                            "café",
		"raw ü":                              "raw ü",
		"=?utf-8?q?a=0D=0ABcc:_x?=":          "a  Bcc: x",
		"=?utf-8?q?=FF?=":                    "\uFFFD",
	} {
		if got := DecodeHeader(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add("=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?R3LDvMOfZQ==?= x")
	f.Add("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?= =?gb2312?q?=?=")
	f.Add("\xff=?a?q?")
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeHeader(s)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q", got)
		}
		if len(got) > 8*len(s)+8 {
			t.Fatalf("%d bytes of %d", len(got), len(s))
		}
		// What the standard library writes is read as it was.
		if p := printable(s); utf8.ValidString(p) && !strings.Contains(p, "=?") && strings.TrimSpace(p) == p {
			if q := stdmime.BEncoding.Encode("utf-8", p); DecodeHeader(q) != p {
				t.Fatalf("%q is written %q and read %q", p, q, DecodeHeader(q))
			}
			if q := stdmime.QEncoding.Encode("utf-8", p); DecodeHeader(q) != p {
				t.Fatalf("%q is written %q and read %q", p, q, DecodeHeader(q))
			}
		}
	})
}

func TestParam(t *testing.T) {
	params := []mail.Param{{Name: "a", Value: "=?utf-8?q?=C3=A4?="}, {Name: "b*", Value: "iso-8859-1'de'%E4%zz%"}, {Name: "c", Value: "plain"}, {Name: "c*", Value: "utf-8''better"}, {Name: "d*", Value: "broken"}}
	for name, want := range map[string]string{"a": "ä", "b": "ä%zz%", "c": "better", "d": "", "e": ""} {
		if got := Param(params, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestHeaderText(t *testing.T) {
	msg := []byte("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nTo: a\r\n b\r\n\r\nbody")
	if got, want := HeaderText(msg, 1000), "Subject: Grüße\nTo: a b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := HeaderText(msg, 12), "Subject: Gr"; got != want { // not half of the ü
		t.Errorf("got %q, want %q", got, want)
	}
}
