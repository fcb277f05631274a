package identity

import (
	"errors"
	"fmt"
)

var (
	// ErrRollback reports a record or roster that is older than one seen before. It is not used.
	ErrRollback = errors.New("older than what was seen before")
	// ErrFork reports two different records, or rosters, that claim the same place in the order: a device or root
	// key signs for two masters. What was seen first is kept, and the user is told.
	ErrFork = errors.New("two different ones with the same number")
)

// Verdict says what to do with a record that a Pin accepted.
type Verdict uint8

const (
	// Same is the very record that is pinned.
	Same Verdict = iota
	// Newer replaces the record that is pinned.
	Newer
)

// Pin remembers the newest record of a person that was ever seen, so that nobody can lead back to an older one. The
// zero Pin accepts everything. It is small, and wire.Marshal encodes it.
type Pin struct {
	Root       Root     `cbor:"1,keyasint"`
	Generation uint64   `cbor:"2,keyasint"` // of the roster
	RosterHash [32]byte `cbor:"3,keyasint"`
	Sequence   uint64   `cbor:"4,keyasint"`
	RecordHash [32]byte `cbor:"5,keyasint"` // zero: only the roster was seen
}

// Pin is the pin that r becomes once it is accepted.
func (r *Record) Pin() Pin {
	return Pin{r.Roster.Root, r.Roster.Generation, r.Roster.Hash(), r.Sequence, r.Hash()}
}

// Accept decides whether next may follow old, which may be nil. See Pin.Accept.
func Accept(old, next *Record) (Verdict, error) {
	if old == nil {
		return Newer, nil
	}
	return old.Pin().Accept(next)
}

// Accept decides whether the record may follow what is pinned. It gives ErrRollback for an older one and ErrFork for
// another with the same sequence, or with another roster of the same generation.
func (p Pin) Accept(next *Record) (Verdict, error) {
	verdict, err := p.AcceptRoster(next.Roster)
	if err != nil || verdict == Newer {
		return verdict, err
	}
	switch {
	case p.RecordHash == [32]byte{}, next.Sequence > p.Sequence:
		return Newer, nil
	case next.Sequence < p.Sequence:
		return Same, fmt.Errorf("record %d of %s: %w (%d)", next.Sequence, p.Root, ErrRollback, p.Sequence)
	case next.Hash() != p.RecordHash:
		return Same, fmt.Errorf("record %d of %s: %w", next.Sequence, p.Root, ErrFork)
	}
	return Same, nil
}

// AcceptRoster decides the same for a roster alone, as it comes with a message. When the verdict is Newer, pin it
// with WithRoster and look for the record that belongs to it.
func (p Pin) AcceptRoster(next *Roster) (Verdict, error) {
	switch {
	case p == Pin{}:
		return Newer, nil
	case next.Root != p.Root:
		return Same, fmt.Errorf("roster of %s instead of %s", next.Root, p.Root)
	case next.Generation > p.Generation:
		return Newer, nil
	case next.Generation < p.Generation:
		return Same, fmt.Errorf("roster %d of %s: %w (%d)", next.Generation, p.Root, ErrRollback, p.Generation)
	case next.Hash() != p.RosterHash:
		return Same, fmt.Errorf("roster %d of %s: %w", next.Generation, p.Root, ErrFork)
	}
	return Same, nil
}

// WithRoster is the pin after a newer roster was seen without a record.
func (p Pin) WithRoster(r *Roster) Pin {
	return Pin{Root: r.Root, Generation: r.Generation, RosterHash: r.Hash()}
}
