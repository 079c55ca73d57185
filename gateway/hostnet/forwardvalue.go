package hostnet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A value is what a register holds: bytes, of which only the bits in known are.
type value struct{ data, known []byte }

func exactly(b []byte) value {
	known := make([]byte, len(b))
	for i := range known {
		known[i] = 0xff
	}
	return value{b, known}
}

// masked is the value after a bitwise operation: what the mask clears is known.
func (v value) masked(mask, xor []byte) value {
	out := value{make([]byte, len(mask)), make([]byte, len(mask))}
	for i := range mask {
		var data, known byte
		if i < len(v.data) {
			data, known = v.data[i], v.known[i]
		}
		out.data[i], out.known[i] = data&mask[i], known|^mask[i]
		if i < len(xor) {
			out.data[i] ^= xor[i]
		}
	}
	return out
}

// compare compares as many bytes as there are to compare with. An interface's name with a wildcard
// is shorter than the register.
func (v value) compare(op expr.CmpOp, with []byte) int {
	equal := yes
	for i, w := range with {
		if i >= len(v.data) {
			equal = min(equal, maybe)
			break
		}
		switch diff := (v.data[i] ^ w) & v.known[i]; {
		case diff != 0:
			equal = no
		case v.known[i] != 0xff:
			equal = min(equal, maybe)
		}
	}
	switch op {
	case expr.CmpOpEq:
		return equal
	case expr.CmpOpNeq:
		return yes - equal
	case expr.CmpOpGte:
		return v.atLeast(with)
	case expr.CmpOpLt:
		return yes - v.atLeast(with)
	case expr.CmpOpLte:
		return v.atMost(with)
	case expr.CmpOpGt:
		return yes - v.atMost(with)
	}
	return maybe
}

// atLeast and atMost compare the value as a number in network byte order.
func (v value) atLeast(with []byte) int {
	low, high := v.bounds()
	return ordered(len(v.data) == len(with), bytes.Compare(low, with) >= 0, bytes.Compare(high, with) < 0)
}

func (v value) atMost(with []byte) int {
	low, high := v.bounds()
	return ordered(len(v.data) == len(with), bytes.Compare(high, with) <= 0, bytes.Compare(low, with) > 0)
}

func ordered(comparable, always, never bool) int {
	switch {
	case comparable && always:
		return yes
	case comparable && never:
		return no
	}
	return maybe
}

// bounds are the least and the greatest that the value may be.
func (v value) bounds() (low, high []byte) {
	low, high = bytes.Clone(v.data), bytes.Clone(v.data)
	for i, k := range v.known {
		low[i], high[i] = low[i]&k, high[i]&k|^k
	}
	return low, high
}

// between reports whether the value is in a range that includes both its ends.
func (v value) between(from, to []byte) int { return min(v.atLeast(from), v.atMost(to)) }

// inIntervals reports whether the value is in a set of intervals: boundaries, each the first value
// inside or the first behind.
func (v value) inIntervals(boundaries []nftables.SetElement) int {
	low, high := v.bounds()
	slices.SortStableFunc(boundaries, func(a, b nftables.SetElement) int { return bytes.Compare(a.Key, b.Key) })
	match := no
	for i, start := range boundaries {
		if len(start.Key) != len(v.data) {
			return maybe
		}
		if start.IntervalEnd {
			continue
		}
		end := []byte(nil) // the set has all values from start on
		if i+1 < len(boundaries) {
			end = boundaries[i+1].Key
		}
		switch {
		case bytes.Compare(high, start.Key) < 0, end != nil && bytes.Compare(low, end) >= 0:
		case bytes.Compare(low, start.Key) >= 0 && (end == nil || bytes.Compare(high, end) < 0):
			return yes
		default:
			match = maybe
		}
	}
	return match
}

// registers are those of one rule.
type registers map[uint32]value

// take returns what a register holds, once: what the next comparison needs, nft loads again, unless
// it compares with the two ends of a range. An expression that is not understood may load it too.
func (r registers) take(n uint32) value {
	v := r[n]
	delete(r, n)
	return v
}

// meta is what is known of a packet apart from its bytes.
func (p *probe) meta(key expr.MetaKey) value {
	switch key {
	case expr.MetaKeyIIFNAME:
		return ifname(p.in)
	case expr.MetaKeyIIF:
		return ifindex(p.in)
	case expr.MetaKeyOIFNAME:
		return ifname(p.out)
	case expr.MetaKeyOIF:
		return ifindex(p.out)
	case expr.MetaKeyL4PROTO:
		return exactly([]byte{unix.IPPROTO_TCP})
	case expr.MetaKeyMARK:
		if p.untouched {
			return exactly(make([]byte, 4))
		}
	case expr.MetaKeyNFPROTO:
		if p.to.Addr().Is4() {
			return exactly([]byte{unix.NFPROTO_IPV4})
		}
		return exactly([]byte{unix.NFPROTO_IPV6})
	}
	return value{}
}

