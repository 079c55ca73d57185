package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

const (
	// maxSkew is a difference between two clocks that makes logs hard to read together.
	maxSkew = 2 * time.Second
	// oldHandshake is when a session has outlived WireGuard's Reject-After-Time, 180 s.
	oldHandshake = 180 * time.Second
	// badLoss is what a cubic sender does not get over (docs/design.md, section 10).
	badLoss = 0.001
)

// Running judges a gateway by its snapshot: its links, policy, counters, pair and LAN address.
// Counters are judged by what they have counted since before, an earlier snapshot of the same
// process.
func Running(s, before status.Status) []Check {
	var out []Check
	for i := range s.Links {
		out = append(out, link(&s.Links[i], s.Time)...)
	}
	if len(s.Links) == 0 {
		out = append(out, Check{"link", "links", Failure, "this node has no link to any other", "add a link block that names its site, and gw validate -c FILE"})
	}
	out = append(out, faults(s.Faults)...)
	out = append(out, policy(s)...)
	out = append(out, flows(s))
	out = append(out, counters(&s, &before)...)
	if s.Audit != nil {
		out = append(out, audit(s.Audit))
	}
	if s.HA != nil {
		out = append(out, Pair(s.HA)...)
		out = append(out, election(s.HA)...)
		out = append(out, address(s.HA)...)
	}
	return out
}

// faults lists what keeps the node from serving its site, as the node found it itself.
func faults(list []status.Fault) []Check {
	var out []Check
	for i := range list {
		f := &list[i]
		if !f.Stands {
			continue
		}
		c := Check{Area: "gateway", Name: f.Fault, Level: Warning, What: f.What, Do: f.Do}
		if f.Disabling() {
			c.Level = Failure
		}
		out = append(out, c)
	}
	if out == nil {
		out = []Check{{Area: "gateway", Name: "faults", Level: OK, What: "none found"}}
	}
	return out
}

// audit judges the audit log: what is missing, and how soon its file is full.
func audit(a *status.Audit) Check {
	const move = "move the file away, and then: systemctl kill --kill-who=main --signal=USR1 gw"
	mib := func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	c := Check{Area: "gateway", Name: "audit", Level: Warning}
	switch {
	case a.Full:
		c.Level, c.Do = Failure, move
		c.What = fmt.Sprintf("the file is full (%s of %s), %d lines are missing", mib(a.Size), mib(a.Limit), a.Lost)
	case a.Lost > 0:
		c.What = fmt.Sprintf("%d lines are missing in the audit log, %d were written", a.Lost, a.Written)
		c.Do = "see that the disk of local.audit has room (df -h) and is fast enough, and what gw logged: journalctl -u gw -g audit"
	case a.Limit > 0 && a.Size >= a.Limit*3/4:
		c.What, c.Do = fmt.Sprintf("the file is nearly full (%s of %s)", mib(a.Size), mib(a.Limit)), move
	default:
		c.Level, c.What = OK, fmt.Sprintf("%d lines written, none lost", a.Written)
	}
	return c
}

// link judges the way to one node: whether UDP passes, handshake, sizes, loss, clocks.
func link(l *status.Link, now time.Time) []Check {
	at := func(name string, level Level, what, do string) Check {
		return Check{"link", l.Peer + " " + name, level, what, do}
	}
	var out []Check
	switch {
	case l.State == status.LinkRefused:
		out = append(out, at("state", Failure, "refused: "+l.Refused, "put the same site.hcl on both nodes, then gw reload; gw plan shows what needs a restart"))
	case l.State == status.LinkSilent:
		out = append(out, at("state", Warning, "link up, no gw hello from the peer (stock WireGuard, or gw is not running there)", "on the peer: gw version; systemctl status gw"))
	case l.State == status.LinkUp:
		out = append(out, at("state", OK, "up, UDP passes both ways", ""))
	case l.Initiator && l.RxBytes == 0 && l.State != status.LinkLost:
		out = append(out, at("state", Failure,
			fmt.Sprintf("%s: %d bytes were sent to udp %s, and no answer has arrived", l.State, l.TxBytes, l.Endpoint),
			"see that gw runs on "+l.Peer+", that the firewall lets udp to "+l.Endpoint+" out and its answers in, and that both nodes have the same public keys"))
	case l.Initiator:
		out = append(out, at("state", Failure,
			fmt.Sprintf("%s: nothing comes back from udp %s any more", l.State, l.Endpoint),
			"see that gw runs on "+l.Peer+" and that the firewall still lets udp to "+l.Endpoint+" through"))
	default:
		out = append(out, at("state", Failure, fmt.Sprintf("%s: %s has to dial, and nothing has arrived from it", l.State, l.Peer),
			"run gw doctor on "+l.Peer+"; here, see that the host's firewall accepts gw's udp port"))
	}
	if l.State.Carries() && !l.LastHandshake.IsZero() {
		if age := now.Sub(l.LastHandshake).Round(time.Second); age > oldHandshake {
			out = append(out, at("handshake", Warning, fmt.Sprintf("the last one was %v ago, later ones have failed", age), "see the clocks of both nodes, and the log of "+l.Peer))
		} else {
			out = append(out, at("handshake", OK, fmt.Sprintf("%v ago", max(0, age)), ""))
		}
	}
	for _, d := range l.Duplicates {
		out = append(out, at("key", Failure, fmt.Sprintf("two processes use the key of %s: %s", d.Node, strings.Join(d.Endpoints, " and ")), "stop one of them, or give it a key of its own: gw genkey"))
	}
	if l.ClockBehind > 0 {
		out = append(out, at("clock", Failure, fmt.Sprintf("this clock stands %v behind the last handshake: new ones are taken for replays", time.Duration(l.ClockBehind).Round(time.Second)), "set this host's clock: chronyc makestep"))
	}
	if !l.Measured() {
		return out
	}
	switch {
	case l.MTUOut == 0 || l.MTUIn == 0:
		out = append(out, at("path mtu", OK, "is being measured", ""))
	case l.MTUOut < 1280 || l.MTUIn < 1280:
		out = append(out, at("path mtu", Warning, fmt.Sprintf("%d out, %d in, less than the 1280 that IPv6 needs", l.MTUOut, l.MTUIn), "find what narrows the path: tracepath to the endpoint"))
	default:
		out = append(out, at("path mtu", OK, fmt.Sprintf("%d out, %d in", l.MTUOut, l.MTUIn), ""))
	}
	if l.LossOut > badLoss || l.LossIn > badLoss {
		out = append(out, at("loss", Warning, fmt.Sprintf("%.2g %% out, %.2g %% in", 100*l.LossOut, 100*l.LossIn), `if the link was up all the time, have the path examined; bulk is relayed where its rule's mode is auto`))
	} else {
		out = append(out, at("loss", OK, fmt.Sprintf("%.2g %% out, %.2g %% in, round trip %v", 100*l.LossOut, 100*l.LossIn, time.Duration(l.RTT).Round(10*time.Microsecond)), ""))
	}
	if l.ClockBehind == 0 {
		if skew := time.Duration(l.ClockSkew); skew.Abs() > maxSkew {
			out = append(out, at("clock", Warning, fmt.Sprintf("clock of %s is off by %v", l.Peer, skew.Round(time.Millisecond)), "synchronize both hosts' clocks: timedatectl set-ntp true"))
		} else {
			out = append(out, at("clock", OK, "agrees with this one", ""))
		}
	}
	return out
}

