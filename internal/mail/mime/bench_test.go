package mime

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// typical is a message as a mail program writes it: text, HTML and an attachment.
func typical(attachment int) []byte {
	var b strings.Builder
	b.WriteString(crlf(`Return-Path: <jane.doe@example.org>
Received: from mail.example.org (mail.example.org [192.0.2.1]) by mx.example.net (Postfix) with ESMTPS id 4F2A21C0
	for <john@example.net>; Mon,  2 Mar 2026 10:11:12 +0100 (CET)
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail; t=1772442672;
	bh=g3zLYH4xKxcPrHOD18z9YfpQcnk/GaJedfustWU5uGs=; h=Date:From:To:Subject;
	b=qO1NnLwqkmTs8g1CSzf4Bd5zGmRl0a7x7xkP2m3xPzYh2S7jC4sY3z1cK2m4n5b6v7c8x9y0
Date: Mon, 2 Mar 2026 10:11:10 +0100
From: =?UTF-8?Q?Jane_D=C3=B6e?= <jane.doe@example.org>
To: John Roe <john@example.net>, "Smith, Ann" <ann.smith@example.net>
Cc: team@example.org
Subject: =?UTF-8?Q?The_minutes_of_last_week=E2=80=99s_meeting?=
Message-ID: <5f0c1a2b-7c1d-4f7a-9d29-4a4b1c9d8e7f@example.org>
In-Reply-To: <20260301120000.abcdef@example.net>
References: <20260228120000.123456@example.net> <20260301120000.abcdef@example.net>
User-Agent: Mozilla Thunderbird
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="------------a1b2c3d4e5f6"
Content-Language: en-GB

This is a multi-part message in MIME format.
--------------a1b2c3d4e5f6
Content-Type: multipart/alternative; boundary="------------f6e5d4c3b2a1"

--------------f6e5d4c3b2a1
Content-Type: text/plain; charset=UTF-8; format=flowed
Content-Transfer-Encoding: 8bit

`))
	for range 20 {
		b.WriteString("Here are the minutes of the meeting, with what was said – and what was not.\r\n")
	}
	b.WriteString(crlf(`--------------f6e5d4c3b2a1
Content-Type: text/html; charset=UTF-8
Content-Transfer-Encoding: quoted-printable

<html><body>`))
	for range 20 {
		b.WriteString("<p class=3D\"MsoNormal\">Here are the <b>minutes</b> of the meeting=E2=80=93<a href=3D\"=\r\nhttps://example.org/\">here</a></p>\r\n")
	}
	b.WriteString(crlf(`</body></html>
--------------f6e5d4c3b2a1--
--------------a1b2c3d4e5f6
Content-Type: application/pdf; name="minutes.pdf"
Content-Disposition: attachment; filename="minutes.pdf"
Content-Transfer-Encoding: base64

`))
	s := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("%PDF-1.7"), attachment/8))
	for len(s) > 0 {
		n := min(76, len(s))
		b.WriteString(s[:n] + "\r\n")
		s = s[n:]
	}
	b.WriteString("--------------a1b2c3d4e5f6--\r\n")
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	for name, msg := range map[string][]byte{
		"small":                 []byte("From: a@example.org\r\nTo: b@example.org\r\nSubject: x\r\nDate: Mon, 2 Mar 2026 10:11:10 +0100\r\n\r\nHello.\r\n"),
		"typical 8KB":           typical(1000),
		"typical 1MB":           typical(700_000),
		"typical 40MB":          typical(30_000_000),
		"200,000 empty parts":   hostile()["200,000 empty parts"],
		"nested messages":       hostile()["nested messages"],
		"nested multiparts":     hostile()["nested multiparts"],
		"near boundaries, deep": hostile()["near boundaries, deep"],
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(bytes.NewReader(msg), int64(len(msg))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCodec(b *testing.B) {
	x := ParseBytes(typical(1000))
	e, s := MarshalEnvelope(x.Envelope), MarshalStructure(x.Structure)
	b.Run("UnmarshalEnvelope", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(e)))
		for b.Loop() {
			UnmarshalEnvelope(e)
		}
	})
	b.Run("UnmarshalStructure", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(s)))
		for b.Loop() {
			UnmarshalStructure(s)
		}
	})
	b.Run("MarshalEnvelope", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			MarshalEnvelope(x.Envelope)
		}
	})
	b.Run("MarshalStructure", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			MarshalStructure(x.Structure)
		}
	})
}

func BenchmarkText(b *testing.B) {
	msg := typical(1000)
	x := ParseBytes(msg)
	b.Run("BodyText", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			BodyText(bytes.NewReader(msg), x.Structure, 1<<20)
		}
	})
	b.Run("HeaderText", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			HeaderText(msg, 1<<20)
		}
	})
	b.Run("SelectFields", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			SelectFields(msg, []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "References"}, false)
		}
	})
}

func BenchmarkNormalise(b *testing.B) {
	msg := typical(700_000)
	bare := bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
	b.Run("normal", func(b *testing.B) {
		b.SetBytes(int64(len(msg)))
		for b.Loop() {
			Normalise(msg)
		}
	})
	b.Run("bare", func(b *testing.B) {
		b.SetBytes(int64(len(bare)))
		for b.Loop() {
			Normalise(bare)
		}
	})
}
