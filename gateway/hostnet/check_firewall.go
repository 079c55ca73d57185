package hostnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
)

// The directions through a firewall's FORWARD chain, by the match that names the TUN.
const (
	directionIn  = "iifname"
	directionOut = "oifname"
)

// checkFirewall looks for what drops packets between the site's hosts and the TUN: base chains
// that drop all of them by the rules, whatever hook and order they have, and those that drop what
// no rule accepts and have no rule that names the TUN. It sees the chains of iptables-nft, too.
func checkFirewall(c CheckConfig, rules readRules) []Finding {
	behind, err := hostsBehind(c)
	if err != nil || len(behind) == 0 {
		return nil // checkForwarding reports it
	}
	path, err := rules.own()
	if err != nil {
		return notChecked("the firewall", err)
	}
	ways, err := crossings(c)
	if err != nil {
		return notChecked("the firewall", err)
	}
	var found []Finding
	named := map[*nftables.Chain]int{} // where in found a chain is the subject
	for _, ch := range path.bases {
		if !forwards(ch, has4(behind), has6(behind)) || path.passesAll(ch, ways) {
			continue
		}
		if !drops(ch, path.rules[keyOfChain(ch)]) {
			continue
		}
		if missing := path.missingDirections(ch.Table, c.Device); len(missing) > 0 {
			named[ch] = len(found)
			found = append(found, Finding{Warning,
				fmt.Sprintf("the firewall's chain %s %s %s drops forwarded packets, and no rule of its table accepts those of %q",
					familyName(ch.Table), ch.Table.Name, ch.Name, c.Device),
				mendFirewall(ch, missing, c.Device)})
		}
	}
	closed := len(found) // a finding before this one covers both directions
	for _, w := range ways {
		for _, ch := range path.blockers(w) {
			if i, ok := named[ch]; ok && i < closed {
				found[i].Level = Failure
				continue
			}
			named[ch] = len(found)
			found = append(found, Finding{Failure, blocked(ch, w), mendBlocked(ch, w)})
		}
	}
	for _, ch := range path.bases {
		if !path.shut(ch, ways) {
			continue
		}
		if i, ok := named[ch]; ok {
			found[i].Level = Failure
		} else {
			found = append(found, findShut(ch, ways))
		}
	}
	for _, r := range path.unclear {
		found = append(found, Finding{Warning,
			fmt.Sprintf("rule %d of the firewall's chain %s %s %s may drop packets of the sites, and gw cannot judge its conditions",
				r.Handle, familyName(r.Table), r.Table.Name, r.Chain.Name),
			fmt.Sprintf("nft -a list chain %s %s %s", familyName(r.Table), r.Table.Name, r.Chain.Name)})
	}
	return append(found, checkLegacyFirewall(c, has4(behind), has6(behind))...)
}

// A crossing is a direction in which this host forwards packets of the sites.
type crossing struct {
	in, out  netlink.Link
	from, to []netip.Prefix
}

// crossings lists both directions for each interface that leads to the site's hosts. A TUN that
// does not exist yet is known by its name.
func crossings(c CheckConfig) (out []crossing, err error) {
	behind, err := hostsBehind(c)
	if err != nil {
		return nil, err
	}
	lans, _, err := sides(c, behind)
	if err != nil {
		return nil, err
	}
	tun, err := netlink.LinkByName(c.Device)
	if err != nil {
		tun = &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: c.Device}}
	}
	for _, lan := range lans {
		out = append(out, crossing{lan, tun, behind, c.Remote}, crossing{tun, lan, c.Remote, behind})
	}
	return out, nil
}

// blockers lists the base chains that drop all packets of a crossing, those of established
// connections included, to one of the prefixes at least.
func (f *forwardPath) blockers(w crossing) (out []*nftables.Chain) {
	f.state = expr.CtStateBitESTABLISHED
	defer func() { f.state = expr.CtStateBitNEW }()
	for _, base := range f.bases {
		if slices.ContainsFunc(w.to, func(to netip.Prefix) bool {
			return sees(base, to) && verdictOf(f.ends(base, w.in, w.out, to)) == dropped
		}) {
			out = append(out, base)
		}
	}
	return out
}

// passesAll reports whether a base chain certainly drops no packet of the sites, be it of a new
// connection or of an old one.
func (f *forwardPath) passesAll(base *nftables.Chain, ways []crossing) bool {
	defer func() { f.state = expr.CtStateBitNEW }()
	for _, w := range ways {
		for _, f.state = range []uint32{expr.CtStateBitNEW, expr.CtStateBitESTABLISHED} {
			for _, to := range w.to {
				if sees(base, to) && verdictOf(f.ends(base, w.in, w.out, to)) != passed {
					return false
				}
			}
		}
	}
	return len(ways) > 0
}

