package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerpost/peerpost/node/control"
)

var (
	killRounds = flag.Int("kill-rounds", 1, "rounds of TestKill")
	killSeed   = flag.Uint64("kill-seed", 0, "seed of TestKill; 0 takes one from the clock")
)

const killPassword = "correct horse battery"

// process is a home and the process that runs its node.
type process struct {
	t       *testing.T
	name    string
	home    string
	args    []string
	log     string // file, of all its lives
	account bool
	cmd     *exec.Cmd
	ended   chan error
}

// newProcess prepares a node with a port of its own. join are the peers by
// which it finds the others.
func newProcess(t *testing.T, name string, account bool, join ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port // the same after every start, as the records of others say
	l.Close()
	p := &process{t: t, name: name, home: filepath.Join(t.TempDir(), "home"), log: filepath.Join(t.TempDir(), "log"), account: account}
	p.args = []string{
		"up", "--home", p.home, "--no-mdns", "--puzzle-bits=0", "--stamp-bits=0", "--log-level=debug", fmt.Sprintf("--listen=/ip4/127.0.0.1/tcp/%d", port),
		"--imap=127.0.0.1:0", "--smtp=127.0.0.1:0", "--imaps=off", "--smtps=off", "--http=off",
	}
	for _, j := range join {
		p.args = append(p.args, "--bootstrap="+j)
	}
	if !account {
		p.args = append(p.args, "--holder")
		return p
	}
	var out, errs bytes.Buffer
	m := Main{Stdin: strings.NewReader(killPassword), Stdout: &out, Stderr: &errs, Nodes: realNodes{}}
	if code := m.Run(t.Context(), []string{"init", "--home", p.home, "--account", name, "--password-file", "-"}); code != ExitOK {
		t.Fatalf("init of %s: %d %s", name, code, errs.String())
	}
	return p
}

// start runs the node until kill or the end of the test, and logs in.
func (p *process) start(program string) control.Status {
	p.t.Helper()
	p.cmd = exec.Command(program, p.args...)
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan error, 1)
	p.ended = ended
	go func(c *exec.Cmd) { ended <- c.Wait() }(p.cmd)
	var st control.Status
	p.wait("to answer", func(c *control.Client) (bool, error) {
		if p.account {
			if err := c.Unlock(p.t.Context(), "", killPassword); err != nil {
				return false, err
			}
		}
		var err error
		st, err = c.Status(p.t.Context())
		return err == nil, err
	})
	return st
}

// wait asks the node again and again.
func (p *process) wait(what string, ok func(*control.Client) (bool, error)) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		c, err := control.Dial(ctx, p.home)
		if err == nil {
			var done bool
			done, err = ok(c)
			c.Close()
			if done {
				return
			}
		}
		last = err
		select {
		case err := <-p.ended:
			p.t.Fatalf("%s ended: %v\n%s", p.name, err, p.tail())
		case <-ctx.Done():
			p.t.Fatalf("%s does not come %s: %v\n%s", p.name, what, last, p.tail())
		case <-tick.C:
		}
	}
}

// kill ends the process without a word to it.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

// submit sends one message over SMTP. accepted is true after the 250, and
// unsure when the connection broke before the answer.
func submit(addr, from, to, id string) (accepted, unsure bool) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false, false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return false, false
	}
	for _, step := range []func() error{
		func() error { return c.Auth(smtp.PlainAuth("", from, killPassword, "localhost")) },
		func() error { return c.Mail(from) },
		func() error { return c.Rcpt(to) },
	} {
		if step() != nil {
			return false, false
		}
	}
	w, err := c.Data()
	if err != nil {
		return false, false
	}
	fmt.Fprintf(w, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\n\r\n%s\r\n", from, to, id, strings.Repeat(id+" ", 200))
	return w.Close() == nil, true
}

