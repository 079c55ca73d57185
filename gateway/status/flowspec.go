package status

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// FlowSpec picks flows: all that lie between two ends, in either direction. The zero value picks
// everything.
type FlowSpec struct {
	// A and B are addresses with ports; one that is not valid, or port 0, is any.
	A, B netip.AddrPort
	// Proto is tcp, udp, icmp (which is ICMPv6 too), or empty for any.
	Proto string
}

// ParseFlowSpec reads END [END] [PROTO], parted by blanks or commas. An end is an address, an
// address with a port, or "any". String writes what it reads.
func ParseFlowSpec(text string) (f FlowSpec, err error) {
	ends := 0
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		switch {
		case word == "tcp" || word == "udp" || word == "icmp":
			if f.Proto != "" {
				return f, fmt.Errorf("flow %q names two protocols: use one", text)
			}
			f.Proto = word
		case ends == 2:
			return f, fmt.Errorf("flow %q: %q is neither one of its two ends nor tcp, udp or icmp: leave it out", text, word)
		default:
			end, err := ParseEnd(word)
			if err != nil {
				return f, fmt.Errorf("flow %q: %w", text, err)
			}
			if ends++; ends == 1 {
				f.A = end
			} else {
				f.B = end
			}
		}
	}
	if f.Proto == "icmp" && (f.A.Port() != 0 || f.B.Port() != 0) {
		return f, fmt.Errorf("flow %q: icmp has no ports: leave them out", text)
	}
	if a, b := f.A.Addr(), f.B.Addr(); a.IsValid() && b.IsValid() && a.Is4() != b.Is4() {
		return f, fmt.Errorf("flow %q mixes IPv4 and IPv6: use two addresses of one kind", text)
	}
	return f, nil
}

// ParseEnd reads an address, an address with a port, or "any". IPv6 addresses with a port stand in
// brackets.
func ParseEnd(word string) (netip.AddrPort, error) {
	if word == "any" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(word)
	if err != nil || ap.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%q is no end: write 10.77.1.10, 10.77.1.10:5432, [fd77:1::a]:5432, or any", word)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// String writes the spec as ParseFlowSpec reads it.
func (f FlowSpec) String() string {
	text := EndText(f.A) + " " + EndText(f.B)
	if f.Proto != "" {
		text += " " + f.Proto
	}
	return text
}

// EndText writes an end as ParseEnd reads it.
func EndText(e netip.AddrPort) string {
	switch {
	case !e.Addr().IsValid():
		return "any"
	case e.Port() == 0:
		return e.Addr().String()
	}
	return e.String()
}

// Matches reports whether a packet from one end to another is of the flows picked. proto is tcp,
// udp, icmp, or a protocol's number.
func (f FlowSpec) Matches(proto string, from, to netip.AddrPort) bool {
	if f.Proto != "" && f.Proto != proto {
		return false
	}
	return covers(f.A, from) && covers(f.B, to) || covers(f.A, to) && covers(f.B, from)
}

func covers(spec, end netip.AddrPort) bool {
	return !spec.Addr().IsValid() || spec.Addr() == end.Addr() && (spec.Port() == 0 || spec.Port() == end.Port())
}

// ProtoName is the word for a protocol's number as a FlowSpec has it, or the number.
func ProtoName(proto uint8) string {
	switch proto {
	case 1, 58:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return strconv.Itoa(int(proto))
}
