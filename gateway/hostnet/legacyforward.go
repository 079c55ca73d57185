package hostnet

import (
	"encoding/binary"
	"strings"
)

// A legacyForward is the table "filter" of one family's older iptables.
type legacyForward struct {
	legacyTables
	info    legacyInfo
	entries []byte
}

// Flags of struct ipt_ip and ip6t_ip6 that invert the comparison with an interface's name
// (IPT_INV_VIA_IN, IPT_INV_VIA_OUT).
const (
	legacyInvertsIn  = 1
	legacyInvertsOut = 2
)

// Where the match conntrack has its flags and states (struct xt_conntrack_mtinfo3; in revision 1
// the states are one byte), and where every match has its revision.
const (
	legacyMatchRevision = legacyMatchHead - 1
	legacyCtFlags       = legacyMatchHead + 146
	legacyCtInvert      = legacyMatchHead + 148
	legacyCtStates      = legacyMatchHead + 150
)

// ends returns how packets of new connections may leave the FORWARD chain, by the interfaces on
// which they arrive and leave. It does not follow the order of the rules: one that may match counts
// next to the policy, so the answer is certain only where all of them agree.
func (l legacyForward) ends(in, out string) int {
	const unknown = canDrop | canAccept
	policy, _, ok := l.entry(l.entries, int(l.info.Underflow[hookForward]))
	if !ok {
		return unknown
	}
	ends := canAccept
	if policy.verdict == verdictDrop {
		ends = canDrop
	}
	for at := 0; at < len(l.entries); {
		e, next, ok := l.entry(l.entries, at)
		if !ok {
			return unknown
		}
		if !l.elsewhere(at) && l.mayMatch(l.entries[at:next], e, in, out) {
			switch {
			case e.verdict == verdictAccept:
				ends |= canAccept
			case e.verdict == verdictDrop, e.target == "REJECT":
				ends |= canDrop
			}
		}
		at = next
	}
	return ends
}

// elsewhere reports whether an entry is a chain's policy, or in a chain that forwarded packets do
// not reach.
func (l legacyForward) elsewhere(at int) bool {
	for hook := range l.info.HookEntry {
		if l.info.ValidHooks&(1<<hook) == 0 {
			continue
		}
		first, policy := int(l.info.HookEntry[hook]), int(l.info.Underflow[hook])
		if at == policy || hook != hookForward && first <= at && at < policy {
			return true
		}
	}
	return false
}

// mayMatch reports whether an entry may match a new connection between the interfaces.
func (l legacyForward) mayMatch(b []byte, e legacyEntry, in, out string) bool {
	inverts := b[l.inverts]
	if e.in != "" && sameInterface(e.in, in) == (inverts&legacyInvertsIn != 0) ||
		e.out != "" && sameInterface(e.out, out) == (inverts&legacyInvertsOut != 0) {
		return false
	}
	for at, end := l.matches, int(binary.NativeEndian.Uint16(b[l.targetOffset:])); at+legacyMatchHead <= end; {
		size := int(binary.NativeEndian.Uint16(b[at:]))
		if size < legacyMatchHead || at+size > end {
			return true
		}
		if excludesNew(b[at : at+size]) {
			return false
		}
		at += size
	}
	return true
}

// sameInterface compares a name with a rule's, which may end in the wildcard "+".
func sameInterface(rule, name string) bool {
	if prefix, wild := strings.CutSuffix(rule, "+"); wild {
		return strings.HasPrefix(name, prefix)
	}
	return rule == name
}

// excludesNew reports whether a match is about the states of connections, and not for new ones.
func excludesNew(m []byte) bool {
	switch name := text(m[legacyMatchName:legacyMatchRevision]); {
	case name == "state" && len(m) >= legacyMatchHead+4:
		return binary.NativeEndian.Uint32(m[legacyMatchHead:])&xtStateNew == 0
	case name == "conntrack" && len(m) >= legacyCtStates+2 && m[legacyMatchRevision] > 0:
		flags, inverted := binary.NativeEndian.Uint16(m[legacyCtFlags:]), binary.NativeEndian.Uint16(m[legacyCtInvert:])
		states := binary.NativeEndian.Uint16(m[legacyCtStates:])
		if m[legacyMatchRevision] == 1 {
			states = uint16(m[legacyCtStates])
		}
		return flags&xtState != 0 && (states&xtStateNew != 0) == (inverted&xtState != 0)
	}
	return false
}
