// Package listen holds what every listener for mail clients needs: the check
// that an address stays on this machine, and a TLS certificate for it.
//
// Clear text is allowed on loopback only. Everything else speaks TLS from the
// first byte, with a certificate of a small authority that the node makes for
// itself; its owner imports ca.pem once. The authority may only vouch for
// localhost, 127.0.0.0/8 and ::1, so whoever steals its key can fool nobody
// about any other place.
package listen

import (
	"net"
	"net/netip"
)

// Loopback reports whether only this machine can reach the address.
func Loopback(addr net.Addr) bool {
	if addr == nil {
		return false
	}
	if a, ok := addr.(*net.TCPAddr); ok {
		return a.IP.IsLoopback()
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}
