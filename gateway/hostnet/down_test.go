package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (s *space) hold(ps ...string) (err error) {
	s.do(func() { err = Hold(prefixes(ps...)) })
	return err
}

func (s *space) down() (left Left, err error) {
	s.do(func() { left, err = Down() })
	return left, err
}

// Holds need no device, and what is held already stays as it is.
func TestHold(t *testing.T) {
	s := newSpace(t, "a")
	for range 2 {
		if err := s.hold("10.77.2.0/24", "fd77:2::/64", "10.77.3.7/32", "fd77:3::7/128", "10.77.3.7/32"); err != nil {
			t.Fatal(err)
		}
		s.want("held", []string{
			"10.77.2.0/24 blackhole metric 12", "10.77.3.7/32 blackhole metric 12",
			"fd77:2::/64 blackhole metric 12", "fd77:3::7/128 blackhole metric 12",
		}, nil)
	}
}

// A hold that can't be put in place does not keep the others from it.
func TestHoldForeignRoute(t *testing.T) {
	s := newSpace(t, "a")
	s.do(func() {
		foreign := &netlink.Route{Dst: netOf(netip.MustParsePrefix("10.77.2.0/24")), LinkIndex: s.link("lo").Attrs().Index, Priority: metricHold}
		if err := netlink.RouteAdd(foreign); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.hold("10.77.2.0/24", "fd77:2::/64"); err == nil || !strings.Contains(err.Error(), "ip route del 10.77.2.0/24 metric 12") {
		t.Error(err)
	}
	s.want("the other one", []string{"fd77:2::/64 blackhole metric 12"}, nil)
}

func TestDown(t *testing.T) {
	for _, persist := range []bool{false, true} {
		t.Run(fmt.Sprint("persist ", persist), func(t *testing.T) {
			s := newSpace(t, "a")
			d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Persist: persist})
			s.apply(red())

			left, err := s.down()
			if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "gw0") || len(left.Prefixes)+len(left.Devices) > 0 {
				t.Errorf("while it runs: %v, %v", left, err)
			}
			s.want("running", redRoutes, redAddresses)

			d.Close()
			want := Left{Prefixes: prefixes("10.77.2.0/24", "fd77:2::/64")}
			if persist {
				want.Devices = []string{"gw0"}
			}
			left, err = s.down()
			if d := cmp.Diff(want, left, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" || err != nil {
				t.Errorf("ended: %v %s", err, d)
			}
			s.want("down", nil, nil)
			s.do(func() {
				if _, err := netlink.LinkByName("gw0"); err == nil {
					t.Error("the device is still there")
				}
			})
			if left, err := s.down(); err != nil || len(left.Prefixes)+len(left.Devices) > 0 {
				t.Errorf("again: %v, %v", left, err)
			}
		})
	}
}

// Of two gateways in a namespace Down opens what the ended one has left.
func TestDownBeside(t *testing.T) {
	s := newSpace(t, "a")
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.apply(red())
	if err := s.hold("10.78.2.0/24"); err != nil {
		t.Fatal(err)
	}
	left, err := s.down()
	if !errors.Is(err, ErrRunning) || !slices.Equal(left.Prefixes, prefixes("10.78.2.0/24")) {
		t.Errorf("%v, %v", left, err)
	}
	s.want("beside", redRoutes, redAddresses)
}

