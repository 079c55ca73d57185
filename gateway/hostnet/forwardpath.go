package hostnet

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
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
// It judges a packet of a TCP connection by the interfaces on which it arrives and goes out by, by
// the prefix that it is addressed to, and by what the kernel's connection tracking thinks of it.
// Its source and ports are anything, so a rule that looks at them leaves the matter undecided.
type forwardPath struct {
	// state is that of the packets for connection tracking, as a bit (expr.CtStateBitNEW for the
	// first packet of a connection). xt_conntrack has the same bits.
	state uint32
	// untouched says that no rule has marked or translated the packets. Otherwise both may be.
	untouched bool

	conn   *nftables.Conn
	bases  []*nftables.Chain // that may drop
	nats   []*nftables.Chain // that may rewrite the source
	rules  map[chainKey][]*nftables.Rule
	legacy []legacyForward
	// unclear are the rules met so far that may drop packets under conditions that are not
	// understood here.
	unclear []*nftables.Rule
}

type chainKey struct {
	family nftables.TableFamily
	table  string
	chain  string
}

func keyOfChain(ch *nftables.Chain) chainKey {
	return chainKey{ch.Table.Family, ch.Table.Name, ch.Name}
}

// readRules returns the rules of the host, which it may have read before. Callers do not change
// them.
type readRules func() (*forwardPath, error)

// own returns a forwardPath for packets of the sites, which no rule has marked or translated.
func (r readRules) own() (*forwardPath, error) {
	f, err := r()
	if err != nil {
		return nil, err
	}
	own := *f
	own.untouched, own.unclear = true, nil
	return &own, nil
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
	f := &forwardPath{state: expr.CtStateBitNEW, conn: conn, rules: map[chainKey][]*nftables.Rule{}}
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
		f.rules[keyOfChain(ch)] = rules
		switch {
		case ch.Hooknum == nil:
		case ch.Type == nftables.ChainTypeNAT && *ch.Hooknum == *nftables.ChainHookPostrouting:
			f.nats = append(f.nats, ch)
		case ch.Type == nftables.ChainTypeFilter && *ch.Hooknum != *nftables.ChainHookInput && *ch.Hooknum != *nftables.ChainHookOutput:
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
		if sees(base, to) {
			verdict = min(verdict, verdictOf(f.ends(base, in, out, to)))
		}
	}
	for _, l := range f.legacy {
		if l.among(to.Addr().Is4(), to.Addr().Is6()) {
			v := verdictOf(l.ends(in.Attrs().Name, out.Attrs().Name))
			if f.state != expr.CtStateBitNEW && v == dropped {
				v = undecided // its rules were read for new connections
			}
			verdict = min(verdict, v)
		}
	}
	return verdict
}

// sees reports whether packets to a prefix come to a chain.
func sees(base *nftables.Chain, to netip.Prefix) bool {
	switch base.Table.Family {
	case nftables.TableFamilyIPv4:
		return to.Addr().Is4()
	case nftables.TableFamilyIPv6:
		return to.Addr().Is6()
	}
	return true
}

// ends returns how packets may leave a base chain.
func (f *forwardPath) ends(base *nftables.Chain, in, out netlink.Link, to netip.Prefix) int {
	p := &probe{path: f, table: base.Table, in: in, to: to, untouched: f.untouched}
	if *base.Hooknum != *nftables.ChainHookPrerouting {
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
	return ends
}

// maxJumps bounds how deep chains lead to chains (NFT_JUMP_STACK_SIZE of the kernel).
const maxJumps = 16

// How packets may leave a chain, as a set.
const (
	canDrop = 1 << iota
	canAccept
	canRewrite // and be accepted
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
