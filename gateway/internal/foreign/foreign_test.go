package foreign

import "testing"

func TestJudge(t *testing.T) {
	for head, want := range map[string]Answer{
		"": Perhaps, "G": Perhaps, "GET": Perhaps, "OPTIONS": Perhaps, "\x16": Perhaps, "P": Perhaps,
		"GET /": Yes, "GET ": Yes, "OPTIONS * HTTP/1.1\r\n": Yes, "PRI * HTTP/2.0": Yes, "\x16\x03\x01": Yes,
		"GET\r\n": No, "get /": No, "a1 LOGIN": No, "EHLO x\r\n": No, "\r\n": No, "\x16\x04": No, "OPTIONS\n": No,
	} {
		if got := Judge([]byte(head)); got != want {
			t.Errorf("%q: %d", head, got)
		}
	}
	for _, s := range starts {
		if len(s) > Longest {
			t.Errorf("%q is longer than Longest", s)
		}
	}
}
