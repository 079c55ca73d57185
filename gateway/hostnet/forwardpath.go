package hostnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What becomes of a packet, or of the packets of a kind.
const (
	dropped   = iota
	undecided // some may pass, or the rules have what is not understood here
	passed
)

// A forwardPath is what the host's firewall does with forwarded packets: the rules of nftables,
// what iptables-nft makes of its own included, and those of the older iptables.
//
// It judges a packet of a TCP connection by the interfaces on which it arrives and goes out by, and
// by the prefix that it is addressed to: the first packet of a new connection, or a later one of a
// connection that both ends have agreed to. Its source and ports are anything, so a rule that looks
// at them leaves the matter undecided.
type forwardPath struct {
	established bool // judge later packets

	conn   *nftables.Conn
	bases  []*nftables.Chain
	rules  map[chainKey][]*nftables.Rule
	legacy []legacyForward
}

type chainKey struct {
	family nftables.TableFamily
	table  string
	chain  string
}

func readForwardPath() (*forwardPath, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	f := &forwardPath{conn: conn, rules: map[chainKey][]*nftables.Rule{}}
	for _, ch := range chains {
		switch ch.Table.Family {
		case nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6:
		default:
			continue
		}
		rules, err := conn.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("read the firewall's chain %s: %w", ch.Name, err)
		}
		f.rules[chainKey{ch.Table.Family, ch.Table.Name, ch.Name}] = rules
		if ch.Hooknum != nil && ch.Type == nftables.ChainTypeFilter &&
			(*ch.Hooknum == *nftables.ChainHookForward || *ch.Hooknum == *nftables.ChainHookPrerouting) {
			f.bases = append(f.bases, ch)
		}
	}
	for _, t := range []legacyTables{legacy4, legacy6} {
		info, entries, err := t.filter()
		if err != nil {
			return nil, fmt.Errorf("read the rules of %s: %w", t.command, err)
		}
		if entries != nil {
			f.legacy = append(f.legacy, legacyForward{t, info, entries})
		}
	}
	return f, nil
}

// verdict judges packets that arrive on one interface, leave by another and are addressed to a
// prefix. One chain that drops them is enough.
func (f *forwardPath) verdict(in, out netlink.Link, to netip.Prefix) int {
	verdict := passed
	for _, base := range f.bases {
		v4 := to.Addr().Is4()
		if base.Table.Family == nftables.TableFamilyIPv4 && !v4 || base.Table.Family == nftables.TableFamilyIPv6 && v4 {
			continue
		}
		p := &probe{path: f, table: base.Table, in: in, to: to}
		if *base.Hooknum == *nftables.ChainHookForward {
			p.out = out
		}
		ends := p.walk(base.Name, maxJumps)
		if ends&fallsThrough != 0 {
			ends &^= fallsThrough
			if base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop {
				ends |= canDrop
			} else {
				ends |= canAccept
			}
		}
		verdict = min(verdict, verdictOf(ends))
	}
	for _, l := range f.legacy {
		if l.among(to.Addr().Is4(), to.Addr().Is6()) {
			v := verdictOf(l.ends(in.Attrs().Name, out.Attrs().Name))
			if f.established && v == dropped {
				v = undecided // its rules were read for new connections
			}
			verdict = min(verdict, v)
		}
	}
	return verdict
}

// maxJumps bounds how deep chains lead to chains (NFT_JUMP_STACK_SIZE of the kernel).
const maxJumps = 16

// How packets may leave a chain, as a set.
const (
	canDrop = 1 << iota
	canAccept
	fallsThrough
)

func verdictOf(ends int) int {
	switch ends {
	case canDrop:
		return dropped
	case canAccept:
		return passed
	}
	return undecided
}

// A probe goes through one base chain and those that it leads to.
type probe struct {
	path    *forwardPath
	table   *nftables.Table
	in, out netlink.Link // out is nil where it is not known yet
	to      netip.Prefix
}

// walk returns how the packets may leave a chain.
func (p *probe) walk(chain string, depth int) (ends int) {
	if depth == 0 {
		return canDrop | canAccept
	}
	for _, r := range p.path.rules[chainKey{p.table.Family, p.table.Name, chain}] {
		m, end := p.rule(r, depth)
		if m == no {
			continue
		}
		ends |= end &^ fallsThrough
		if m == yes && end&fallsThrough == 0 {
			return ends
		}
		if m == yes && returns(r) {
			return ends | fallsThrough
		}
	}
	return ends | fallsThrough
}

// returns reports whether a rule that matches leaves its chain without a verdict.
func returns(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		if v, ok := e.(*expr.Verdict); ok && (v.Kind == expr.VerdictReturn || v.Kind == expr.VerdictGoto) {
			return true
		}
	}
	return false
}

// Whether a condition holds for the packets.
const (
	no = iota
	maybe
	yes
)

