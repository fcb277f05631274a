package imap

import (
	"reflect"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/peerpost/peerpost/internal/mail"
)

func TestQuery(t *testing.T) {
	v := &selected{uids: []mail.UID{10, 20, 30, 40}, saved: []mail.UIDRange{{First: 20, Last: 30}}}
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		in   imap.SearchCriteria
		want mail.Query
	}{
		{name: "all"},
		{"sequence", imap.SearchCriteria{SeqNum: []imap.SeqSet{seqs(t, "2:3")}}, mail.Query{UIDs: []mail.UIDRange{{First: 20, Last: 30}}}},
		{"star", imap.SearchCriteria{SeqNum: []imap.SeqSet{seqs(t, "*")}}, mail.Query{UIDs: []mail.UIDRange{{First: 40, Last: 40}}}},
		{"beyond", imap.SearchCriteria{SeqNum: []imap.SeqSet{seqs(t, "9")}}, mail.Query{UIDs: never}},
		{"both", imap.SearchCriteria{SeqNum: []imap.SeqSet{seqs(t, "2:*")}, UID: []imap.UIDSet{uidsOf(t, "35:90")}}, mail.Query{UIDs: []mail.UIDRange{{First: 35, Last: 40}}}},
		{"neither", imap.SearchCriteria{SeqNum: []imap.SeqSet{seqs(t, "1")}, UID: []imap.UIDSet{uidsOf(t, "35:90")}}, mail.Query{UIDs: never}},
		{"saved", imap.SearchCriteria{UID: []imap.UIDSet{imap.SearchRes()}}, mail.Query{UIDs: []mail.UIDRange{{First: 20, Last: 30}}}},
		{"recent", imap.SearchCriteria{Flag: []imap.Flag{`\Recent`}}, mail.Query{UIDs: never}},
		{"old", imap.SearchCriteria{NotFlag: []imap.Flag{`\Recent`}}, mail.Query{}},
		{"flags", imap.SearchCriteria{Flag: []imap.Flag{`\seen`, "work"}, NotFlag: []imap.Flag{`\Deleted`}}, mail.Query{Flags: []mail.Flag{mail.Seen, "work"}, NotFlags: []mail.Flag{mail.Deleted}}},
		{"dates", imap.SearchCriteria{Since: day, Before: day.AddDate(0, 0, 1), SentSince: day, SentBefore: day}, mail.Query{Since: day, Before: day.AddDate(0, 0, 1), SentSince: day, SentBefore: day}},
		{"sizes", imap.SearchCriteria{Larger: 3, Smaller: 9}, mail.Query{Larger: 3, Smaller: 9}},
		{"texts", imap.SearchCriteria{Body: []string{"a", ""}, Text: []string{"", "ß"}, Header: []imap.SearchCriteriaHeaderField{{Key: "X", Value: ""}}},
			mail.Query{Body: []string{"a"}, Text: []string{"ß"}, Header: []mail.HeaderQuery{{Name: "X"}}}},
		{"modseq", imap.SearchCriteria{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: 7}}, mail.Query{ModSeq: 7}},
		{"not and or", imap.SearchCriteria{Not: []imap.SearchCriteria{{Larger: 1}}, Or: [][2]imap.SearchCriteria{{{Smaller: 2}, {Flag: []imap.Flag{`\Recent`}}}}},
			mail.Query{Not: []mail.Query{{Larger: 1}}, Or: [][2]mail.Query{{{Smaller: 2}, {UIDs: never}}}}},
	} {
		b := &queryBuilder{v: v}
		got, err := b.query(&c.in, 0)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
}

