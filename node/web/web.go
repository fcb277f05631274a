// Package web serves the status of the node to a browser and to Prometheus,
// on loopback only:
//
//	/             a page for people
//	/status.json  what `peerpost status --json` prints
//	/metrics      the node's figures
//
// There is no login: whoever has an account on the machine may look. A web
// page that its owner visits may not: it could make the browser ask this
// server, or have a name of its own resolved to 127.0.0.1 and read the answer
// (DNS rebinding). So a request counts only when its Host is a loopback name
// with our port and neither Origin nor Sec-Fetch-Site says that another site
// asks. Nothing here changes anything; every method but GET and HEAD is
// refused.
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/peerpost/peerpost/internal/httpd"
	"github.com/peerpost/peerpost/node/control"
)

// Limits of the listener.
const (
	maxConns       = 64       // connections at once
	maxHeader      = 16 << 10 // bytes of a request's line and header; browsers send 2 KiB
	maxGathering   = 4        // requests for metrics at once
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	answerTimeout  = 10 * time.Second // until a status or the metrics are there
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	stopTimeout    = 2 * time.Second // for requests under way when the node stops
	refreshSeconds = 10              // after which the page loads itself again
)

// Config says what a Server shows.
type Config struct {
	Addr    string // host:port on loopback; port 0 takes any
	Status  func(context.Context) (control.Status, error)
	Metrics prometheus.Gatherer
	Log     *slog.Logger
}

// Server is the listener for browsers.
type Server struct {
	status   func(context.Context) (control.Status, error)
	log      *slog.Logger
	listener net.Listener
	hosts    map[string]bool // Host values that are ours, lower case
	page     *template.Template
	policy   string // Content-Security-Policy
	http     *httpd.Server
}

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// New opens the listener. Nothing is answered before Run.
func New(c Config) (*Server, error) {
	page, err := template.New("page").Funcs(template.FuncMap{"bytes": size, "since": since}).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("status page: %w", err)
	}
	listener, err := listen(c.Addr)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(pageStyle))
	s := &Server{
		status:   c.Status,
		log:      c.Log,
		listener: listener,
		hosts:    hosts(listener.Addr()),
		page:     page,
		policy:   "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.servePage)
	mux.HandleFunc("/status.json", s.serveStatus)
	mux.Handle("/metrics", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: maxGathering,
		Timeout:             answerTimeout,
	}))
	s.http = httpd.New(httpd.Config{Listener: listener, MaxConns: maxConns, Patience: stopTimeout, HTTP: &http.Server{
		Handler:           s.guard(mux),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}})
	return s, nil
}

// listen refuses every address that others than this machine could reach.
func listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("http address %q: %w", addr, err)
	}
	if ip, err := netip.ParseAddr(host); err != nil && !strings.EqualFold(host, "localhost") || err == nil && !ip.IsLoopback() {
		return nil, fmt.Errorf("http address %q is not on loopback", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http listener: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		l.Close()
		return nil, fmt.Errorf("http address %q is not on loopback", addr)
	}
	return l, nil
}

// hosts lists the Host values by which a browser of this machine asks for a
// listener.
func hosts(a net.Addr) map[string]bool {
	tcp := a.(*net.TCPAddr)
	m := make(map[string]bool)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", tcp.IP.String()} {
		m[net.JoinHostPort(name, strconv.Itoa(tcp.Port))] = true
		if tcp.Port == 80 { // which browsers leave out
			m[strings.TrimSuffix(net.JoinHostPort(name, ""), ":")] = true
		}
	}
	return m
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run answers until ctx ends, gives the requests under way a moment, and
// returns when all of them have ended.
func (s *Server) Run(ctx context.Context) error {
	if err := s.http.Run(ctx); err != nil {
		return fmt.Errorf("http listener: %w", err)
	}
	return nil
}

// Close stops at once. It may be called twice.
func (s *Server) Close() error { return s.http.Close() }

// guard lets through only what the owner of this machine asked for, and tells
// the browser to be narrow-minded about the answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", s.policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !s.hosts[strings.ToLower(r.Host)]:
			http.Error(w, "This server answers to localhost and 127.0.0.1 with its own port only.", http.StatusMisdirectedRequest)
		case !s.sameSite(r):
			http.Error(w, "Another site may not ask here. Type the address yourself.", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "Only GET and HEAD are answered.", http.StatusMethodNotAllowed)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, 0)
			next.ServeHTTP(w, r)
		}
	})
}

// sameSite reports whether no other site is behind a request. Programs that
// are not browsers send neither field.
func (s *Server) sameSite(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		host, ok := strings.CutPrefix(strings.ToLower(origin), "http://")
		if !ok || !s.hosts[host] {
			return false
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	return true
}

func (s *Server) ask(w http.ResponseWriter, r *http.Request) (control.Status, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	st, err := s.status(ctx)
	if err != nil {
		s.log.Warn("status for the web page failed", "err", err)
		http.Error(w, "The status cannot be had now; the log says why.", http.StatusServiceUnavailable)
		return st, false
	}
	if st.Addrs == nil {
		st.Addrs = []string{}
	}
	if st.Accounts == nil {
		st.Accounts = []control.AccountStatus{}
	}
	return st, true
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	st, ok := s.ask(w, r)
	if !ok {
		return
	}
	var b bytes.Buffer
	err := s.page.Execute(&b, struct {
		control.Status
		Style   template.CSS
		Refresh int
	}{st, template.CSS(pageStyle), refreshSeconds})
	if err != nil {
		s.log.Error("status page failed", "err", err)
		http.Error(w, "The page cannot be shown; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes()) // the browser went away: nobody is left to be told
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	st, ok := s.ask(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(st)
}

// size says a number of bytes in words.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// since says how long something has lasted, to the second.
func since(t time.Time) string {
	return time.Since(t).Truncate(time.Second).String()
}
