package mime

import (
	netmail "net/mail"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestParseDate(t *testing.T) {
	for in, want := range map[string]string{
		"Fri, 21 Nov 1997 09:55:06 -0600":           "1997-11-21T09:55:06-06:00",
		"21 Nov 1997 09:55 -0600":                   "1997-11-21T09:55:00-06:00",
		"Tue, 1 Jul 2003 10:52:37 +0200 (CEST)":     "2003-07-01T10:52:37+02:00",
		"Thu, 13 Feb 1969 23:32:54 -0330":           "1969-02-13T23:32:54-03:30",
		"Mon, 02 Jan 2006 15:04:05 GMT":             "2006-01-02T15:04:05Z",
		"Mon, 02 Jan 2006 15:04:05 EDT":             "2006-01-02T15:04:05-04:00",
		"Mon, 02 Jan 2006 15:04:05 XYZ":             "2006-01-02T15:04:05Z",
		"Mon, 02 Jan 2006 15:04:05":                 "2006-01-02T15:04:05Z",
		"21 Nov 97 09:55:06 GMT":                    "1997-11-21T09:55:06Z",
		"21 Nov 05 09:55:06 GMT":                    "2005-11-21T09:55:06Z",
		"21 Nov 102 09:55:06 GMT":                   "2002-11-21T09:55:06Z",
		"Mon Jan  2 15:04:05 2006":                  "2006-01-02T15:04:05Z",
		"Mon Jan  2 15:04:05 MST 2006":              "2006-01-02T15:04:05-07:00",
		"Monday, 21-November-97 9:55:06 GMT":        "1997-11-21T09:55:06Z",
		"Mon,2 Jan 2006 15:04:05+02:00":             "2006-01-02T15:04:05+02:00",
		"2 JAN 2006 15:04:60 +0000":                 "2006-01-02T15:04:59Z",
		"2 Jan 2006 15:04:05.123 +0000":             "2006-01-02T15:04:05Z",
		"29 Feb 2024 00:00:00 +0000":                "2024-02-29T00:00:00Z",
		"29 Feb 2023 00:00:00 +0000":                "",
		"32 Jan 2006 15:04:05 +0000":                "",
		"2 Jan 2006 25:04:05 +0000":                 "",
		"2 Jan 2006":                                "",
		"2006-01-02T15:04:05Z":                      "",
		"yesterday":                                 "",
		"":                                          "",
		"2 Jan 123456 15:04:05 +0000":               "",
		"2 Jan 0000 15:04:05 +0000":                 "",
		"31 Dec 1899 23:59:59 +0000":                "",
		"1 Jan 1900 00:00:00 +0000":                 "1900-01-01T00:00:00Z",
		"2 Jan 2006 15:04:05 +9999":                 "2006-01-02T15:04:05Z",
		"----- Jan":                                 "",
		"Sat, 31 Dec 9999 23:59:59 -2359 and so on": "9999-12-31T23:59:59-23:59",
	} {
		got, ok := ParseDate(in)
		s := ""
		if ok {
			s = got.Format(time.RFC3339)
		}
		if s != want {
			t.Errorf("%q is %q, want %q", in, s, want)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("Fri, 21 Nov 1997 09:55:06 -0600")
	f.Add("21 Nov 97 09:55 GMT")
	f.Add("Mon Jan  2 15:04:05 MST 2006")
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := ParseDate(s)
		if !ok {
			return
		}
		if d.IsZero() || d.Year() < 1900 || d.Year() > 9999 {
			t.Fatalf("%q is %v", s, d)
		}
		e, err := UnmarshalEnvelope(MarshalEnvelope(&mail.Envelope{Date: d}))
		if err != nil || !e.Date.Equal(d) {
			t.Fatalf("%v was stored as %v, %v", d, e, err)
		}
		again, ok := ParseDate(FormatDate(d))
		if !ok || !again.Equal(d) {
			t.Fatalf("%v became %v", d, again)
		}
		if std, err := netmail.ParseDate(FormatDate(d)); err != nil || !std.Equal(d) {
			t.Fatalf("%q: net/mail reads %v, %v", FormatDate(d), std, err)
		}
	})
}
