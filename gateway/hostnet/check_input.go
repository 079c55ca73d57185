package hostnet

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// unreachable is what a blocked port causes. Nothing else reports it.
const unreachable = "no other node can dial this one, so its link stays down"

// checkInput looks for base chains that drop packets to this host unless a rule accepts them, and
// have no rule for the port at which other nodes dial this one.
func checkInput(c CheckConfig) []Finding {
	if c.ListenPort == 0 {
		return nil
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
		if ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookInput || ch.Type != nftables.ChainTypeFilter || ch.Table.Family == nftables.TableFamilyBridge {
			continue
		}
		rules, err := conn.GetRules(ch.Table, ch)
		if err != nil {
			return append(found, notChecked("the firewall's chain "+ch.Name, err)...)
		}
		if !drops(ch, rules) {
			continue
		}
		if ch.Table.Family == nftables.TableFamilyIPv4 && !c.Listen4 || ch.Table.Family == nftables.TableFamilyIPv6 && !c.Listen6 {
			continue
		}
		ok, err := accepts(conn, chains, ch, c)
		if err != nil {
			return append(found, notChecked("the firewall's table "+ch.Table.Name, err)...)
		}
		if !ok {
			found = append(found, Finding{Warning,
				fmt.Sprintf("the firewall's chain %s %s %s drops packets to this host, and no rule of its table accepts udp/%d: %s",
					familyName(ch.Table), ch.Table.Name, ch.Name, c.ListenPort, unreachable),
				mendInput(ch, c.ListenPort)})
		}
	}
	return append(found, checkLegacyInput(c)...)
}

// accepts looks for a rule that accepts the port: by its number anywhere in the table, otherwise in
// the base chain and those that it leads to.
func accepts(conn *nftables.Conn, chains []*nftables.Chain, base *nftables.Chain, c CheckConfig) (bool, error) {
	rules := map[string][]*nftables.Rule{}
	for _, ch := range chains {
		if ch.Table.Name != base.Table.Name || ch.Table.Family != base.Table.Family ||
			ch.Hooknum != nil && *ch.Hooknum != *nftables.ChainHookInput {
			continue
		}
		list, err := conn.GetRules(ch.Table, ch)
		if err != nil {
			return false, err
		}
		rules[ch.Name] = list
	}
	reached := reachable(base.Name, rules)
	for name, list := range rules {
		for _, r := range list {
			if how := accepted(conn, r, c); how == byPort || how == bySource && reached[name] {
				return true, nil
			}
		}
	}
	return false, nil
}

// reachable returns the chains that a base chain's packets may reach.
func reachable(base string, rules map[string][]*nftables.Rule) map[string]bool {
	seen := map[string]bool{base: true}
	for next := []string{base}; len(next) > 0; next = next[1:] {
		for _, r := range rules[next[0]] {
			for _, e := range r.Exprs {
				if v, ok := e.(*expr.Verdict); ok && v.Chain != "" && !seen[v.Chain] {
					seen[v.Chain] = true
					next = append(next, v.Chain)
				}
			}
		}
	}
	return seen
}

// How a rule accepts what is sent to the port.
const (
	notAtAll = iota
	bySource // everything from some interface or address
	byPort
)

// accepted returns how a rule accepts what other nodes send to the port.
func accepted(conn *nftables.Conn, r *nftables.Rule, c CheckConfig) (how int) {
	var load expr.Any // what the next comparison is of
	verdict, narrow := false, false
	how = bySource
	port := binary.BigEndian.AppendUint16(nil, c.ListenPort)
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta, *expr.Payload:
			load = e
		case *expr.Ct:
			load = e
			narrow = narrow || e.Key != expr.CtKeySTATE
		case *expr.Fib:
			narrow = true
		case *expr.Bitwise:
			if l, ok := load.(*expr.Ct); ok && l.Key == expr.CtKeySTATE && !hasNew(e.Mask) {
				return notAtAll
			}
		case *expr.Cmp:
			switch c.compared(load, e) {
			case excludes:
				return notAtAll
			case names:
				how = byPort
			case narrows:
				narrow = true
			}
		case *expr.Range:
			if l, ok := load.(*expr.Payload); ok && isDstPort(l) {
				if string(port) < string(e.FromData) || string(port) > string(e.ToData) {
					return notAtAll
				}
				how = byPort
			}
		case *expr.Lookup:
			switch l := load.(type) {
			case *expr.Payload:
				if isDstPort(l) {
					if !inSet(conn, r.Table, e, port) {
						return notAtAll
					}
					how = byPort
				}
			case *expr.Meta:
				if l.Key == expr.MetaKeyL4PROTO && !inSet(conn, r.Table, e, []byte{unix.IPPROTO_UDP}) {
					return notAtAll
				}
			case *expr.Ct:
				if l.Key == expr.CtKeySTATE && !inSet(conn, r.Table, e, binary.NativeEndian.AppendUint32(nil, expr.CtStateBitNEW)) {
					return notAtAll
				}
			}
		case *expr.Match: // of iptables
			switch udp, ok := e.Info.(*xt.Udp); {
			case e.Name == "multiport": // whose ports can't be read, so it is taken to have this one
				how = byPort
			case !ok:
				narrow = narrow || e.Name != "comment"
			case udp.DstPorts[0] > c.ListenPort || c.ListenPort > udp.DstPorts[1]:
				return notAtAll
			default:
				how = byPort
			}
		case *expr.Verdict:
			verdict = e.Kind == expr.VerdictAccept
		}
	}
	if !verdict || narrow && how == bySource {
		return notAtAll
	}
	return how
}

