package configs

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// builder makes the typed configuration of the raw one and checks its meaning.
// Whatever can't be built is reported and left out, so that one mistake is not
// reported again as the absence of its result.
type builder struct {
	*collector
	raw rawConfig
	cfg *Config

	siteAt map[string]hcl.Range // every name written, also of sites that failed
	nets   []siteNet            // every valid subnet, with its place
	keyAt  map[Key]hcl.Range    // of public keys
	addrAt map[netip.Addr]hcl.Range
	nodeAt map[string]hcl.Range
	dialAt map[string]hcl.Range // of endpoints
	built  []rawSite            // what cfg.Sites were made of
	ruleAt []hcl.Range          // of cfg.Rules
}

// siteNet is a subnet and who offers it.
type siteNet struct {
	prefix netip.Prefix
	site   string
	at     hcl.Range
}

func (b *builder) sites() {
	b.siteAt = map[string]hcl.Range{}
	b.keyAt = map[Key]hcl.Range{}
	b.addrAt = map[netip.Addr]hcl.Range{}
	b.nodeAt = map[string]hcl.Range{}
	b.dialAt = map[string]hcl.Range{}
	if len(b.raw.sites) == 0 && b.hasErrors() {
		return // a site block that can't be read is no site here
	}
	if len(b.raw.sites) == 0 {
		b.errorAt(nowhere, "`gw init --dir DIR` writes a first configuration for two sites.", "the configuration names no site")
		return
	}
	// Subnets of all sites come first: addresses and endpoints are judged by them.
	subnets := make([][]netip.Prefix, len(b.raw.sites))
	for i, s := range b.raw.sites {
		for _, t := range s.subnets {
			if p, ok := b.subnet(s.name.s, t); ok {
				subnets[i] = append(subnets[i], p)
			}
		}
	}
	for i, s := range b.raw.sites {
		if prev, dup := b.siteAt[s.name.s]; dup {
			b.errorAt(s.name.at, fmt.Sprintf("The first is at %s. Put both into one block, or choose another name.", at(prev)), "a second site %q", s.name.s)
			continue
		}
		b.siteAt[s.name.s] = s.name.at
		b.nameOK("site", s.name)
		site := Site{Name: s.name.s, Subnets: subnets[i], Pos: posOf(s.at)}
		for _, n := range s.nodes {
			site.Nodes = append(site.Nodes, b.node(s, n))
		}
		switch {
		case len(s.nodes) == 0:
			b.errorAt(s.at, "Add a node block with its public_key and address.", "site %q has no node", s.name.s)
		case len(s.nodes) > 2:
			b.errorAt(s.nodes[2].at, "A site has one node, or two that make a pair.", "site %q has %d nodes", s.name.s, len(s.nodes))
		}
		site.Pair = b.pair(s)
		b.cfg.Sites = append(b.cfg.Sites, site)
		b.built = append(b.built, s)
	}
	b.siblingEndpoints()
	b.vips()
}

// subnet parses one entry of subnets and compares it with all before it.
func (b *builder) subnet(site string, t text) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(t.s)
	if err != nil || p.Addr().Is4In6() {
		hint := "Write the network and its length: \"10.77.1.0/24\" or \"fd77:1::/64\"."
		if a, err := netip.ParseAddr(t.s); err == nil && a.Zone() == "" {
			hint = fmt.Sprintf("For this address alone write %q.", netip.PrefixFrom(a, a.BitLen()))
		}
		b.errorAt(t.at, hint, "%q is not a subnet", t.s)
		return p, false
	}
	if m := p.Masked(); m != p {
		b.errorAt(t.at, fmt.Sprintf("Did you mean %q?", m), "%s has bits set behind its length", t.s)
		return p, false
	}
	if a := p.Addr(); p.Bits() == 0 || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		b.errorAt(t.at, "Use addresses that hosts of other sites can dial.", "%s can't be routed between sites", t.s)
		return p, false
	}
	for _, o := range b.nets {
		if !o.prefix.Overlaps(p) {
			continue
		}
		switch {
		case o.site != site:
			b.errorAt(t.at, fmt.Sprintf("An address may belong to one site only. The other is at %s.", at(o.at)), "%s overlaps %s of site %q", p, o.prefix, o.site)
		case o.prefix == p:
			b.errorAt(t.at, "Take one of them away.", "%s is there twice", p)
		default:
			b.errorAt(t.at, "Keep the wider one.", "%s overlaps %s of the same site", p, o.prefix)
		}
		return p, false
	}
	b.nets = append(b.nets, siteNet{prefix: p, site: site, at: t.at})
	return p, true
}

// owner returns the site whose subnet holds all of p.
func (b *builder) owner(p netip.Prefix) (string, bool) {
	for _, n := range b.nets {
		if n.prefix.Bits() <= p.Bits() && n.prefix.Contains(p.Addr()) {
			return n.site, true
		}
	}
	return "", false
}

