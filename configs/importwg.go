package configs

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// ImportOptions are the choices of `gw import`.
type ImportOptions struct {
	Site  string   // the name of the site that this machine is a gateway of
	Peers []string // the names of the other sites, in the order of the peers; "peerN" for those left out
}

// Imported is what a file of wg-quick became.
type Imported struct {
	Site  []byte // site.hcl, the same on all nodes
	Local []byte // local.hcl, of this machine; nil when there is nothing to say
	Node  string // this machine's name
	Key   PrivateKey
	// OwnEndpoint is true when others dial this node, and Site holds an example in
	// the place of its address.
	OwnEndpoint bool
}

// importEndpoint stands where only the operator knows better (RFC 2606).
const importEndpoint = "change-me.example"

// ImportWG turns a file of wg-quick, named name, into a configuration to start
// from. What could not be carried over is a warning each; with an error there is
// no result.
//
// Each peer becomes a site of its own with one node. Who has an endpoint is
// dialled.
func ImportWG(name string, src []byte, opt ImportOptions) (Imported, Diagnostics) {
	c := newCollector()
	f := c.parseWG(name, src)
	// Findings show the line that they are about: not its secrets.
	shown := bytes.Clone(src)
	for _, r := range f.secret {
		for i := r.Start.Byte; i < r.End.Byte; i++ {
			shown[i] = '*'
		}
	}
	c.addSource(name, shown)

	im := importer{collector: c, file: f, opt: opt}
	out := im.run()
	return out, c.result()
}

type importer struct {
	*collector
	file wgFile
	opt  ImportOptions
	raw  rawConfig
	dial bool // a peer without an endpoint dials this node
}

func (im *importer) run() (out Imported) {
	f := &im.file
	if f.at.Filename == "" {
		im.errorAt(nowhere, "Is it a file of wg-quick?", "there is no [Interface] in it")
		return out
	}
	if len(f.peers) == 0 {
		im.errorAt(f.at, "gw joins this site with the sites of its peers: add one.", "there is no [Peer]")
	}
	out.Node = im.opt.Site + "-1"
	out.Key = im.privateKey()
	im.leftOut()
	var peers []rawSite
	for i, p := range f.peers {
		peers = append(peers, im.peer(i, p))
	}
	if im.hasErrors() {
		return out
	}
	im.raw.sites = append([]rawSite{im.own(out, peers)}, peers...)
	im.raw.local = im.local()
	for i, s := range peers {
		im.link(f.peers[i], s.name)
	}
	if im.hasErrors() {
		return out
	}
	var cfg Config
	b := &builder{collector: im.collector, raw: im.raw, cfg: &cfg}
	b.sites()
	b.links()
	b.rules()
	b.local(Options{Key: KeyIgnored})
	if im.hasErrors() {
		return out
	}
	out.OwnEndpoint = im.dial
	out.Site, out.Local = importText(cfg, im.opt.Site), localText(im.raw.local)
	return out
}

func (im *importer) privateKey() PrivateKey {
	t := first(im.file.iface, "privatekey")
	if t == nil {
		im.errorAt(im.file.at, "Write it into the file for the import: which node a machine is, gw tells by its key.", "[Interface] has no PrivateKey")
		return PrivateKey{}
	}
	key, err := ParsePrivateKey(t.s)
	if err != nil {
		im.errorAt(t.at, "Make one with `gw genkey`, if it is lost.", "PrivateKey: %v", err)
	}
	return key
}

// leftOut remarks what gw does otherwise, or not at all.
func (im *importer) leftOut() {
	hints := []struct{ key, name, hint string }{
		{"dns", "DNS", "gw leaves the host's names alone."},
		{"table", "Table", "gw makes routes to the other sites' subnets in the main table, and no others."},
		{"fwmark", "FwMark", "gw makes no default route, so its packets need no mark."},
		{"saveconfig", "SaveConfig", "gw never writes its configuration."},
		{"preup", "PreUp", "gw runs no commands around its start. What the host lacks is found by `gw up`, with what mends it."},
		{"postup", "PostUp", "gw runs no commands around its start: forwarding belongs into /etc/sysctl.d, firewall rules into the firewall's own configuration. There is no address translation: databases see each other's own addresses."},
		{"predown", "PreDown", "gw takes back what it has made by itself."},
		{"postdown", "PostDown", "gw takes back what it has made by itself."},
	}
	for _, h := range hints {
		for _, t := range im.file.iface[h.key] {
			im.warnAt(t.at, h.hint, "%s was left out", h.name)
		}
	}
}

