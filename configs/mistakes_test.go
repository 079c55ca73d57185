package configs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testKeys are the public keys of the files in testdata; nobody has their
// private keys.
var testKeys = []string{
	"Uk3eDiQuodyqUvN4C8Ll3NzH3upXlQnHCUCcn5QCWCo=",
	"jLWXKtNvJfNpV4HSB+B9vMs4sgpPFgOpkt4UNsALWBc=",
	"6j0BbSsE8Xa6ovqMfKBhnDLRTAM8rPHJxUBBPuGcjS4=",
}

// TestMistakes changes one thing in a good file and looks for the finding that
// it deserves, and for no other.
func TestMistakes(t *testing.T) {
	full := read(t, "testdata/full.hcl")
	cases := []struct {
		name     string
		old, new string
		want     []string
	}{
		// Names.
		{"unknown setting", "keepalive =", "keepalve =", []string{`site.hcl:30,3: there is no setting "keepalve" in a link block`}},
		{"unknown block", "status {", "stats {", []string{`site.hcl:54,3: there is no block "stats" in the local block`}},
		{"block as setting", "status { listen = \"127.0.0.1:9770\" }", "status = \"127.0.0.1:9770\"", []string{`site.hcl:54,3: "status" is a block, not a setting`}},
		{"setting as block", "lan         = \"eth0\"", "lan {}", []string{`site.hcl:45,3: "lan" is a setting, not a block`}},
		{"label missing", "link \"red\" \"gray\"", "link \"red\"", []string{`site.hcl:28,1: a link block takes 2 labels`}},
		{"label too many", "policy {", "policy \"x\" {", []string{`site.hcl:33,1: a policy block takes no label`}},
		{"bad name", "rule \"replication\"", "rule \"repli cation\"", []string{`site.hcl:34,8: "repli cation" can't be the name of a rule`}},
		{"second site", "site \"gray\"", "site \"red\"", []string{
			`site.hcl:20,6: a second site "red"`,
			`site.hcl:28,12: there is no site "gray"`,
			`site.hcl:35,14: there is no site or node "gray"`, `site.hcl:35,22: there is no site or node "gray-1"`,
		}},
		{"second node", "node \"red-2\"", "node \"red-1\"", []string{`site.hcl:8,8: a second node "red-1"`}},
		{"link to unknown site", "link \"red\" \"gray\"", "link \"red\" \"grey\"", []string{`site.hcl:28,12: there is no site "grey"`}},
		{"link to itself", "link \"red\" \"gray\"", "link \"red\" \"red\"", []string{`site.hcl:28,12: site "red" is linked with itself`}},
		{"second link", "policy {", "link \"gray\" \"red\" {\n  initiator = \"red\"\n}\npolicy {", []string{`site.hcl:33,1: a second link between "gray" and "red"`}},
		{"second rule", "    mode  = \"relay\"\n  }", "  }\n  rule \"replication\" {\n    from  = [\"red\"]\n    to    = [\"gray\"]\n    ports = [\"tcp\"]\n  }", []string{`site.hcl:39,8: a second rule "replication"`}},
		{"rule with an unknown node", "from  = [\"gray\", \"gray-1\"]", "from  = [\"gray\", \"gray-2\"]", []string{`site.hcl:35,22: there is no site or node "gray-2"`}},

		// Types.
		{"no quotes", "mode  = \"relay\"", "mode  = relay", []string{`site.hcl:38,13: mode: text without quotes`}},
		{"number for text", "lan         = \"eth0\"", "lan         = 7", []string{`site.hcl:45,17: lan must be text in quotes`}},
		{"text for number", "listen_port = 4500", "listen_port = \"x\"", []string{`site.hcl:46,17: listen_port must be a number`}},
		{"fraction", "listen_port = 4500", "listen_port = 4500.5", []string{`site.hcl:46,17: listen_port must be a whole number`}},
		{"huge number", "listen_port = 4500", "listen_port = 1e99", []string{`site.hcl:46,17: listen_port must be a whole number`}},
		{"text for bool", "persist = true", "persist = \"yes\"", []string{`site.hcl:51,15: persist must be true or false`}},
		{"text for list", "from  = [\"gray\", \"gray-1\"]", "from  = \"gray\"", []string{`site.hcl:35,13: from must be a list`}},
		{"empty list", "from  = [\"gray\", \"gray-1\"]", "from  = []", []string{`site.hcl:35,13: from is empty`}},
		{"null", "lan         = \"eth0\"", "lan         = null", []string{`site.hcl:45,17: lan must be text in quotes`}},
		{"no time", "keepalive = \"20s\"", "keepalive = \"20\"", []string{`site.hcl:30,15: keepalive: "20" is not a time`}},
		{"setting missing", "  initiator = \"red\"\n", "", []string{`site.hcl:28,1: link "red" "gray" has no initiator`}},

		// Sites.
		{"no subnet", "\"10.77.2.0/24\"", "\"10.77.2.0\"", []string{
			`site.hcl:21,14: "10.77.2.0" is not a subnet`,
			`site.hcl:24,18: address 10.77.2.1 of a node of site "gray" lies in no site's subnets`,
		}},
		{"host bits", "\"fd77:2::/64\"", "\"fd77:2::1/64\"", []string{
			`site.hcl:21,30: fd77:2::1/64 has bits set behind its length`,
			`site.hcl:36,28: fd77:1::/80 never matches: from of rule "replication" has no address of its family`,
		}},
		{"mapped subnet", "\"fd77:2::/64\"", "\"fd77:2::/64\", \"::ffff:10.9.0.0/112\"", []string{`site.hcl:21,45: "::ffff:10.9.0.0/112" is not a subnet`}},
		{"multicast", "\"fd77:2::/64\"", "\"fd77:2::/64\", \"224.0.0.0/8\"", []string{`site.hcl:21,45: 224.0.0.0/8 can't be routed between sites`}},
		{"overlap", "\"fd77:2::/64\"", "\"fd77:2::/64\", \"10.77.1.128/25\"", []string{`site.hcl:21,45: 10.77.1.128/25 overlaps 10.77.1.0/24 of site "red"`}},
		{"overlap within", "\"fd77:2::/64\"", "\"fd77:2::/64\", \"10.77.2.128/25\"", []string{`site.hcl:21,45: 10.77.2.128/25 overlaps 10.77.2.0/24 of the same site`}},
		{"twice", "\"fd77:2::/64\"", "\"fd77:2::/64\", \"fd77:2::/64\"", []string{`site.hcl:21,45: fd77:2::/64 is there twice`}},
		{"address outside", "\"10.77.2.1\"", "\"10.77.3.1\"", []string{`site.hcl:24,18: address 10.77.3.1 of a node of site "gray" lies in no site's subnets`}},
		{"address of another site", "\"10.77.2.1\"", "\"10.77.1.9\"", []string{`site.hcl:24,18: address 10.77.1.9 of a node of site "gray" lies in site "red"`}},
		{"address with length", "\"10.77.2.1\"", "\"10.77.2.1/24\"", []string{`site.hcl:24,18: "10.77.2.1/24" is not an address`}},
		{"two of one family", "\"10.77.2.1\"", "[\"10.77.2.1\", \"10.77.2.2\"]", []string{`site.hcl:24,32: node "gray-1" has 10.77.2.1 already`}},
		{"same address", "address    = \"10.77.1.2\"", "address    = \"10.77.1.1\"", []string{`site.hcl:10,18: address 10.77.1.1 belongs to another node`}},
		{"same key", testKeys[1], testKeys[0], []string{`site.hcl:9,18: node "red-2" has the public key of another node`}},
		{"short key", testKeys[1], "AAAA", []string{`site.hcl:9,18: public_key of node "red-2": 3 bytes long instead of 32`}},
		{"endpoint without port", "\"[2001:db8::10]:51820\"", "\"2001:db8::10\"", []string{`site.hcl:25,18: "2001:db8::10" is not an endpoint`}},
		{"endpoint with port 0", "\"[2001:db8::10]:51820\"", "\"gw.example.com:0\"", []string{`site.hcl:25,18: endpoint "gw.example.com:0": a port is a number from 1 to 65535`}},
		{"endpoint mistyped", "\"[2001:db8::10]:51820\"", "\"203.0.113.256:51820\"", []string{`site.hcl:25,18: "203.0.113.256:51820" is not an endpoint`}},
		{"endpoint inside", "\"[2001:db8::10]:51820\"", "\"10.77.2.1:51820\"", []string{`site.hcl:25,18: endpoint 10.77.2.1:51820 lies in the subnets of site "gray": packets to it would enter the tunnel that they carry`}},
		{"same endpoint", "    address    = \"10.77.1.2\"\n", "    address    = \"10.77.1.2\"\n    endpoint = \"[2001:db8::10]:51820\"\n", []string{`site.hcl:26,18: endpoint [2001:db8::10]:51820 belongs to another node`}},
		{"whole internet", "\"fd77:2::/64\"", "\"fd77:2::/64\", \"0.0.0.0/0\"", []string{`site.hcl:21,45: 0.0.0.0/0 can't be routed between sites`}},
		{"no node", "  node \"gray-1\" {\n    public_key = \"" + testKeys[2] + "\"\n    address    = \"10.77.2.1\"\n    endpoint   = \"[2001:db8::10]:51820\"\n  }\n", "", []string{`site.hcl:20,1: site "gray" has no node`, `site.hcl:30,22: there is no site or node "gray-1"`}},

		// Pairs.
		{"dead too soon", "dead_after = \"300ms\"", "dead_after = \"150ms\"", []string{`site.hcl:16,18: dead_after of 150ms with a heartbeat of 100ms`}},
		{"heartbeat of zero", "heartbeat  = \"100ms\"", "heartbeat  = \"0s\"", []string{`site.hcl:15,18: heartbeat of 0s`}},
		{"negative", "dead_after = \"300ms\"", "dead_after = \"-1s\"", []string{`site.hcl:16,18: dead_after of -1s with a heartbeat of 100ms`}},
		{"vip without length", "192.168.1.10/24", "192.168.1.10", []string{`site.hcl:14,19: vip: "192.168.1.10" is not an address with a length`}},
		{"pair of one", "endpoint   = \"[2001:db8::10]:51820\"\n  }", "endpoint   = \"[2001:db8::10]:51820\"\n  }\n  pair {}", []string{`site.hcl:27,3: site "gray" has a pair block but 1 node`}},
		{"two pairs", "dead_after = \"300ms\"\n  }", "dead_after = \"300ms\"\n  }\n  pair {}", []string{`site.hcl:18,3: a second pair block in a site block`}},
		{"vip as text", "[\"192.168.1.10/24\"]", "\"192.168.1.10/24\"", nil},
		{"vip twice", "\"192.168.1.10/24\"]", "\"192.168.1.10/24\", \"192.168.1.10/25\"]", []string{`site.hcl:14,38: vip: 192.168.1.10 is there twice`}},
		{"vip of a node", "192.168.1.10/24", "10.77.1.2/24", []string{`site.hcl:14,19: vip: 10.77.1.2 is the address of a node`}},
		{"vip elsewhere", "192.168.1.10/24", "10.77.2.9/24", []string{`site.hcl:14,19: vip: 10.77.2.9 lies in the subnets of site "gray"`}},
		{"vip is the network", "192.168.1.10/24", "192.168.1.0/24", []string{`site.hcl:14,19: vip: 192.168.1.0/24 is the first or the last address of its subnet, which no host may have`}},
		{"vip is the broadcast", "192.168.1.10/24", "192.168.1.255/24", []string{`site.hcl:14,19: vip: 192.168.1.255/24 is the first or the last address of its subnet, which no host may have`}},
		{"vip of a group", "192.168.1.10/24", "224.0.0.1/24", []string{`site.hcl:14,19: vip: 224.0.0.1/24 can't be an address of a LAN`}},
		{"vip is the sibling's", "192.168.1.10/24", "10.77.1.251/24", []string{`site.hcl:14,19: vip: 10.77.1.251 is the sibling_endpoint of node "red-1"`}},
		{"vip alone", "192.168.1.10/24", "192.168.1.10/32", nil},
		{"dead too late", "dead_after = \"300ms\"", "dead_after = \"11s\"", []string{`site.hcl:16,18: dead_after of 11s with a heartbeat of 100ms`}},
		{"heartbeat too late", "heartbeat  = \"100ms\"", "heartbeat  = \"6s\"", []string{`site.hcl:15,18: heartbeat of 6s`}},
		{"no way between", "    sibling_endpoint = \"10.77.1.251:4500\"\n", "", []string{`site.hcl:3,3: node "red-1" of a pair has neither sibling_endpoint nor endpoint`}},
		{"sibling mistyped", "\"10.77.1.251:4500\"", "\"10.77.1.251\"", []string{`site.hcl:6,24: "10.77.1.251" is not an endpoint`}},
		{"sibling with port 0", "10.77.1.251:4500", "10.77.1.251:0", []string{`site.hcl:6,24: sibling_endpoint "10.77.1.251:0": a port is a number from 1 to 65535`}},
		{"sibling elsewhere", "10.77.1.251:4500", "10.77.2.251:4500", []string{`site.hcl:6,24: sibling_endpoint 10.77.2.251:4500 lies in the subnets of site "gray": packets to it would enter the tunnel`}},
		{"sibling inside", "10.77.1.251:4500", "[fd77:1::1]:4500", []string{`site.hcl:6,24: sibling_endpoint [fd77:1::1]:4500 is a node's address inside the tunnel: packets to it would enter the tunnel that they carry`}},
		{"same sibling", "10.77.1.251:4500", "[fd77:1::252]:4500", []string{`site.hcl:11,24: sibling_endpoint [fd77:1::252]:4500 belongs to the other node of the pair`}},
		{"endpoint of the sibling", "    address    = \"10.77.1.2\"\n", "    address    = \"10.77.1.2\"\n    endpoint = \"10.9.9.9:1\"\n", nil},
		{"sibling of none", "endpoint   = \"[2001:db8::10]:51820\"", "sibling_endpoint = \"10.9.9.9:1\"", []string{
			`site.hcl:25,24: node "gray-1" has a sibling_endpoint but no sibling`,
			`site.hcl:29,15: site "red" has no node to dial: no node of site "gray" has an endpoint`,
		}},
		{"command without path", "heartbeat  = \"100ms\"", "on_active = [\"move\"]", []string{`site.hcl:15,18: on_active: "move" is not the whole path of a program`}},
		{"command for a shell", "heartbeat  = \"100ms\"", "on_standby = [\"/bin/move eth0\"]", []string{`site.hcl:15,19: on_standby: "/bin/move eth0" looks like a program with arguments`}},
		{"command of lines", "heartbeat  = \"100ms\"", "on_active = [\"/bin/sh\", \"-c\", \"a\\nb\"]", []string{`site.hcl:15,35: on_active: an argument holds a control character`}},
		{"command's time", "heartbeat  = \"100ms\"", "command_timeout = \"0s\"", []string{`site.hcl:15,23: command_timeout of 0s`}},
		{"three nodes", "  pair {", "  node \"red-3\" {\n    public_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=\"\n    address = \"10.77.1.3\"\n  }\n  pair {", []string{`site.hcl:13,3: site "red" has 3 nodes`}},

		// Links.
		{"nobody to dial", "    endpoint   = \"[2001:db8::10]:51820\"\n", "", []string{`site.hcl:28,15: site "red" has no node to dial: no node of site "gray" has an endpoint`}},
		{"initiator elsewhere", "initiator = \"red\"", "initiator = \"rad\"", []string{`site.hcl:29,15: initiator "rad" is no end of this link`}},
		{"standby not dialled", "    address    = \"10.77.1.2\"\n", "    address    = \"10.77.1.2\"\n    endpoint = \"198.51.100.2:1\"\n", nil},
		{"keepalive too fine", "keepalive = \"20s\"", "keepalive = \"1500ms\"", []string{`site.hcl:30,15: keepalive of 1.5s`}},

		// Rules.
		{"protocol", "\"udp/53\"", "\"udo/53\"", []string{`site.hcl:37,43: ports: unknown protocol in "udo/53", did you mean "udp"`}},
		{"port alone", "\"udp/53\"", "\"53\"", []string{`site.hcl:37,43: ports: "53" doesn't say whether TCP or UDP`}},
		{"port too high", "\"udp/53\"", "\"udp/65536\"", []string{`site.hcl:37,43: ports: "udp/65536": a port is a number from 1 to 65535`}},
		{"range turned", "\"tcp/5000-5010\"", "\"tcp/5010-5000\"", []string{`site.hcl:37,26: ports: "tcp/5010-5000": 5000 comes before 5010`}},
		{"icmp with port", "\"icmp\"", "\"icmp/8\"", []string{`site.hcl:37,53: ports: "icmp/8": icmp has no ports`}},
		{"port twice", "\"udp/53\"", "\"udp/53\", \"udp/53\"", []string{`site.hcl:37,53: ports: udp/53 is there twice`}},
		{"unknown mode", "mode  = \"relay\"", "mode  = \"rely\"", []string{`site.hcl:38,13: unknown mode "rely"`}},
		{"mode without tcp", "\"tcp/5432\", \"tcp/5000-5010\", \"udp/53\", \"icmp\", \"tcp\", \"udp\", \"any\"", "\"udp\", \"icmp\"", []string{`site.hcl:38,13: mode of rule "replication", which covers no TCP`}},
		{"prefix outside", "\"10.77.1.10\"", "\"10.78.0.0/16\"", []string{`site.hcl:36,14: 10.78.0.0/16 lies in no site's subnets`}},
		{"prefix too wide", "\"10.77.1.10\"", "\"10.77.0.0/16\"", []string{`site.hcl:36,14: 10.77.0.0/16 lies in no site's subnets`}},
		{"prefix host bits", "\"10.77.1.10\"", "\"10.77.1.10/28\"", []string{`site.hcl:36,14: 10.77.1.10/28 has bits set behind its length`}},
		{"families", "from  = [\"gray\", \"gray-1\"]", "from  = [\"10.77.2.0/24\"]", []string{`site.hcl:36,28: fd77:1::/80 never matches: from of rule "replication" has no address of its family`}},
		{"one site", "from  = [\"gray\", \"gray-1\"]", "from  = [\"red\"]", []string{`site.hcl:34,3: rule "replication" begins and ends in site "red"`}},

		// Local.
		{"mtu of ipv6", "mtu     = 1280", "mtu     = 1279", []string{`site.hcl:49,15: mtu of 1279 with IPv6 (fd77:1::/64)`}},
		{"mtu too low", "mtu     = 1280", "mtu     = 575", []string{`site.hcl:49,15: mtu of 575`}},
		{"mtu too high", "mtu     = 1280", "mtu     = 65536", []string{`site.hcl:49,15: mtu of 65536`}},
		{"driver", "\"water\"", "\"watr\"", []string{`site.hcl:50,15: unknown tun driver "watr"`}},
		{"tun name", "\"tun7\"", "\"a-name-that-is-too-long\"", []string{`site.hcl:48,15: tun name: "a-name-that-is-too-long" can't be the name of an interface`}},
		{"congctl", "\"bbr\"", "\"b b r\"", []string{`site.hcl:52,15: "b b r" can't be the name of a congestion control`}},
		{"port", "listen_port = 4500", "listen_port = 65536", []string{`site.hcl:46,17: listen_port of 65536`}},
		{"status", "\"127.0.0.1:9770\"", "\"9770\"", []string{`site.hcl:54,21: status listen: "9770" is not an address with a port`}},
		{"capture memory", "memory = 16", "memory = 1025", []string{`site.hcl:60,22: capture memory of 1025`}},
		{"limit too low", "flows     = 1000", "flows = 5", []string{`site.hcl:62,13: limits flows of 5`}},
		{"too little for trunks", "trunks    = 8", "trunks = 3", []string{`site.hcl:64,14: limits trunks of 3`}},
		{"no limit", "relays    = 20", "relays = 0", []string{`site.hcl:63,14: limits relays of 0`}},
		{"log level", "\"debug\"", "\"debugg\"", []string{`site.hcl:56,13: unknown log level "debugg"`}},
		{"answers", "\"full\"", "\"all\"", []string{`site.hcl:69,13: unknown answers "all"`}},
		{"empty path", "\"/srv/gw\"", "\"\"", []string{`site.hcl:43,17: state_dir is empty`}},

		// The parser's own, and its limits.
		{"syntax", "policy {", "policy {{", []string{`site.hcl:33,9: argument or block definition required`}},
		{"variable", "lan         = \"eth0\"", "lan         = \"${eth}\"", []string{`site.hcl:45,20: variables not allowed`}},
		{"nesting", "lan         = \"eth0\"", "lan         = " + strings.Repeat("[", 100), []string{`site.hcl:45,80: nested too deeply`}},
		{"operators", "lan         = \"eth0\"", "lan         = " + strings.Repeat("!", 1000), []string{`site.hcl:45,273: nested too deeply`}},
	}
	said := &listing{}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(full, tc.old, tc.new, 1)
			if text == full {
				t.Fatalf("%q isn't in full.hcl", tc.old)
			}
			_, diags := loadText(text, Options{Key: KeyIgnored})
			said.add(tc.name, diags)
			if diff := cmp.Diff(tc.want, lines(diags)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, d := range diags.List {
				if d.Detail == "" {
					t.Errorf("%s: doesn't say what to do", d.line())
				}
			}
		})
	}
	said.check(t, "messages-mistakes.golden", len(cases))
}

