package configs

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// twoSites is a configuration with a rule from gray to the given ends.
func twoSites(redSubnets, redAddress, to string) string {
	from := `"10.77.2.0/24"`
	if strings.Contains(redSubnets, "::") {
		from += `, "fd77:2::/64"`
	}
	return fmt.Sprintf(`
site "red" {
  subnets = [%s]
  node "red-1" {
    public_key = %q
    address    = [%s]
  }
}
site "gray" {
  subnets = ["10.77.2.0/24", "fd77:2::/64"]
  node "gray-1" {
    public_key = %q
    address    = ["10.77.2.1", "fd77:2::1"]
    endpoint   = "203.0.113.10:51820"
  }
}
link "red" "gray" {
  initiator = "red"
}
policy {
  rule "r" {
    from  = [%s]
    to    = [%s]
    ports = ["any"]
  }
}
`, redSubnets, testKeys[0], redAddress, testKeys[1], from, to)
}

// A rule that names a site leaves out the own addresses of its gateways, in both families, unless
// the site has nothing else. A file that may rely on them draws a warning.
func TestWhatARuleCoversOfItsGateways(t *testing.T) {
	const lan, own = `"10.77.1.0/24", "fd77:1::/64"`, `"10.77.1.1", "fd77:1::1"`
	for _, tt := range []struct {
		name, subnets, address, to string
		covers                     string // of 10.77.1.1, fd77:1::1, 10.77.1.10 and fd77:1::a
		warns                      bool
	}{
		{"a site", lan, own, `"red"`, "10.77.1.10 fd77:1::a", true},
		{"a site and its node", lan, own, `"red", "red-1"`, "10.77.1.1 fd77:1::1 10.77.1.10 fd77:1::a", false},
		{"a node", lan, own, `"red-1"`, "10.77.1.1 fd77:1::1", false},
		{"a site and its node's address", lan, own, `"red", "10.77.1.1"`, "10.77.1.1 10.77.1.10 fd77:1::a", false},
		{"prefixes", lan, own, `"10.77.1.0/24", "fd77:1::/64"`, "10.77.1.1 fd77:1::1 10.77.1.10 fd77:1::a", false},
		{"a site that is its host", `"10.77.1.1/32", "fd77:1::1/128"`, own, `"red"`, "10.77.1.1 fd77:1::1", false},
		{"a site that is its host, IPv4", `"10.77.1.1/32"`, `"10.77.1.1"`, `"red"`, "10.77.1.1", false},
		{"a host and a LAN", `"10.77.1.1/32", "fd77:1::/64"`, own, `"red"`, "fd77:1::a", true},
		{"a host and another", `"10.77.1.1/32", "10.77.1.10/32"`, `"10.77.1.1"`, `"red"`, "10.77.1.10", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector()
			cfg := c.load([]source{{name: "site.hcl", text: []byte(twoSites(tt.subnets, tt.address, tt.to))}}, Options{Key: KeyIgnored})
			diags := c.result()
			if diags.HasErrors() || len(cfg.Rules) != 1 {
				t.Fatal(diags.Err())
			}
			var covered []string
			for _, a := range []string{"10.77.1.1", "fd77:1::1", "10.77.1.10", "fd77:1::a"} {
				for _, e := range cfg.Rules[0].To {
					if e.covers(netip.MustParseAddr(a)) {
						covered = append(covered, a)
						break
					}
				}
			}
			if got := strings.Join(covered, " "); got != tt.covers {
				t.Errorf("covers %s, want %s", got, tt.covers)
			}
			warned := ""
			for _, d := range diags.List {
				if strings.Contains(d.Summary, "gateways themselves") {
					warned = d.Summary
				}
			}
			if want := "no rule covers the gateways themselves: red-1"; tt.warns != (warned == want) {
				t.Errorf("warning %q", warned)
			}
		})
	}
}
