package hostnet

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// checkInput looks for base chains that drop what is addressed to this host unless a
// rule accepts it, and have no rule for the trunks, which arrive on the TUN. Without
// them every connection is carried raw, and nobody is told.
func checkInput(c CheckConfig) []Finding {
	if c.TrunkPort == 0 {
		return nil
	}
	conn, err := nftables.New()
	if err != nil {
		return notChecked("the firewall", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil // checkFirewall has told
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
		ok, err := acceptsTrunks(conn, chains, ch.Table, c)
		if err != nil {
			return append(found, notChecked("the firewall's table "+ch.Table.Name, err)...)
		}
		if !ok {
			found = append(found, Finding{Warning,
				fmt.Sprintf("the firewall's chain %s %s %s drops what is addressed to this host, and no rule of its table accepts tcp/%d on %q: no connection can be relayed, all are carried raw",
					familyName(ch.Table), ch.Table.Name, ch.Name, c.TrunkPort, c.Device),
				mendInput(ch, c)})
		}
	}
	return found
}

func acceptsTrunks(conn *nftables.Conn, chains []*nftables.Chain, table *nftables.Table, c CheckConfig) (bool, error) {
	for _, ch := range chains {
		if ch.Table.Name != table.Name || ch.Table.Family != table.Family ||
			ch.Hooknum != nil && *ch.Hooknum != *nftables.ChainHookInput {
			continue
		}
		rules, err := conn.GetRules(ch.Table, ch)
		if err != nil {
			return false, err
		}
		for _, r := range rules {
			if acceptsPort(conn, r, c) {
				return true, nil
			}
		}
	}
	return false, nil
}

// acceptsPort reports whether an accepting rule names the device, and no other port,
// or the port, and no other interface.
func acceptsPort(conn *nftables.Conn, r *nftables.Rule, c CheckConfig) bool {
	var load expr.Any // what the next comparison is of
	named, accepts := false, false
	port := binary.BigEndian.AppendUint16(nil, c.TrunkPort)
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta, *expr.Payload, *expr.Ct:
			load = e
		case *expr.Cmp:
			switch l := load.(type) {
			case *expr.Meta:
				switch l.Key {
				case expr.MetaKeyIIFNAME:
					if e.Op != expr.CmpOpEq || !namesDevice(e.Data, c.Device) {
						return false
					}
					named = true
				case expr.MetaKeyL4PROTO:
					if e.Op == expr.CmpOpEq && (len(e.Data) == 0 || e.Data[0] != unix.IPPROTO_TCP) {
						return false
					}
				}
			case *expr.Payload:
				if isDstPort(l) {
					if !holds(e.Op, string(port), string(e.Data)) {
						return false
					}
					named = true
				}
			}
		case *expr.Range:
			if l, ok := load.(*expr.Payload); ok && isDstPort(l) {
				if string(port) < string(e.FromData) || string(port) > string(e.ToData) {
					return false
				}
				named = true
			}
		case *expr.Lookup:
			if l, ok := load.(*expr.Payload); ok && isDstPort(l) {
				if !inSet(conn, r.Table, e, port) {
					return false
				}
				named = true
			}
		case *expr.Match: // of iptables
			if m, ok := e.Info.(*xt.Tcp); ok && m.DstPorts[0] <= c.TrunkPort && c.TrunkPort <= m.DstPorts[1] {
				named = true
			} else if ok || e.Name == "udp" {
				return false
			}
		case *expr.Verdict:
			accepts = e.Kind == expr.VerdictAccept
		}
	}
	return named && accepts
}

// holds says whether a comparison is true; nft makes two of a range.
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

// namesDevice tells also for a name that ends in a wildcard, which the kernel has
// without its final zero.
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

// isDstPort is true of TCP's destination port (RFC 9293, section 3.1).
func isDstPort(p *expr.Payload) bool {
	return p.Base == expr.PayloadBaseTransportHeader && p.Offset == 2 && p.Len == 2
}

// inSet tells whether a rule's set has the port. One that can't be read is taken to:
// a warning that is wrong costs more than one that is missing.
func inSet(conn *nftables.Conn, table *nftables.Table, l *expr.Lookup, port []byte) bool {
	set, err := conn.GetSetByName(table, l.SetName)
	if err != nil {
		return true
	}
	elements, err := conn.GetSetElements(set)
	if err != nil || set.Interval {
		return true
	}
	for _, e := range elements {
		if string(e.Key) == string(port) {
			return !l.Invert
		}
	}
	return l.Invert
}

func mendInput(ch *nftables.Chain, c CheckConfig) string {
	if ch.Table.Name == "firewalld" {
		return mendFirewall(ch, nil, c.Device)
	}
	return fmt.Sprintf("nft insert rule %s %s %s iifname %s tcp dport %d accept", familyName(ch.Table), ch.Table.Name, ch.Name, c.Device, c.TrunkPort)
}
