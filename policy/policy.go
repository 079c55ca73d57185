// Package policy decides who may open a connection to whom. It is a leaf and a pure decision: no
// packets, no clocks, no configuration syntax. The flow table asks it once for each flow, in the
// direction in which the flow was opened, and remembers the answer; replies never come here.
package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// Protocol numbers that the decision treats in their own way (IANA "Assigned Internet Protocol
// Numbers").
const (
	ProtoAny    = 0 // not a packet's protocol here (HOPOPT is a header, not a payload): in a rule it stands for every protocol
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Rule allows flows from any of From to any of To, when one of Ports fits.
type Rule struct {
	// Name is the rule's label in the configuration, and Pos the file:line where it stands; both
	// are shown to operators.
	Name, Pos string
	// From holds the opener's addresses, To those of the called end.
	From, To []Hosts
	Ports    []Ports
}

// Hosts is a set of addresses: those in Prefixes and not in Except. A prefix covers addresses of
// its own family only.
type Hosts struct {
	Prefixes []netip.Prefix
	Except   []netip.Addr
}

// Ports is a protocol with a range of destination ports, both ends included.
type Ports struct {
	// Proto is the IP protocol number. ProtoAny covers every protocol; ProtoICMP and ProtoICMPv6
	// both cover the two of them, since a rule that lets hosts ping each other means either family.
	Proto uint8
	// Lo and Hi count for TCP and UDP only; every port is 0 to 65535. With ProtoAny they must be
	// every port, or both zero.
	Lo, Hi uint16
}

// covers says whether a packet of this protocol toward this port is meant. The port counts for TCP
// and UDP only.
func (r Ports) covers(proto uint8, dport uint16) bool {
	switch r.Proto {
	case ProtoAny:
		return true
	case ProtoICMP, ProtoICMPv6:
		return proto == ProtoICMP || proto == ProtoICMPv6
	case ProtoTCP, ProtoUDP:
		return proto == r.Proto && r.Lo <= dport && dport <= r.Hi
	default:
		return proto == r.Proto
	}
}

// check refuses ranges that would silently mean something other than their author thought: an unset
// range in particular must not become "port 0 only", let alone "every port".
func (r Ports) check() error {
	switch r.Proto {
	case ProtoAny:
		if r.Hi != 0 && (r.Lo > 1 || r.Hi != 65535) || r.Hi < r.Lo {
			return fmt.Errorf("ports %d-%d without a protocol: name tcp or udp", r.Lo, r.Hi)
		}
	case ProtoTCP, ProtoUDP:
		if r.Hi == 0 || r.Lo > r.Hi {
			return fmt.Errorf("port range %d-%d is empty: the lower port comes first, and every port is 0-65535", r.Lo, r.Hi)
		}
	}
	return nil
}

// Verdict is the answer for one flow.
type Verdict struct {
	// Allowed is false when no rule fits: the default is to deny.
	Allowed bool
	// Rule is the rule that allowed the flow, nil when denied. It belongs to the Policy and must
	// not be written to.
	Rule *Rule
}

// Policy is an ordered list of rules. It never changes once made, so any number of goroutines may
// ask it; a new configuration is a new Policy, which the owner swaps in atomically. The nil Policy
// denies everything.
type Policy struct {
	rules []compiled
}

// compiled is a rule with all prefixes of a side in one list, since most packets that are judged
// fit none.
type compiled struct {
	Rule
	from, to []netip.Prefix
}

// New makes a Policy of the rules in their order. It keeps copies. A rule that could never fit, or
// that leaves its ports in doubt, is an error: a mistake has to be seen when it is loaded, not when
// a connection is refused.
func New(rules []Rule) (*Policy, error) {
	p := &Policy{rules: make([]compiled, 0, len(rules))}
	for _, r := range rules {
		if !slices.ContainsFunc(r.From, Hosts.any) || !slices.ContainsFunc(r.To, Hosts.any) || len(r.Ports) == 0 {
			return nil, fmt.Errorf("rule %q (%s) can never fit: from, to and ports each need an entry", r.Name, r.Pos)
		}
		for _, ports := range r.Ports {
			if err := ports.check(); err != nil {
				return nil, fmt.Errorf("rule %q (%s): %w", r.Name, r.Pos, err)
			}
		}
		var err error
		if r.From, err = masked(r.From); err != nil {
			return nil, fmt.Errorf("rule %q (%s): from: %w", r.Name, r.Pos, err)
		}
		if r.To, err = masked(r.To); err != nil {
			return nil, fmt.Errorf("rule %q (%s): to: %w", r.Name, r.Pos, err)
		}
		r.Ports = slices.Clone(r.Ports)
		p.rules = append(p.rules, compiled{Rule: r, from: flat(r.From), to: flat(r.To)})
	}
	return p, nil
}

// Judge decides on a flow that src wants to open to dst. The first rule that fits wins. dport is
// the destination port for TCP and UDP and is ignored for other protocols. It allocates nothing,
// and its cost grows with the number of rules: it is meant for the first packet of a flow. Safe for
// concurrent use.
func (p *Policy) Judge(src, dst netip.Addr, proto uint8, dport uint16) Verdict {
	if p == nil {
		return Verdict{}
	}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.coversPorts(proto, dport) || !contains(r.from, src) || !contains(r.to, dst) || !covers(r.From, src) || !covers(r.To, dst) {
			continue
		}
		return Verdict{Allowed: true, Rule: &r.Rule}
	}
	return Verdict{}
}

func (r *Rule) coversPorts(proto uint8, dport uint16) bool {
	for _, ports := range r.Ports {
		if ports.covers(proto, dport) {
			return true
		}
	}
	return false
}

// Excepted returns the first rule that would allow a flow which Judge denies if the exceptions in
// From and To were not. It is nil if there is none. It explains a denial.
func (p *Policy) Excepted(src, dst netip.Addr, proto uint8, dport uint16) *Rule {
	if p == nil || p.Judge(src, dst, proto, dport).Allowed {
		return nil
	}
	for i := range p.rules {
		r := &p.rules[i]
		if r.coversPorts(proto, dport) && contains(r.from, src) && contains(r.to, dst) {
			return &r.Rule
		}
	}
	return nil
}

// covers reports whether a set of the list holds an address.
func covers(list []Hosts, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(h Hosts) bool { return contains(h.Prefixes, a) && !slices.Contains(h.Except, a) })
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func flat(list []Hosts) (out []netip.Prefix) {
	for _, h := range list {
		out = append(out, h.Prefixes...)
	}
	return out
}

func (h Hosts) any() bool { return len(h.Prefixes) > 0 }

// masked copies a list, with the host bits of its prefixes cleared.
func masked(list []Hosts) ([]Hosts, error) {
	out := make([]Hosts, 0, len(list))
	for _, h := range list {
		c := Hosts{Except: slices.Clone(h.Except)}
		for _, p := range h.Prefixes {
			if !p.IsValid() {
				return nil, fmt.Errorf("prefix %v is not valid", p)
			}
			c.Prefixes = append(c.Prefixes, p.Masked())
		}
		out = append(out, c)
	}
	return out, nil
}
