package mime

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// The stored forms are in databases: they may only change with codecVersion.
func TestCodecVectors(t *testing.T) {
	a := mail.Address{Name: "A", Mailbox: "a", Host: "x"}
	for _, c := range []struct {
		envelope mail.Envelope
		want     string
	}{
		{mail.Envelope{}, "01 06 00 00000000 00 00 00 00"},
		{mail.Envelope{Date: time.Unix(1000, 0).In(time.FixedZone("", -3600)), RawDate: "d", Subject: "s", InReplyTo: "i", MessageID: "m",
			From: []mail.Address{a}, Sender: []mail.Address{a}, ReplyTo: []mail.Address{a}, To: []mail.Address{{Mailbox: "g"}, {}}},
			"01 07 03 d00f 9f38 0164 0173 0169 016d 01 0141 0161 0178 02 000167 00 00 00 00 00 00"},
		{mail.Envelope{Sender: []mail.Address{a}}, "01 04 01 00000000 00 01 0141 0161 0178 00 00 00"},
	} {
		want := unspaced(t, c.want)
		if got := MarshalEnvelope(&c.envelope); !bytes.Equal(got, want) {
			t.Errorf("%+v\n got %x\nwant %x", c.envelope, got, want)
		}
		got, err := UnmarshalEnvelope(want)
		if err != nil || !got.Date.Equal(c.envelope.Date) {
			t.Errorf("%x: %v, %v", want, got, err)
			continue
		}
		got.Date = c.envelope.Date
		if !reflect.DeepEqual(*got, c.envelope) {
			t.Errorf("%x: %+v", want, got)
		}
	}

	p := &mail.Part{Type: "multipart", Subtype: "mixed", Encoding: "7bit", Body: 300, End: 400, Lines: 9, Children: []*mail.Part{
		{Type: "text", Subtype: "plain", Encoding: "8bit", Header: 310, Body: 320, End: 330, Lines: 1, Params: []mail.Param{{Name: "charset", Value: "utf-8"}}},
		{Type: "message", Subtype: "rfc822", Encoding: "7bit", Header: 340, Body: 350, End: 360, Envelope: &mail.Envelope{Subject: "s"}, ID: "i", Description: "d", MD5: "5",
			Disposition: "inline", DispositionParams: []mail.Param{{Name: "a", Value: "b"}}, Language: []string{"en"}, Location: "l",
			Inner: &mail.Part{Type: "text", Subtype: "plain", Encoding: "7bit", Header: 350, Body: 355, End: 360}},
	}}
	want := unspaced(t, `01 04 02
		8002 00 ac02 64 09 096d756c746970617274 056d69786564 0437626974 02
		01 0a 0a 0a 01 0474657874 05706c61696e 0438626974 01 0763686172736574 057574662d38
		fe05 28 0a 0a 00 076d657373616765 06726663383232 0437626974 0169 0164 0135 06696e6c696e65 01 0161 0162 01 02656e 016c
			06 00 00 0173 00 00 00 00 00 00
			00 00 05 05 00 0474657874 05706c61696e 0437626974`)
	if got := MarshalStructure(p); !bytes.Equal(got, want) {
		t.Errorf(" got %x\nwant %x", got, want)
	}
	if got, err := UnmarshalStructure(want); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%v, %v", got, err)
	}
}

