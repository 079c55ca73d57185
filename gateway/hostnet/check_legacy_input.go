package hostnet

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const hookInput = 1 // NF_INET_LOCAL_IN

// Layout of struct xt_entry_match, and of what the match udp holds.
const (
	legacyMatchName = 2
	legacyMatchHead = 32
	legacyPorts     = legacyMatchHead + 4 // the destination's, behind the source's
	legacyInverse   = legacyMatchHead + 8 // the flags that invert a comparison
	// legacyInvertsPorts is that of the destination's ports.
	legacyInvertsPorts = 2 // XT_UDP_INV_DSTPT
)

// checkLegacyInput does for iptables what checkInput does for nftables, but looks at the policy
// only and at no last rule.
func checkLegacyInput(c CheckConfig) (found []Finding) {
	for _, t := range []legacyTables{legacy4, legacy6} {
		if !t.among(c.Listen4, c.Listen6) {
			continue
		}
		info, entries, err := t.filter()
		if err != nil {
			found = append(found, notChecked("the firewall of "+t.command, err)...)
			continue
		}
		if !t.dropsInput(info, entries) || t.lets(info, entries, c) {
			continue
		}
		found = append(found, Finding{Warning,
			fmt.Sprintf("the INPUT policy of %s drops packets to this host, and no rule accepts udp/%d: %s", t.command, c.ListenPort, unreachable),
			fmt.Sprintf("%s -I INPUT -p udp --dport %d -j ACCEPT", t.command, c.ListenPort)})
	}
	return found
}

// dropsInput reports whether the INPUT chain's policy is DROP.
func (t legacyTables) dropsInput(info legacyInfo, entries []byte) bool {
	policy, _, ok := t.entry(entries, int(info.Underflow[hookInput]))
	return ok && policy.verdict == verdictDrop
}

// lets looks for a rule that accepts the port: by its number in any chain, otherwise in INPUT
// itself.
func (t legacyTables) lets(info legacyInfo, entries []byte, c CheckConfig) bool {
	first, last := int(info.HookEntry[hookInput]), int(info.Underflow[hookInput])
	for at := 0; at < len(entries); {
		e, next, ok := t.entry(entries, at)
		if !ok {
			return false
		}
		how := t.accepted(entries[at:next], e, c)
		if how == byPort || how == bySource && first <= at && at < last {
			return true
		}
		at = next
	}
	return false
}

// accepted returns how a rule accepts what other nodes send to the port.
func (t legacyTables) accepted(b []byte, e legacyEntry, c CheckConfig) (how int) {
	if e.verdict != verdictAccept || e.in == "lo" || e.in == c.Device {
		return notAtAll
	}
	if proto := binary.NativeEndian.Uint16(b[t.proto:]); proto != 0 && proto != unix.IPPROTO_UDP {
		return notAtAll
	}
	how = bySource
	for at, end := t.matches, int(binary.NativeEndian.Uint16(b[t.targetOffset:])); at+legacyMatchHead <= end; {
		m := b[at:end]
		size := int(binary.NativeEndian.Uint16(m))
		if size < legacyMatchHead || size > len(m) {
			return notAtAll
		}
		m = m[:size]
		name := text(m[legacyMatchName:legacyMatchHead])
		switch {
		case name == "udp" && size > legacyInverse && namesPorts(m):
			if !portsHold(m, c.ListenPort, m[legacyInverse]&legacyInvertsPorts != 0) {
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

// narrowed is what a rule accepts under a condition that is not looked at: a port of its own may
// still follow.
const narrowed = -1

// namesPorts reports whether a match restricts destination ports.
func namesPorts(m []byte) bool {
	return binary.NativeEndian.Uint32(m[legacyPorts:]) != binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})
}

func portsHold(m []byte, port uint16, inverted bool) bool {
	lo, hi := binary.NativeEndian.Uint16(m[legacyPorts:]), binary.NativeEndian.Uint16(m[legacyPorts+2:])
	return (lo <= port && port <= hi) != inverted
}
