package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// bodySchema lists what may stand in a body. The table below, and those of the scalars in
// settings.go, are the one place that holds the names; decoding asks for them, unknown names are
// compared with them, and a test proves that reference.hcl shows each.
type bodySchema struct {
	where  string // how a message calls the body
	attrs  []string
	blocks []blockSchema
}

type blockSchema struct {
	name   string
	labels []string // what each label names
	once   bool     // at most one in its body
	body   *bodySchema
}

var rootSchema = &bodySchema{
	where: "the top level of a file",
	blocks: []blockSchema{
		{name: "site", labels: []string{"name"}, body: &bodySchema{
			where: "a site block",
			attrs: []string{"subnets"},
			blocks: []blockSchema{
				{name: "node", labels: []string{"name"}, body: &bodySchema{
					where: "a node block",
					attrs: []string{"public_key", "address", "endpoint", "sibling_endpoint"},
				}},
				{name: "pair", once: true, body: addNames(pairSettings, &bodySchema{
					where: "a pair block",
					attrs: []string{"vip", "on_active", "on_standby"},
				})},
			},
		}},
		{name: "link", labels: []string{"site", "other site"}, body: addNames(linkSettings, &bodySchema{
			where: "a link block",
		})},
		{name: "policy", body: &bodySchema{
			where: "a policy block",
			blocks: []blockSchema{
				{name: "rule", labels: []string{"name"}, body: &bodySchema{
					where: "a rule block",
					attrs: []string{"from", "to", "ports", "mode"},
				}},
			},
		}},
		{name: "local", body: addNames(localSettings, &bodySchema{where: "the local block"})},
	},
}

func (s *bodySchema) block(name string) (blockSchema, bool) {
	i := slices.IndexFunc(s.blocks, func(b blockSchema) bool { return b.name == name })
	if i < 0 {
		return blockSchema{}, false
	}
	return s.blocks[i], true
}

func (s *bodySchema) blockNames() []string {
	names := make([]string, len(s.blocks))
	for i, b := range s.blocks {
		names[i] = b.name
	}
	return names
}

// content is a body whose names are known to be in its schema.
type content struct {
	attrs  map[string]*hclsyntax.Attribute
	blocks []contentBlock // in the order of the file
}

type contentBlock struct {
	name   string
	labels []text
	at     hcl.Range // of the name and the labels
	content
}

// named returns the blocks of one name.
func (c content) named(name string) []contentBlock {
	var out []contentBlock
	for _, b := range c.blocks {
		if b.name == name {
			out = append(out, b)
		}
	}
	return out
}

// readBody checks the names in a body against its schema, all the way down.
func (d *decoder) readBody(body *hclsyntax.Body, s *bodySchema) content {
	c := content{attrs: map[string]*hclsyntax.Attribute{}}
	for name, a := range body.Attributes {
		if slices.Contains(s.attrs, name) {
			c.attrs[name] = a
			continue
		}
		if _, ok := s.block(name); ok {
			d.errorAt(a.NameRange, fmt.Sprintf("Write it as a block, without the equals sign: %s { … }.", name), "%q is a block, not a setting", name)
			continue
		}
		d.errorAt(a.NameRange, unknownHint(name, s.attrs, "settings"), "there is no setting %q in %s", name, s.where)
	}
	first := map[string]hcl.Range{}
	for _, b := range body.Blocks {
		bs, ok := s.block(b.Type)
		if !ok {
			if slices.Contains(s.attrs, b.Type) {
				d.errorAt(b.TypeRange, fmt.Sprintf("Write it with an equals sign: %s = ….", b.Type), "%q is a setting, not a block", b.Type)
			} else {
				d.errorAt(b.TypeRange, unknownHint(b.Type, s.blockNames(), "blocks"), "there is no block %q in %s", b.Type, s.where)
			}
			continue
		}
		if len(b.Labels) != len(bs.labels) {
			d.errorAt(b.TypeRange, fmt.Sprintf("Write it as: %s { … }.", blockForm(bs)), "a %s block takes %s", bs.name, labelCount(len(bs.labels)))
			continue
		}
		if prev, dup := first[b.Type]; dup && bs.once {
			d.errorAt(b.TypeRange, fmt.Sprintf("Put everything into the one at %s.", at(prev)), "a second %s block in %s", bs.name, s.where)
			continue
		}
		cb := contentBlock{name: b.Type, at: b.DefRange()}
		for i, l := range b.Labels {
			cb.labels = append(cb.labels, text{s: l, at: b.LabelRanges[i]})
		}
		first[b.Type] = b.TypeRange
		cb.content = d.readBody(b.Body, bs.body)
		c.blocks = append(c.blocks, cb)
	}
	return c
}

func blockForm(b blockSchema) string {
	form := b.name
	for _, l := range b.labels {
		form += fmt.Sprintf(" %q", l)
	}
	return form
}

func labelCount(n int) string {
	switch n {
	case 0:
		return "no label"
	case 1:
		return "one label"
	}
	return fmt.Sprintf("%d labels", n)
}

// unknownHint suggests the nearest known name, or lists them all.
func unknownHint(name string, known []string, what string) string {
	if s := nearest(name, known); s != "" {
		return fmt.Sprintf("Did you mean %q?", s)
	}
	if len(known) == 0 {
		return fmt.Sprintf("There are no %s here.", what)
	}
	return fmt.Sprintf("The %s here are: %s.", what, strings.Join(known, ", "))
}

// nearest returns the known name within an edit distance of a third of its
// length (at least one), or "".
func nearest(name string, known []string) string {
	best, bestDist := "", 0
	for _, k := range known {
		limit := max(1, len(k)/3)
		if len(name) > len(k)+limit {
			continue // which also bounds the work for a name of any length
		}
		if dist := levenshtein.Distance(name, k, nil); dist <= limit && (best == "" || dist < bestDist) {
			best, bestDist = k, dist
		}
	}
	return best
}