// Whatever process is killed at whatever instant, mail that was accepted
// arrives once.
func TestKill(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-kill-seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "peerpost") // TestMain runs the command under this name
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}

	holder := newProcess(t, "holder", false)
	st := holder.start(program)
	if len(st.Addrs) == 0 {
		t.Fatal("the holder has no address")
	}
	sender := newProcess(t, "sender", true, st.Addrs[0])
	recipient := newProcess(t, "recipient", true, st.Addrs[0])
	all := []*process{sender, holder, recipient}
	t.Cleanup(func() {
		for _, p := range all {
			if p.cmd != nil {
				p.kill()
			}
		}
	})
	to := recipient.start(program).Accounts[0].Address
	st = sender.start(program)
	from := st.Accounts[0].Address
	invite := ""
	recipient.wait("to know a peer", func(c *control.Client) (bool, error) {
		i, err := c.Invite(t.Context(), "")
		invite = i.Link
		return err == nil && len(i.Peers) > 0, err
	})
	sender.wait("to know the recipient", func(c *control.Client) (bool, error) {
		known, err := c.AddContact(t.Context(), "", control.NewContact{Target: invite})
		return known.Known, err
	})

	// Somebody sends without end, to wherever the sender listens now.
	var mu sync.Mutex
	smtpAddr := st.SMTP
	accepted, unsure := map[string]bool{}, map[string]bool{}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for worker := range 4 {
		load.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				mu.Lock()
				addr := smtpAddr
				mu.Unlock()
				id := fmt.Sprintf("kill-%d-%d", worker, n)
				ok, perhaps := submit(addr, from, to, id)
				mu.Lock()
				accepted[id], unsure[id] = ok, perhaps && !ok
				mu.Unlock()
				pause := 50 * time.Millisecond // between messages, so that a round does not drown the machine
				if !ok {
					pause = 200 * time.Millisecond
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	for round := range *killRounds {
		for _, i := range random.Perm(len(all)) {
			<-time.After(time.Duration(random.IntN(500)) * time.Millisecond) // the instant is the test
			p := all[i]
			p.kill()
			<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
			st := p.start(program)
			if p == sender {
				mu.Lock()
				smtpAddr = st.SMTP
				mu.Unlock()
			}
		}
		mu.Lock()
		t.Logf("round %d: %d messages tried", round+1, len(accepted))
		mu.Unlock()
	}
	stop()
	load.Wait()

	// Everything comes to rest: delivered, since all are there again.
	want := 0
	for _, ok := range accepted {
		if ok {
			want++
		}
	}
	if want == 0 {
		t.Fatalf("nothing was accepted\n%s", sender.tail())
	}
	var counts control.OutboxCounts
	defer func() { t.Logf("%d accepted, outbox %+v", want, counts) }()
	sender.wait("to rest", func(c *control.Client) (bool, error) {
		st, err := c.Status(t.Context())
		counts = st.Outbox
		return err == nil && counts.Waiting+counts.Replicated == 0, err
	})
	if counts.Failed != 0 || counts.Delivered < want {
		t.Errorf("%d were accepted, outbox %+v", want, counts)
	}

	arrived := map[string]int{}
	subject := regexp.MustCompile(`(?m)^Subject: (kill-\d+-\d+)\r?$`)
	c, err := control.Dial(t.Context(), recipient.home)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Export(t.Context(), "", func(m control.ExportedMessage) error {
		b, err := io.ReadAll(m.Body)
		id := subject.FindSubmatch(b)
		switch {
		case err != nil:
			return err
		case id == nil:
			return errors.New("a message that nobody sent")
		case m.Folder != "INBOX" || !bytes.HasSuffix(bytes.TrimSpace(b), bytes.TrimSpace([]byte(strings.Repeat(string(id[1])+" ", 200)))):
			t.Errorf("%s arrived in %s as %.200q", id[1], m.Folder, b)
		}
		arrived[string(id[1])]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, ok := range accepted {
		switch n := arrived[id]; {
		case ok && n == 0:
			t.Errorf("%s was accepted and is lost", id)
		case n > 1:
			t.Errorf("%s arrived %d times", id, n)
		case n == 1 && !ok && !unsure[id]:
			t.Errorf("%s arrived and was refused", id)
		}
		delete(arrived, id)
	}
	for id := range arrived {
		t.Errorf("%s arrived and was never sent", id)
	}
}