// peer makes a site of a peer.
func (im *importer) peer(i int, p wgPeer) rawSite {
	name := fmt.Sprintf("peer%d", i+1)
	if i < len(im.opt.Peers) {
		name = im.opt.Peers[i]
	}
	s := rawSite{name: text{s: name, at: p.at}, at: p.at}
	node := rawNode{name: text{s: name + "-1", at: p.at}, at: p.at, publicKey: first(p.settings, "publickey"), endpoint: first(p.settings, "endpoint")}
	if node.publicKey == nil {
		im.errorAt(p.at, "Print it on the other machine: wg show wg0 public-key.", "[Peer] has no PublicKey")
	}
	if node.endpoint == nil {
		im.dial = true
	}
	if t := first(p.settings, "presharedkey"); t != nil {
		im.warnAt(t.at, "gw has no preshared keys. Take it away on the other side, too, if that one stays with wg-quick.", "PresharedKey was left out")
	}
	var nets []netip.Prefix
	for _, t := range p.settings["allowedips"] {
		n, ok := im.prefix(t, "AllowedIPs")
		switch {
		case !ok:
		case n.Bits() == 0:
			im.warnAt(t.at, "gw makes no default route: a site offers its own subnets.", "AllowedIPs %s was left out", t.s)
		default:
			s.subnets = append(s.subnets, text{s: n.Masked().String(), at: t.at})
			nets = append(nets, n.Masked())
		}
	}
	if len(nets) == 0 {
		im.errorAt(p.at, "Write the subnets of the hosts behind this peer into AllowedIPs: AllowedIPs = 10.77.2.0/24.", "[Peer] has no AllowedIPs that could be a site's subnets")
		return s
	}
	node.addresses = im.peerAddresses(s.subnets, nets)
	s.subnets = widest(s.subnets, nets)
	s.nodes = []rawNode{node}
	return s
}

// widest drops what lies in another one of the list, which WireGuard allows.
func widest(at []text, nets []netip.Prefix) (out []text) {
	for i, n := range nets {
		within := false
		for j, o := range nets {
			within = within || j != i && o.Bits() <= n.Bits() && o.Contains(n.Addr()) && (o != n || j < i)
		}
		if !within {
			out = append(out, at[i])
		}
	}
	return out
}

// peerAddresses gives a peer's node an address of each family that its subnets
// have: the first that is there alone, which is its own, or else the first one.
func (im *importer) peerAddresses(at []text, nets []netip.Prefix) (out []text) {
	for _, is4 := range []bool{true, false} {
		of := func(n netip.Prefix) bool { return n.Addr().Is4() == is4 }
		i := slices.IndexFunc(nets, func(n netip.Prefix) bool { return of(n) && n.IsSingleIP() })
		if i >= 0 {
			out = append(out, text{s: nets[i].Addr().String(), at: at[i].at})
			continue
		}
		if i = slices.IndexFunc(nets, of); i >= 0 {
			a := nets[i].Addr().Next()
			im.warnAt(at[i].at, "The file doesn't tell the gateway's own address: change it where that is another one.", "the peer's gateway was given the address %s", a)
			out = append(out, text{s: a.String(), at: at[i].at})
		}
	}
	return out
}

// own makes the site of this machine.
func (im *importer) own(out Imported, peers []rawSite) rawSite {
	f := &im.file
	public := text{s: out.Key.Public().String(), at: f.iface["privatekey"][0].at}
	s := rawSite{name: text{s: im.opt.Site, at: f.at}, at: f.at}
	node := rawNode{name: text{s: out.Node, at: f.at}, at: f.at, publicKey: &public}
	var has4, has6 bool
	for _, t := range f.iface["address"] {
		p, ok := im.prefix(t, "Address")
		if !ok {
			continue
		}
		has := &has6
		if p.Addr().Is4() {
			has = &has4
		}
		if *has {
			im.warnAt(t.at, "A node has one address of a family.", "Address %s was left out", t.s)
			continue
		}
		*has = true
		node.addresses = append(node.addresses, text{s: p.Addr().String(), at: t.at})
		subnet := p.Masked()
		if p.Bits() == 0 || slices.ContainsFunc(peers, func(o rawSite) bool { return overlaps(o, subnet) }) {
			subnet = single(p.Addr())
		}
		s.subnets = append(s.subnets, text{s: subnet.String(), at: t.at})
		im.warnAt(t.at, "The file doesn't tell what the other side may dial here: the subnets of this site's hosts, which are AllowedIPs on the other machine. Add them to subnets.",
			"site %q offers %s for now", s.name.s, subnet)
	}
	if len(node.addresses) == 0 {
		im.errorAt(f.at, "Give this machine one: Address = 10.77.1.1/24.", "[Interface] has no Address")
	}
	if im.dial {
		port := "51820"
		if t := first(f.iface, "listenport"); t != nil {
			port = t.s
		}
		node.endpoint = &text{s: importEndpoint + ":" + port, at: f.at}
		im.warnAt(f.at, "A peer without an Endpoint dials this machine. Write its address, as that peer reaches it, into the place of "+importEndpoint+".",
			"this node's endpoint is not known")
	}
	s.nodes = []rawNode{node}
	return s
}

