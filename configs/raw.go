package configs

import (
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The raw configuration: what the files say, with places, before any check of
// meaning. A nil pointer is a setting left out.

type rawConfig struct {
	sites []rawSite
	links []rawLink
	rules []rawRule
	local rawSettings
}

type rawSite struct {
	name    text
	at      hcl.Range
	subnets []text
	nodes   []rawNode
	pair    *rawPair
}

type rawNode struct {
	name      text
	at        hcl.Range
	publicKey *text
	addresses []text
	endpoint  *text
	sibling   *text // sibling_endpoint
}

type rawPair struct {
	rawSettings
	at        hcl.Range
	vip       []text
	onActive  []text
	onStandby []text
}

type rawLink struct {
	rawSettings
	at   hcl.Range
	a, b text
}

type rawRule struct {
	name  text
	at    hcl.Range
	from  []text
	to    []text
	ports []text
	mode  *text
}

// readFiles decodes the bodies of all files into one raw configuration.
func (d *decoder) readFiles(bodies []*hclsyntax.Body) rawConfig {
	var raw rawConfig
	local := newMerged()
	for _, body := range bodies {
		top := d.readBody(body, rootSchema)
		for _, b := range top.blocks {
			switch b.name {
			case "site":
				raw.sites = append(raw.sites, d.readSite(b))
			case "link":
				raw.links = append(raw.links, d.readLink(b))
			case "policy":
				for _, r := range b.named("rule") {
					raw.rules = append(raw.rules, d.readRule(r))
				}
			case "local":
				d.merge(local, b.content)
			}
		}
	}
	raw.local = readSettings(d, localSettings, local.content, local.sub)
	return raw
}

func (d *decoder) readSite(b contentBlock) rawSite {
	d.require(b, "subnets", `["10.77.1.0/24"]`)
	s := rawSite{name: b.labels[0], at: b.at, subnets: d.texts(b.content, "subnets", "10.77.1.0/24", false)}
	for _, n := range b.named("node") {
		d.require(n, "public_key", `"…"`)
		d.require(n, "address", `"10.77.1.1"`)
		s.nodes = append(s.nodes, rawNode{
			name:      n.labels[0],
			at:        n.at,
			publicKey: d.text(n.content, "public_key", "…"),
			addresses: d.texts(n.content, "address", "10.77.1.1", true),
			endpoint:  d.text(n.content, "endpoint", "203.0.113.10:51820"),
			sibling:   d.text(n.content, "sibling_endpoint", "192.168.1.2:51820"),
		})
	}
	for _, p := range b.named("pair") { // one at most, by the schema
		s.pair = &rawPair{
			rawSettings: readSettings(d, pairSettings, p.content, nil),
			at:          p.at,
			vip:         d.texts(p.content, "vip", "192.168.1.10/24", true),
			onActive:    d.texts(p.content, "on_active", "/usr/local/bin/move-address", false),
			onStandby:   d.texts(p.content, "on_standby", "/usr/local/bin/move-address", false),
		}
	}
	return s
}

func (d *decoder) readLink(b contentBlock) rawLink {
	d.require(b, "initiator", strconv.Quote(b.labels[0].s))
	return rawLink{rawSettings: readSettings(d, linkSettings, b.content, nil), at: b.at, a: b.labels[0], b: b.labels[1]}
}

func (d *decoder) readRule(b contentBlock) rawRule {
	d.require(b, "from", `["red"]`)
	d.require(b, "to", `["10.77.2.10"]`)
	d.require(b, "ports", `["tcp/5432"]`)
	return rawRule{
		name:  b.labels[0],
		at:    b.at,
		from:  d.texts(b.content, "from", "red", false),
		to:    d.texts(b.content, "to", "10.77.2.10", false),
		ports: d.texts(b.content, "ports", "tcp/5432", false),
		mode:  d.text(b.content, "mode", "auto"),
	}
}

// merged is the sum of several blocks of one kind, in one file or in many.
type merged struct {
	content
	blocks map[string]*merged
}

func newMerged() *merged {
	return &merged{content: content{attrs: map[string]*hclsyntax.Attribute{}}, blocks: map[string]*merged{}}
}

// merge adds a block's settings; one that is there already is an error that
// names both places.
func (d *decoder) merge(into *merged, c content) {
	for name, a := range c.attrs {
		if prev, dup := into.attrs[name]; dup {
			d.errorAt(a.NameRange, "Say it once: take away one of the two.", "%s is set again, first at %s", name, at(prev.NameRange))
			continue
		}
		into.attrs[name] = a
	}
	for _, b := range c.blocks {
		if into.blocks[b.name] == nil {
			into.blocks[b.name] = newMerged()
		}
		d.merge(into.blocks[b.name], b.content)
	}
}

// sub returns the merged blocks of one name, empty when there are none.
func (m *merged) sub(name string) content {
	if b := m.blocks[name]; b != nil {
		return b.content
	}
	return content{}
}