// policy says in which settings two nodes differ. Values never leave a site.
func policy(s status.Status) []Check {
	var out []Check
	for _, l := range s.Links {
		for _, d := range l.Differences {
			level := Warning
			if d.Fatal {
				level = Failure
			}
			out = append(out, Check{"policy", d.Attribute, level, fmt.Sprintf("%s: here and on %s", kinds[d.Kind], l.Peer), "put the same site.hcl on both nodes, then gw reload; gw plan shows what needs a restart"})
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, l := range s.Links {
		if !l.Measured() {
			return []Check{{"policy", "settings", Warning, "could not be compared with " + l.Peer, "see its link above"}}
		}
	}
	return []Check{{"policy", "settings", OK, "the same on all nodes that are linked", ""}}
}

var kinds = map[status.DifferenceKind]string{
	status.OnlyHere: "set on one side only", status.OnlyThere: "set on one side only", status.Differs: "not the same",
}

func flows(s status.Status) Check {
	f := s.Flows
	if f.Limit > 0 && f.Total()*10 >= f.Limit*9 {
		return Check{"gateway", "flows", Warning, fmt.Sprintf("%d of at most %d", f.Total(), f.Limit), "see who opens so many: gw conns"}
	}
	return Check{"gateway", "flows", OK, fmt.Sprintf("%d of at most %d", f.Total(), f.Limit), ""}
}

// election judges what the election reports beside the pair's protection.
func election(h *status.HA) []Check {
	var out []Check
	for _, c := range h.Carriers {
		if c.Node == "" {
			out = append(out, Check{"pair", "site " + c.Site, Warning, "no active node of it is known", "see the state of the links to its nodes: gw status"})
		}
	}
	if h.EpochUnsaved != "" {
		out = append(out, Check{"pair", "epoch", Warning, "not stored: " + h.EpochUnsaved, "make room on the disk of local.state_dir: df -h"})
	}
	for _, w := range h.Witnesses {
		if w.Unauthentic > 0 {
			out = append(out, Check{"pair", w.Node, Warning, fmt.Sprintf("carried %d statements that %s did not make", w.Unauthentic, h.Sibling.Node), "examine that gateway: it is broken, or an intruder has its key"})
		}
	}
	return out
}

// address judges the address that the hosts route by.
func address(h *status.HA) []Check {
	var out []Check
	if c := h.VIP.Conflict; c != nil && h.Time.Sub(c.At) < status.ConflictLasts {
		out = append(out, Check{"address", "vip conflict", Failure, fmt.Sprintf("%s is claimed by another host, %s", c.Address, c.MAC), "find the host by its link address and give it another address: bridge fdb show, or the switch's table"})
	}
	if len(h.VIP.Addresses) > 0 {
		switch active := h.Role == status.RoleActive; {
		case active && !h.VIP.Held:
			out = append(out, Check{"address", "vip", Failure, "this node is active and does not answer for it", "see its log: journalctl -u gw -n 50; gw ha drain hands over to the sibling"})
		case !active && h.VIP.Held:
			out = append(out, Check{"address", "vip", Failure, "this node is not active and still answers for it", "restart gw on this node, and see its log: journalctl -u gw -n 50"})
		case active:
			out = append(out, Check{"address", "vip", OK, "answered for by this node", ""})
		default:
			out = append(out, Check{"address", "vip", OK, "answered for by the active node", ""})
		}
	}
	return out
}
