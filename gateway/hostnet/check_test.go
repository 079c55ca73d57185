package hostnet

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fit makes a namespace in which Check finds nothing, and the CheckConfig for it.
func fit(t *testing.T) (*space, CheckConfig) {
	s := newSpace(t, "a")
	s.do(func() {
		for _, name := range []string{"lan", "wan"} {
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name + "-far"}
			if err := netlink.LinkAdd(link); err != nil {
				t.Fatal(err)
			}
			s.up(name + "-far")
		}
		s.up("lan", "10.77.1.30/24", "fd77:1::30/64")
		s.up("wan", "192.0.2.1/24", "2001:db8::1/64")
		s.sh("ip route add default via 192.0.2.254", "ip -6 route add default via 2001:db8::fe",
			// As the guide has it: per interface for IPv4, for IPv6 with a filter.
			"sysctl -w net.ipv4.conf.lan.forwarding=1 net.ipv6.conf.all.forwarding=1",
			"nft add table ip6 fit", "nft add chain ip6 fit forward '{ type filter hook forward priority filter; }'",
			"nft add rule ip6 fit forward 'iifname != { lan, gw0 } drop'",
			"sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.lan.rp_filter=0")
	})
	return s, CheckConfig{
		Device: "gw0", MTU: testMTU, LAN: "lan",
		Site:      prefixes("10.77.1.0/24", "fd77:1::/64"),
		Remote:    prefixes("10.77.2.0/24", "fd77:2::/64"),
		Endpoints: addrs("203.0.113.10", "2001:db8:1::10"),
	}
}

// sh runs shell commands in the namespace, inside do.
func (s *space) sh(cmds ...string) {
	s.tb.Helper()
	for _, cmd := range cmds {
		if out, err := exec.Command("sh", "-c", cmd).CombinedOutput(); err != nil {
			s.tb.Fatalf("%s: %v: %s", cmd, err, out)
		}
	}
}

func (s *space) check(c CheckConfig) (found []Finding) {
	s.do(func() { found = Check(c) })
	return found
}