func (b *builder) node(s rawSite, n rawNode) Node {
	b.nameOK("node", n.name)
	if prev, dup := b.nodeAt[n.name.s]; dup {
		b.errorAt(n.name.at, fmt.Sprintf("The first is at %s. Names of nodes are unique in the whole network.", at(prev)), "a second node %q", n.name.s)
	} else {
		b.nodeAt[n.name.s] = n.name.at
	}
	node := Node{Name: n.name.s}
	if k := n.publicKey; k != nil {
		key, err := ParseKey(k.s)
		if err != nil {
			b.errorAt(k.at, "Print it with `gw pubkey < PRIVATE_KEY_FILE`.", "public_key of node %q: %v", n.name.s, err)
		} else if prev, dup := b.keyAt[key]; dup {
			b.errorAt(k.at, fmt.Sprintf("The same key stands at %s. Each node has its own: make one with `gw genkey`.", at(prev)), "node %q has the public key of another node", n.name.s)
		} else {
			b.keyAt[key] = k.at
			node.PublicKey = key
		}
	}
	for _, t := range n.addresses {
		if a, ok := b.nodeAddress(s, t); ok {
			if i := slices.IndexFunc(node.Addresses, func(o netip.Addr) bool { return o.Is4() == a.Is4() }); i >= 0 {
				b.errorAt(t.at, "A node has one IPv4 address, one IPv6 address, or one of each.", "node %q has %s already", n.name.s, node.Addresses[i])
				continue
			}
			node.Addresses = append(node.Addresses, a)
		}
	}
	if n.endpoint != nil && b.endpoint(*n.endpoint) {
		node.Endpoint = n.endpoint.s
	}
	return node
}

func (b *builder) nodeAddress(s rawSite, t text) (netip.Addr, bool) {
	a, err := netip.ParseAddr(t.s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		hint := "Write an address without a length: \"10.77.1.1\"."
		if p, err := netip.ParsePrefix(t.s); err == nil {
			hint = fmt.Sprintf("Write it without the length: %q.", p.Addr())
		}
		b.errorAt(t.at, hint, "%q is not an address", t.s)
		return a, false
	}
	if site, ok := b.owner(single(a)); !ok || site != s.name.s {
		where := "lies in no site's subnets"
		if ok {
			where = fmt.Sprintf("lies in site %q", site)
		}
		b.errorAt(t.at, fmt.Sprintf("Choose an address inside %s, or add its subnet there.", join(s.subnets)), "address %s of a node of site %q %s", a, s.name.s, where)
		return a, false
	}
	if prev, dup := b.addrAt[a]; dup {
		b.errorAt(t.at, fmt.Sprintf("The other node has it at %s. Each has its own.", at(prev)), "address %s belongs to another node", a)
		return a, false
	}
	b.addrAt[a] = t.at
	return a, true
}

func join(list []text) string {
	var out []string
	for _, t := range list {
		out = append(out, t.s)
	}
	if len(out) == 0 {
		return "the site's subnets"
	}
	return strings.Join(out, ", ")
}

// endpoint checks the host:port under which a node is dialled.
func (b *builder) endpoint(t text) bool {
	host, ok := b.hostPort("endpoint", t)
	if !ok {
		return false
	}
	if prev, dup := b.dialAt[t.s]; dup {
		b.errorAt(t.at, fmt.Sprintf("The other node has it at %s. Each has its own.", at(prev)), "endpoint %s belongs to another node", t.s)
		return false
	}
	b.dialAt[t.s] = t.at
	a, err := netip.ParseAddr(host)
	if err != nil {
		return true
	}
	if site, ok := b.owner(single(a)); ok {
		b.errorAt(t.at, "Give the address that the node has outside the tunnel.", "endpoint %s lies in the subnets of site %q: packets to it would enter the tunnel that they carry", t.s, site)
		return false
	}
	return true
}

// hostPort parses the host:port of a setting and returns the host.
func (b *builder) hostPort(name string, t text) (string, bool) {
	const hint = "Write host and port: \"203.0.113.10:51820\", \"[2001:db8::10]:51820\" or \"gw.example.com:51820\"."
	host, port, err := net.SplitHostPort(t.s)
	if err != nil || !hostOK(host) {
		b.errorAt(t.at, hint, "%q is not an endpoint", t.s)
		return "", false
	}
	if _, err := parsePort(port); err != nil {
		b.errorAt(t.at, hint, "%s %q: %v", name, t.s, err)
		return "", false
	}
	return host, true
}

// single is the prefix that holds one address alone, in its own family.
func single(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen())
}

// hostOK accepts an IP address or a DNS name (RFC 1123, section 2.1).
func hostOK(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return !a.IsUnspecified() && !a.IsMulticast()
	}
	if host == "" || len(host) > 253 {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, r := range l {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	// Four numbers that are no address are a mistyped address, not a name.
	last := labels[len(labels)-1]
	return strings.Trim(last, "0123456789") != ""
}
