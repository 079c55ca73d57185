package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

// StarterOptions are the choices of `gw init`; all fields are required.
type StarterOptions struct {
	RedName, GrayName     string // the site that dials, and the one that is dialled
	RedSubnet, GraySubnet netip.Prefix
	Endpoint              string // host:port of gray's gateway, as red reaches it
}

// StarterKey is the private key of one node of a starter configuration.
type StarterKey struct {
	Site, Node string
	Key        PrivateKey
}

// Starter returns a first configuration for two sites with one node each, and
// the nodes' fresh private keys, red's first. A node takes the first address of
// its site's subnet.
func Starter(opt StarterOptions) ([]byte, []StarterKey, error) {
	var b strings.Builder
	b.WriteString("# Two sites, one network. The same file lies on every node; which node it is, a\n" +
		"# node learns from its private key. `gw validate -c site.hcl` checks it.\n\n")
	var keys []StarterKey
	site := func(name string, subnet netip.Prefix, endpoint string) error {
		subnet = subnet.Masked()
		addr := subnet.Addr().Next()
		if !subnet.Contains(addr) {
			return fmt.Errorf("subnet %s has no room for a node: choose a wider one, such as a /24", subnet)
		}
		key := StarterKey{Site: name, Node: name + "-1", Key: GenerateKey()}
		keys = append(keys, key)
		writeSite(&b, Site{Name: name, Subnets: []netip.Prefix{subnet}, Nodes: []Node{
			{Name: key.Node, PublicKey: key.Key.Public(), Addresses: []netip.Addr{addr}, Endpoint: endpoint},
		}}, true)
		return nil
	}
	if err := errors.Join(site(opt.RedName, opt.RedSubnet, ""), site(opt.GrayName, opt.GraySubnet, opt.Endpoint)); err != nil {
		return nil, nil, err
	}
	b.WriteString("# The firewall lets connections through in one direction: the initiator dials.\n")
	link := Link{A: opt.RedName, B: opt.GrayName, Initiator: opt.RedName}
	setDefaults(linkSettings, &link)
	writeLink(&b, link)
	both := []Endpoint{{Site: opt.RedName, Whole: true}, {Site: opt.GrayName, Whole: true}}
	b.WriteString("# What no rule allows is denied. Replies always pass.\npolicy {\n# PostgreSQL, dialled from either side.\n")
	writeRule(&b, Rule{Name: "replication", From: both, To: both, Ports: []PortRange{{Proto: ProtoTCP, Lo: 5432, Hi: 5432}}, Mode: ModeAuto})
	b.WriteString("\n# ping, also of the gateways themselves, which a site's name does not cover\n")
	all := slices.Clone(both)
	for _, k := range keys {
		all = append(all, Endpoint{Site: k.Site, Node: k.Node})
	}
	writeRule(&b, Rule{Name: "ping", From: all, To: all, Ports: []PortRange{{Proto: ProtoICMP, Hi: 65535}}, Mode: ModeAuto})
	b.WriteString("}\n\n" + localTemplate)
	text := hclwrite.Format([]byte(b.String()))

	// The choices haven't been checked; loading the result does, in the words
	// of Load, but without places in a file that does not exist yet.
	c := newCollector()
	c.load([]source{{name: "site.hcl", text: text}}, Options{Key: KeyIgnored})
	var errs []error
	for _, d := range c.result().List {
		if d.Severity == SeverityError {
			errs = append(errs, fmt.Errorf("%s: %s", d.Summary, d.Detail))
		}
	}
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	return text, keys, nil
}