// Each case breaks a host that is fit, expects findings, mends it by their own
// commands, and expects none.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken []string
		with   func(*CheckConfig)
		want   []string // a piece of each finding, in order
	}{
		{name: "fit"},
		{name: "IPv4 forwarding", broken: []string{"sysctl -w net.ipv4.conf.lan.forwarding=0"},
			want: []string{`IPv4 forwarding is off on "lan"`}},
		{name: "IPv4 forwarding, lan not configured", with: func(c *CheckConfig) { c.LAN = "" }, broken: []string{"sysctl -w net.ipv4.conf.lan.forwarding=0"},
			want: []string{`IPv4 forwarding is off on "lan"`}},
		{name: "IPv6 forwarding", broken: []string{"sysctl -w net.ipv6.conf.all.forwarding=0"},
			want: []string{"IPv6 forwarding is off"}},
		{name: "forwarding everywhere", broken: []string{"sysctl -w net.ipv4.ip_forward=1"},
			want: []string{`packets from "lan-far", "wan-far", "wan" reach the LAN past gw: this host forwards packets that arrive there to 10.77.1.0/24, and no`}},
		{name: "forwarding everywhere, lan not configured", with: func(c *CheckConfig) { c.LAN = "" }, broken: []string{"sysctl -w net.ipv4.ip_forward=1", "nft flush ruleset"},
			want: []string{`reach the LAN past gw: this host forwards packets that arrive there to 10.77.1.0/24, fd77:1::/64, and no`}},
		{name: "IPv6 forwarding without a filter", broken: []string{"nft flush ruleset"},
			want: []string{`packets from "lan-far", "wan-far", "wan" reach the LAN past gw: this host forwards packets that arrive there to fd77:1::/64, and no`}},
		{name: "forwarding on the wan", broken: []string{"sysctl -w net.ipv4.conf.wan.forwarding=1"},
			want: []string{`packets from "wan" reach the LAN past gw`}},
		{name: "forwarding on the wan, some of it dropped", broken: []string{"sysctl -w net.ipv4.conf.wan.forwarding=1",
			"nft add table ip f", "nft add chain ip f forward '{ type filter hook forward priority filter; }'", "nft add rule ip f forward tcp dport 5432 drop"},
			want: []string{`packets from "wan" may reach the LAN past gw: this host forwards packets that arrive there to 10.77.1.0/24, and gw can't tell`}},
		{name: "forwarding on the wan, which is down", broken: []string{"sysctl -w net.ipv4.conf.wan.forwarding=1", "ip link set wan down"}},
		{name: "nobody behind", broken: []string{"sysctl -w net.ipv4.conf.lan.forwarding=0 net.ipv6.conf.all.forwarding=0", nftDrop("inet", "f")},
			with: func(c *CheckConfig) { c.LAN, c.Site = "", prefixes("10.77.1.30/32", "fd77:1::30/128") }},
		{name: "strict rp_filter", broken: []string{"sysctl -w net.ipv4.conf.all.rp_filter=1"},
			want: []string{`strict rp_filter on "lan"`, `strict rp_filter on "gw0"`}},
		{name: "loose rp_filter", broken: []string{"sysctl -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lan.rp_filter=2 net.ipv4.conf.default.rp_filter=2"}},
		{name: "no lan", with: func(c *CheckConfig) { c.LAN = "" }},
		{name: "lan down", broken: []string{"ip link set dev lan down"}, want: []string{`the lan interface "lan" is down`}},
		{name: "more specific routes", broken: []string{"ip route add 10.77.2.128/25 via 192.0.2.9 metric 500", "ip -6 route add fd77:2::5 dev lan"},
			want: []string{"10.77.2.0/24: 10.77.2.128/25 via 192.0.2.9 dev wan metric 500", "fd77:2::/64: fd77:2::5/128 dev lan"}},
		{name: "equal routes", broken: []string{"ip route add 10.77.2.0/24 dev lan", "ip route add 10.77.2.0/24 dev wan metric 13"},
			want: []string{"10.77.2.0/24 dev lan"}},
		{name: "blackhole", broken: []string{"ip route add unreachable 10.77.2.7"}, want: []string{"10.77.2.7/32"}},
		{name: "endpoint inside", with: func(c *CheckConfig) { c.Remote = append(c.Remote, prefixes("203.0.113.0/24", "2001:db8:1::/48")...) },
			want: []string{
				"fatal: the endpoint 203.0.113.10 lies in the remote subnet 203.0.113.0/24: the tunnel's own packets would enter the tunnel: ip route add 203.0.113.10/32 via 192.0.2.254 dev wan",
				"ip route add 2001:db8:1::10/128 via 2001:db8::fe dev wan"}},
		{name: "mtu", broken: []string{"ip link set dev wan mtu 1460"}, want: []string{"the tun's mtu of 1420 does not fit the path to 203.0.113.10"}},
		{name: "nftables policy", broken: []string{nftDrop("ip", "filter"), nftDrop("ip6", "filter")},
			want: []string{`chain ip filter FORWARD drops forwarded packets, and no rule of its table accepts those of "gw0"`, "chain ip6 filter FORWARD"}},
		{name: "nftables policy, one way open", broken: []string{nftDrop("inet", "f"), `nft add rule inet f FORWARD iifname gw0 tcp dport 5432 counter accept`},
			want: []string{"nft insert rule inet f FORWARD oifname gw0 accept"}},
		{name: "nftables policy, open", broken: []string{nftDrop("inet", "f"),
			"nft add chain inet f more", `nft add rule inet f more iifname gw0 accept`, `nft add rule inet f more oifname gw0 accept`}},
		{name: "nftables last rule", broken: []string{"nft add table inet f", "nft add chain inet f forward '{type filter hook forward priority 0;}'",
			"nft add rule inet f forward ip daddr 10.0.0.1 drop", "nft add rule inet f forward counter reject"},
			want: []string{"chain inet f forward"}},
		{name: "nftables other rules", broken: []string{"nft add table inet f", "nft add chain inet f forward '{type filter hook forward priority 0;}'",
			"nft add rule inet f forward ip daddr 10.0.0.1 drop", "nft add chain inet f input '{type filter hook input priority 0; policy drop;}'"}},
		{name: "dialled, and dropped", with: dialled, broken: []string{nftInput,
			"nft add rule inet f input iif lo accept", "nft add rule inet f input ct state established,related accept",
			"nft add rule inet f input ct state '{ established, related }' accept", "nft add rule inet f input iifname gw0 accept",
			"nft add rule inet f input ct state established accept", "nft add rule inet f input iifname lo accept",
			`nft add rule inet f input iifname "gw*" accept`, "nft add rule inet f input iifname gw0 udp dport 51820 accept",
			"nft add rule inet f input tcp dport 51820 accept", "nft add rule inet f input udp dport { 53, 500 } accept",
			"nft add rule inet f input tcp dport { 22, 51820 } accept", "nft add rule inet f input tcp dport 51000-52000 accept",
			"nft add rule inet f input udp dport 53 accept", "nft add rule inet f input iifname wan udp dport 53 accept",
			"nft add rule inet f input udp dport 33434-33534 accept", "nft add rule inet f input udp dport 52000-53000 accept",
			"nft add rule inet f input meta l4proto { icmp, ipv6-icmp } accept", "nft add rule inet f input ip protocol icmp accept",
			"nft add rule inet f input meta l4proto udp @th,0,32 0x00430044 accept", "nft add rule inet f input meta pkttype multicast accept", "nft add chain inet f never", "nft add rule inet f never accept"},
			want: []string{`chain inet f input drops packets to this host, and no rule of its table accepts udp/51820: no other node can dial this one`}},
		{name: "dialled, by port", with: dialled, broken: []string{nftInput, "nft add rule inet f input udp dport 51820 accept"}},
		{name: "dialled, by port when new", with: dialled, broken: []string{nftInput, "nft add rule inet f input ct state new udp dport 51820 accept"}},
		{name: "dialled, by range", with: dialled, broken: []string{nftInput, "nft add rule inet f input udp dport 51000-52000 accept"}},
		{name: "dialled, by set", with: dialled, broken: []string{nftInput, "nft add rule inet f input udp dport { 53, 51820 } accept"}},
		{name: "dialled, by port elsewhere", with: dialled, broken: []string{nftInput, "nft add chain inet f more", "nft add rule inet f more udp dport { 53, 51820 } accept"}},
		{name: "dialled, by interface", with: dialled, broken: []string{nftInput, "nft add chain inet f more", "nft add rule inet f more iifname wan accept",
			"nft add rule inet f input jump more"}},
		{name: "dialled, by interfaces", with: dialled, broken: []string{nftInput, `nft add rule inet f input iifname "wa*" accept`}},
		{name: "dialled, by source", with: dialled, broken: []string{nftInput, "nft add rule inet f input ip saddr 192.0.2.0/24 accept"}},
		{name: "dialled by the other family", with: dialled, broken: []string{"nft add table ip6 f", "nft add chain ip6 f input '{type filter hook input priority 0; policy drop;}'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, config := fit(t)
			if c.with != nil {
				c.with(&config)
			}
			s.do(func() { s.sh(c.broken...) })
			found := s.check(config)
			if len(found) != len(c.want) {
				t.Fatalf("found %v", found)
			}
			for i, f := range found {
				if !strings.Contains(line(f), c.want[i]) {
					t.Errorf("found %v, not %q", f, c.want[i])
				}
				s.do(func() { s.sh(f.Mend) })
			}
			if found := s.check(config); len(found) != 0 {
				t.Errorf("mended, but: %v", found)
			}
		})
	}
}

