package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func addrs(ss ...string) (as []netip.Addr) {
	for _, s := range ss {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func routesTo(ss ...string) (rs []Route) {
	for _, p := range prefixes(ss...) {
		rs = append(rs, Route{Prefix: p})
	}
	return rs
}

// red is what a node of site red asks for.
func red() Config {
	return Config{
		Device:    "gw0",
		Addresses: addrs("10.77.1.1", "fd77:1::1"),
		Site:      prefixes("10.77.1.0/24", "fd77:1::/64"),
		Routes:    routesTo("10.77.2.0/24", "fd77:2::/64"),
	}
}

func (s *space) apply(c Config) {
	s.tb.Helper()
	s.do(func() {
		if err := Apply(c, hclog.NewNullLogger()); err != nil {
			s.tb.Fatal(err)
		}
	})
}

// own lists our routes and the device's addresses, as text.
func (s *space) own() (routes, addresses []string) {
	s.tb.Helper()
	s.do(func() {
		rs, err := ownRoutes()
		if err != nil {
			s.tb.Fatal(err)
		}
		for _, r := range rs {
			line := fmt.Sprint(prefixOf(r.Dst))
			if r.Type == unix.RTN_BLACKHOLE {
				line += " blackhole"
			} else if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				line += " dev " + l.Attrs().Name
			}
			if r.Src != nil {
				line += fmt.Sprint(" src ", r.Src)
			}
			if r.Congctl != "" {
				line += " congctl " + r.Congctl
			}
			for _, m := range []struct {
				name string
				v    int
			}{{"mtu", r.MTU}, {"advmss", r.AdvMSS}} {
				if m.v != 0 {
					line += fmt.Sprint(" ", m.name, " ", m.v)
				}
			}
			routes = append(routes, fmt.Sprint(line, " metric ", r.Priority))
		}
		l, err := netlink.LinkByName("gw0")
		if err != nil {
			return
		}
		as, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			s.tb.Fatal(err)
		}
		for _, a := range as {
			addresses = append(addresses, prefixOf(a.IPNet).String())
		}
	})
	slices.Sort(routes)
	slices.Sort(addresses)
	return routes, addresses
}

func (s *space) want(what string, wantRoutes, wantAddresses []string) {
	s.tb.Helper()
	routes, addresses := s.own()
	if d := cmp.Diff(wantRoutes, routes); d != "" {
		s.tb.Errorf("%s: routes (-want +got):\n%s", what, d)
	}
	if d := cmp.Diff(wantAddresses, addresses); d != "" {
		s.tb.Errorf("%s: addresses (-want +got):\n%s", what, d)
	}
}

var (
	redRoutes = []string{
		"10.77.2.0/24 blackhole metric 12",
		"10.77.2.0/24 dev gw0 src 10.77.1.1 metric 10",
		"fd77:2::/64 blackhole metric 12",
		"fd77:2::/64 dev gw0 src fd77:1::1 metric 10",
	}
	redHolds     = []string{redRoutes[0], redRoutes[2]}
	redAddresses = []string{"10.77.1.1/32", "fd77:1::1/128"}
)

