package node

import (
	"cmp"
	"context"
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/peerpost/peerpost/mailbox"
	"github.com/peerpost/peerpost/node/control"
)

// Status tells the state of the node now.
func (n *Node) Status(ctx context.Context) (control.Status, error) {
	held := n.holder.Status()
	s := control.Status{
		PeerID: n.host.ID().String(), Addrs: []string{}, Accounts: []control.AccountStatus{},
		IMAP: n.bound.imap, SMTP: n.bound.smtp, IMAPS: n.bound.imaps, SMTPS: n.bound.smtps, HTTP: n.bound.http,
		Peers: n.dht.Peers(), Server: n.dht.IsServer(), Holder: n.cfg.Holder, Started: n.started, Version: Version(),
		Holding: control.Holding{
			Messages: held.Messages, Bytes: held.Bytes, Inboxes: held.Inboxes, Capacity: n.cfg.capacity(),
		},
	}
	for _, a := range n.host.Addrs() {
		s.Addrs = append(s.Addrs, a.String()+"/p2p/"+n.host.ID().String())
	}
	for _, a := range n.all() {
		locked, messages, unseen, waiting := a.status()
		s.Accounts = append(s.Accounts, control.AccountStatus{
			Address: a.address.String(), Locked: locked, Messages: messages, Unseen: unseen, Waiting: waiting, Problem: a.trouble(),
		})
		counts, err := a.counts(ctx)
		if err != nil {
			return s, err
		}
		s.Outbox.Waiting += counts[mailbox.Accepted]
		s.Outbox.Replicated += counts[mailbox.Replicated]
		s.Outbox.Delivered += counts[mailbox.Delivered] + counts[mailbox.Displayed]
		s.Outbox.Failed += counts[mailbox.Failed]
	}
	n.mu.Lock()
	for _, d := range n.damaged {
		s.Accounts = append(s.Accounts, d.status())
	}
	n.mu.Unlock()
	slices.SortFunc(s.Accounts, func(a, b control.AccountStatus) int { return cmp.Compare(a.Address, b.Address) })
	return s, nil
}

// trouble is what the owner has to mend, "" for nothing.
func (a *account) trouble() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.problem
}

// counts counts the account's outgoing messages by state; a locked account
// knows of those only that it had sealed.
func (a *account) counts(ctx context.Context) (map[mailbox.State]int, error) {
	waiting := a.courier.Waiting()
	if o := a.opened(); o != nil {
		backlog, err := o.box.Backlog(ctx)
		if err != nil {
			return nil, err
		}
		counts, err := o.box.OutboxCounts(ctx)
		if err != nil {
			return nil, err
		}
		for _, row := range backlog {
			counts[max(row.State, waiting[row.MessageID].State)]++
		}
		return counts, nil
	}
	counts := make(map[mailbox.State]int)
	for _, w := range waiting {
		counts[w.State]++
	}
	return counts, nil
}

// Version is the version of the program as the build noted it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// The node's figures (Prometheus).
type figures struct {
	node *Node

	peers, accounts, locked, outbox, replicas, wanted, waiting, forks *prometheus.Desc
	heldMessages, heldBytes, heldInboxes, capacity                    *prometheus.Desc
}

func (n *Node) register() {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("peerpost_"+name, help, labels, nil)
	}
	n.metrics.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&figures{
			node:         n,
			peers:        desc("peers", "Nodes connected."),
			accounts:     desc("accounts", "Accounts on this node."),
			locked:       desc("accounts_locked", "Accounts that wait for a login."),
			outbox:       desc("outbox_messages", "Outgoing messages by state, one per recipient.", "state"),
			replicas:     desc("outbox_replicas", "Replicas alive of each waiting message.", "id"),
			wanted:       desc("outbox_replicas_wanted", "Replicas wanted of each waiting message.", "id"),
			waiting:      desc("incoming_waiting", "Messages collected and not opened yet."),
			forks:        desc("record_forks_total", "Persons found with two different records of one sequence, since the start."),
			heldMessages: desc("holding_messages", "Messages kept for others."),
			heldBytes:    desc("holding_bytes", "Bytes of mail kept for others."),
			heldInboxes:  desc("holding_inboxes", "Inboxes of which mail is kept."),
			capacity:     desc("holding_capacity_bytes", "Bytes that may be kept for others."),
		})
}

func (f *figures) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, c) }

func (f *figures) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	n := f.node
	held := n.holder.Status()
	gauge(f.peers, float64(n.dht.Peers()))
	gauge(f.heldMessages, float64(held.Messages))
	gauge(f.heldBytes, float64(held.Bytes))
	gauge(f.heldInboxes, float64(held.Inboxes))
	gauge(f.capacity, float64(n.cfg.capacity()))
	all := n.all()
	locked, waiting, forks := 0, 0, int64(0)
	sums := make(map[mailbox.State]int)
	for _, a := range all {
		if a.opened() == nil {
			locked++
		}
		waiting += a.incoming.waiting()
		forks += a.forks.Load()
		counts, err := a.counts(context.Background())
		if err != nil {
			n.log.Warn("the outbox could not be counted", "err", err)
		}
		for s, k := range counts {
			sums[s] += k
		}
		for id, w := range a.courier.Waiting() {
			name := idString(id)
			gauge(f.replicas, float64(w.Replicas), name)
			gauge(f.wanted, float64(w.Wanted), name)
		}
	}
	gauge(f.accounts, float64(len(all)))
	gauge(f.locked, float64(locked))
	gauge(f.waiting, float64(waiting))
	c <- prometheus.MustNewConstMetric(f.forks, prometheus.CounterValue, float64(forks))
	for _, s := range []mailbox.State{mailbox.Accepted, mailbox.Replicated, mailbox.Delivered, mailbox.Displayed, mailbox.Failed} {
		gauge(f.outbox, float64(sums[s]), s.String())
	}
}

// Control is the node as the command sees it, for callers in the same process.
func (n *Node) Control() control.Node { return controlled{n} }

// Mailbox gives an account's mail to whoever has one of its app passwords.
func (n *Node) Mailbox(ctx context.Context, user, password string) (*mailbox.Mailbox, error) {
	_, o, _, err := n.login(ctx, user, password)
	if err != nil {
		return nil, err
	}
	return o.box, nil
}

// Addresses is where other nodes reach this one: multiaddrs with its peer id.
func (n *Node) Addresses() []string {
	var all []string
	for _, a := range n.host.Addrs() {
		all = append(all, a.String()+"/p2p/"+n.host.ID().String())
	}
	return all
}
