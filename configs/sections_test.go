package configs

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func starterOptions() StarterOptions {
	return StarterOptions{
		RedName: "red", GrayName: "gray",
		RedSubnet: netip.MustParsePrefix("10.77.1.0/24"), GraySubnet: netip.MustParsePrefix("10.77.2.0/24"),
		Endpoint: "203.0.113.10:51820",
	}
}

// as makes cfg the configuration of one node.
func as(cfg Config, site, node int) Config {
	cfg.Self = Self{Known: true, Site: site, Node: node}
	return cfg
}

// asNamed makes cfg the configuration of the first node of a site.
func asNamed(t *testing.T, cfg Config, site string) Config {
	t.Helper()
	i := slices.IndexFunc(cfg.Sites, func(s Site) bool { return s.Name == site })
	if i < 0 {
		t.Fatalf("no site %s", site)
	}
	return as(cfg, i, 0)
}

func TestSectionNames(t *testing.T) {
	cfg := mustLoad(t, read(t, "testdata/full.hcl"))
	dump := func(list []Section) []string {
		var out []string
		for _, s := range list {
			out = append(out, s.Name)
			for _, a := range s.Attrs {
				mark := ""
				if a.Fatal {
					mark = " (fatal)"
				}
				out = append(out, fmt.Sprintf("  %s = %s%s", a.Name, a.Value, mark))
			}
		}
		return out
	}
	shared := []string{
		"link.gray.red",
		"  link.gray.red.initiator = red",
		"  link.gray.red.keepalive = 20s",
		"policy.gray.red",
		"  policy.order = replication",
		"  policy.rule.replication.from = gray, gray-1",
		"  policy.rule.replication.mode = relay",
		"  policy.rule.replication.ports = any, icmp, tcp, tcp/5000-5010, tcp/5432, udp, udp/53",
		"  policy.rule.replication.to = 10.77.1.10, fd77:1::/80",
		"site.gray",
		"  site.gray.node.gray-1.address = 10.77.2.1 (fatal)",
		"  site.gray.node.gray-1.endpoint = [2001:db8::10]:51820",
		"  site.gray.node.gray-1.public_key = 6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4= (fatal)",
		"  site.gray.nodes = gray-1 (fatal)",
		"  site.gray.subnets = 10.77.2.0/24, fd77:2::/64 (fatal)",
		"site.red",
		"  site.red.node.red-1.address = 10.77.1.1, fd77:1::1 (fatal)",
		"  site.red.node.red-1.public_key = Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo= (fatal)",
		"  site.red.node.red-2.address = 10.77.1.2 (fatal)",
		"  site.red.node.red-2.public_key = jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc= (fatal)",
		"  site.red.nodes = red-1, red-2 (fatal)",
		"  site.red.subnets = 10.77.1.0/24, fd77:1::/64 (fatal)",
	}
	if diff := cmp.Diff(shared, dump(as(cfg, 0, 0).Sections("gray"))); diff != "" {
		t.Errorf("with the other site (-want +got):\n%s", diff)
	}
	pair := []string{"links"}
	pair = append(append(pair, shared[1:3]...), "policy")
	pair = append(append(pair, shared[4:9]...), shared[15:]...)
	pair = append(pair,
		"site.red.pair",
		"  site.red.node.red-1.sibling_endpoint = 10.77.1.251:4500",
		"  site.red.node.red-2.sibling_endpoint = [fd77:1::252]:4500",
		"  site.red.pair.command_timeout = 30s",
		"  site.red.pair.dead_after = 300ms (fatal)",
		"  site.red.pair.heartbeat = 100ms (fatal)",
		"  site.red.pair.on_active = ",
		"  site.red.pair.on_standby = ",
		"  site.red.pair.vip = 192.168.1.10/24 (fatal)",
		"  site.red.pair.wake = true",
		"sites",
	)
	pair = append(pair, shared[10:15]...)
	if diff := cmp.Diff(pair, dump(as(cfg, 0, 1).Sections("red"))); diff != "" {
		t.Errorf("with the sibling (-want +got):\n%s", diff)
	}
	if got := as(cfg, 0, 0).Sections("green"); got != nil {
		t.Errorf("with a stranger: %v", got)
	}
}

