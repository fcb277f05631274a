package imap

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// sizeKeys rewrites the key SMALLER in the pieces of a SEARCH. The library
// forgets it when another key about a size or a date follows; LARGER it keeps.
// So SMALLER n becomes NOT LARGER n-1, and SMALLER 0, which it takes for no
// condition, becomes NOT ALL.
func sizeKeys(name string, pieces [][]byte) {
	skip := 1 + len(strings.Fields(name)) // tag and name
	for i := 0; i < len(pieces); i++ {
		size, _, _ := announcement(pieces[i])
		pieces[i], skip = sizeKey(pieces[i], skip)
		if size > 0 {
			i++ // what follows is no line
		}
	}
}

// onlySaves reports whether the first line of a SEARCH has SAVE for its only
// result option.
func onlySaves(name string, line []byte) bool {
	words := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(strings.ToUpper(string(line))))
	words = words[min(len(words), 1+len(strings.Fields(name))):]
	return len(words) >= 4 && words[0] == "RETURN" && words[1] == "(" && words[2] == "SAVE" && words[3] == ")"
}

// sizeKey rewrites one line. The first words of it, as many as are to be
// skipped, are not keys; it returns how many are to be skipped of the next line.
func sizeKey(line []byte, skip int) ([]byte, int) {
	var out []byte
	for len(line) > 0 {
		n := wordLen(line)
		word := string(line[:n])
		line = line[n:]
		if strings.Trim(word, " ()\r\n") == "" {
			out = append(out, word...)
			continue
		}
		if skip > 0 {
			skip--
			out = append(out, word...)
			continue
		}
		if key := strings.ToUpper(word); key != "SMALLER" {
			skip = arguments(key)
			out = append(out, word...)
			continue
		}
		digits, ok := bytes.CutPrefix(line, []byte(" "))
		digits = digits[:wordLen(digits)]
		switch n, err := strconv.ParseInt(string(digits), 10, 64); {
		case !ok || err != nil || bytes.ContainsFunc(digits, notDigit):
			out = append(out, word...) // an error that the library finds
			skip = 1
			continue
		case n == 0:
			out = append(out, "NOT ALL"...)
		default:
			out = append(out, "NOT LARGER "...)
			out = strconv.AppendInt(out, n-1, 10)
		}
		line = line[1+len(digits):]
	}
	return out, skip
}

// wordLen returns the length of what a line begins with: a string, an atom, or
// one byte between them.
func wordLen(line []byte) int {
	const between = " ()\r\n"
	switch {
	case len(line) == 0:
		return 0
	case strings.IndexByte(between, line[0]) >= 0:
		return 1
	case line[0] != '"':
		if i := bytes.IndexAny(line, between+`"`); i >= 0 {
			return i
		}
		return len(line)
	}
	for i := 1; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(line)
}

// arguments returns how many words belong to a search key.
func arguments(key string) int {
	if key == "HEADER" {
		return 2
	}
	if slices.Contains(keysOfOne, key) {
		return 1
	}
	return 0
}

var keysOfOne = []string{
	"BCC", "BEFORE", "BODY", "CC", "CHARSET", "FROM", "KEYWORD", "LARGER", "ON", "SENTBEFORE", "SENTON", "SENTSINCE", "SINCE",
	"SUBJECT", "TEXT", "TO", "UID", "UNKEYWORD",
}
