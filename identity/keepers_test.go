package identity

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// Keepers are there after a restart, locked too, in the order in which they were chosen, and records take all of them.
func TestKeepers(t *testing.T) {
	v, kr := newTestVault(t)
	if len(v.Keepers()) != 0 {
		t.Fatal("there are keepers from the start")
	}
	keeper := func(b byte, addr string) Host {
		return Host{Peer: bytes.Repeat([]byte{b}, MaxPeer), Addrs: [][]byte{[]byte(strings.Repeat(addr, MaxAddr))}}
	}
	for b := range byte(MaxHosts) {
		if err := v.AddKeeper(keeper(b, "a")); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.AddKeeper(keeper(MaxHosts, "a")); !errors.Is(err, ErrKeepers) {
		t.Fatalf("one too many: %v", err)
	}
	if err := v.AddKeeper(keeper(1, "b")); err != nil { // it has moved
		t.Fatal(err)
	}
	v = reopen(t, v)
	got := v.Keepers()
	if len(got) != MaxHosts || got[1].Addrs[0][0] != 'b' || got[2].Peer[0] != 2 {
		t.Fatalf("after a restart: %v", got)
	}
	got[0].Addrs[0] = nil // a copy
	raw, err := kr.SignRecord(RecordParams{Now: time.Now(), Sequence: 1, Hosts: got[1:], Keepers: v.Keepers()})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseRecord(raw); err != nil || len(r.Keepers) != MaxHosts || !bytes.Equal(r.Keepers[3].Peer, keeper(3, "").Peer) {
		t.Fatalf("the record: %+v, %v", r, err)
	}
	if was, err := v.RemoveKeeper(keeper(0, "").Peer); !was || err != nil {
		t.Fatalf("removed: %v, %v", was, err)
	}
	if was, err := v.RemoveKeeper(keeper(0, "").Peer); was || err != nil {
		t.Fatalf("removed twice: %v, %v", was, err)
	}
	if got := reopen(t, v).Keepers(); len(got) != MaxHosts-1 || got[0].Peer[0] != 1 {
		t.Fatalf("one less: %v", got)
	}
	for _, bad := range []Host{{}, {Peer: make([]byte, MaxPeer+1)}, {Peer: []byte("p"), Addrs: [][]byte{make([]byte, MaxAddr+1)}}, {Peer: []byte("p"), Addrs: make([][]byte, MaxAddrs+1)}} {
		if err := v.AddKeeper(bad); err == nil {
			t.Errorf("a keeper that no record can name was taken: %v", bad)
		}
	}
	for name, p := range map[string]keepersPayload{
		"twice":   {vaultVersion, []Host{keeper(1, "a"), keeper(1, "b")}},
		"many":    {vaultVersion, []Host{keeper(1, "a"), keeper(2, "a"), keeper(3, "a"), keeper(4, "a"), keeper(5, "a")}},
		"version": {vaultVersion + 1, nil},
	} {
		if err := os.WriteFile(v.path(keepersFile), encode(p), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenVault(v.dir); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// The longest list fits its file.
func TestKeepersFile(t *testing.T) {
	v, _ := newTestVault(t)
	for b := range byte(MaxHosts) {
		k := Host{Peer: bytes.Repeat([]byte{b}, MaxPeer)}
		for range MaxAddrs {
			k.Addrs = append(k.Addrs, make([]byte, MaxAddr))
		}
		if err := v.AddKeeper(k); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(reopen(t, v).Keepers()); n != MaxHosts {
		t.Fatalf("%d keepers", n)
	}
}