// TestSectionsCanonical changes what doesn't count, and then what does.
func TestSectionsCanonical(t *testing.T) {
	text := read(t, "testdata/full.hcl")
	base := as(mustLoad(t, text), 0, 0).Sections("gray")
	same := map[string][2]string{
		"order of subnets":   {`subnets = ["10.77.1.0/24", "fd77:1::/64"]`, `subnets = ["fd77:1::/64", "10.77.1.0/24"]`},
		"order of addresses": {`["10.77.1.1", "fd77:1::1"]`, `["fd77:1::1", "10.77.1.1"]`},
		"order of ports":     {`"tcp/5432", "tcp/5000-5010"`, `"tcp/5000-5010", "tcp/5432"`},
		"order of entries":   {`["10.77.1.10", "fd77:1::/80"]`, `["fd77:1::/80", "10.77.1.10"]`},
		"form of an address": {`fd77:1::/80`, `FD77:0001:0::/80`},
		"address as prefix":  {`"10.77.1.10"`, `"10.77.1.10/32"`},
		"form of a time":     {`"20s"`, `"20000ms"`},
		"ends of the link":   {`link "red" "gray"`, `link "gray" "red"`},
		"comment":            {`policy {`, "# more\npolicy {"},
		"local":              {`mtu     = 1280`, `mtu     = 1400`},
		"the pair":           {`heartbeat  = "100ms"`, `heartbeat  = "90ms"`},
	}
	for name, c := range same {
		other := as(mustLoad(t, replaceOnce(t, text, c)), 0, 0).Sections("gray")
		if diff := cmp.Diff(base, other); diff != "" {
			t.Errorf("%s counts (-base +other):\n%s", name, diff)
		}
	}
	differ := map[string][2]string{
		"site.red.subnets":               {`"fd77:1::/64"`, `"fd77:1::/63"`},
		"site.gray.node.gray-1.endpoint": {`:51820`, `:51821`},
		"site.red.node.red-2.address":    {`"10.77.1.2"`, `"10.77.1.3"`},
		"site.red.node.red-1.public_key": {testKeys[0], rfcPublic},
		"link.gray.red.keepalive":        {`"20s"`, `"21s"`},
		"policy.rule.replication.mode":   {`"relay"`, `"route"`},
		"policy.rule.replication.to":     {`"10.77.1.10"`, `"10.77.1.11"`},
		"policy.rule.replication.ports":  {`"udp/53", `, ``},
	}
	for want, c := range differ {
		var got []string
		for i, s := range as(mustLoad(t, replaceOnce(t, text, c)), 0, 0).Sections("gray") {
			if (s.Digest == base[i].Digest) == (s.Name == sectionOf(want)) {
				t.Errorf("%s changed: digest of section %s", want, s.Name)
			}
			for j, a := range s.Attrs {
				if a.Digest != base[i].Attrs[j].Digest {
					got = append(got, a.Name)
				}
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s changed, but %v differ", want, got)
		}
	}
}

// sectionOf returns the section that an attribute of full.hcl is in.
func sectionOf(attr string) string {
	if strings.HasPrefix(attr, "policy.") {
		return "policy.gray.red"
	}
	parts := strings.Split(attr, ".")
	if parts[0] == "link" {
		return strings.Join(parts[:3], ".")
	}
	return strings.Join(parts[:2], ".")
}

func replaceOnce(t *testing.T, text string, c [2]string) string {
	t.Helper()
	out := strings.Replace(text, c[0], c[1], 1)
	if out == text {
		t.Fatalf("%q isn't there", c[0])
	}
	return out
}

// TestRenderedSectionsAgree is the promise of `gw render`: a node
// with the whole file and a node with one rendered for its site see no difference.
func TestRenderedSectionsAgree(t *testing.T) {
	const seeds = 40
	for seed := range uint64(seeds) {
		text := randomConfig(rand.New(rand.NewPCG(seed, 7)))
		full := mustLoad(t, text)
		rendered := map[string]Config{}
		for _, s := range full.Sites {
			out, err := Render(full, s.Name)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Format("rendered.hcl", out)
			if err != nil || string(again) != string(out) {
				t.Fatalf("seed %d: rendering isn't formatted: %v", seed, err)
			}
			rendered[s.Name] = mustLoad(t, string(out))
		}
		for _, a := range full.Sites {
			for _, b := range full.Sites {
				own, peer := a.Name, b.Name
				want := asNamed(t, full, own).Sections(peer)
				if (want == nil) != (own != peer && !linkedSites(full, own, peer)) {
					t.Fatalf("seed %d: sections of %s with %s: %v", seed, own, peer, want)
				}
				if want == nil {
					continue
				}
				if diff := cmp.Diff(want, asNamed(t, rendered[own], own).Sections(peer)); diff != "" {
					t.Fatalf("seed %d: full and rendered for %s, toward %s (-full +rendered):\n%s\n%s", seed, own, peer, diff, text)
				}
				if own == peer {
					continue
				}
				if diff := cmp.Diff(want, asNamed(t, rendered[peer], peer).Sections(own)); diff != "" {
					t.Fatalf("seed %d: %s and %s (-%s +%s):\n%s\n%s", seed, own, peer, own, peer, diff, text)
				}
			}
		}
	}
}

func linkedSites(c Config, a, b string) bool {
	_, ok := c.linkBetween(a, b)
	return ok
}

// randomConfig writes a network of up to four sites with random links and rules.
func randomConfig(r *rand.Rand) string {
	var b strings.Builder
	sites := 2 + r.IntN(3)
	name := func(i int) string { return []string{"red", "gray", "green", "blue"}[i] }
	for i := range sites {
		fmt.Fprintf(&b, "site %q {\n subnets = [\"10.%d.0.0/16\", \"fd77:%d::/64\"]\n", name(i), i+1, i+1)
		nodes := 1 + r.IntN(2)
		for n := range nodes {
			fmt.Fprintf(&b, "node \"%s-%d\" {\n public_key = %q\n address = \"10.%d.0.%d\"\n endpoint = \"192.0.2.%d:%d\"\n}\n",
				name(i), n+1, GenerateKey().Public(), i+1, n+1, i+1, 1000+n)
		}
		if nodes == 2 && r.IntN(2) == 0 {
			fmt.Fprintf(&b, "pair {\n vip = [\"192.168.%d.1/24\"]\n}\n", i)
		}
		b.WriteString("}\n")
	}
	for i := range sites {
		for j := range i {
			if r.IntN(3) > 0 {
				fmt.Fprintf(&b, "link %q %q {\n initiator = %q\n}\n", name(i), name(j), name([]int{i, j}[r.IntN(2)]))
			}
		}
	}
	entries := func() string {
		var out []string
		for i := range sites {
			switch r.IntN(4) {
			case 0:
				out = append(out, fmt.Sprintf("%q", name(i)))
			case 1:
				out = append(out, fmt.Sprintf("\"10.%d.0.%d\"", i+1, r.IntN(9)), fmt.Sprintf("\"fd77:%d::/80\"", i+1))
			}
		}
		return strings.Join(out, ", ")
	}
	b.WriteString("policy {\n")
	for i := range r.IntN(6) {
		rule := fmt.Sprintf("rule \"r%d\" {\n from = [%s]\n to = [%s]\n ports = [\"tcp/%d\"]\n}\n", i, entries(), entries(), 1+r.IntN(99))
		// Rules that Load refuses are of no use here.
		if _, d := loadText(b.String()+rule+"}\n", Options{Key: KeyIgnored}); !d.HasErrors() {
			b.WriteString(rule)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// TestRenderTellsOnlyWhatIsNeeded looks for what must not be in the file that
// goes to another site.
func TestRenderTellsOnlyWhatIsNeeded(t *testing.T) {
	text := read(t, "testdata/three.hcl")
	cfg := mustLoad(t, text)
	for _, site := range []string{"red", "gray", "green"} {
		out, err := Render(cfg, site)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "three-"+site+".golden", out)
		if site == "gray" {
			for _, secret := range []string{"green", "10.77.3.", "inside", "192.168.1.", "red-2.lan", "move-address", "eth7", "/etc/gw/red.key"} {
				if strings.Contains(string(out), secret) {
					t.Errorf("gray is told %q", secret)
				}
			}
		}
	}
	if _, err := Render(cfg, "grey"); err == nil || !strings.Contains(err.Error(), `Did you mean "gray"?`) {
		t.Errorf("Render for an unknown site: %v", err)
	}
}

func TestStarter(t *testing.T) {
	text, keys, err := Starter(starterOptions())
	if err != nil {
		t.Fatal(err)
	}
	cfg := mustLoad(t, string(text))
	if len(keys) != 2 || keys[0].Node != "red-1" || keys[1].Node != "gray-1" {
		t.Fatalf("keys %v", keys)
	}
	for i, k := range keys {
		if n := cfg.Sites[i].Nodes[0]; n.PublicKey != k.Key.Public() || n.Name != k.Node {
			t.Errorf("node %v doesn't fit its key", n)
		}
	}
	bad := map[string]func(*StarterOptions){
		`a second site "gray"`:        func(o *StarterOptions) { o.RedName = "gray" },
		`10.77.2.0/24 overlaps`:       func(o *StarterOptions) { o.RedSubnet = netip.MustParsePrefix("10.77.0.0/16") },
		`is not an endpoint`:          func(o *StarterOptions) { o.Endpoint = "203.0.113.10" },
		`can't be the name of a site`: func(o *StarterOptions) { o.GrayName = "gr ay" },
		`has no room for a node`:      func(o *StarterOptions) { o.GraySubnet = netip.MustParsePrefix("10.1.1.1/32") },
		`lies in the subnets of site`: func(o *StarterOptions) { o.Endpoint = "10.77.2.1:51820" },
	}
	for want, change := range bad {
		opt := starterOptions()
		change(&opt)
		if _, _, err := Starter(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Starter: %v, want %q", err, want)
		}
	}
}

func TestFormat(t *testing.T) {
	got, err := Format("x.hcl", []byte("link \"a\" \"b\" {\ninitiator=\"a\" # who dials\n  keepalive   = \"5s\"\n}"))
	want := "link \"a\" \"b\" {\n  initiator = \"a\" # who dials\n  keepalive = \"5s\"\n}"
	if err != nil || string(got) != want {
		t.Errorf("Format: %v\n%s", err, got)
	}
	if _, err := Format("x.hcl", []byte("link {{")); err == nil {
		t.Error("Format accepts a broken file")
	}
}
