package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Render writes the configuration with only what the nodes of one site need to
// know: their own site whole, each linked site without its pair, their links,
// and the rules about traffic over them, reduced to the sites concerned. A
// template of the local block stands in comments. The result loads again, and
// its Sections equal those of the whole file.
func Render(c Config, site string) ([]byte, error) {
	own, ok := c.Site(site)
	if !ok {
		var names []string
		for _, s := range c.Sites {
			names = append(names, s.Name)
		}
		return nil, fmt.Errorf("there is no site %q: %s", site, unknownHint(site, names, "sites"))
	}
	for _, n := range own.Nodes {
		if own.Pair != nil && n.SiblingEndpoint == "" {
			return nil, fmt.Errorf("node %q of site %q has neither sibling_endpoint nor endpoint, so its pair can't form: "+
				"render from the whole file, or add where its sibling reaches it", n.Name, site)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What the nodes of site %q need to know, made by `gw render --for %s`.\n", site, site)
	b.WriteString("# Edit the whole file and render it again, rather than edit this one.\n\n")
	for _, s := range c.Sites {
		if _, linked := c.linkBetween(site, s.Name); linked || s.Name == own.Name {
			writeSite(&b, s, s.Name == own.Name)
		}
	}
	for _, l := range c.LinksOf(site) {
		writeLink(&b, l)
	}
	joined := func(x, y string) bool {
		_, linked := c.linkBetween(x, y)
		return linked && (x == site || y == site)
	}
	var rules []Rule
	for _, r := range c.Rules {
		if r, ok := r.restrict(joined); ok {
			rules = append(rules, r)
		}
	}
	if len(rules) > 0 {
		b.WriteString("policy {\n")
		for i, r := range rules {
			if i > 0 {
				b.WriteByte('\n')
			}
			writeRule(&b, r)
		}
		b.WriteString("}\n\n")
	}
	b.WriteString(localTemplate)
	return hclwrite.Format([]byte(b.String())), nil
}

// localTemplate ends a rendered file. What it shows are the defaults; the
// machine's own settings never leave it.
const localTemplate = `# What concerns this machine only; gw reference explains each setting.
# local {
#   private_key_file = "/etc/gw/private.key"
#   tun {
#     name = "gw0"
#     mtu  = 1420
#   }
# }
`

// Every text written below has passed the checks of Load, none of which lets a
// quote, a backslash or a template sign through, so %q is its HCL form too; only
// the arguments of commands are free, see writeCommand.

func writeSite(b *strings.Builder, s Site, whole bool) {
	fmt.Fprintf(b, "site %q {\n subnets = %s\n", s.Name, listText(s.Subnets))
	for _, n := range s.Nodes {
		fmt.Fprintf(b, "\nnode %q {\n public_key = %q\n", n.Name, n.PublicKey)
		if len(n.Addresses) == 1 {
			fmt.Fprintf(b, "address = %q\n", n.Addresses[0])
		} else {
			fmt.Fprintf(b, "address = %s\n", listText(n.Addresses))
		}
		if n.Endpoint != "" {
			fmt.Fprintf(b, "endpoint = %q\n", n.Endpoint)
		}
		if whole && n.SiblingEndpoint != "" && n.SiblingEndpoint != n.Endpoint {
			fmt.Fprintf(b, "sibling_endpoint = %q\n", n.SiblingEndpoint)
		}
		b.WriteString("}\n")
	}
	if whole && s.Pair != nil {
		writePair(b, *s.Pair)
	}
	b.WriteString("}\n\n")
}

func writePair(b *strings.Builder, p Pair) {
	b.WriteString("\npair {\n")
	if len(p.VIP) > 0 {
		fmt.Fprintf(b, "vip = %s\n", listText(p.VIP))
	}
	writeSettings(b, pairSettings, &p)
	writeCommand(b, "on_active", p.OnActive)
	writeCommand(b, "on_standby", p.OnStandby)
	b.WriteString("}\n")
}

// writeCommand lets HCL quote arguments, which may hold anything.
func writeCommand(b *strings.Builder, name string, list []string) {
	if len(list) == 0 {
		return
	}
	values := make([]cty.Value, len(list))
	for i, s := range list {
		values[i] = cty.StringVal(s)
	}
	fmt.Fprintf(b, "%s = %s\n", name, hclwrite.TokensForValue(cty.ListVal(values)).Bytes())
}

func writeLink(b *strings.Builder, l Link) {
	fmt.Fprintf(b, "link %q %q {\n", l.A, l.B)
	writeSettings(b, linkSettings, &l)
	b.WriteString("}\n\n")
}

func writeRule(b *strings.Builder, r Rule) {
	fmt.Fprintf(b, "rule %q {\nfrom = %s\nto = %s\nports = %s\n", r.Name, listText(r.From), listText(r.To), listText(r.Ports))
	if r.Mode != ModeAuto {
		fmt.Fprintf(b, "mode = %q\n", string(r.Mode))
	}
	b.WriteString("}\n")
}

func listText[T fmt.Stringer](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, fmt.Sprintf("%q", x.String()))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// Format lays a file out in the one usual way: indentation, aligned equals
// signs, spaces. It changes no meaning. A file that can't be parsed is an
// *[Error], and left as it is.
func Format(name string, src []byte) ([]byte, error) {
	c := newCollector()
	c.addSource(name, src)
	if (&decoder{collector: c}).parse(name, src) == nil {
		return nil, c.result().Err()
	}
	return hclwrite.Format(slices.Clone(src)), nil
}