func overlaps(s rawSite, p netip.Prefix) bool {
	return slices.ContainsFunc(s.subnets, func(t text) bool {
		o, err := netip.ParsePrefix(t.s)
		return err == nil && o.Overlaps(p)
	})
}

// prefix reads an address with or without a length, and with bits behind it.
func (im *importer) prefix(t text, name string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(t.s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return single(a), true
	}
	p, err := netip.ParsePrefix(t.s)
	if err != nil || p.Addr().Is4In6() {
		im.errorAt(t.at, "Write an address and a length: 10.77.1.1/24.", "%s: %q is no address", name, t.s)
		return p, false
	}
	return p, true
}

// link joins this site with a peer's, and allows what WireGuard allowed.
func (im *importer) link(p wgPeer, peer text) {
	here := text{s: im.opt.Site, at: im.file.at}
	initiator := here
	if first(p.settings, "endpoint") == nil {
		initiator = peer
	}
	l := rawLink{rawSettings: newRawSettings(), at: p.at, a: here, b: peer}
	l.texts["initiator"] = &initiator
	if t := first(p.settings, "persistentkeepalive"); t != nil && t.s != "off" && t.s != "0" {
		n, err := strconv.ParseUint(t.s, 10, 16)
		if err != nil {
			im.errorAt(t.at, "Write a number of seconds: PersistentKeepalive = 25.", "PersistentKeepalive: %q is no number of seconds", t.s)
		}
		l.periods["keepalive"] = &period{d: time.Duration(n) * time.Second, at: t.at}
	}
	im.raw.links = append(im.raw.links, l)
	both, all := []text{here, peer}, []text{{s: "any", at: p.at}}
	im.raw.rules = append(im.raw.rules, rawRule{name: text{s: peer.s, at: p.at}, at: p.at, from: both, to: both, ports: all})
}

func (im *importer) local() rawSettings {
	l := newRawSettings()
	for key, path := range map[string]string{"listenport": "listen_port", "mtu": "tun.mtu"} {
		t := first(im.file.iface, key)
		if t == nil {
			continue
		}
		v, err := strconv.ParseUint(t.s, 10, 16)
		if err != nil {
			im.errorAt(t.at, "Write a number from 1 to 65535.", "%q is no number", t.s)
			continue
		}
		l.numbers[path] = &number{n: int64(v), at: t.at}
	}
	return l
}

// importText writes site.hcl.
func importText(cfg Config, own string) []byte {
	var b strings.Builder
	b.WriteString("# Made by gw import. The same file lies on every node; which node it is, a node\n" +
		"# learns from its private key. `gw validate -c site.hcl` checks it.\n\n")
	for _, s := range cfg.Sites {
		if s.Name == own {
			b.WriteString("# This machine's site. subnets: what the others may dial here.\n")
		}
		writeSite(&b, s, true)
	}
	for _, l := range cfg.Links {
		writeLink(&b, l)
	}
	b.WriteString("# WireGuard let everything pass, and so does this. Narrow it to what is needed, such\n" +
		"# as ports = [\"tcp/5432\", \"icmp\"]: what no rule allows is denied, replies always pass.\npolicy {\n")
	for _, r := range cfg.Rules {
		writeRule(&b, r)
	}
	b.WriteString("}\n")
	return hclwrite.Format([]byte(b.String()))
}

// localText writes local.hcl.
func localText(l rawSettings) []byte {
	port, mtu := l.numbers["listen_port"], l.numbers["tun.mtu"]
	if port == nil && mtu == nil {
		return nil
	}
	var b strings.Builder
	b.WriteString("# What concerns this machine only; gw reference explains each setting.\nlocal {\n")
	if port != nil {
		fmt.Fprintf(&b, "listen_port = %d\n", port.n)
	}
	if mtu != nil {
		fmt.Fprintf(&b, "tun {\nmtu = %d\n}\n", mtu.n)
	}
	b.WriteString("}\n")
	return hclwrite.Format([]byte(b.String()))
}