func TestWarnings(t *testing.T) {
	full := read(t, "testdata/full.hcl")
	green := "site \"green\" {\n  subnets = [\"10.77.3.0/24\"]\n  node \"green-1\" {\n    public_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=\"\n    address = \"10.77.3.1\"\n  }\n}\n"
	cases := []struct {
		name, text string
		want       []string
	}{
		{"no rule", full[:strings.Index(full, "policy {")], []string{`warning: there is no rule: no connection is allowed`}},
		{"site without link", green + full, []string{`warning: site.hcl:1,6: site "green" has no link: it reaches no other site`}},
		{"site alone", green, []string{`warning: site.hcl:1,6: site "green" is the only site: there is none to link it with`}},
		{"rule without link", green + strings.Replace(full, "from  = [\"gray\", \"gray-1\"]", "from  = [\"green\"]", 1), []string{
			`site.hcl:43,28: fd77:1::/80 never matches: from of rule "replication" has no address of its family`,
		}},
		{"entry without partner", strings.Replace(full, "from  = [\"gray\", \"gray-1\"]", "from  = [\"gray\", \"gray-1\", \"red\"]", 1), []string{
			`warning: site.hcl:35,32: red never matches: rule "replication" names no other site in to`,
		}},
		{"standby not dialled", strings.NewReplacer(`address    = ["10.77.1.1", "fd77:1::1"]`, "address = \"10.77.1.1\"\n endpoint = \"198.51.100.1:1\"", `initiator = "red"`, `initiator = "gray"`).Replace(full), []string{
			`warning: site.hcl:9,3: node "red-2" has no endpoint, but site "gray" dials site "red"`,
		}},
	}
	said := &listing{}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, diags := loadText(tc.text, Options{Key: KeyIgnored})
			said.add(tc.name, diags)
			if diff := cmp.Diff(tc.want, lines(diags)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	said.check(t, "messages-warnings.golden", len(cases))
}

// TestDiagnosticText fixes what an operator sees, with many mistakes at once.
func TestDiagnosticText(t *testing.T) {
	c := newCollector()
	c.load([]source{{name: "site.hcl", text: []byte(read(t, "testdata/mistakes.hcl"))}}, Options{Key: KeyIgnored})
	for _, color := range []bool{false, true} {
		var b bytes.Buffer
		if err := c.result().WriteDiagnostics(&b, color); err != nil {
			t.Fatal(err)
		}
		name := "mistakes.golden"
		if color {
			name = "mistakes-color.golden"
		}
		golden(t, name, b.Bytes())
		for line := range strings.Lines(b.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 && !color {
				t.Errorf("%d columns wide: %s", n, line)
			}
		}
	}
}
