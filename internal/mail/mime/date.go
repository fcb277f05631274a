package mime

import (
	"strings"
	"time"
)

// maxDate is how many bytes of a Date field are looked at.
const maxDate = 128

// firstYear is the first that a header can name (RFC 5322, 3.3).
const firstYear = 1900

// FormatDate writes a date for a header.
func FormatDate(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }

// ParseDate reads the date of a header; false when it is none. It asks for day,
// month, year and hour, in the order of RFC 5322 or of ctime, and takes what
// senders make of the rest. A missing or unknown zone is UTC.
func ParseDate(s string) (time.Time, bool) {
	s = cut(s, maxDate)
	if i := strings.IndexByte(s, '('); i >= 0 {
		s = s[:i] // the name of the zone
	}
	var (
		day, month, year  int
		hour, minute, sec int
		zone              int // seconds east
		haveTime          bool
		haveZone          bool
	)
	for s != "" {
		var w string
		if w, s = cutWord(s); w == "" {
			continue
		}
		switch {
		case strings.IndexByte(w, ':') > 0 && !haveTime:
			// A zone can stick to the time: 10:00:00+0200.
			if i := strings.IndexAny(w, "+-"); i > 0 {
				zone, haveZone = parseZone(w[i:])
				w = w[:i]
			}
			var ok bool
			if hour, minute, sec, ok = parseClock(w); !ok {
				return time.Time{}, false
			}
			haveTime = true
		case (w[0] == '+' || w[0] == '-') && haveTime && !haveZone:
			zone, haveZone = parseZone(w)
		case w[0] >= '0' && w[0] <= '9':
			if i := strings.IndexByte(w, '-'); i > 0 { // 21-Nov-1997
				s = strings.ReplaceAll(w, "-", " ") + " " + s
				continue
			}
			n, digits := number(w)
			if digits != len(w) {
				return time.Time{}, false
			}
			switch {
			case day == 0 && digits <= 2:
				day = n
			case year == 0 && digits == 2: // RFC 5322, 4.3
				if year = 2000 + n; n >= 50 {
					year = 1900 + n
				}
			case year == 0 && digits == 3:
				year = 1900 + n
			case year == 0 && digits == 4:
				year = n
			default:
				return time.Time{}, false
			}
		default:
			if m := parseMonth(w); m != 0 && month == 0 {
				month = m
			} else if haveTime && !haveZone {
				zone, haveZone = parseZone(w)
			}
		}
	}
	if day < 1 || month == 0 || year < firstYear || !haveTime || day > daysIn(month, year) {
		return time.Time{}, false
	}
	loc := time.UTC
	if zone != 0 {
		loc = time.FixedZone("", zone)
	}
	return time.Date(year, time.Month(month), day, hour, minute, sec, 0, loc), true
}

// cutWord cuts off the first word; blanks and commas divide words.
func cutWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t,")
	if i := strings.IndexAny(s, " \t,"); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// number reads the decimal digits at the beginning of s, at most four of them.
func number(s string) (n, digits int) {
	for digits < len(s) && digits < 4 && s[digits] >= '0' && s[digits] <= '9' {
		n = n*10 + int(s[digits]-'0')
		digits++
	}
	return n, digits
}

// parseClock reads 9:05, 09:05:07 and 09:05:07.123; a leap second becomes the last of its minute.
func parseClock(s string) (hour, minute, sec int, ok bool) {
	h, rest, _ := strings.Cut(s, ":")
	m, rest, hasSec := strings.Cut(rest, ":")
	var d1, d2 int
	hour, d1 = number(h)
	minute, d2 = number(m)
	if d1 == 0 || d1 > 2 || d1 != len(h) || d2 != 2 || d2 != len(m) || hour > 23 || minute > 59 {
		return 0, 0, 0, false
	}
	if hasSec {
		rest, _, _ = strings.Cut(rest, ".")
		var d3 int
		if sec, d3 = number(rest); d3 != 2 || d3 != len(rest) || sec > 60 {
			return 0, 0, 0, false
		}
		sec = min(sec, 59)
	}
	return hour, minute, sec, true
}

func parseMonth(s string) int {
	if len(s) < 3 {
		return 0
	}
	const months = "janfebmaraprmayjunjulaugsepoctnovdec"
	name := lower(s[:3])
	for i := 0; i < len(months); i += 3 {
		if months[i:i+3] == name {
			return i/3 + 1
		}
	}
	return 0
}

// parseZone reads +0200, +02:00 and the names that RFC 5322, 4.3 knows.
func parseZone(s string) (east int, ok bool) {
	if s[0] == '+' || s[0] == '-' {
		digits := strings.Replace(s[1:], ":", "", 1)
		n, d := number(digits)
		if d != 4 || d != len(digits) || n/100 > 23 || n%100 > 59 {
			return 0, false
		}
		east = (n/100*60 + n%100) * 60
		if s[0] == '-' {
			east = -east
		}
		return east, true
	}
	const hour = 3600
	switch lower(s) {
	case "ut", "utc", "gmt", "z":
		return 0, true
	case "edt":
		return -4 * hour, true
	case "est", "cdt":
		return -5 * hour, true
	case "cst", "mdt":
		return -6 * hour, true
	case "mst", "pdt":
		return -7 * hour, true
	case "pst":
		return -8 * hour, true
	}
	return 0, false
}

func daysIn(month, year int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