func unspaced(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUnmarshalRefuses(t *testing.T) {
	for what, s := range map[string]string{
		"nothing":                 "",
		"other version":           "02 06 00 00000000 00 00 00 00",
		"cut":                     "01 06 00 00000000 00 00 00",
		"more behind":             "01 06 00 00000000 00 00 00 00 00",
		"unknown flag":            "01 0e 00 00000000 00 00 00 00",
		"sender told twice":       "01 04 00 00000000 00 00 00 00 00",
		"number not shortest":     "01 06 00 8000 000000 00 00 00 00",
		"string beyond the end":   "01 06 00 05000000 00 00 00 00",
		"length that overflows":   "01 06 00 ffffffffffffffffff01 000000 00 00 00 00",
		"length of 65 bits":       "01 06 00 ffffffffffffffffff02 000000 00 00 00 00",
		"addresses not there":     "01 06 02 00000000 00 00 00 00",
		"addresses not told":      "01 06 00 00000000 01 000000 00 00 00",
		"addresses without bound": "01 06 ffffff7f 00000000 00 00 00 00",
		"zone of a day":           "01 07 00 00 80c60a 00000000 00 00 00 00",
		"date without bound":      "01 07 00 feffffffffffffffff01 00 00000000 00 00 00 00",
	} {
		if e, err := UnmarshalEnvelope(unspaced(t, s)); err == nil {
			t.Errorf("envelope, %s: %+v", what, e)
		}
	}
	const leaf = "0474657874 05706c61696e 0437626974"
	const multi = "096d756c746970617274 056d69786564 0437626974"
	if _, err := UnmarshalStructure(unspaced(t, "01 01 00 00 00 00 00 00 "+leaf)); err != nil {
		t.Error(err)
	}
	for what, s := range map[string]string{
		"nothing":                      "",
		"other version":                "00 01 00 00 00 00 00 00 " + leaf,
		"no part":                      "01 00 00",
		"part not told":                "01 00 00 00 00 00 00 00 " + leaf,
		"parts not there":              "01 02 00 00 00 00 00 00 " + leaf,
		"parts without bound":          "01 ffff7f 00 00 00 00 00 00 " + leaf,
		"parameters not there":         "01 01 01 00 00 00 00 00 " + leaf,
		"parameters not told":          "01 01 00 01 00 00 00 00 " + leaf + "01 00 00",
		"parameters flagged, not any":  "01 01 00 01 00 00 00 00 " + leaf + "00",
		"id flagged, empty":            "01 01 00 02 00 00 00 00 " + leaf + "00",
		"unknown flag":                 "01 01 00 8008 00 00 00 00 " + leaf,
		"multipart without part":       "01 01 00 00 00 00 00 00 " + multi,
		"multipart of none":            "01 01 00 8002 00 00 00 00 " + multi + "00",
		"leaf with a part":             "01 02 00 8002 00 00 00 00 " + leaf + "01 00 00 00 00 00 " + leaf,
		"child beyond its parent":      "01 02 00 8002 00 00 05 00 " + multi + "01 00 00 00 06 00 " + leaf,
		"offset that overflows":        "01 01 00 00 ffffffffffffffffff01 00 00 00 " + leaf,
		"lines that overflow":          "01 01 00 00 00 00 00 ffffffffffffffffff01 " + leaf,
		"more behind":                  "01 01 00 00 00 00 00 00 " + leaf + "00",
		"message without what it says": "01 01 00 00 00 00 00 00 076d657373616765 06726663383232 0437626974",
		"too deep": "01 b410 00" + strings.Repeat("8002 00 00 00 00 "+multi+"01", 2000) +
			strings.Repeat("00 00 00 00 00 "+leaf, 100),
	} {
		if p, err := UnmarshalStructure(unspaced(t, s)); err == nil {
			t.Errorf("structure, %s: %+v", what, p)
		}
	}
}

// FuzzUnmarshal wants one encoding for each meaning.
func FuzzUnmarshal(f *testing.F) {
	for _, m := range messages {
		x := ParseBytes([]byte(m.text))
		f.Add(MarshalEnvelope(x.Envelope))
		f.Add(MarshalStructure(x.Structure))
	}
	x := ParseBytes([]byte("Date: Fri, 21 Nov 1997 09:55:06 -0600\nFrom: A <a@b>\nTo: g: c@d, E <e@f>;\nSender: x@y\nSubject: s\nContent-Disposition: attachment; filename=x\nContent-Language: en\n\n"))
	f.Add(MarshalEnvelope(x.Envelope))
	f.Add(MarshalStructure(x.Structure))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := UnmarshalEnvelope(b); err == nil {
			if again := MarshalEnvelope(e); !bytes.Equal(again, b) {
				t.Fatalf("envelope %x is written %x", b, again)
			}
		}
		if p, err := UnmarshalStructure(b); err == nil {
			if again := MarshalStructure(p); !bytes.Equal(again, b) {
				t.Fatalf("structure %x is written %x", b, again)
			}
		}
	})
}