// rule returns whether a rule matches, and how packets leave the chain if it does.
func (p *probe) rule(r *nftables.Rule, depth int) (match, ends int) {
	match, ends = yes, fallsThrough
	regs := registers{}
	for _, e := range r.Exprs {
		holds := yes
		switch e := e.(type) {
		case *expr.Counter, *expr.Log, *expr.Objref, *expr.Notrack, *expr.FlowOffload:
		case *expr.Meta:
			if !e.SourceRegister {
				regs[e.Register] = p.meta(e.Key)
			}
		case *expr.Ct:
			regs[e.Register] = p.path.ctState(e.Key)
		case *expr.Payload:
			regs[e.DestRegister] = p.payload(e)
		case *expr.Bitwise:
			regs[e.DestRegister] = regs[e.SourceRegister].masked(e.Mask, e.Xor)
		case *expr.Cmp:
			holds = regs.take(e.Register).compare(e.Op, e.Data)
		case *expr.Lookup:
			if e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT {
				var end int
				holds, end = p.verdictMap(r.Table, e, regs.take(e.SourceRegister), depth)
				ends = end
			} else {
				holds = p.inSet(r.Table, e, regs.take(e.SourceRegister))
			}
		case *expr.Match:
			holds = p.path.xtMatch(e)
		case *expr.Target:
			if e.Name == "REJECT" {
				ends = canDrop
			}
		case *expr.Reject:
			ends = canDrop
		case *expr.Verdict:
			ends = p.follow(e, depth)
		case *expr.Immediate:
			delete(regs, e.Register)
		default: // a limit, a lookup in the routes, …
			regs = registers{}
			holds = maybe
		}
		if match = min(match, holds); match == no {
			return no, 0
		}
	}
	return match, ends
}

// follow returns how packets leave the chain by a verdict.
func (p *probe) follow(v *expr.Verdict, depth int) int {
	switch v.Kind {
	case expr.VerdictAccept:
		return canAccept
	case expr.VerdictDrop:
		return canDrop
	case expr.VerdictJump, expr.VerdictGoto:
		return p.walk(v.Chain, depth-1)
	case expr.VerdictReturn, expr.VerdictContinue, expr.VerdictBreak:
		return fallsThrough
	}
	return canAccept | canDrop // a program decides
}

// verdictMap looks a value up in a map of verdicts.
func (p *probe) verdictMap(t *nftables.Table, l *expr.Lookup, v value, depth int) (match, ends int) {
	elements, ok := p.elements(t, l)
	if !ok {
		return maybe, canAccept | canDrop | fallsThrough
	}
	for _, e := range elements {
		m := v.compare(expr.CmpOpEq, e.Key)
		if m == no {
			continue
		}
		end := canDrop | canAccept
		if verdict, ok := verdictIn(e.Val); ok {
			end = p.follow(verdict, depth)
		}
		if m == yes {
			return yes, end
		}
		match, ends = maybe, ends|end
	}
	return match, ends
}

// verdictIn reads the verdict in a map's element, which the library leaves as it is: attributes of
// linux/netfilter/nf_tables.h.
func verdictIn(b []byte) (*expr.Verdict, bool) {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, false
	}
	var v expr.Verdict
	found := false
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.NFTA_VERDICT_CODE:
			if len(a.Value) == 4 {
				v.Kind, found = expr.VerdictKind(int32(binary.BigEndian.Uint32(a.Value))), true
			}
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = text(a.Value)
		}
	}
	return &v, found
}

// inSet reports whether a value is in a set.
func (p *probe) inSet(t *nftables.Table, l *expr.Lookup, v value) int {
	elements, ok := p.elements(t, l)
	if !ok {
		return maybe
	}
	match := no
	for _, e := range elements {
		match = max(match, v.compare(expr.CmpOpEq, e.Key))
	}
	if l.Invert {
		return yes - match
	}
	return match
}

// elements lists those of a set. It is false for one that can't be read or has intervals.
func (p *probe) elements(t *nftables.Table, l *expr.Lookup) ([]nftables.SetElement, bool) {
	set, err := p.path.conn.GetSetByName(t, l.SetName)
	if err != nil || set.Interval || set.Concatenation {
		return nil, false
	}
	elements, err := p.path.conn.GetSetElements(set)
	return elements, err == nil
}

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
	}
	return maybe
}

// registers are those of one rule.
type registers map[uint32]value

// take returns what a register holds, once: what the next comparison needs, nft loads again. An
// expression that is not understood may load it too.
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

// ctState is the state of a packet's connection.
func (f *forwardPath) ctState(key expr.CtKey) value {
	if key != expr.CtKeySTATE {
		return value{}
	}
	state := uint32(expr.CtStateBitNEW)
	if f.established {
		state = expr.CtStateBitESTABLISHED
	}
	return exactly(binary.NativeEndian.AppendUint32(nil, state))
}

// payload is what is known of a packet's bytes: its protocol and the prefix that it goes to (RFC
// 791, section 3.1; RFC 8200, section 3).
func (p *probe) payload(e *expr.Payload) value {
	if e.OperationType != expr.PayloadLoad || e.Base != expr.PayloadBaseNetworkHeader {
		return value{}
	}
	at, protocol := uint32(16), uint32(9)
	if p.to.Addr().Is6() {
		at, protocol = 24, 6
	}
	addr := p.to.Addr().AsSlice()
	switch {
	case e.Offset == protocol && e.Len == 1:
		return exactly([]byte{unix.IPPROTO_TCP})
	case e.Offset == at && int(e.Len) <= len(addr): // nft reads no more than a mask leaves
		known := make([]byte, len(addr))
		for i := range p.to.Bits() {
			known[i/8] |= 0x80 >> (i % 8)
		}
		return value{addr[:e.Len], known[:e.Len]}
	}
	return value{}
}

// xtStateNew is XT_CONNTRACK_STATE_BIT(IP_CT_NEW), and xtState the flag that says that states are
// looked at (linux/netfilter/xt_conntrack.h).
const (
	xtStateNew = 8
	xtState    = 1
)

// xtMatch is a condition of iptables that nft has no expression for.
func (f *forwardPath) xtMatch(m *expr.Match) int {
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
		if m.Name == "comment" {
			return yes
		}
		return maybe
	}
	switch {
	case f.established:
		return maybe
	case base.MatchFlags&xtState != 0 && (states&xtStateNew != 0) == (base.InvertFlags&xtState != 0):
		return no
	case base.MatchFlags == xtState:
		return yes
	}
	return maybe
}