// shut reports whether a base chain drops the first packet of every connection between the sites,
// whichever side opens it, in one of the IP versions.
func (f *forwardPath) shut(base *nftables.Chain, ways []crossing) bool {
	f.state = expr.CtStateBitNEW
	for _, v4 := range []bool{true, false} {
		judged, open := false, false
		for _, w := range ways {
			for _, to := range w.to {
				if to.Addr().Is4() == v4 && sees(base, to) {
					judged = true
					open = open || verdictOf(f.ends(base, w.in, w.out, to)) != dropped
				}
			}
		}
		if judged && !open {
			return true
		}
	}
	return false
}

func findShut(ch *nftables.Chain, ways []crossing) Finding {
	var cmds []string
	for _, w := range ways {
		cmds = append(cmds, mendBlocked(ch, w))
	}
	return Finding{Failure,
		fmt.Sprintf("the firewall's chain %s %s %s drops every new connection between the sites", familyName(ch.Table), ch.Table.Name, ch.Name),
		strings.Join(cmds, " && ")}
}

func blocked(ch *nftables.Chain, w crossing) string {
	return fmt.Sprintf("the firewall's chain %s %s %s drops all packets from %q to %q",
		familyName(ch.Table), ch.Table.Name, ch.Name, w.in.Attrs().Name, w.out.Attrs().Name)
}

// mendBlocked accepts the packets of a crossing before any other rule of the chain.
func mendBlocked(ch *nftables.Chain, w crossing) string {
	in, out := w.in.Attrs().Name, w.out.Attrs().Name
	if ch.Table.Name == "firewalld" && *ch.Hooknum == *nftables.ChainHookForward {
		return trustFirewalld(in) + " && " + trustFirewalld(out) + " && firewall-cmd --reload"
	}
	insert := fmt.Sprintf("nft insert rule %s %s %s iifname %s ", familyName(ch.Table), ch.Table.Name, ch.Name, in)
	if *ch.Hooknum != *nftables.ChainHookPrerouting {
		return insert + "oifname " + out + " accept"
	}
	var cmds []string // where packets go out is not known yet
	for _, to := range w.to {
		if sees(ch, to) {
			cmds = append(cmds, insert+addressFamily(to)+" daddr "+to.String()+" accept")
		}
	}
	return strings.Join(cmds, " && ")
}

// addressFamily is nft's word for the header that has the prefix's addresses.
func addressFamily(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "ip"
	}
	return "ip6"
}

// forwards reports whether a chain is a filter of forwarded packets of a family in use.
func forwards(ch *nftables.Chain, v4, v6 bool) bool {
	if ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward || ch.Type != nftables.ChainTypeFilter {
		return false
	}
	switch ch.Table.Family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return v4
	case nftables.TableFamilyIPv6:
		return v6
	}
	return false
}

// drops reports whether a chain drops what no rule accepts: by policy, or by a last rule that drops
// or rejects everything.
func drops(ch *nftables.Chain, rules []*nftables.Rule) bool {
	if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
		return true
	}
	if len(rules) == 0 {
		return false
	}
	dropping := false
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			dropping = true
		case *expr.Verdict:
			dropping = e.Kind == expr.VerdictDrop
		default:
			return false // it has a condition
		}
	}
	return dropping
}

// missingDirections lists the directions for which no accepting rule of the table names the device.
func (f *forwardPath) missingDirections(table *nftables.Table, device string) []string {
	missing := []string{directionIn, directionOut}
	for key, rules := range f.rules {
		if key.table != table.Name || key.family != table.Family {
			continue
		}
		for _, r := range rules {
			for _, way := range acceptedDirections(r, device) {
				missing = slices.DeleteFunc(missing, func(w string) bool { return w == way })
			}
		}
	}
	return missing
}

// acceptedDirections lists the directions in which an accepting rule names the device.
func acceptedDirections(r *nftables.Rule, device string) (ways []string) {
	key, accepts := expr.MetaKey(0), false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			key = e.Key
		case *expr.Cmp:
			if e.Op != expr.CmpOpEq || strings.TrimRight(string(e.Data), "\x00") != device {
				continue
			}
			switch key {
			case expr.MetaKeyIIFNAME:
				ways = append(ways, directionIn)
			case expr.MetaKeyOIFNAME:
				ways = append(ways, directionOut)
			}
		case *expr.Verdict:
			accepts = e.Kind == expr.VerdictAccept
		}
	}
	if !accepts {
		return nil
	}
	return ways
}

func mendFirewall(ch *nftables.Chain, missing []string, device string) string {
	if ch.Table.Name == "firewalld" {
		return trustFirewalld(device) + " && firewall-cmd --reload"
	}
	var cmds []string
	for _, way := range missing {
		cmds = append(cmds, fmt.Sprintf("nft insert rule %s %s %s %s %s accept", familyName(ch.Table), ch.Table.Name, ch.Name, way, device))
	}
	return strings.Join(cmds, " && ")
}

// trustFirewalld makes firewalld accept an interface's packets. It owns its table and would undo
// what others do there.
func trustFirewalld(name string) string {
	return "firewall-cmd --permanent --zone=trusted --add-interface=" + name
}

func familyName(t *nftables.Table) string {
	switch t.Family {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}