func ifname(l netlink.Link) value {
	if l == nil {
		return value{}
	}
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, l.Attrs().Name)
	return exactly(b)
}

func ifindex(l netlink.Link) value {
	if l == nil {
		return value{}
	}
	return exactly(binary.NativeEndian.AppendUint32(nil, uint32(l.Attrs().Index)))
}

// The bits of a connection's status that say that it is translated (IPS_SRC_NAT, IPS_DST_NAT of
// linux/netfilter/nf_conntrack_common.h).
const statusTranslated = 0x30

// tracked is what connection tracking knows of a packet's connection.
func (p *probe) tracked(key expr.CtKey) value {
	word := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	switch {
	case key == expr.CtKeySTATE:
		return exactly(word(p.path.state))
	case key == expr.CtKeySTATUS && p.untouched:
		return value{word(0), word(statusTranslated)}
	case key == expr.CtKeyMARK && p.untouched:
		return exactly(word(0))
	}
	return value{}
}

// payload is what is known of a packet's bytes: its protocol and the prefixes that it comes from
// and goes to (RFC 791, section 3.1; RFC 8200, section 3).
func (p *probe) payload(e *expr.Payload) value {
	if e.OperationType != expr.PayloadLoad || e.Base != expr.PayloadBaseNetworkHeader {
		return value{}
	}
	from, to, protocol := uint32(12), uint32(16), uint32(9)
	if p.to.Addr().Is6() {
		from, to, protocol = 8, 24, 6
	}
	switch {
	case e.Offset == protocol && e.Len == 1:
		return exactly([]byte{unix.IPPROTO_TCP})
	case e.Offset == to:
		return someOf(p.to, e.Len)
	case e.Offset == from && p.from.IsValid():
		return someOf(p.from, e.Len)
	}
	return value{}
}

// someOf is what is known of the first bytes of an address in a prefix. nft reads no more than a
// mask leaves.
func someOf(p netip.Prefix, n uint32) value {
	addr := p.Addr().AsSlice()
	if int(n) > len(addr) {
		return value{}
	}
	known := make([]byte, len(addr))
	for i := range p.Bits() {
		known[i/8] |= 0x80 >> (i % 8)
	}
	return value{addr[:n], known[:n]}
}

// xtStateNew is XT_CONNTRACK_STATE_BIT(IP_CT_NEW), and xtState the flag that says that states are
// looked at (linux/netfilter/xt_conntrack.h).
const (
	xtStateNew = 8
	xtState    = 1
)

// xtPartial are matches of iptables that look at sources, ports or rates: packets of the sites may
// or may not match, as with nft's own expressions for these. Others are not understood.
var xtPartial = []string{
	"addrtype", "connlimit", "dscp", "ecn", "hashlimit", "icmp", "icmp6", "iprange", "length", "limit", "mac", "multiport", "pkttype",
	"recent", "tcp", "tcpmss", "time", "ttl", "hl",
}

// xtMatch judges a condition of iptables that nft has no expression for, and reports whether it is
// one that is understood.
func (p *probe) xtMatch(m *expr.Match) (match int, understood bool) {
	var base xt.ConntrackMtinfoBase
	var states uint16
	switch info := m.Info.(type) {
	case *xt.ConntrackMtinfo1:
		base, states = info.ConntrackMtinfoBase, uint16(info.StateMask)
	case *xt.ConntrackMtinfo2:
		base, states = info.ConntrackMtinfoBase, info.StateMask
	case *xt.ConntrackMtinfo3:
		base, states = info.ConntrackMtinfoBase, info.StateMask
	default:
		switch {
		case m.Name == "comment":
			return yes, true
		case m.Name == "udp", m.Name == "udplite", m.Name == "sctp":
			return no, true // the packets are TCP's
		case m.Name == "mark" && p.untouched:
			return xtUnmarked(m)
		}
		return maybe, slices.Contains(xtPartial, m.Name)
	}
	if base.MatchFlags&xtState != 0 && (uint32(states)&p.path.state != 0) == (base.InvertFlags&xtState != 0) {
		return no, true
	}
	if base.MatchFlags == xtState {
		return yes, true
	}
	return maybe, true
}

// xtUnmarked judges a match of packets that have no mark: struct xt_mark_mtinfo1 of
// linux/netfilter/xt_mark.h has mark, mask and invert.
func xtUnmarked(m *expr.Match) (match int, understood bool) {
	info, ok := m.Info.(*xt.Unknown)
	if !ok || len(*info) < 9 {
		return maybe, false
	}
	b := []byte(*info)
	if (binary.NativeEndian.Uint32(b) == 0) == (b[8] != 0) {
		return no, true
	}
	return yes, true
}