// Results of a comparison for what other nodes send to the port.
const (
	nothing  = iota
	excludes // it does not hold for that
	names    // it is of the port, and holds
	narrows  // it is of something that is not looked at
)

// compared returns the result of a comparison, for the value loaded before it and for what other
// nodes send.
func (c CheckConfig) compared(load expr.Any, e *expr.Cmp) int {
	switch l := load.(type) {
	case *expr.Meta:
		return c.comparedMeta(l.Key, e)
	case *expr.Payload:
		switch {
		case isDstPort(l), isBothPorts(l) && len(e.Data) == 4:
			if !holds(e.Op, string(binary.BigEndian.AppendUint16(nil, c.ListenPort)), string(e.Data[len(e.Data)-2:])) {
				return excludes
			}
			return names
		case isProtocol(l) && otherProtocol(e):
			return excludes
		}
	}
	return nothing
}

// comparedMeta is compared for what is not in the packet. Other nodes' packets arrive on any
// interface but the TUN and the loopback.
func (c CheckConfig) comparedMeta(key expr.MetaKey, e *expr.Cmp) int {
	switch key {
	case expr.MetaKeyIIFNAME:
		if e.Op == expr.CmpOpEq && (namesDevice(e.Data, "lo") || namesDevice(e.Data, c.Device)) {
			return excludes
		}
	case expr.MetaKeyIIF:
		if e.Op == expr.CmpOpEq && string(e.Data) == string(binary.NativeEndian.AppendUint32(nil, loopbackIndex)) {
			return excludes
		}
	case expr.MetaKeyL4PROTO:
		if otherProtocol(e) {
			return excludes
		}
	case expr.MetaKeyNFPROTO: // nft writes it before an address
	default:
		return narrows
	}
	return nothing
}

// otherProtocol reports whether a comparison requires another transport protocol than UDP.
func otherProtocol(e *expr.Cmp) bool {
	return e.Op == expr.CmpOpEq && (len(e.Data) == 0 || e.Data[0] != unix.IPPROTO_UDP)
}

// loopbackIndex is the loopback's in every namespace.
const loopbackIndex = 1

// hasNew reports whether a mask of connection states includes NEW.
func hasNew(mask []byte) bool {
	return len(mask) != 4 || binary.NativeEndian.Uint32(mask)&expr.CtStateBitNEW != 0
}

// holds reports whether a comparison is true; nft makes two of a range.
func holds(op expr.CmpOp, have, want string) bool {
	switch op {
	case expr.CmpOpEq:
		return have == want
	case expr.CmpOpNeq:
		return have != want
	case expr.CmpOpLt:
		return have < want
	case expr.CmpOpLte:
		return have <= want
	case expr.CmpOpGt:
		return have > want
	case expr.CmpOpGte:
		return have >= want
	}
	return false
}

// namesDevice also handles a name that ends in a wildcard, which the kernel has without its final
// zero.
func namesDevice(data []byte, device string) bool {
	name := string(data)
	return string(unzero(data)) == device ||
		len(name) > 0 && name[len(name)-1] != 0 && len(device) >= len(name) && device[:len(name)] == name
}

func unzero(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// isProtocol is true of the transport protocol's number in either IP header.
func isProtocol(p *expr.Payload) bool {
	return p.Base == expr.PayloadBaseNetworkHeader && p.Len == 1 && (p.Offset == 9 || p.Offset == 6)
}

// isDstPort is true of TCP's and UDP's destination port (RFC 9293 section 3.1, RFC 768).
func isDstPort(p *expr.Payload) bool {
	return p.Base == expr.PayloadBaseTransportHeader && p.Offset == 2 && p.Len == 2
}

// inSet reports whether a rule's set has a key. A set that can't be read counts as having it: a
// warning that is wrong costs more than one that is missing.
func inSet(conn *nftables.Conn, table *nftables.Table, l *expr.Lookup, key []byte) bool {
	set, err := conn.GetSetByName(table, l.SetName)
	if err != nil {
		return true
	}
	elements, err := conn.GetSetElements(set)
	if err != nil || set.Interval {
		return true
	}
	for _, e := range elements {
		if string(e.Key) == string(key) {
			return !l.Invert
		}
	}
	return l.Invert
}

// isBothPorts is true of source and destination port in one, as iptables compares them.
func isBothPorts(p *expr.Payload) bool {
	return p.Base == expr.PayloadBaseTransportHeader && p.Offset == 0 && p.Len == 4
}

func mendInput(ch *nftables.Chain, port uint16) string {
	if ch.Table.Name == "firewalld" {
		return fmt.Sprintf("firewall-cmd --permanent --add-port=%d/udp && firewall-cmd --reload", port)
	}
	return fmt.Sprintf("nft insert rule %s %s %s udp dport %d accept", familyName(ch.Table), ch.Table.Name, ch.Name, port)
}