func TestQueriesAreBounded(t *testing.T) {
	deep := imap.SearchCriteria{}
	for range maxSearchDepth + 1 {
		deep = imap.SearchCriteria{Not: []imap.SearchCriteria{deep}}
	}
	wide := imap.SearchCriteria{}
	for range maxSearchTerms {
		wide.Text = append(wide.Text, "a")
	}
	for name, c := range map[string]*imap.SearchCriteria{
		"deep":   &deep,
		"wide":   &wide,
		"text":   {Text: []string{"\xff"}},
		"body":   {Body: []string{"a\x00"}},
		"header": {Header: []imap.SearchCriteriaHeaderField{{Key: "a", Value: "\xfe"}}},
		"within": {Or: [][2]imap.SearchCriteria{{{}, {Not: []imap.SearchCriteria{{Text: []string{"\xff"}}}}}}},
	} {
		b := &queryBuilder{v: &selected{}}
		if _, err := b.query(c, 0); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFound(t *testing.T) {
	all := imap.SearchOptions{ReturnAll: true}
	for _, c := range []struct {
		name    string
		uids    []mail.UID
		kind    imapserver.NumKind
		options imap.SearchOptions
		want    imap.SearchData
		saved   []mail.UIDRange
	}{
		{name: "none", kind: imapserver.NumKindSeq, options: all, want: imap.SearchData{All: imap.SeqSet{}}},
		{name: "none by uid", kind: imapserver.NumKindUID, options: all, want: imap.SearchData{All: imap.UIDSet{}}},
		{name: "numbers", uids: []mail.UID{10, 30, 40}, kind: imapserver.NumKindSeq, options: all,
			want: imap.SearchData{All: seqs(t, "1,3:4"), Min: 1, Max: 4, Count: 3}},
		{name: "uids", uids: []mail.UID{10, 30, 40}, kind: imapserver.NumKindUID, options: all,
			want: imap.SearchData{All: uidsOf(t, "10,30,40"), Min: 10, Max: 40, Count: 3}},
		{name: "unknown ones", uids: []mail.UID{5, 20, 25, 50}, kind: imapserver.NumKindUID, options: all,
			want: imap.SearchData{All: uidsOf(t, "20"), Min: 20, Max: 20, Count: 1}},
		{name: "save", uids: []mail.UID{10, 30, 40}, kind: imapserver.NumKindUID, options: imap.SearchOptions{ReturnAll: true, ReturnSave: true},
			want:  imap.SearchData{All: uidsOf(t, "10,30,40"), Min: 10, Max: 40, Count: 3},
			saved: []mail.UIDRange{{First: 10, Last: 10}, {First: 30, Last: 30}, {First: 40, Last: 40}}},
		{name: "save min", uids: []mail.UID{10, 30, 40}, kind: imapserver.NumKindUID, options: imap.SearchOptions{ReturnMin: true, ReturnSave: true},
			want: imap.SearchData{All: uidsOf(t, "10,30,40"), Min: 10, Max: 40, Count: 3}, saved: []mail.UIDRange{{First: 10, Last: 10}}},
		{name: "save both", uids: []mail.UID{10, 30, 40}, kind: imapserver.NumKindUID, options: imap.SearchOptions{ReturnMin: true, ReturnMax: true, ReturnSave: true},
			want: imap.SearchData{All: uidsOf(t, "10,30,40"), Min: 10, Max: 40, Count: 3}, saved: []mail.UIDRange{{First: 10, Last: 10}, {First: 40, Last: 40}}},
		{name: "save one", uids: []mail.UID{30}, kind: imapserver.NumKindUID, options: imap.SearchOptions{ReturnMin: true, ReturnMax: true, ReturnSave: true},
			want: imap.SearchData{All: uidsOf(t, "30"), Min: 30, Max: 30, Count: 1}, saved: []mail.UIDRange{{First: 30, Last: 30}}},
		{name: "save count", uids: []mail.UID{10, 30}, kind: imapserver.NumKindUID, options: imap.SearchOptions{ReturnMin: true, ReturnCount: true, ReturnSave: true},
			want: imap.SearchData{All: uidsOf(t, "10,30"), Min: 10, Max: 30, Count: 2}, saved: []mail.UIDRange{{First: 10, Last: 10}, {First: 30, Last: 30}}},
	} {
		v := &selected{uids: []mail.UID{10, 20, 30, 40}, saved: []mail.UIDRange{{First: 1, Last: 1}}}
		want := c.saved
		if !c.options.ReturnSave {
			want = v.saved
		}
		got := v.found(c.uids, c.kind, &c.options)
		if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, *got, c.want)
		}
		if !reflect.DeepEqual(v.saved, want) {
			t.Errorf("%s: saved %v, want %v", c.name, v.saved, want)
		}
	}
}