// Where the kernel sends a packet for another site, after each step of a gateway's life: never
// by the default route until Down. Each step has its last route in the kernel's cache, which
// is why the lookups of all steps are of the same addresses.
func TestNeverTheDefaultRoute(t *testing.T) {
	for _, persist := range []bool{false, true} {
		t.Run(fmt.Sprint("persist ", persist), func(t *testing.T) {
			s := newSpace(t, "a")
			s.do(func() {
				for _, name := range []string{"wan", "lan"} {
					if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-far"}); err != nil {
						t.Fatal(err)
					}
					s.up(name + "-far")
				}
				s.up("wan", "192.0.2.1/24", "2001:db8::1/64")
				s.up("lan", "10.77.1.30/24", "fd77:1::30/64")
				for _, p := range prefixes("0.0.0.0/0", "::/0") {
					if err := netlink.RouteAdd(&netlink.Route{Dst: netOf(p), LinkIndex: s.link("wan").Attrs().Index}); err != nil {
						t.Fatal(err)
					}
				}
				for _, path := range []string{"net/ipv4/conf/lan/forwarding", "net/ipv6/conf/all/forwarding"} {
					if err := writeSysctl(path, "1"); err != nil {
						t.Fatal(err)
					}
				}
			})
			// lookup is what becomes of a packet of this host, and of one of a LAN host.
			lookup := func(what, addr, want string) {
				t.Helper()
				s.do(func() {
					to := netip.MustParseAddr(addr)
					own, lan := "10.77.1.30", "10.77.1.31"
					if to.Is6() {
						own, lan = "fd77:1::30", "fd77:1::31"
					}
					for _, o := range []*netlink.RouteGetOptions{nil, {SrcAddr: net.ParseIP(own)}, {Iif: "lan", SrcAddr: net.ParseIP(lan)}} {
						got, err := netlink.RouteGetWithOptions(to.AsSlice(), o)
						way := "nowhere"
						switch {
						case err == nil && len(got) == 1 && got[0].Type != unix.RTN_BLACKHOLE:
							l, err := netlink.LinkByIndex(got[0].LinkIndex)
							if err != nil {
								t.Fatal(err)
							}
							way = l.Attrs().Name
						case err != nil && !errors.Is(err, unix.EINVAL):
							t.Fatalf("%s: %v", what, err)
						}
						if way != want {
							t.Errorf("%s: a packet to %s (%+v) goes %s, want %s", what, addr, o, way, want)
						}
					}
				})
			}
			both := func(what, want string) {
				t.Helper()
				lookup(what, "10.77.2.10", want)
				lookup(what, "fd77:2::10", want)
			}
			tun := TUNConfig{Name: "gw0", MTU: testMTU, Persist: persist}
			ended := map[bool]string{false: "nowhere", true: "gw0"}[persist]
			both("before the first start", "wan")
			if err := s.hold("10.77.2.0/24", "fd77:2::/64"); err != nil {
				t.Fatal(err)
			}
			both("held", "nowhere")
			d := s.open(tun)
			both("the device is open", "nowhere")
			s.apply(red())
			both("running", "gw0")
			d.Close()
			both("ended", ended)
			d = s.open(tun)
			both("the next one has opened the device", ended)
			s.apply(red())
			both("the next one runs", "gw0")

			// A start with other subnets: the new are held before the old are opened.
			d.Close()
			next := red()
			next.Former = prefixes("10.77.2.0/24", "fd77:2::/64")
			next.Routes = routesTo("10.77.3.0/24", "fd77:3::7/128")
			if err := s.hold("10.77.3.0/24", "fd77:3::7/128"); err != nil {
				t.Fatal(err)
			}
			both("the old ones while the new are held", ended)
			lookup("held", "10.77.3.9", "nowhere")
			lookup("held", "fd77:3::7", "nowhere")
			d = s.open(tun)
			s.apply(next)
			both("the old ones when the new are in force", "wan")
			lookup("in force", "10.77.3.9", "gw0")
			lookup("in force", "fd77:3::7", "gw0")

			// The device is taken down, or deleted, by somebody else.
			s.do(func() { s.sh("ip link set gw0 down") })
			lookup("set down", "10.77.3.9", "nowhere")
			lookup("set down", "fd77:3::7", "nowhere")
			s.apply(next)
			s.do(func() { s.sh("ip link del gw0") })
			lookup("deleted", "10.77.3.9", "nowhere")
			lookup("deleted", "fd77:3::7", "nowhere")
			d.Close()
			if _, err := s.down(); err != nil {
				t.Fatal(err)
			}
			lookup("down", "10.77.3.9", "wan")
			lookup("down", "fd77:3::7", "wan")
		})
	}
}
