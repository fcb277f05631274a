package mailbox

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/internal/mail"
)

// TestAcceptGathers accepts messages one after the other: they wait for a while
// to be indexed together, but not when somebody asks for them.
func TestAcceptGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openTest(t, t.TempDir())
		waiting := func() int {
			synctest.Wait()
			m.accepts.mu.Lock()
			defer m.accepts.mu.Unlock()
			return len(m.accepts.waiting)
		}
		const n = 20
		next := byte(0)
		fill := func() {
			for range n {
				next++
				accept(t, m, []byte(fmt.Sprintf("Subject: %d\r\n\r\ntext\r\n", next)), Outgoing{MessageID: [16]byte{next}, Expires: time.Now().Add(time.Hour)})
			}
		}
		fill()
		if got := waiting(); got != n {
			t.Errorf("%d of %d messages wait for others", got, n)
		}
		time.Sleep(acceptGather)
		if got := waiting(); got != 0 {
			t.Errorf("%d messages wait after %v", got, acceptGather)
		}
		fill()
		began := time.Now()
		rows, err := m.Outbox(t.Context(), OutboxFilter{})
		tcheck(t, err)
		if d := time.Since(began); len(rows) != 2*n || d != 0 {
			t.Errorf("%d rows after %v", len(rows), d)
		}
		if f := folderOf(t, m, "Sent"); f.Role != mail.Sent || f.Messages != 2*n {
			t.Errorf("%d messages in the folder of sent mail", f.Messages)
		}
	})
}
