package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Lives of the certificates.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	leafLife      = 390 * 24 * time.Hour // below the 398 days that browsers and Apple's systems take
	leafRenewal   = 60 * 24 * time.Hour  // a leaf with less than this left is replaced
	backdate      = 24 * time.Hour       // for clients whose clock is behind
)

// The files of an Authority, within its directory.
const (
	authorityFile    = "ca.pem"      // to be imported by the owner
	authorityKeyFile = "ca-key.pem"  // mode 0600
	leafFile         = "tls.pem"     // certificate of the listeners
	leafKeyFile      = "tls-key.pem" // mode 0600
)

// Authority is the node's own certificate authority and the certificate that
// it made for the listeners. Its methods may be called at once from many
// goroutines.
type Authority struct {
	dir     string
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
	caBytes []byte // PEM

	mu   sync.Mutex
	leaf *tls.Certificate
}

// OpenAuthority loads the authority and the certificate that are kept in a
// directory, and makes what is missing, expired or about to expire. An
// authority that has to be made again must be imported again.
func OpenAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate directory: %w", err)
	}
	a := &Authority{dir: dir}
	if err := a.loadAuthority(); err != nil {
		return nil, err
	}
	if err := a.loadLeaf(); err != nil {
		return nil, err
	}
	return a, nil
}

// File returns the path of the authority's certificate (PEM), which mail
// clients are told to trust.
func (a *Authority) File() string { return filepath.Join(a.dir, authorityFile) }

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return slices.Clone(a.caBytes) }

// Pool returns a pool that trusts the authority and nothing else.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.ca)
	return p
}

// TLS returns the configuration of a listener. The certificate is renewed
// while the listener runs.
func (a *Authority) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.certificate()
		},
	}
}

// certificate returns a leaf that is good for some time yet.
func (a *Authority) certificate() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if fresh(a.leaf.Leaf, leafRenewal) {
		return a.leaf, nil
	}
	if err := a.makeLeaf(); err != nil {
		if fresh(a.leaf.Leaf, 0) {
			return a.leaf, nil // cannot be renewed now, and need not be yet
		}
		return nil, err
	}
	return a.leaf, nil
}

func (a *Authority) loadAuthority() error {
	cert, key, err := readPair(a.dir, authorityFile, authorityKeyFile)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if cert == nil || !cert.IsCA || !fresh(cert, leafLife) {
		return a.makeAuthority()
	}
	a.ca, a.caKey = cert, key
	a.caBytes = encodeCertificate(cert.Raw)
	return nil
}

func (a *Authority) makeAuthority() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:                serial,
		Subject:                     pkix.Name{CommonName: "Peerpost on this computer"},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(authorityLife),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	cert, err := issue(t, t, key, key)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if err := writePair(a.dir, authorityFile, authorityKeyFile, cert, key); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	a.ca, a.caKey = cert, key
	a.caBytes = encodeCertificate(cert.Raw)
	return nil
}

func (a *Authority) loadLeaf() error {
	cert, key, err := readPair(a.dir, leafFile, leafKeyFile)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if cert == nil || !fresh(cert, leafRenewal) || cert.CheckSignatureFrom(a.ca) != nil {
		return a.makeLeaf()
	}
	a.setLeaf(cert, key)
	return nil
}

// makeLeaf is called with mu held, or before anybody else knows a.
func (a *Authority) makeLeaf() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife - backdate),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	cert, err := issue(t, a.ca, key, a.caKey)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := writePair(a.dir, leafFile, leafKeyFile, cert, key); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	a.setLeaf(cert, key)
	return nil
}

func (a *Authority) setLeaf(cert *x509.Certificate, key *ecdsa.PrivateKey) {
	a.leaf = &tls.Certificate{Certificate: [][]byte{cert.Raw, a.ca.Raw}, PrivateKey: key, Leaf: cert}
}

// fresh reports whether a certificate is valid and stays so for a while.
func fresh(c *x509.Certificate, left time.Duration) bool {
	now := time.Now()
	return !now.Before(c.NotBefore) && now.Add(left).Before(c.NotAfter)
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return n, nil
}

func issue(t, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// readPair reads a certificate and its key. Files that are missing, torn or do
// not belong together give a nil certificate: the pair is then made again.
func readPair(dir, certName, keyName string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var blocks [2]*pem.Block
	for i, name := range [...]string{certName, keyName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		blocks[i], _ = pem.Decode(b)
		if blocks[i] == nil {
			return nil, nil, nil
		}
	}
	cert, err := x509.ParseCertificate(blocks[0].Bytes)
	if err != nil {
		return nil, nil, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(blocks[1].Bytes)
	if err != nil {
		return nil, nil, nil
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, nil
	}
	return cert, key, nil
}

func writePair(dir, certName, keyName string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeFile(dir, keyName, b, 0o600); err != nil {
		return err
	}
	return writeFile(dir, certName, encodeCertificate(cert.Raw), 0o644)
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writeFile replaces a file in one step.
func writeFile(dir, name string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