func TestApply(t *testing.T) {
	s := newSpace(t, "a")
	d := s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.do(func() {
		// As containers have it.
		if err := writeSysctl("net/ipv6/conf/gw0/disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
	})
	s.apply(red())
	s.want("applied", redRoutes, redAddresses)
	s.apply(red())
	s.want("applied again", redRoutes, redAddresses)
	s.do(func() {
		// Without it no ICMP error from the node's own address comes in.
		if v, err := readSysctl("net/ipv4/conf/gw0/accept_local"); err != nil || v != "1" {
			t.Errorf("accept_local is %q (%v), want 1", v, err)
		}
	})

	// Killed: the device goes, the holds stay.
	d.Close()
	s.want("killed", redHolds, nil)

	// The next process has another configuration, and takes over.
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	next := red()
	next.Former = prefixes("10.77.2.0/24", "fd77:2::/64", "10.77.9.0/24")
	next.Addresses = addrs("10.77.1.2")
	next.Routes = []Route{{Prefix: netip.MustParsePrefix("10.77.3.0/24"), MTU: 1300, AdvMSS: 1200, Congctl: "reno"}}
	s.apply(next)
	s.want("next", []string{
		"10.77.3.0/24 blackhole metric 12",
		"10.77.3.0/24 dev gw0 src 10.77.1.2 congctl reno mtu 1300 advmss 1200 metric 10",
	}, []string{"10.77.1.2/32"})
	next.Routes[0].MTU = 0
	s.apply(next)
	s.want("changed", []string{
		"10.77.3.0/24 blackhole metric 12",
		"10.77.3.0/24 dev gw0 src 10.77.1.2 congctl reno advmss 1200 metric 10",
	}, []string{"10.77.1.2/32"})
}

func TestApplyPersist(t *testing.T) {
	s := newSpace(t, "a")
	tun := TUNConfig{Name: "gw0", MTU: testMTU, Persist: true}
	d := s.open(tun)
	s.apply(red())
	d.Close()
	s.want("left", redRoutes, redAddresses)
	s.open(tun)
	s.apply(red())
	s.want("taken over", redRoutes, redAddresses)
}

// Two gateways in one namespace don't take away each other's routes.
func TestApplyBeside(t *testing.T) {
	s := newSpace(t, "a")
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.open(TUNConfig{Name: "gw1", MTU: testMTU})
	s.apply(red())
	other := Config{Device: "gw1", Addresses: addrs("10.78.1.1"), Routes: routesTo("10.78.2.0/24")}
	s.apply(other)
	for _, p := range []string{"10.77.2.0/24", "fd77:2::/64"} {
		s.do(func() {
			err := Apply(Config{Device: "gw1", Addresses: other.Addresses, Routes: routesTo(p)}, hclog.NewNullLogger())
			if err == nil || !strings.Contains(err.Error(), "ip link del dev gw0") {
				t.Errorf("%s: %v", p, err)
			}
		})
	}
}

// The start of one gateway does not open what another one in the namespace holds, whether
// that runs or has ended.
func TestApplyLeavesOthersHolds(t *testing.T) {
	s := newSpace(t, "a")
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	ended := s.open(TUNConfig{Name: "gw1", MTU: testMTU})
	s.apply(Config{Device: "gw1", Addresses: addrs("10.78.1.1"), Routes: routesTo("10.78.2.0/24")})
	ended.Close()
	c := red()
	c.Former = prefixes("10.77.2.0/24")
	s.apply(c)
	s.want("beside", slices.Concat(redRoutes[:2], []string{"10.78.2.0/24 blackhole metric 12"}, redRoutes[2:]), redAddresses)
}

func TestApplyForeignRoute(t *testing.T) {
	for _, p := range []string{"10.77.2.0/24", "fd77:2::/64"} {
		t.Run(p, func(t *testing.T) {
			s := newSpace(t, "a")
			s.open(TUNConfig{Name: "gw0", MTU: testMTU})
			s.do(func() {
				foreign := &netlink.Route{Dst: netOf(netip.MustParsePrefix(p)), LinkIndex: s.link("lo").Attrs().Index, Priority: metricDevice}
				if err := netlink.RouteAdd(foreign); err != nil {
					t.Fatal(err)
				}
				err := Apply(red(), hclog.NewNullLogger())
				if err == nil || !strings.Contains(err.Error(), "ip route del "+p+" metric 10") {
					t.Error(err)
				}
			})
		})
	}
}

func TestSource(t *testing.T) {
	s := newSpace(t, "a")
	s.do(func() {
		for _, name := range []string{"eth0", "eth1"} {
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}); err != nil {
				t.Fatal(err)
			}
		}
		s.up("eth0", "192.168.1.5/24", "10.77.1.20/24")
		s.up("eth1", "10.77.1.10/24", "fd77:1::10/64")
		moving, err := netlink.ParseAddr("10.77.1.9/24")
		if err != nil {
			t.Fatal(err)
		}
		moving.ValidLft, moving.PreferedLft = 100, 100
		if err := netlink.AddrAdd(s.link("eth1"), moving); err != nil {
			t.Fatal(err)
		}
	})
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	c := red()
	c.LAN = "eth1"
	s.apply(c)
	want := []string{
		"10.77.2.0/24 blackhole metric 12",
		"10.77.2.0/24 dev gw0 src 10.77.1.1 metric 11",
		"10.77.2.0/24 dev gw0 src 10.77.1.10 metric 10",
		"fd77:2::/64 blackhole metric 12",
		"fd77:2::/64 dev gw0 src fd77:1::1 metric 11",
		"fd77:2::/64 dev gw0 src fd77:1::10 metric 10",
	}
	s.want("lan", want, redAddresses)

	// The kernel removes a route with its source's address. The other one stays.
	s.do(func() {
		a, err := netlink.ParseAddr("10.77.1.10/24")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrDel(s.link("eth1"), a); err != nil {
			t.Fatal(err)
		}
	})
	s.want("address gone", slices.Delete(slices.Clone(want), 2, 3), redAddresses)

	c.Routes[0].Src = c.Addresses[0]
	c.Routes[1].Src = c.Addresses[1]
	s.apply(c)
	s.want("given", redRoutes, redAddresses)
}

// A connection over the route begins with the route's congestion control.
func TestCongctl(t *testing.T) {
	s := newSpace(t, "a")
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	c := red()
	c.Routes[0].Congctl = "reno" // which every kernel has, and none begins with
	s.apply(c)
	s.do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 1, Addr: [4]byte{10, 77, 2, 1}}); !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
		got, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if err != nil || got != "reno" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestCongctlMissing(t *testing.T) {
	s := newSpace(t, "a")
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	c := red()
	for i := range c.Routes {
		c.Routes[i].Congctl = "nosuch"
	}
	var log strings.Builder
	s.do(func() {
		if err := Apply(c, hclog.New(&hclog.LoggerOptions{Output: &log})); err != nil {
			t.Fatal(err)
		}
	})
	s.want("without", redRoutes, redAddresses)
	if n := strings.Count(log.String(), "modprobe tcp_nosuch"); n != 2 {
		t.Errorf("%d warnings: %s", n, log.String())
	}
}
