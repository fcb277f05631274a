package mailbox

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/peerpost/peerpost/internal/mail"
)

// UIDs are stored as ranges, ascending: (first − end of the last range) ‖ (count − 1), as varints.

// appendRanges encodes ascending UIDs.
func appendRanges(b []byte, uids []mail.UID) []byte {
	end := uint64(0)
	for i := 0; i < len(uids); {
		k := i + 1
		for k < len(uids) && uids[k] == uids[k-1]+1 {
			k++
		}
		b = binary.AppendUvarint(b, uint64(uids[i])-end)
		b = binary.AppendUvarint(b, uint64(k-i-1))
		end = uint64(uids[k-1]) + 1
		i = k
	}
	return b
}

// maxRange bounds what is decoded of one row: more UIDs than a folder of that many messages had.
const maxRange = 1 << 24

// parseRanges decodes them.
func parseRanges(b []byte) ([]mail.UID, error) {
	var uids []mail.UID
	end := uint64(0)
	for len(b) > 0 {
		first, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errRanges
		}
		more, k := binary.Uvarint(b[n:])
		if k <= 0 || first > math.MaxUint32 || more > maxRange || len(uids)+int(more) >= maxRange || end+first+more > math.MaxUint32 {
			return nil, errRanges
		}
		b = b[n+k:]
		for u := end + first; u <= end+first+more; u++ {
			uids = append(uids, mail.UID(u))
		}
		end += first + more + 1
	}
	return uids, nil
}

var errRanges = errors.New("damaged row in the index")
