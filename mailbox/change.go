package mailbox

import (
	"context"
	"slices"

	"github.com/peerpost/peerpost/internal/mail"
)

// SetFlags changes flags and returns the new entries of the UIDs that exist.
// UIDs whose mod-sequence is above unchangedSince (0: no condition) are left
// alone and returned in modified (RFC 7162, 3.1.3). A message that has the
// flags already keeps its mod-sequence. Entries say what they followed.
func (m *Mailbox) SetFlags(ctx context.Context, id int64, uids []mail.UID, op mail.FlagOp, flags []mail.Flag, unchangedSince mail.ModSeq) (entries []mail.Entry, modified []mail.UID, err error) {
	set, err := m.flags.make(flags)
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := m.state(ctx, id); err != nil {
		return nil, nil, err
	}
	write := m.write
	if op != mail.RemoveFlags && set.deleted {
		write = m.writeFreeing
	}
	err = write(ctx, func(t *tx) (err error) {
		f, err := t.loaded(id)
		if err != nil {
			return err
		}
		entries, modified, err = t.setFlags(f, uids, op, set, unchangedSince)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return entries, modified, nil
}

// setFlags is SetFlags within a transaction.
func (t *tx) setFlags(f *folder, uids []mail.UID, op mail.FlagOp, flags *flagSet, unchangedSince mail.ModSeq) (entries []mail.Entry, modified []mail.UID, err error) {
	g := *f
	e := f.roll.edit()
	made := make(map[*flagSet]*flagSet) // what the operation makes of each set
	from := make(map[*flagSet][]mail.UID)
	var touched []mail.UID
	modseq := mail.ModSeq(0)
	entries = make([]mail.Entry, 0, len(uids))
	f.roll.some(uids, func(x *message) bool {
		if unchangedSince > 0 && x.modseq > unchangedSince {
			modified = append(modified, x.uid)
			return true
		}
		to := made[x.flags]
		if to == nil {
			if to, err = t.m.flags.apply(x.flags, op, flags); err != nil {
				return false
			}
			made[x.flags] = to
		}
		if to == x.flags {
			entry := x.entry()
			entry.Before = x.modseq
			entries = append(entries, entry)
			return true
		}
		if modseq == 0 {
			modseq = t.nextModSeq()
		}
		y := *x
		y.flags, y.modseq = to, modseq
		g.count(x, -1)
		g.count(&y, 1)
		e.set(y)
		touched = append(touched, y.uid)
		from[x.flags] = append(from[x.flags], y.uid)
		entry := y.entry()
		entry.Before = x.modseq
		entries = append(entries, entry)
		return true
	})
	if err != nil || len(touched) == 0 {
		return entries, modified, err
	}
	for old, uids := range from {
		// One statement for each stretch in which all messages with the old set change.
		err := f.roll.stretches(uids, func(x *message) bool { return x.flags == old }, func(first, last mail.UID) error {
			return t.c.Exec("UPDATE message SET flags=?, modseq=? WHERE folder=? AND uid BETWEEN ? AND ? AND flags=?",
				made[old].text, uint64(modseq), f.id, uint32(first), uint32(last), old.text)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	g.modseq, g.roll = modseq, e.done()
	return entries, modified, t.put(&g, change{modseq: modseq, touched: touched})
}

// stretches calls f for each stretch of the roll in which every message that
// is of the kind is among the UIDs, which are all of the kind and ascending.
func (r *roll) stretches(uids []mail.UID, kind func(*message) bool, f func(first, last mail.UID) error) error {
	i, _ := slices.BinarySearch(r.uids, uids[0])
	first, last := uids[0], uids[0]
	next := 0 // in uids
	for ; i < len(r.uids) && next < len(uids); i++ {
		uid := r.uids[i]
		if uid == uids[next] {
			last = uid
			next++
			continue
		}
		if !kind(r.get(uid)) {
			continue
		}
		if uid > last && last >= first {
			if err := f(first, last); err != nil {
				return err
			}
		}
		// The next stretch begins with the next of the UIDs.
		first, last = uids[next], 0
	}
	if last >= first {
		return f(first, last)
	}
	return nil
}

// Expunge deletes for good those of the UIDs that bear \Deleted (nil: all that do) and returns them.
func (m *Mailbox) Expunge(ctx context.Context, id int64, uids []mail.UID) ([]mail.UID, error) {
	if _, _, err := m.state(ctx, id); err != nil {
		return nil, err
	}
	var gone []mail.UID
	err := m.writeFreeing(ctx, func(t *tx) error {
		f, err := t.loaded(id)
		if err != nil {
			return err
		}
		gone = nil
		mark := func(x *message) bool {
			if x.flags.deleted {
				gone = append(gone, x.uid)
			}
			return true
		}
		if uids == nil {
			if f.deleted > 0 {
				f.roll.all(mark)
			}
		} else {
			f.roll.some(uids, mark)
		}
		return t.remove(f, gone, true)
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// remove takes messages out of a folder, and lets go of their bytes.
func (t *tx) remove(f *folder, uids []mail.UID, release bool) error {
	if len(uids) == 0 {
		return nil
	}
	g := *f
	e := f.roll.edit()
	modseq := t.nextModSeq()
	var contents []int64
	for _, uid := range uids {
		x := f.roll.get(uid)
		g.count(x, -1)
		e.remove(uid)
		contents = append(contents, x.content)
	}
	err := f.roll.stretches(uids, func(*message) bool { return true }, func(first, last mail.UID) error {
		return t.c.Exec("DELETE FROM message WHERE folder=? AND uid BETWEEN ? AND ?", f.id, uint32(first), uint32(last))
	})
	if err != nil {
		return err
	}
	if err := t.c.Exec("INSERT INTO expunged(folder, modseq, uids) VALUES(?,?,?)", f.id, uint64(modseq), appendRanges(nil, uids)); err != nil {
		return err
	}
	if release {
		if err := t.release(contents); err != nil {
			return err
		}
	}
	g.modseq, g.roll = modseq, e.done()
	return t.put(&g, change{modseq: modseq, expunged: uids})
}

// release takes back one reference to each of the contents.
func (t *tx) release(contents []int64) error {
	slices.Sort(contents)
	for i := 0; i < len(contents); {
		k := i + 1
		for k < len(contents) && contents[k] == contents[k-1]+1 {
			k++
		}
		if err := t.c.Exec("UPDATE content SET refs=refs-1 WHERE id BETWEEN ? AND ?", contents[i], contents[k-1]); err != nil {
			return err
		}
		i = k
	}
	t.then(func() { poke(t.m.chores.collect) })
	return nil
}

// Copy puts messages into another folder as well, all or none.
func (m *Mailbox) Copy(ctx context.Context, id int64, uids []mail.UID, to string) (mail.Copied, error) {
	return m.copy(ctx, id, uids, to, false)
}

// Move puts messages into another folder, all or none.
func (m *Mailbox) Move(ctx context.Context, id int64, uids []mail.UID, to string) (mail.Copied, error) {
	return m.copy(ctx, id, uids, to, true)
}

func (m *Mailbox) copy(ctx context.Context, id int64, uids []mail.UID, to string, move bool) (done mail.Copied, err error) {
	name, err := canonicalName(to)
	if err != nil {
		return done, err
	}
	if _, _, err := m.state(ctx, id); err != nil {
		return done, err
	}
	write := m.write
	if move { // to the trash, as often as not
		write = m.writeFreeing
	}
	err = write(ctx, func(t *tx) (err error) {
		done, err = t.copy(id, uids, name, move)
		return err
	})
	if err != nil {
		return mail.Copied{}, err
	}
	return done, nil
}

func (t *tx) copy(id int64, uids []mail.UID, name string, move bool) (done mail.Copied, err error) {
	f, err := t.loaded(id)
	if err != nil {
		return done, err
	}
	target, err := t.byName(name)
	if err != nil {
		return done, err
	}
	done.UIDValidity = target.validity
	var messages []message
	f.roll.some(uids, func(x *message) bool {
		messages = append(messages, *x)
		done.From = append(done.From, x.uid)
		return true
	})
	if len(messages) == 0 {
		return done, nil
	}
	modseq := t.nextModSeq()
	for i := range messages {
		messages[i].modseq = modseq
		if !move {
			if err := t.refer(messages[i].content, 1); err != nil {
				return done, err
			}
		}
	}
	g, e, err := t.extend(target)
	if err != nil {
		return done, err
	}
	if done.To, err = t.append(g, e, messages); err != nil {
		return done, err
	}
	if err := t.put(g, change{modseq: modseq, touched: done.To}); err != nil || !move {
		return done, err
	}
	if f, err = t.loaded(id); err != nil { // it may be the target
		return done, err
	}
	return done, t.remove(f, done.From, false)
}
