package identity

import "time"

const (
	epochSeconds = 7 * 24 * 60 * 60
	daySeconds   = 24 * 60 * 60

	// MessageLife is the longest a message may wait: 30 days, and one for clocks and for the rest of the last day.
	MessageLife = 31 * 24 * time.Hour
	// ClockTolerance is how far another machine's clock may be off.
	ClockTolerance = 24 * time.Hour
)

// Epoch counts whole weeks since the Unix epoch; it begins on a Thursday, at midnight UTC. Keys change with it.
type Epoch uint32

// FallbackEpoch is the epoch that a message names when it was sealed to the fallback set. It never is a real one.
const FallbackEpoch Epoch = 0

// EpochAt is the epoch in which t lies. Times before the Unix epoch count as its beginning.
func EpochAt(t time.Time) Epoch { return Epoch(max(t.Unix(), 0) / epochSeconds) }

// Start is the first instant of e.
func (e Epoch) Start() time.Time { return time.Unix(int64(e)*epochSeconds, 0).UTC() }

// Day counts whole days since the Unix epoch, in UTC.
type Day uint32

// DayAt is the day in which t lies. Times before the Unix epoch count as its beginning.
func DayAt(t time.Time) Day { return Day(max(t.Unix(), 0) / daySeconds) }

// End is the first instant after d: what expires on day d is valid until then.
func (d Day) End() time.Time { return time.Unix((int64(d)+1)*daySeconds, 0).UTC() }
