package store

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/peerpost/peerpost/identity"
	"github.com/peerpost/peerpost/identity/sealed"
	"github.com/peerpost/peerpost/internal/wire"
)

// The bytes of each kind of frame, length first. They are the protocol: a change here is a new version of it.
func TestFrameBytes(t *testing.T) {
	id := sealed.ID(bytes.Repeat([]byte{0xaa}, 32))
	inbox := identity.Inbox(bytes.Repeat([]byte{0xbb}, 32))
	const a, b = "5820aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"5820bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	for _, f := range []struct {
		name  string
		frame any
		hex   string
	}{
		{"put", &request{Put: &putRequest{Outer: []byte{1, 2}}}, "07" + "a101a101420102"},
		{"put of upkeep", &request{Put: &putRequest{Outer: []byte{1}, Upkeep: true}}, "08" + "a101a201410102f5"},
		{"nonce", &request{Nonce: &nonceRequest{}}, "03" + "a102a0"},
		{"list", &request{List: &listRequest{Inboxes: []listInbox{{Proof: []byte{9}, After: id}}}}, "2c" + "a103a10181a201410902" + a},
		{"get", &request{Get: &getRequest{Proof: []byte{9}}}, "06" + "a104a1014109"},
		{"watch", &request{Watch: &watchRequest{Proofs: [][]byte{{9}}}}, "07" + "a105a101814109"},
		{"delete", &request{Delete: &deleteRequest{Tombstone: []byte{9}}}, "06" + "a106a1014109"},
		{"digest", &request{Digest: &digestRequest{Inboxes: []digest{{Inbox: inbox, Count: 3, XOR: id}}}}, "4e" + "a107a10181a301" + b + "020303" + a},
		{"offer", &request{Offer: &offerRequest{Inbox: inbox, Items: []offerItem{{ID: id, Expiry: 20000}}, Last: true}},
			"50" + "a108a301" + b + "028182" + a + "194e20" + "03f5"},

		{"refused", &refusedAnswer{&Refusal{Code: CodeRate, Text: "no"}}, "09" + "a101a2010b02626e6f"},
		{"stamp", &putAnswer{Refused: &Refusal{Code: CodeStamp, Text: "no", Bits: 19}}, "0b" + "a101a3010c02626e6f0313"},
		{"want", &putAnswer{Want: true}, "03" + "a102f5"},
		{"receipt", &putAnswer{Receipt: []byte{9}}, "04" + "a1034109"},
		{"tombstone", &putAnswer{Tombstone: []byte{9}}, "04" + "a1044109"},
		{"listed", &listAnswer{Inboxes: []listedPage{{Items: []listItem{{ID: id, Size: 5120}}, More: true}}}, "2e" + "a10281a2018182" + a + "191400" + "02f5"},
		{"item", &getItem{Outer: []byte{1}}, "04" + "a1024101"},
		{"last item", &getItem{Missing: []sealed.ID{id}, Last: true}, "27" + "a20381" + a + "04f5"},
		{"notice", &watchNotice{Inbox: inbox[:], IDs: []sealed.ID{id}}, "48" + "a202" + b + "0381" + a},
		{"beat", &watchNotice{}, "01" + "a0"},
		{"deleted", &deleteAnswer{Deleted: 2}, "03" + "a10202"},
		{"digests", &digestAnswer{Results: []digestState{digestDiffers, digestSame, digestNotNear}}, "06" + "a10243010203"},
		{"lacks", &offerAnswer{Lacks: []uint64{0, 4}, Tombstones: [][]byte{{9}}}, "09" + "a20282000403814109"},
	} {
		var buf bytes.Buffer
		if err := wire.WriteFrame(&buf, f.frame); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(buf.Bytes()); got != f.hex {
			t.Errorf("%s:\n got %s\nwant %s", f.name, got, f.hex)
		}
	}
}
