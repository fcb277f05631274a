// Package clock tells how far the clock of this machine can be believed.
//
// A clock may have been set to a wrong time, or never been set. When it is ahead, mail seems to have expired that has
// not. So whatever cannot be made good again asks for a time that is sure to have come: the last one known, and what has
// run since by the counter that nobody sets. While a node runs, that is the time of its clock. After it was off, or after
// the clock has jumped ahead, the time between is believed as soon as other nodes have shown that they have it too.
package clock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/peerpost/peerpost/internal/durable"
	"github.com/peerpost/peerpost/internal/wire"
)

const (
	// SaveEvery is how often the time that is sure is put on the disk.
	SaveEvery = time.Hour

	version = 1
	maxFile = 64 // bytes
	maxTime = 1 << 38
)

// Clock is the clock of this machine and what is sure of it. It is safe for concurrent use. One that is nil believes
// the machine.
type Clock struct {
	path string
	log  *slog.Logger
	wall func() time.Time // without the counter

	mu    sync.Mutex
	known time.Time // that had come
	at    time.Time // when, by the counter
}

type payload struct {
	Version uint8 `cbor:"1,keyasint"`
	Time    int64 `cbor:"2,keyasint"` // Unix seconds
}

// Open reads the last time that was sure. Where there is none, this being the first start, the clock is believed. Where
// it cannot be read, nothing is sure before others agree.
func Open(path string, log *slog.Logger) *Clock { return open(path, log, wall) }

func wall() time.Time { return time.Now().Round(0) }

func open(path string, log *slog.Logger, wall func() time.Time) *Clock {
	c := &Clock{path: path, log: log, wall: wall, at: time.Now()}
	known, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.known = wall()
	case err != nil:
		log.Warn("the last time that was sure cannot be read", "err", err)
		c.known = time.Unix(0, 0)
	default:
		c.known = known
	}
	return c
}

// Sure is a time that has come: that of the clock, or an earlier one.
func (c *Clock) Sure() time.Time {
	if c == nil {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sure()
}

func (c *Clock) sure() time.Time {
	now, sure := c.wall(), c.known.Add(time.Since(c.at))
	if now.Before(sure) { // it was put back: what was known came from the same clock
		c.known, c.at = now, time.Now()
		return now
	}
	return sure
}

// Agree notes that others have had a time of about t too. What is after the time of this machine's clock is not
// believed.
func (c *Clock) Agree(t time.Time) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t = t.Round(0)
	if now := c.wall(); t.After(now) {
		t = now
	}
	if t.After(c.sure()) {
		c.known, c.at = t, time.Now()
	}
}

// Run puts the time that is sure on the disk, every hour and at the end.
func (c *Clock) Run(ctx context.Context) {
	tick := time.NewTicker(SaveEvery)
	defer tick.Stop()
	for ended := false; ; ended = ctx.Err() != nil {
		if err := c.save(); err != nil {
			c.log.Warn("the time could not be saved", "err", err)
		}
		if ended {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (c *Clock) save() error {
	b, err := wire.Marshal(payload{version, max(c.Sure().Unix(), 0)})
	if err != nil {
		return err
	}
	return durable.WriteFile(c.path, b)
}

func read(path string) (time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return time.Time{}, err
	}
	return parse(b)
}

func parse(b []byte) (time.Time, error) {
	var p payload
	if len(b) > maxFile {
		return time.Time{}, fmt.Errorf("longer than %d bytes", maxFile)
	}
	if err := wire.Unmarshal(b, &p); err != nil {
		return time.Time{}, err
	}
	if p.Version != version {
		return time.Time{}, fmt.Errorf("version %d is not known", p.Version)
	}
	if p.Time < 0 || p.Time > maxTime {
		return time.Time{}, errors.New("dated beyond all time")
	}
	return time.Unix(p.Time, 0), nil
}
