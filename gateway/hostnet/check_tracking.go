package hostnet

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/onewaylink/gw/gateway/hostnet/conntrack"
)

// looseSysctl makes the kernel's connection tracking accept a connection that it did not see begin.
const looseSysctl = "net/netfilter/nf_conntrack_tcp_loose"

// checkTracking looks at the kernel's connection tracking: its table, and in a pair what the
// firewall does with connections that begin at the other node.
func checkTracking(c CheckConfig, rules readRules) []Finding {
	u, err := conntrack.ReadUsage()
	if err != nil {
		return notChecked("connection tracking", err)
	}
	var found []Finding
	switch {
	case u.Limit == 0:
		return nil // the kernel has none
	case u.Full():
		found = append(found, Finding{Failure,
			fmt.Sprintf("the kernel's table of tracked connections is full (%d of %d): new connections are dropped", u.Entries, u.Limit), here().onHost(conntrack.MoreRoom(u))})
	case u.Entries >= u.Limit/10*9:
		found = append(found, Finding{Warning,
			fmt.Sprintf("the kernel's table of tracked connections is nearly full (%d of %d): the kernel drops new connections when it is", u.Entries, u.Limit), here().onHost(conntrack.MoreRoom(u))})
	}
	if !c.Pair {
		return found
	}
	if err := conntrack.Reachable(); err != nil && !errors.Is(err, os.ErrPermission) {
		found = append(found, Finding{Warning,
			fmt.Sprintf("gw cannot change tracked connections (%v): when the role returns, a firewall that drops invalid packets blocks them", err), conntrack.Lenient})
	}
	return append(found, checkTakeover(c, rules)...)
}

// checkTakeover looks for rules that accept packets of established connections, and drop those of
// connections whose beginning this host's kernel did not see: all of the other node's, when this
// one takes over.
func checkTakeover(c CheckConfig, rules readRules) []Finding {
	path, err := rules.own()
	if err != nil {
		return notChecked("what the firewall does after a takeover", err)
	}
	ways, err := crossings(c)
	if err != nil {
		return notChecked("what the firewall does after a takeover", err)
	}
	loose, err := readSysctl(looseSysctl)
	if err != nil {
		return nil // nothing is tracked
	}
	begins := uint32(expr.CtStateBitNEW) // what a packet of such a connection is
	if loose == "0" {
		begins = expr.CtStateBitINVALID
	}
	var found []Finding
	for _, w := range ways {
		ch := path.dropsOnly(w, begins)
		switch {
		case ch == nil, path.shut(ch, ways): // checkFirewall reports a chain that drops all new ones
		case begins == expr.CtStateBitINVALID:
			return append(found, Finding{Failure,
				fmt.Sprintf("connections break when this node takes over: the kernel calls those that it did not see begin invalid, and the chain %s %s %s drops such packets",
					familyName(ch.Table), ch.Table.Name, ch.Name),
				sysctlCommand("1", looseSysctl)})
		default:
			in, out := w.in.Attrs().Name, w.out.Attrs().Name
			found = append(found, Finding{Warning,
				fmt.Sprintf("when this node takes over, the chain %s %s %s drops packets from %q to %q until the host at the other end of the connection sends: it takes them for new connections",
					familyName(ch.Table), ch.Table.Name, ch.Name, in, out),
				mendBlocked(ch, w)})
		}
	}
	return found
}

// dropsOnly returns a base chain that certainly drops packets of a state, and not those of
// established connections, on the way to one of the prefixes; nil if there is none.
func (f *forwardPath) dropsOnly(w crossing, state uint32) *nftables.Chain {
	defer func() { f.state = expr.CtStateBitNEW }()
	for _, base := range f.bases {
		for _, to := range w.to {
			if !sees(base, to) {
				continue
			}
			f.state = state
			if verdictOf(f.ends(base, w.in, w.out, to)) != dropped {
				continue
			}
			f.state = expr.CtStateBitESTABLISHED
			if verdictOf(f.ends(base, w.in, w.out, to)) != dropped {
				return base
			}
		}
	}
	return nil
}
