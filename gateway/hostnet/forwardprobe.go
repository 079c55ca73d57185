package hostnet

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A probe goes through one base chain and those that it leads to.
type probe struct {
	path    *forwardPath
	table   *nftables.Table
	in, out netlink.Link // out is nil where it is not known yet
	to      netip.Prefix
	// from is where the packets come from, if that is known.
	from      netip.Prefix
	untouched bool // as in forwardPath
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
	regs, plain := registers{}, true
	for _, e := range r.Exprs {
		holds := yes
		switch e := e.(type) {
		case *expr.Counter, *expr.Log, *expr.Objref, *expr.Notrack, *expr.FlowOffload:
		case *expr.Meta:
			if !e.SourceRegister {
				regs[e.Register] = p.meta(e.Key)
			}
		case *expr.Ct:
			regs[e.Register] = p.tracked(e.Key)
		case *expr.Payload:
			regs[e.DestRegister] = p.payload(e)
		case *expr.Bitwise:
			regs[e.DestRegister] = regs[e.SourceRegister].masked(e.Mask, e.Xor)
		case *expr.Cmp:
			v := regs[e.Register]
			if e.Op != expr.CmpOpGte { // the other end of a range follows
				regs.take(e.Register)
			}
			holds = v.compare(e.Op, e.Data)
		case *expr.Range:
			if holds = regs.take(e.Register).between(e.FromData, e.ToData); e.Op == expr.CmpOpNeq {
				holds = yes - holds
			}
		case *expr.Lookup:
			if e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT {
				var end int
				holds, end = p.verdictMap(r.Table, e, regs.take(e.SourceRegister), depth)
				ends = end
			} else {
				holds = p.inSet(r.Table, e, regs.take(e.SourceRegister))
			}
		case *expr.Match:
			var understood bool
			holds, understood = p.xtMatch(e)
			plain = plain && understood
		case *expr.Target:
			switch e.Name {
			case "REJECT":
				ends = canDrop
			case "MASQUERADE", "SNAT", "NETMAP":
				ends = canRewrite
			}
		case *expr.Masq, *expr.NAT:
			ends = canRewrite
		case *expr.Reject:
			ends = canDrop
		case *expr.Verdict:
			ends = p.follow(e, depth)
		case *expr.Byteorder:
			delete(regs, e.DestRegister)
		case *expr.Immediate:
			delete(regs, e.Register)
		case *expr.Limit, *expr.Fib: // what a firewall says of floods and of forged sources
			regs = registers{}
			holds = maybe
		default:
			regs, plain = registers{}, false
			holds = maybe
		}
		if match = min(match, holds); match == no {
			return no, 0
		}
	}
	if !plain && ends&canDrop != 0 && !slices.Contains(p.path.unclear, r) {
		p.path.unclear = append(p.path.unclear, r)
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
	set, elements, ok := p.elements(t, l)
	if !ok || set.Interval {
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
	set, elements, ok := p.elements(t, l)
	if !ok {
		return maybe
	}
	match := no
	if set.Interval {
		match = v.inIntervals(elements)
	} else {
		for _, e := range elements {
			match = max(match, v.compare(expr.CmpOpEq, e.Key))
		}
	}
	if l.Invert {
		return yes - match
	}
	return match
}

// elements lists those of a set. It is false for one that can't be read or has more than one field.
func (p *probe) elements(t *nftables.Table, l *expr.Lookup) (*nftables.Set, []nftables.SetElement, bool) {
	set, err := p.path.conn.GetSetByName(t, l.SetName)
	if err != nil || set.Concatenation {
		return nil, nil, false
	}
	elements, err := p.path.conn.GetSetElements(set)
	return set, elements, err == nil
}
