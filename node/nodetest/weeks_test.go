package nodetest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerpost/peerpost/node/nodetest"
)

// TestKeysRoll has somebody log in to an account that was made while the node
// ran: the new week's keys are saved all the same.
func TestKeysRoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, 1, nodetest.Options{Refresh: 24 * time.Hour})
		defer c.Close()
		alice := c.Person(0, "alice")
		alice.Login()
		found, err := filepath.Glob(filepath.Join(c.Node[0].Home(), "accounts", "*", "keyring.age"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%d keyrings: %v", len(found), err)
		}
		before, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		c.Pass(8 * 24 * time.Hour)
		after, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(before, after) {
			t.Error("a week later the keys are the same")
		}
	})
}
