package listen

import (
	"net"
	"testing"
)

func TestLoopback(t *testing.T) {
	for _, c := range []struct {
		addr string
		want bool
	}{
		{"127.0.0.1:1", true},
		{"127.8.9.1:1", true},
		{"[::1]:1", true},
		{"[::ffff:127.0.0.1]:1", true},
		{"0.0.0.0:1", false},
		{"[::]:1", false},
		{":1", false},
		{"192.168.1.2:1", false},
		{"[fe80::1]:1", false},
	} {
		a, err := net.ResolveTCPAddr("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := Loopback(a); got != c.want {
			t.Errorf("Loopback(%s) = %v", c.addr, got)
		}
		if got := Loopback(other{c.addr}); got != c.want {
			t.Errorf("Loopback(%s) of another type = %v", c.addr, got)
		}
	}
	if Loopback(nil) || Loopback(&net.UnixAddr{Name: "/run/x", Net: "unix"}) {
		t.Error("no address of IP is no loopback")
	}
}

// other is an address that is not a *net.TCPAddr.
type other struct{ s string }

func (other) Network() string  { return "tcp" }
func (o other) String() string { return o.s }
