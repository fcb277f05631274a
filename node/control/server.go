package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/peerpost/peerpost/internal/httpd"
)

// Limits of the socket. Only the owner can reach it; they bound mistakes.
const (
	maxConns   = 64        // connections at once
	maxHeader  = 256 << 10 // bytes of a request's line and header: some 2,000 recipients
	maxRequest = 64 << 10  // bytes of a JSON body

	headerTimeout = 5 * time.Second
	readTimeout   = 2 * time.Minute  // of a whole request; a message of 40 MiB over a socket takes less than a second
	answerTimeout = 2 * time.Minute  // of an ordinary request, which may do a lookup, or scrypt
	writeTimeout  = 30 * time.Second // of an answer, and of each message of an export
	idleTimeout   = time.Minute
	stopTimeout   = 5 * time.Second // for requests under way when the node stops
)

// Config says what a Server is made of.
type Config struct {
	Lock *Lock // of the home; held for as long as the Server lives
	Node Node
	Log  *slog.Logger
}

// Server answers the command.
type Server struct {
	node   Node
	log    *slog.Logger
	socket *socket
	http   *httpd.Server
}

// New opens the socket. Nothing is answered before Run.
func New(c Config) (*Server, error) {
	sock, err := listen(c.Lock)
	if err != nil {
		return nil, err
	}
	s := &Server{node: c.Node, log: c.Log, socket: sock}
	s.http = httpd.New(httpd.Config{Listener: sock, MaxConns: maxConns, Patience: stopTimeout, HTTP: &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
	}})
	return s, nil
}

// Path is where the socket is.
func (s *Server) Path() string { return s.socket.Addr().String() }

// Run answers until ctx ends, gives the requests under way a moment, and
// returns when all of them have ended.
func (s *Server) Run(ctx context.Context) error {
	if err := s.http.Run(ctx); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close stops at once and removes the socket. It may be called twice.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", s.answer(s.status))
	mux.Handle("GET /v1/outbox", s.answer(s.outbox))
	mux.Handle("POST /v1/invite", s.answer(s.invite))
	mux.Handle("GET /v1/contacts", s.answer(s.contacts))
	mux.Handle("POST /v1/contacts", s.answer(s.addContact))
	mux.Handle("GET /v1/keepers", s.answer(s.keepers))
	mux.Handle("POST /v1/keepers", s.answer(s.addKeeper))
	mux.Handle("DELETE /v1/keepers", s.answer(s.removeKeeper))
	mux.Handle("POST /v1/send", s.answer(s.send))
	mux.Handle("POST /v1/accounts", s.answer(s.addAccount))
	mux.Handle("GET /v1/passwords", s.answer(s.passwords))
	mux.Handle("POST /v1/passwords", s.answer(s.addPassword))
	mux.Handle("DELETE /v1/passwords", s.answer(s.removePassword))
	mux.Handle("POST /v1/unlock", s.answer(s.unlock))
	mux.Handle("POST /v1/stop", s.answer(s.stop))
	mux.HandleFunc("GET /v1/export", s.export)
	mux.Handle("/", s.answer(func(_ context.Context, r *http.Request) (any, error) {
		return nil, &Error{Code: CodeInvalid, Message: "the running node does not know this request", Hint: "stop it and start the same version as the command's"}
	}))
	return mux
}

// answer makes a handler of a function that returns what is to be sent as JSON.
func (s *Server) answer(f func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, MaxMessage)
		v, err := f(ctx, r)
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			e := refusal(err)
			s.log.Debug("control request refused", "path", r.URL.Path, "code", e.Code)
			w.WriteHeader(e.Code.httpStatus())
			v = failed{e}
		}
		json.NewEncoder(w).Encode(v) // the other end went away: nobody is left to be told
	})
}

// failed is the answer to a request that was refused.
type failed struct {
	Error *Error `json:"error"`
}

// empty is the answer when there is nothing to say but yes.
type empty struct{}

// decode reads the JSON body of a request, strictly.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Error{Code: CodeInvalid, Message: "the request cannot be read", Cause: err}
	}
	if d.More() {
		return &Error{Code: CodeInvalid, Message: "the request is longer than it should be"}
	}
	return nil
}

