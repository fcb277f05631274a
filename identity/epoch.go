package identity

import (
	"math"
	"time"
)

const (
	epochSeconds = 7 * 24 * 60 * 60
	daySeconds   = 24 * 60 * 60

	// MessageLife is the longest a message may wait: 30 days, and one for clocks and for the rest of the last day.
	MessageLife = 31 * 24 * time.Hour
	// ClockTolerance is how far another machine's clock may be off.
	ClockTolerance = 24 * time.Hour

	// maxTime is the latest time that anything may be dated, in Unix seconds: the year 10889 leaves room for every
	// sum of times, and for epochs and days of 32 bits.
	maxTime = 1 << 38
)

// Epoch counts whole weeks since the Unix epoch; it begins on a Thursday, at midnight UTC. Keys change with it.
type Epoch uint32

// FallbackEpoch is the epoch that a message names when it was sealed to the fallback set. It never is a real one.
const FallbackEpoch Epoch = 0

// EpochAt is the epoch in which t lies. Times before the Unix epoch count as its beginning, and times that no
// Epoch reaches as the last one.
func EpochAt(t time.Time) Epoch {
	return Epoch(min(max(t.Unix(), 0)/epochSeconds, math.MaxUint32))
}

// Start is the first instant of e.
func (e Epoch) Start() time.Time { return time.Unix(int64(e)*epochSeconds, 0).UTC() }

// Day counts whole days since the Unix epoch, in UTC.
type Day uint32

// DayAt is the day in which t lies. Times before the Unix epoch count as its beginning, and times that no Day
// reaches as the last one.
func DayAt(t time.Time) Day { return Day(min(max(t.Unix(), 0)/daySeconds, math.MaxUint32)) }

// ValidTime tells whether a time from elsewhere, in Unix seconds, is one that can be calculated with: from the Unix
// epoch to the year 10,000 or so.
func ValidTime(seconds int64) bool { return seconds >= 0 && seconds <= maxTime }

// End is the first instant after d: what expires on day d is valid until then.
func (d Day) End() time.Time { return time.Unix((int64(d)+1)*daySeconds, 0).UTC() }