// line is a finding in one.
func line(f Finding) string {
	return map[Level]string{Fatal: "fatal", Warning: "warning"}[f.Level] + ": " + f.What + ": " + f.Mend
}

// nftInput drops packets to the host, and dialled makes Check look at it.
const nftInput = "nft add table inet f && nft add chain inet f input '{type filter hook input priority 0; policy drop;}'"

// dialled has others dial the node, by IPv4.
func dialled(c *CheckConfig) { c.ListenPort, c.Listen4 = 51820, true }

func nftDrop(family, table string) string {
	return "nft add table " + family + " " + table + " && nft add chain " + family + " " + table +
		" FORWARD '{type filter hook forward priority 0; policy drop;}'"
}

// While the gateway runs there is nothing to find, and a rule that another table comes first
// by is seen.
func TestCheckRunning(t *testing.T) {
	s, config := fit(t)
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.apply(red())
	if found := s.check(config); len(found) != 0 {
		t.Errorf("found %v", found)
	}
	s.do(func() { s.sh("ip route add default dev wan table 52", "ip rule add lookup 52 priority 5270") })
	found := s.check(config)
	if len(found) != 1 || !strings.Contains(found[0].What, "a routing rule sends traffic for the remote subnet 10.77.2.0/24 elsewhere") {
		t.Fatalf("found %v", found)
	}
	s.do(func() { s.sh(found[0].Mend) })
	if found := s.check(config); len(found) != 0 {
		t.Errorf("mended, but: %v", found)
	}
}

