package listen

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func leaf(t *testing.T, a *Authority) *x509.Certificate {
	t.Helper()
	c, err := a.TLS().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func verify(a *Authority, c *x509.Certificate, name string) error {
	_, err := c.Verify(x509.VerifyOptions{
		DNSName: name, Roots: a.Pool(), CurrentTime: time.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func TestClientsTrustTheListener(t *testing.T) {
	a := open(t, t.TempDir())
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		client, server := net.Pipe()
		go func() {
			s := tls.Server(server, a.TLS())
			io.WriteString(s, "hello")
			s.Close()
		}()
		c := tls.Client(client, &tls.Config{RootCAs: a.Pool(), ServerName: name})
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		client.Close()
	}
	if verify(a, leaf(t, a), "mail.example.org") == nil {
		t.Error("the certificate speaks for another name")
	}
}

func TestAuthorityIsConstrained(t *testing.T) {
	a := open(t, t.TempDir())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		ip   net.IP
	}{{name: "mail.example.org"}, {name: "192.0.2.1", ip: net.IPv4(192, 0, 2, 1)}} {
		serial, err := newSerial()
		if err != nil {
			t.Fatal(err)
		}
		tpl := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		if c.ip != nil {
			tpl.IPAddresses = []net.IP{c.ip}
		} else {
			tpl.DNSNames = []string{c.name}
		}
		cert, err := issue(tpl, a.ca, key, a.caKey)
		if err != nil {
			t.Fatal(err)
		}
		if verify(a, cert, c.name) == nil {
			t.Errorf("the authority can vouch for %s", c.name)
		}
	}
}

func TestAuthorityStays(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	b := open(t, dir)
	if !bytes.Equal(a.PEM(), b.PEM()) || !leaf(t, a).Equal(leaf(t, b)) {
		t.Error("opening again made new certificates")
	}
	onDisk, err := os.ReadFile(a.File())
	if err != nil || !bytes.Equal(onDisk, a.PEM()) {
		t.Errorf("ca.pem differs: %v", err)
	}
	for name, want := range map[string]os.FileMode{authorityFile: 0o644, authorityKeyFile: 0o600, leafFile: 0o644, leafKeyFile: 0o600} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, fi.Mode().Perm(), want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 4 {
		t.Errorf("%d files, want 4", len(entries))
	}
}

func TestTornFilesAreMadeAgain(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	for _, name := range []string{leafFile, leafKeyFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("-----BEGIN"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(t, dir)
		if err := verify(a, leaf(t, b), "localhost"); err != nil {
			t.Errorf("%s torn: %v", name, err)
		}
	}
	// A leaf of another authority is of no use.
	if err := os.Remove(filepath.Join(dir, authorityKeyFile)); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	if bytes.Equal(a.PEM(), b.PEM()) {
		t.Error("authority without its key was kept")
	}
	if err := verify(b, leaf(t, b), "localhost"); err != nil {
		t.Error(err)
	}
}

func TestLeafIsRenewedInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, dir)
		first := leaf(t, a)
		time.Sleep(leafLife - leafRenewal - 2*backdate)
		if !leaf(t, a).Equal(first) {
			t.Error("renewed too early")
		}
		time.Sleep(2 * backdate)
		second := leaf(t, a)
		if second.Equal(first) {
			t.Fatal("not renewed while the listener runs")
		}
		if err := verify(a, second, "localhost"); err != nil {
			t.Error(err)
		}
		if !leaf(t, open(t, dir)).Equal(second) {
			t.Error("the renewed leaf is not on disk")
		}

		// A disk that cannot be written must not stop a listener whose
		// certificate is still good.
		time.Sleep(leafLife - leafRenewal)
		a.dir = filepath.Join(dir, "gone")
		if !leaf(t, a).Equal(second) {
			t.Error("a failed renewal changed the certificate")
		}
		time.Sleep(leafRenewal)
		if _, err := a.TLS().GetCertificate(nil); err == nil {
			t.Error("an expired certificate was served")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a := open(t, dir)
		time.Sleep(authorityLife - leafLife + backdate)
		b := open(t, dir)
		if bytes.Equal(a.PEM(), b.PEM()) {
			t.Error("an authority that ends before its leaf was kept")
		}
	})
}
