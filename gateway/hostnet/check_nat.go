package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"github.com/onewaylink/gw/gateway/hostnet/conntrack"
)

// asGateway is what a rewritten source causes.
const asGateway = "the other end sees the gateway's address instead of the host's, and policy judges by that"

// checkNAT looks for what rewrites the source of packets between the sites: rules after the choice
// of the route (MASQUERADE, SNAT), and connections that the kernel translates now.
func checkNAT(c CheckConfig, rules readRules) []Finding {
	behind, err := hostsBehind(c)
	if err != nil || len(behind) == 0 {
		return nil // checkForwarding reports it
	}
	path, err := rules.own()
	if err != nil {
		return notChecked("address translation", err)
	}
	ways, err := crossings(c)
	if err != nil {
		return notChecked("address translation", err)
	}
	var found []Finding
	for _, base := range path.nats {
		for _, w := range ways {
			found = append(found, path.rewrites(base, w, c.Device)...)
		}
	}
	for _, t := range []legacyTables{legacy4, legacy6} {
		if t.among(has4(behind), has6(behind)) {
			found = append(found, checkLegacyNAT(t, ways)...)
		}
	}
	if len(found) == 0 && deviceRuns(c.Device) {
		return checkTranslated(c, behind)
	}
	return found
}

// deviceRuns reports whether a process has the TUN open.
func deviceRuns(name string) bool {
	l, err := netlink.LinkByName(name)
	return err == nil && l.Attrs().OperState != netlink.OperDown
}

// rewrites judges one chain for one direction. The first prefixes for which it rewrites stand for
// all.
func (f *forwardPath) rewrites(base *nftables.Chain, w crossing, device string) []Finding {
	chain := fmt.Sprintf("%s %s %s", familyName(base.Table), base.Table.Name, base.Name)
	mend := fmt.Sprintf("nft insert rule %s oifname %s accept", chain, device) // of this host's own, too
	if w.out.Attrs().Name != device {
		mend = fmt.Sprintf("nft insert rule %s iifname %s oifname %s accept", chain, device, w.out.Attrs().Name)
	}
	var uncertain []Finding
	for _, from := range w.from {
		for _, to := range w.to {
			if from.Addr().Is4() != to.Addr().Is4() || !sees(base, to) {
				continue
			}
			p := &probe{path: f, table: base.Table, in: w.in, out: w.out, from: from, to: to, untouched: f.untouched}
			ends := p.walk(base.Name, maxJumps)
			if ends&canRewrite == 0 {
				continue
			}
			finding := Finding{Failure,
				fmt.Sprintf("the nat chain %s rewrites the source of packets from %v to %v: %s", chain, from, to, asGateway), mend}
			if ends == canRewrite {
				return []Finding{finding}
			}
			if uncertain == nil {
				finding.Level = Warning
				finding.What = fmt.Sprintf("the nat chain %s may rewrite the source of packets from %v to %v: %s", chain, from, to, asGateway)
				uncertain = []Finding{finding}
			}
		}
	}
	return uncertain
}

// checkTranslated looks at the connections themselves: what translates them may be something that
// no rule shows.
func checkTranslated(c CheckConfig, behind []netip.Prefix) []Finding {
	n, example, err := conntrack.Rewritten(behind, c.Remote)
	switch {
	case errors.Is(err, os.ErrPermission):
		return notChecked("address translation", err)
	case err != nil || n == 0: // without connection tracking nothing is translated
		return nil
	}
	return []Finding{{Failure,
		fmt.Sprintf("this host rewrites the source of %d connections between the sites, such as %v to %v as %v: %s", n, example.From, example.To, example.As, asGateway),
		fmt.Sprintf("find and remove what translates them: nft list ruleset; conntrack -L -s %v", example.From)}}
}

// Where struct ipt_ip and ip6t_ip6 have source, destination, and the masks of both, one after the
// other.
const legacyAddresses = 0

// checkLegacyNAT does for iptables what rewrites does for nftables. It does not follow the order of
// the rules.
func checkLegacyNAT(t legacyTables, ways []crossing) (found []Finding) {
	_, entries, err := t.table("nat")
	if err != nil {
		return notChecked("the table nat of "+t.command, err)
	}
	for _, w := range ways {
		if from, to, ok := t.rewritten(entries, w); ok {
			found = append(found, Finding{Warning,
				fmt.Sprintf("the table nat of %s may rewrite the source of packets from %v to %v: %s", t.command, from, to, asGateway),
				fmt.Sprintf("%s -t nat -I POSTROUTING -s %v -d %v -j ACCEPT", t.command, from, to)})
		}
	}
	return found
}

// rewritten returns the first prefixes of a crossing for which a rule may rewrite the source and
// none before it exempts all of their packets.
func (t legacyTables) rewritten(entries []byte, w crossing) (from, to netip.Prefix, ok bool) {
	for _, from := range w.from {
		for _, to := range w.to {
			if from.Addr().Is4() != to.Addr().Is4() || !t.among(from.Addr().Is4(), from.Addr().Is6()) {
				continue
			}
			for at := 0; at < len(entries); {
				e, next, ok := t.entry(entries, at)
				if !ok {
					break
				}
				match := t.matchesWay(entries[at:next], e, w, from, to)
				if match == yes && e.verdict == verdictAccept {
					break
				}
				if match != no && (e.target == "MASQUERADE" || e.target == "SNAT" || e.target == "NETMAP") {
					return from, to, true
				}
				at = next
			}
		}
	}
	return from, to, false
}

// matchesWay reports whether an entry matches packets of a crossing between two prefixes. Policies
// of the other chains match nothing: only a rule that names addresses is certain.
func (t legacyTables) matchesWay(b []byte, e legacyEntry, w crossing, from, to netip.Prefix) int {
	inverts := b[t.inverts]
	if e.in != "" && sameInterface(e.in, w.in.Attrs().Name) == (inverts&legacyInvertsIn != 0) ||
		e.out != "" && sameInterface(e.out, w.out.Attrs().Name) == (inverts&legacyInvertsOut != 0) {
		return no
	}
	size := from.Addr().BitLen() / 8
	address := func(i int) []byte { return b[legacyAddresses+i*size:][:size] }
	source := legacyContains(address(0), address(2), from, inverts&legacyInvertsSource != 0)
	dest := legacyContains(address(1), address(3), to, inverts&legacyInvertsDest != 0)
	match := min(source, dest)
	if named := !zeros(address(2)) && !zeros(address(3)); !named || t.matches < int(binary.NativeEndian.Uint16(b[t.targetOffset:])) {
		match = min(match, maybe)
	}
	return match
}

// Flags that invert the comparison of addresses (IPT_INV_SRCIP, IPT_INV_DSTIP).
const (
	legacyInvertsSource = 8
	legacyInvertsDest   = 16
)

// legacyContains compares a rule's address and mask with a prefix.
func legacyContains(addr, mask []byte, p netip.Prefix, inverted bool) int {
	v := someOf(p, uint32(len(addr))).masked(mask, nil)
	match := v.compare(expr.CmpOpEq, addr)
	if inverted {
		return yes - match
	}
	return match
}

func zeros(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
