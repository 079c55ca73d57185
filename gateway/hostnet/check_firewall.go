package hostnet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// The directions through a firewall's FORWARD chain, by the match that names the TUN.
const (
	directionIn  = "iifname"
	directionOut = "oifname"
)

// checkFirewall looks for base chains that drop forwarded packets unless a rule accepts them, and
// have no rule that accepts packets from the TUN or to it. It does not judge the rules any further.
// It sees the chains of iptables-nft, too.
func checkFirewall(c CheckConfig) []Finding {
	behind, err := hostsBehind(c)
	if err != nil || len(behind) == 0 {
		return nil // checkForwarding reports it
	}
	conn, err := nftables.New()
	if err != nil {
		return notChecked("the firewall", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return notChecked("the firewall", err)
	}
	var found []Finding
	for _, ch := range chains {
		if !forwards(ch, has4(behind), has6(behind)) {
			continue
		}
		rules, err := conn.GetRules(ch.Table, ch)
		if err != nil {
			return append(found, notChecked("the firewall's chain "+ch.Name, err)...)
		}
		if !drops(ch, rules) {
			continue
		}
		missing, err := missingDirections(conn, chains, ch.Table, c.Device)
		if err != nil {
			return append(found, notChecked("the firewall's table "+ch.Table.Name, err)...)
		}
		if len(missing) > 0 {
			found = append(found, Finding{Warning,
				fmt.Sprintf("the firewall's chain %s %s %s drops forwarded packets, and no rule of its table accepts those of %q",
					familyName(ch.Table), ch.Table.Name, ch.Name, c.Device),
				mendFirewall(ch, missing, c.Device)})
		}
	}
	return append(found, checkLegacyFirewall(c, has4(behind), has6(behind))...)
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
func missingDirections(conn *nftables.Conn, chains []*nftables.Chain, table *nftables.Table, device string) ([]string, error) {
	missing := []string{directionIn, directionOut}
	for _, ch := range chains {
		if ch.Table.Name != table.Name || ch.Table.Family != table.Family {
			continue
		}
		rules, err := conn.GetRules(ch.Table, ch)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			for _, way := range acceptedDirections(r, device) {
				missing = slices.DeleteFunc(missing, func(w string) bool { return w == way })
			}
		}
	}
	return missing, nil
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
		// It owns its table and would undo what others do there.
		return "firewall-cmd --permanent --zone=trusted --add-interface=" + device + " && firewall-cmd --reload"
	}
	var cmds []string
	for _, way := range missing {
		cmds = append(cmds, fmt.Sprintf("nft insert rule %s %s %s %s %s accept", familyName(ch.Table), ch.Table.Name, ch.Name, way, device))
	}
	return strings.Join(cmds, " && ")
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
