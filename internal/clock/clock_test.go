package clock

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const day = 24 * time.Hour

// machine has a clock that is off by some time, and a disk.
type machine struct {
	t    *testing.T
	path string
	off  time.Duration
}

func (m *machine) wall() time.Time { return wall().Add(m.off) }

func (m *machine) open() *Clock {
	return open(m.path, slog.New(slog.DiscardHandler), m.wall)
}

// behind checks how far what is sure is behind the real time.
func (m *machine) behind(what string, c *Clock, want time.Duration) {
	m.t.Helper()
	if got := wall().Sub(c.Sure()); got != want {
		m.t.Errorf("%s: what is sure is %v behind, not %v", what, got, want)
	}
}

func clocks(t *testing.T, f func(m *machine)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * 365 * day)
		f(&machine{t: t, path: filepath.Join(t.TempDir(), "clock")})
	})
}

// A node that runs is sure of its clock, for as long as it runs.
func TestRunning(t *testing.T) {
	clocks(t, func(m *machine) {
		c := m.open()
		m.behind("new", c, 0)
		time.Sleep(400 * day)
		m.behind("a year later", c, 0)
	})
}

// A clock that jumps ahead is not believed before others agree, and then no further than it goes.
func TestJump(t *testing.T) {
	clocks(t, func(m *machine) {
		c := m.open()
		time.Sleep(day)
		m.off = 60 * day
		m.behind("after a jump", c, 0)
		time.Sleep(day)
		m.behind("a day after it", c, 0)
		c.Agree(wall().Add(90 * day))
		m.off = 80 * day
		m.behind("when others agree with more, and it jumps again", c, -60*day)
		m.off = 0 // they were wrong
		m.behind("put back", c, 0)
		m.off = 60 * day
		m.behind("again ahead", c, 0)
		m.off = -day
		m.behind("a day behind", c, day)
		m.off = 0
		m.behind("and right again", c, day)
		c.Agree(wall().Add(-time.Hour))
		m.behind("when others agree with an hour ago", c, time.Hour)
		c.Agree(wall().Add(-2 * time.Hour))
		m.behind("when others are behind", c, time.Hour)
	})
}

// The time for which a node was off is not believed before others agree. Nobody may be there to do so; then what is
// sure goes on from where it was.
func TestOff(t *testing.T) {
	clocks(t, func(m *machine) {
		c := m.open()
		ctx, stop := context.WithCancel(m.t.Context())
		var run sync.WaitGroup
		run.Go(func() { c.Run(ctx) })
		time.Sleep(20*day + 30*time.Minute)
		stop()
		run.Wait()
		time.Sleep(30 * day)
		c = m.open()
		m.behind("after a month off", c, 30*day)
		time.Sleep(10 * day)
		m.behind("ten days later", c, 30*day)
		c.Agree(wall())
		m.behind("when others agree", c, 0)
	})
}

// A crash takes an hour at most.
func TestCrash(t *testing.T) {
	clocks(t, func(m *machine) {
		c := m.open()
		ctx, stop := context.WithCancel(m.t.Context())
		go c.Run(ctx)
		time.Sleep(3*time.Hour + 20*time.Minute)
		synctest.Wait()
		if err := os.Rename(m.path, m.path+".then"); err != nil {
			m.t.Fatal(err)
		}
		stop()
		synctest.Wait()
		m.path += ".then"
		m.behind("after a crash", m.open(), 20*time.Minute)
	})
}

// What is on the disk is what was sure, and not what the clock said.
func TestSaveWhatIsSure(t *testing.T) {
	clocks(t, func(m *machine) {
		c := m.open()
		m.off = 60 * day
		if err := c.save(); err != nil {
			m.t.Fatal(err)
		}
		m.behind("after a start with a clock ahead", m.open(), 0)
		m.off = -wall().Sub(time.Unix(0, 0)) - day // the year 1969
		c = m.open()
		c.Sure()
		if err := c.save(); err != nil {
			m.t.Fatal(err)
		}
		m.off = 0
		c = m.open()
		if c.Sure().Year() != 1970 {
			m.t.Errorf("sure of %v", c.Sure())
		}
		c.Agree(wall())
		m.behind("when others agree", c, 0)
	})
}

// With a file that cannot be read nothing is sure.
func TestDamaged(t *testing.T) {
	clocks(t, func(m *machine) {
		for _, text := range []string{"", "x", "\xa2\x01\x02\x02\x01", "\xa2\x01\x01\x02\x20", string(make([]byte, maxFile+1))} {
			if err := os.WriteFile(m.path, []byte(text), 0o600); err != nil {
				m.t.Fatal(err)
			}
			if got := m.open().Sure(); !got.Equal(time.Unix(0, 0)) {
				m.t.Errorf("%q: sure of %v", text, got)
			}
		}
	})
}

func TestSizeBeforeBelief(t *testing.T) {
	if _, err := parse(make([]byte, maxFile+1)); err == nil || err.Error() != "longer than 64 bytes" {
		t.Error(err)
	}
}

func TestNil(t *testing.T) {
	var c *Clock
	c.Agree(time.Now())
	if d := time.Since(c.Sure()); d < 0 || d > time.Minute {
		t.Errorf("%v behind", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\xa2\x01\x01\x02\x1a\x6b\x49\xd2\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, err := parse(b); err == nil && (at.Unix() < 0 || at.Unix() > maxTime) {
			t.Errorf("%x is %v", b, at)
		}
	})
}
