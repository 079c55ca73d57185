package hostnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// forwardEvery is the time between two looks at the kernel's settings and at the number of the
	// rule set.
	forwardEvery = 200 * time.Millisecond
	// rulesEvery is the time after which the rules are judged again although nftables reports no
	// change: interfaces and addresses change, and the older iptables has no such number.
	rulesEvery = 5 * time.Second
)

// ForwardWatch finds out whether the kernel forwards between the site's hosts and the TUN device,
// from its settings and from the rules of its firewall. It reports only what is certain: packets in
// one direction that no connection's state and no port can save. It is not safe for concurrent use.
type ForwardWatch struct {
	cfg CheckConfig

	looked     time.Time // at the settings
	judged     time.Time // the rules
	generation uint32    // of the rules that were judged
	settings   []Finding
	rules      []Finding
}

// NewForwardWatch makes a ForwardWatch for the host of the calling thread's network namespace.
func NewForwardWatch(c CheckConfig) *ForwardWatch { return &ForwardWatch{cfg: c} }

// Look returns why packets are not forwarded; nothing when they may be.
func (w *ForwardWatch) Look(now time.Time) []Finding {
	if now.Sub(w.looked) < forwardEvery {
		return slices.Concat(w.settings, w.rules)
	}
	w.looked = now
	w.settings = w.lookAtSettings()
	if g, err := rulesGeneration(); err != nil || g != w.generation || now.Sub(w.judged) >= rulesEvery {
		w.generation, w.judged = g, now
		w.rules = w.judgeRules()
	}
	return slices.Concat(w.settings, w.rules)
}

// direction is one that a node needs: where packets arrive, where they go out, and what
// they are addressed to.
type direction struct {
	in, out string
	to      []netip.Prefix
}

// directions returns both directions; none without a LAN, or when no host is behind this one.
func (w *ForwardWatch) directions() []direction {
	c := w.cfg
	behind, err := hostsBehind(c)
	if c.LAN == "" || err != nil || len(behind) == 0 {
		return nil
	}
	return []direction{{c.LAN, c.Device, c.Remote}, {c.Device, c.LAN, behind}}
}

func (w *ForwardWatch) lookAtSettings() (out []Finding) {
	for _, d := range w.directions() {
		if has4(d.to) {
			path := forwarding4(d.in)
			if v, err := readSysctl(path); err == nil && v == "0" {
				out = append(out, Finding{Fatal, fmt.Sprintf("IPv4 forwarding is off on %q: %s", d.in, noForwarding), sysctlCommand("1", path)})
			}
		}
		if has6(d.to) && !forwardsFrom(d.in, netip.IPv6Unspecified()) {
			out = append(out, Finding{Fatal, fmt.Sprintf("IPv6 forwarding is off on %q: %s", d.in, noForwarding), mendForwarding6(raInterfaces())})
		}
	}
	return out
}

// judgeRules judges the rules of the firewall. Rules that cannot be read are gw doctor's to report.
func (w *ForwardWatch) judgeRules() (out []Finding) {
	directions := w.directions()
	if directions == nil {
		return nil
	}
	f, err := readForwardPath()
	if err != nil {
		return nil
	}
	for _, d := range directions {
		in, err := netlink.LinkByName(d.in)
		if err != nil {
			continue // another fault
		}
		to, err := netlink.LinkByName(d.out)
		if err != nil {
			continue
		}
		for _, p := range d.to {
			if f.never(in, to, p) {
				out = append(out, Finding{Fatal,
					fmt.Sprintf("the firewall drops all packets from %q to %q for %v", d.in, d.out, p),
					fmt.Sprintf("nft list ruleset; accept iifname %q oifname %q in the forward chain that drops them", d.in, d.out)})
				break // one prefix names the direction
			}
		}
	}
	return out
}

// never reports whether the rules drop the packets of all connections, new and established ones.
func (f *forwardPath) never(in, out netlink.Link, to netip.Prefix) bool {
	for _, established := range []bool{false, true} {
		f.established = established
		if f.verdict(in, out, to) != dropped {
			return false
		}
	}
	return true
}

// rulesGeneration returns the number of the rule set of nftables, which each change raises.
func rulesGeneration() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the number of the rule set: %w", err)
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("read the number of the rule set: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("the kernel's answer has no number of the rule set")
}
