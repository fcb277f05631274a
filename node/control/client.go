package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	maxAnswer   = 64 << 20 // bytes of a JSON answer: an outbox of 100,000 entries
)

// Client talks to the running node of a home.
type Client struct {
	home string
	http *http.Client
}

// Dial looks for the running node of a home. Without one the error is an
// ErrNoNode that says what to do.
func Dial(ctx context.Context, home string) (*Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		path, err := find(home)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{Timeout: dialTimeout}
		return d.DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, notRunning(home, err)
	}
	conn.Close()
	transport := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		ResponseHeaderTimeout: answerTimeout + writeTimeout,
		MaxIdleConns:          1,
		IdleConnTimeout:       idleTimeout / 2,
		DisableCompression:    true,
	}
	return &Client{home: home, http: &http.Client{Transport: transport}}, nil
}

// notRunning explains why nobody answered.
func notRunning(home string, cause error) error {
	switch {
	case errors.Is(cause, fs.ErrPermission):
		return &Error{Code: CodeNoNode, Message: "the node of " + home + " belongs to another user", Hint: "run the command as that user"}
	case errors.Is(cause, fs.ErrNotExist), errors.Is(cause, syscall.ECONNREFUSED):
		e := *ErrNoNode
		e.Message = "no node runs with the home " + home
		if _, err := os.Stat(home); err == nil {
			if l, err := tryLock(home); errors.Is(err, ErrRunning) {
				e.Message = "the node of " + home + " does not answer yet"
				e.Hint = "it is starting or stopping; try again in a moment"
			} else if err == nil {
				l.Close()
			}
		}
		return &e
	}
	return &Error{Code: CodeNoNode, Message: "the node of " + home + " cannot be reached", Cause: cause, Hint: ErrNoNode.Hint}
}

// Close gives up the connection. It may be called twice.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// open sends a request and returns the answer if it is a good one.
func (c *Client) open(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "peerpost", Path: "/v1/" + path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
			return nil, notRunning(c.home, err)
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, fmt.Errorf("asking the node: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var f failed
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(&f); err != nil || f.Error == nil {
		return nil, fmt.Errorf("asking the node: status %d", resp.StatusCode)
	}
	return nil, f.Error
}

// call sends a request and reads the JSON answer.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body []byte, answer any) error {
	resp, err := c.open(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("reading the node's answer: %w", err)
	}
	return nil
}

// post sends a JSON request.
func (c *Client) post(ctx context.Context, path string, query url.Values, request, answer any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, query, b, answer)
}

func of(account string) url.Values {
	if account == "" {
		return url.Values{}
	}
	return url.Values{"account": {account}}
}

// The methods below are those of Node, with their errors.

// Status asks for the state of the node.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.call(ctx, http.MethodGet, "status", nil, nil, &s)
	return s, err
}

// Outbox lists outgoing mail.
func (c *Client) Outbox(ctx context.Context, account, id string) (e []OutboxEntry, err error) {
	q := of(account)
	if id != "" {
		q.Set("id", id)
	}
	err = c.call(ctx, http.MethodGet, "outbox", q, nil, &e)
	return e, err
}

// Invite asks for an invite.
func (c *Client) Invite(ctx context.Context, account string) (i Invite, err error) {
	err = c.call(ctx, http.MethodPost, "invite", of(account), nil, &i)
	return i, err
}

// Contacts lists contacts.
func (c *Client) Contacts(ctx context.Context, account string) (l []Contact, err error) {
	err = c.call(ctx, http.MethodGet, "contacts", of(account), nil, &l)
	return l, err
}

// AddContact adds a contact.
func (c *Client) AddContact(ctx context.Context, account string, n NewContact) (added Contact, err error) {
	err = c.post(ctx, "contacts", of(account), n, &added)
	return added, err
}

// Keepers lists keepers.
func (c *Client) Keepers(ctx context.Context, account string) (k []Keeper, err error) {
	err = c.call(ctx, http.MethodGet, "keepers", of(account), nil, &k)
	return k, err
}

// AddKeeper adds a keeper.
func (c *Client) AddKeeper(ctx context.Context, account, target string) (added Keeper, err error) {
	err = c.post(ctx, "keepers", of(account), NewKeeper{Target: target}, &added)
	return added, err
}

// RemoveKeeper removes a keeper.
func (c *Client) RemoveKeeper(ctx context.Context, account, peer string) error {
	q := of(account)
	q.Set("peer", peer)
	return c.call(ctx, http.MethodDelete, "keepers", q, nil, &empty{})
}

// Send submits a message.
func (c *Client) Send(ctx context.Context, m Message) (s Sent, err error) {
	q := url.Values{"to": m.To}
	if m.From != "" {
		q.Set("from", m.From)
	}
	if m.Subject != "" {
		q.Set("subject", m.Subject)
	}
	if m.Raw {
		q.Set("raw", "1")
	}
	err = c.call(ctx, http.MethodPost, "send", q, m.Body, &s)
	return s, err
}

// Export calls write for every message of an account. When the error is nil,
// nothing is missing.
func (c *Client) Export(ctx context.Context, account string, write func(ExportedMessage) error) error {
	resp, err := c.open(ctx, http.MethodGet, "export", of(account), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readExport(resp.Body, func() string { return resp.Trailer.Get(exportTrailer) }, write)
}

// AddAccount creates or restores an account.
func (c *Client) AddAccount(ctx context.Context, a NewAccount) (created CreatedAccount, err error) {
	err = c.post(ctx, "accounts", nil, a, &created)
	return created, err
}

// Passwords lists app passwords.
func (c *Client) Passwords(ctx context.Context, account string) (p []Password, err error) {
	err = c.call(ctx, http.MethodGet, "passwords", of(account), nil, &p)
	return p, err
}

// AddPassword adds an app password.
func (c *Client) AddPassword(ctx context.Context, account, name, password string) (p NewPassword, err error) {
	err = c.post(ctx, "passwords", of(account), NewPassword{Name: name, Password: password}, &p)
	return p, err
}

// RemovePassword removes an app password.
func (c *Client) RemovePassword(ctx context.Context, account, name string) error {
	q := of(account)
	q.Set("name", name)
	return c.call(ctx, http.MethodDelete, "passwords", q, nil, &empty{})
}

// Unlock opens an account.
func (c *Client) Unlock(ctx context.Context, account, password string) error {
	return c.post(ctx, "unlock", of(account), login{Password: password}, &empty{})
}

// Stop asks the node to end and waits until it has left its home.
func (c *Client) Stop(ctx context.Context) error {
	if err := c.post(ctx, "stop", nil, empty{}, &empty{}); err != nil {
		return err
	}
	c.Close()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		l, err := tryLock(c.home)
		if err == nil {
			return l.Close()
		}
		if !errors.Is(err, ErrRunning) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
