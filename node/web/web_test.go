package web

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerpost/peerpost/node/control"
)

// start runs a server and returns its address.
func start(t *testing.T, addr string, status func(context.Context) (control.Status, error)) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "peerpost_peers", Help: "Peers."})
	g.Set(3)
	registry.MustRegister(g)
	s, err := New(Config{Addr: addr, Status: status, Metrics: registry, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s.Addr()
}

func calm(context.Context) (control.Status, error) {
	return control.Status{
		PeerID: "12D3Koo", IMAP: "127.0.0.1:7143", Started: time.Now().Add(-time.Minute),
		Accounts: []control.AccountStatus{
			{Address: "<script>@key.peerpost.alt", Messages: 7},
			{Address: "eve@key.peerpost.alt", Locked: true, Waiting: 2, Problem: "newer <keys>"},
			{Address: "bob@key.peerpost.alt", Locked: true, Damaged: true, Problem: "a <file> is lost"},
		},
		Holding: control.Holding{Bytes: 3 << 20},
	}, nil
}

// ask sends a request to addr with the header given ("Host" sets the host).
func ask(t *testing.T, method, addr, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Add(header[i], header[i+1])
		}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestPages(t *testing.T) {
	addr := start(t, "127.0.0.1:0", calm)
	resp, body := ask(t, "GET", addr, "/")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("status page: %s\n%s", resp.Status, body)
	}
	for _, want := range []string{"&lt;script&gt;@key.peerpost.alt", "3.0 MiB", "127.0.0.1:7143", "12D3Koo", "2 waiting", "1m0s", "<td>7</td>", "Problem: newer &lt;keys&gt;.", ">damaged<", "Problem: a &lt;file&gt; is lost."} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q:\n%s", want, body)
		}
	}
	if strings.Contains(body, "<script") {
		t.Error("an address became markup")
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	_, style, _ := strings.Cut(body, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	if want := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(resp.Header.Get("Content-Security-Policy"), want) {
		t.Error("the policy does not allow the page's style")
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "style-src 'sha256-") {
		t.Errorf("policy: %q", csp)
	}

	resp, body = ask(t, "GET", addr, "/status.json")
	var st map[string]any
	if err := json.Unmarshal([]byte(body), &st); err != nil || resp.StatusCode != http.StatusOK || st["peer_id"] != "12D3Koo" || st["addrs"] == nil {
		t.Errorf("status.json: %s %v\n%s", resp.Status, err, body)
	}
	if resp, body = ask(t, "GET", addr, "/metrics"); resp.StatusCode != http.StatusOK || !strings.Contains(body, "peerpost_peers 3") {
		t.Errorf("metrics: %s\n%s", resp.Status, body)
	}
	if resp, body = ask(t, "HEAD", addr, "/"); resp.StatusCode != http.StatusOK || body != "" {
		t.Errorf("HEAD: %s %q", resp.Status, body)
	}
	if resp, _ = ask(t, "GET", addr, "/other"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("other page: %s", resp.Status)
	}
}

func TestStrangers(t *testing.T) {
	addr := start(t, "127.0.0.1:0", calm)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	const rebound, crossed, method, fine = http.StatusMisdirectedRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusOK
	for _, c := range []struct {
		method string
		header []string
		want   int
	}{
		{"GET", []string{"Host", "localhost:" + port}, fine},
		{"GET", []string{"Host", "LocalHost:" + port}, fine},
		{"GET", []string{"Host", "[::1]:" + port}, fine},
		{"GET", []string{"Host", "evil.example:" + port}, rebound},
		{"GET", []string{"Host", "localhost"}, rebound},
		{"GET", []string{"Host", "localhost:1"}, rebound},
		{"GET", []string{"Host", "localhost.evil.example:" + port}, rebound},
		{"GET", []string{"Host", "localhost.:" + port}, rebound},
		{"GET", []string{"Host", "127.0.0.1:" + port + "@evil.example"}, rebound},
		{"GET", []string{"Host", "0.0.0.0:" + port}, rebound},
		{"POST", []string{"Host", "evil.example"}, rebound},

		{"GET", []string{"Origin", "http://localhost:" + port}, fine},
		{"GET", []string{"Origin", "http://" + addr, "Sec-Fetch-Site", "same-origin"}, fine},
		{"GET", []string{"Sec-Fetch-Site", "none"}, fine},
		{"GET", []string{"Origin", "https://evil.example"}, crossed},
		{"GET", []string{"Origin", "null"}, crossed},
		{"GET", []string{"Origin", ""}, crossed},
		{"GET", []string{"Origin", "https://" + addr}, crossed},
		{"GET", []string{"Origin", "http://localhost:3000"}, crossed},
		{"GET", []string{"Origin", "http://" + addr, "Origin", "https://evil.example"}, crossed},
		{"GET", []string{"Sec-Fetch-Site", "cross-site"}, crossed},
		{"GET", []string{"Sec-Fetch-Site", "same-site"}, crossed}, // another port of localhost
		{"GET", []string{"Sec-Fetch-Site", "later-invention"}, crossed},

		{"POST", nil, method},
		{"OPTIONS", nil, method},
		{"DELETE", nil, method},
		{"TRACE", nil, method},
		{"POST", []string{"Origin", "https://evil.example"}, crossed},
	} {
		for _, path := range []string{"/", "/status.json", "/metrics"} {
			resp, body := ask(t, c.method, addr, path, c.header...)
			if resp.StatusCode != c.want {
				t.Errorf("%s %s %q: %s, want %d", c.method, path, c.header, resp.Status, c.want)
			}
			if c.want != fine && strings.Contains(body, "peerpost") {
				t.Errorf("%s %s %q tells: %s", c.method, path, c.header, body)
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s %q is shared", c.method, path, c.header)
			}
		}
	}
	// HTTP/1.0 without a Host.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /status.json HTTP/1.0\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "421") {
		t.Errorf("no Host: %q, %v", line, err)
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:0", "127.0.0.1", ""} {
		s, err := New(Config{Addr: addr, Status: calm, Metrics: prometheus.NewRegistry(), Log: slog.Default()})
		if err == nil {
			s.Close()
			t.Errorf("%q was taken", addr)
		}
	}
	addr := start(t, "localhost:0", calm)
	if resp, _ := ask(t, "GET", addr, "/"); resp.StatusCode != http.StatusOK {
		t.Errorf("localhost: %s", resp.Status)
	}
}

func TestStatusFails(t *testing.T) {
	addr := start(t, "127.0.0.1:0", func(context.Context) (control.Status, error) {
		return control.Status{}, errors.New("the disk is on fire")
	})
	for _, path := range []string{"/", "/status.json"} {
		if resp, body := ask(t, "GET", addr, path); resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "fire") {
			t.Errorf("%s: %s %q", path, resp.Status, body)
		}
	}
}

func TestHostsOfPort80(t *testing.T) {
	m := hosts(&net.TCPAddr{IP: net.IPv6loopback, Port: 80})
	for _, h := range []string{"localhost", "localhost:80", "[::1]", "[::1]:80", "127.0.0.1"} {
		if !m[h] {
			t.Errorf("%q is missing", h)
		}
	}
}
