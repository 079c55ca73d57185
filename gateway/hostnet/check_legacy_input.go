package hostnet

import (
	"encoding/binary"
	"fmt"
)

const hookInput = 1 // NF_INET_LOCAL_IN

// Layout of struct xt_entry_match, and of what the matches tcp and udp hold.
const (
	legacyMatchName = 2
	legacyMatchHead = 32
	legacyPorts     = legacyMatchHead + 4 // the destination's, behind the source's
	// legacyInvertsPorts is the flag that inverts the comparison of those ports.
	legacyInvertsPorts = 2 // XT_TCP_INV_DSTPT, XT_UDP_INV_DSTPT
)

// legacyInverse is where the flags are that invert a comparison, of the matches of ports.
var legacyInverse = map[string]int{"udp": legacyMatchHead + 8, "tcp": legacyMatchHead + 11}

// checkLegacyInput does for iptables what checkInput does for nftables, but looks at the
// policy only and at no last rule.
func checkLegacyInput(wanted []opening, tun string) (found []Finding) {
	for _, t := range []legacyTables{legacy4, legacy6} {
		info, entries, err := t.filter()
		if err != nil {
			found = append(found, notChecked("the firewall of "+t.command, err)...)
			continue
		}
		for _, o := range wanted {
			if !t.among(o.v4, o.v6) || !t.dropsInput(info, entries) || t.lets(info, entries, o, tun) {
				continue
			}
			rule := fmt.Sprintf("-p udp --dport %d", o.port)
			if o.device != "" {
				rule = fmt.Sprintf("-i %s -p tcp --dport %d", o.device, o.port)
			}
			found = append(found, Finding{Warning,
				fmt.Sprintf("the INPUT policy of %s drops what is addressed to this host, and no rule accepts %v: %s", t.command, o, o.without),
				fmt.Sprintf("%s -I INPUT %s -j ACCEPT", t.command, rule)})
		}
	}
	return found
}

// dropsInput says whether the INPUT chain's policy is to drop.
func (t legacyTables) dropsInput(info legacyInfo, entries []byte) bool {
	policy, _, ok := t.entry(entries, int(info.Underflow[hookInput]))
	return ok && policy.verdict == verdictDrop
}

// lets looks for a rule that lets an opening through: by its port in any chain, otherwise
// in INPUT itself.
func (t legacyTables) lets(info legacyInfo, entries []byte, o opening, tun string) bool {
	first, last := int(info.HookEntry[hookInput]), int(info.Underflow[hookInput])
	for at := 0; at < len(entries); {
		e, next, ok := t.entry(entries, at)
		if !ok {
			return false
		}
		how := t.accepted(entries[at:next], e, o, tun)
		if how == byPort || how == bySource && first <= at && at < last {
			return true
		}
		at = next
	}
	return false
}

// accepted says how a rule accepts what an opening lets in.
func (t legacyTables) accepted(b []byte, e legacyEntry, o opening, tun string) (how int) {
	if e.verdict != verdictAccept {
		return notAtAll
	}
	if proto := binary.NativeEndian.Uint16(b[t.proto:]); proto != 0 && proto != uint16(o.proto) {
		return notAtAll
	}
	switch {
	case o.device == "" && (e.in == "lo" || e.in == tun), o.device != "" && e.in != "" && e.in != o.device:
		return notAtAll
	case o.device == "":
		how = bySource
	case e.in == o.device:
		how = byPort
	}
	for at, end := t.matches, int(binary.NativeEndian.Uint16(b[t.targetOffset:])); at+legacyMatchHead <= end; {
		m := b[at:end]
		size := int(binary.NativeEndian.Uint16(m))
		if size < legacyMatchHead || size > len(m) {
			return notAtAll
		}
		m = m[:size]
		name := text(m[legacyMatchName:legacyMatchHead])
		inverse, ports := legacyInverse[name]
		switch {
		case ports && size > inverse && namesPorts(m):
			if !portsHold(m, o.port, m[inverse]&legacyInvertsPorts != 0) {
				return notAtAll
			}
			how = byPort
		case name == "comment", how == byPort:
		default: // of what is established already, for one
			how = narrowed
		}
		at += size
	}
	return how
}

// narrowed is what a rule accepts under a condition that is not looked at: a port of its
// own may still follow.
const narrowed = -1

// namesPorts tells whether a match is about destination ports at all.
func namesPorts(m []byte) bool {
	return binary.NativeEndian.Uint32(m[legacyPorts:]) != binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})
}

func portsHold(m []byte, port uint16, inverted bool) bool {
	lo, hi := binary.NativeEndian.Uint16(m[legacyPorts:]), binary.NativeEndian.Uint16(m[legacyPorts+2:])
	return (lo <= port && port <= hi) != inverted
}