func account(r *http.Request) string { return r.FormValue("account") }

func (s *Server) status(ctx context.Context, _ *http.Request) (any, error) {
	st, err := s.node.Status(ctx)
	st.Addrs = list(st.Addrs)
	st.Accounts = list(st.Accounts)
	return st, err
}

func (s *Server) outbox(ctx context.Context, r *http.Request) (any, error) {
	entries, err := s.node.Outbox(ctx, account(r), r.FormValue("id"))
	return list(entries), err
}

func (s *Server) invite(ctx context.Context, r *http.Request) (any, error) {
	i, err := s.node.Invite(ctx, account(r))
	i.Peers = list(i.Peers)
	return i, err
}

func (s *Server) contacts(ctx context.Context, r *http.Request) (any, error) {
	c, err := s.node.Contacts(ctx, account(r))
	return list(c), err
}

func (s *Server) addContact(ctx context.Context, r *http.Request) (any, error) {
	var c NewContact
	if err := decode(r, &c); err != nil {
		return nil, err
	}
	return s.node.AddContact(ctx, account(r), c)
}

func (s *Server) keepers(ctx context.Context, r *http.Request) (any, error) {
	k, err := s.node.Keepers(ctx, account(r))
	for i := range k {
		k[i].Addrs = list(k[i].Addrs)
	}
	return list(k), err
}

func (s *Server) addKeeper(ctx context.Context, r *http.Request) (any, error) {
	var k NewKeeper
	if err := decode(r, &k); err != nil {
		return nil, err
	}
	added, err := s.node.AddKeeper(ctx, account(r), k.Target)
	added.Addrs = list(added.Addrs)
	return added, err
}

func (s *Server) removeKeeper(ctx context.Context, r *http.Request) (any, error) {
	return empty{}, s.node.RemoveKeeper(ctx, account(r), r.FormValue("peer"))
}

func (s *Server) send(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	m := Message{From: q.Get("from"), To: q["to"], Subject: q.Get("subject"), Raw: q.Get("raw") == "1"}
	if len(m.To) == 0 {
		return nil, &Error{Code: CodeInvalid, Message: "a message needs at least one recipient"}
	}
	body, err := io.ReadAll(r.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &Error{Code: CodeInvalid, Message: fmt.Sprintf("the message is larger than %d MiB", MaxMessage>>20)}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	m.Body = body
	return s.node.Send(ctx, m)
}

func (s *Server) addAccount(ctx context.Context, r *http.Request) (any, error) {
	var a NewAccount
	if err := decode(r, &a); err != nil {
		return nil, err
	}
	if a.Words != "" && !a.Restore {
		return nil, &Error{Code: CodeInvalid, Message: "there are recovery words, but no account is to be restored", Hint: "say so with \"restore\": true"}
	}
	return s.node.AddAccount(ctx, a)
}

func (s *Server) passwords(ctx context.Context, r *http.Request) (any, error) {
	p, err := s.node.Passwords(ctx, account(r))
	return list(p), err
}

func (s *Server) addPassword(ctx context.Context, r *http.Request) (any, error) {
	var p NewPassword
	if err := decode(r, &p); err != nil {
		return nil, err
	}
	return s.node.AddPassword(ctx, account(r), p.Name, p.Password)
}

func (s *Server) removePassword(ctx context.Context, r *http.Request) (any, error) {
	return empty{}, s.node.RemovePassword(ctx, account(r), r.FormValue("name"))
}

// login is the body of an unlock request.
type login struct {
	Password string `json:"password"`
}

func (s *Server) unlock(ctx context.Context, r *http.Request) (any, error) {
	var l login
	if err := decode(r, &l); err != nil {
		return nil, err
	}
	return empty{}, s.node.Unlock(ctx, account(r), l.Password)
}

func (s *Server) stop(context.Context, *http.Request) (any, error) {
	s.node.Stop()
	return empty{}, nil
}

// list makes a nil slice an empty one, so that JSON says [] and not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