// The gateway turns forwarding on at its own device; where that is undone, Check finds it.
func TestCheckForwardingOfTheDevice(t *testing.T) {
	s, config := fit(t)
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.apply(red())
	s.do(func() {
		for _, path := range []string{forwarding4("gw0"), forceForwarding6("gw0")} {
			if v, err := readSysctl(path); err == nil && v != "1" {
				t.Errorf("%s is %s", path, v)
			}
		}
		s.sh("sysctl -w net.ipv4.conf.gw0.forwarding=0")
	})
	if found := s.check(config); len(found) != 1 || found[0].Mend != "sysctl -w net.ipv4.conf.gw0.forwarding=1" {
		t.Errorf("found %v", found)
	}

	alone := newSpace(t, "alone")
	alone.open(TUNConfig{Name: "gw0", MTU: testMTU})
	c := red()
	c.Site = prefixes("10.77.1.1/32", "fd77:1::1/128") // the host itself
	alone.do(func() { alone.sh("ip addr add 10.77.1.1/32 dev lo", "ip addr add fd77:1::1/128 dev lo") })
	alone.apply(c)
	alone.do(func() {
		if v, err := readSysctl(forwarding4("gw0")); err != nil || v != "0" {
			t.Errorf("nobody is behind, and the device forwards: %s, %v", v, err)
		}
	})
}

// A host that learned its default route from a router advertisement keeps it.
func TestMendForwarding6(t *testing.T) {
	s, _ := fit(t)
	s.do(func() {
		s.sh("ip -6 route add 2001:db8:9::/64 dev wan proto ra", "sysctl -w net.ipv6.conf.wan.accept_ra=1")
		want := "sysctl -w net.ipv6.conf.wan.accept_ra=2 && sysctl -w net.ipv6.conf.all.forwarding=1"
		if got := mendForwarding6(raInterfaces()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// With the device there, what comes in by the WAN may also go into the tunnel.
func TestCheckIntoTheTunnel(t *testing.T) {
	s, config := fit(t)
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.apply(red())
	s.do(func() {
		s.sh("sysctl -w net.ipv4.conf.wan.forwarding=1", "nft add table ip f", "nft add chain ip f forward '{ type filter hook forward priority filter; }'",
			"nft add rule ip f forward iifname wan oifname lan drop")
	})
	found := s.check(config)
	if len(found) != 1 || !strings.Contains(found[0].What, `packets from "wan" enter the tunnel as the site's own: this host forwards packets that arrive there to 10.77.2.0/24, and no`) {
		t.Fatalf("found %v", found)
	}
	s.do(func() { s.sh(found[0].Mend) })
	if found := s.check(config); len(found) != 0 {
		t.Errorf("mended, but: %v", found)
	}
}

func TestCheckLANMissing(t *testing.T) {
	s, config := fit(t)
	config.LAN = "eth9"
	if found := s.check(config); len(found) != 1 || !strings.Contains(found[0].What, `"eth9" does not exist`) {
		t.Errorf("found %v", found)
	}
}

func TestCheckTUN(t *testing.T) {
	if found := checkTUN(filepath.Join(t.TempDir(), "tun")); len(found) != 1 || found[0].Level != Fatal || found[0].Mend != "modprobe tun" {
		t.Errorf("missing: %v", found)
	}
	if os.Geteuid() != 0 {
		t.Fatal("root is needed")
	}
	path := filepath.Join(t.TempDir(), "tun")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	var found []Finding
	withoutCapabilities(t, func() { found = checkTUN(path) })
	if len(found) != 1 || found[0].Level != Fatal || !strings.Contains(found[0].Mend, "chmod") {
		t.Errorf("not permitted: %v", found)
	}
}

func TestCheckPrivilege(t *testing.T) {
	var found []Finding
	withoutCapabilities(t, func() { found = checkPrivilege(CheckConfig{}) })
	if len(found) != 1 || found[0].Level != Fatal || !strings.Contains(found[0].Mend, "setcap cap_net_admin=ep ") {
		t.Errorf("found %v", found)
	}
	if found := checkPrivilege(CheckConfig{}); len(found) != 0 {
		t.Errorf("with it: %v", found)
	}
}

// withoutCapabilities runs f on a thread of its own that has none, and ends the thread.
func withoutCapabilities(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestSysctlKey(t *testing.T) {
	if got := sysctlCommand("2", "net/ipv4/conf/eth0.100/rp_filter"); got != "sysctl -w net.ipv4.conf.eth0/100.rp_filter=2" {
		t.Error(got)
	}
}
