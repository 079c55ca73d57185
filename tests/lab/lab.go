package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config says what the lab looks like. The zero value is one gateway and one
// database at each site, joined by plain wires.
type Config struct {
	Red, Gray SiteConfig
	// Impaired puts a [Box] into the WAN, which lets everything through until it
	// is set to impair. It costs speed, so benchmarks of speed go without.
	Impaired bool
	// SourceNAT hides red's gateways behind the WAN router's address.
	SourceNAT bool
	// Logf receives messages while the lab is used; nil is silence.
	Logf func(format string, args ...any)
}

// SiteConfig sets how many hosts a site has.
type SiteConfig struct {
	// Gateways and Databases are at least 1, which 0 stands for.
	Gateways, Databases int
	// FloatingRouter leaves the LAN's router address to the gateways, which claim
	// it themselves. Otherwise the first gateway has it.
	FloatingRouter bool
}

// Lab is a network that is up. Its methods may be called from any goroutine.
type Lab struct {
	// Red may open connections toward Gray, not the other way round.
	Red, Gray *Site
	// WAN is the router between the sites, with the firewall.
	WAN *Namespace
	// Box impairs the WAN; nil unless Config.Impaired.
	Box *Box
	// Dir is a directory for files of this lab; logs of processes are in
	// Dir/logs.
	Dir string

	id       string
	logf     func(string, ...any)
	all      []*Namespace
	firewall *firewall
}

var labs atomic.Int64

// Start opens a lab for a test and closes it when the test ends. It fails the
// test if it can't.
func Start(tb testing.TB, cfg Config) *Lab {
	tb.Helper()
	if cfg.Logf == nil {
		cfg.Logf = tb.Logf
	}
	l, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			l.logTails()
			// With -artifacts, logs and captures outlive the lab.
			if err := os.CopyFS(tb.ArtifactDir(), os.DirFS(filepath.Join(l.Dir, "logs"))); err != nil {
				tb.Error(err)
			}
		}
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// Open builds a lab, after a [Sweep]. The caller closes it.
func Open(cfg Config) (*Lab, error) {
	if err := Sweep(); err != nil {
		return nil, err
	}
	dir, err := scratch()
	if err != nil {
		return nil, err
	}
	n := labs.Add(1)
	l := &Lab{
		Dir:  filepath.Join(dir, fmt.Sprintf("lab%d", n)),
		id:   fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), n),
		logf: cfg.Logf,
	}
	if l.logf == nil {
		l.logf = func(string, ...any) {}
	}
	if err := os.MkdirAll(filepath.Join(l.Dir, "logs"), 0o755); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	if err := l.build(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("build the lab: %w", err), l.Close())
	}
	return l, nil
}

// Close ends what still runs in the lab, removes it, and returns what went wrong.
func (l *Lab) Close() error {
	var errs []error
	// Processes first: a namespace lives as long as anything in it.
	for _, n := range l.all {
		errs = append(errs, killIn(n.Path()))
	}
	if l.Box != nil {
		errs = append(errs, l.Box.close())
	}
	for _, n := range l.all {
		errs = append(errs, n.remove())
	}
	l.all = nil
	errs = append(errs, os.RemoveAll(l.Dir))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the lab: %w", err)
	}
	return nil
}

// Namespaces lists all namespaces of the lab.
func (l *Lab) Namespaces() []*Namespace { return l.all }

// Refused is how many packets the firewall has dropped because gray would have
// opened a connection toward red with them.
func (l *Lab) Refused() (uint64, error) { return l.firewall.count(counterRefused) }

// Opened is how many connections red has opened through the firewall: packets
// that conntrack saw as the first of theirs.
func (l *Lab) Opened() (uint64, error) { return l.firewall.count(counterOpened) }

// namespace makes a namespace of the lab with the sysctls that all of them have.
func (l *Lab) namespace(name string) (*Namespace, error) {
	n, err := newNamespace(l.id+"-"+name, name)
	if err != nil {
		return nil, err
	}
	n.logDir = filepath.Join(l.Dir, "logs")
	l.all = append(l.all, n)
	for _, s := range [][2]string{
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/accept_ra", "0"},
		// One test's path must not teach the next one.
		{"ipv4/tcp_no_metrics_save", "1"},
	} {
		if err := n.Sysctl(s[0], s[1]); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// router makes a namespace that forwards.
func (l *Lab) router(name string) (*Namespace, error) {
	n, err := l.namespace(name)
	if err != nil {
		return nil, err
	}
	return n, errors.Join(n.Sysctl("ipv4/ip_forward", "1"), n.Sysctl("ipv6/conf/all/forwarding", "1"))
}

func (l *Lab) build(cfg Config) (err error) {
	red := plan{
		name: "red", lan4: "10.77.1.0/24", lan6: "fd77:1::/64",
		wan4: "198.51.100.0/24", wan6: "2001:db8:1::/64", firstWAN: 2,
		gateways: max(1, cfg.Red.Gateways), dbs: max(1, cfg.Red.Databases), floatingRouter: cfg.Red.FloatingRouter,
	}
	gray := plan{
		name: "gray", lan4: "10.77.2.0/24", lan6: "fd77:2::/64",
		wan4: "203.0.113.0/24", wan6: "2001:db8:2::/64", firstWAN: 10,
		gateways: max(1, cfg.Gray.Gateways), dbs: max(1, cfg.Gray.Databases), floatingRouter: cfg.Gray.FloatingRouter,
	}
	if l.WAN, err = l.router("wan"); err != nil {
		return err
	}
	far, grayside := l.WAN, "gray0" // where gray's wire ends, and what the firewall calls it
	if cfg.Impaired {
		if far, err = l.router("isp"); err != nil {
			return err
		}
		grayside = boxLink
	}
	if l.Red, err = l.site(red, l.WAN, "red0"); err != nil {
		return err
	}
	if l.Gray, err = l.site(gray, far, "gray0"); err != nil {
		return err
	}
	if cfg.Impaired {
		if l.Box, err = l.box(l.WAN, far); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		from, to *Site
	}{{l.Red, l.Gray}, {l.Gray, l.Red}} {
		for _, db := range s.from.Databases {
			for i, subnet := range s.to.Subnets {
				if err := db.Route(subnet, s.from.Routers[i], "lan0"); err != nil {
					return err
				}
			}
		}
	}
	if l.firewall, err = newFirewall(l.WAN, "red0", grayside, cfg.SourceNAT); err != nil {
		return err
	}
	return l.awaitNeighbours()
}

// awaitNeighbours returns when every IPv6 address of the lab answers for itself.
// The kernel joins an address's solicited-node group (RFC 4861 section 7.2.1) from a
// work queue; a neighbour that asks before that gets no answer and asks again only a
// second later.
func (l *Lab) awaitNeighbours() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, n := range l.all {
		want, err := n.solicited()
		if err != nil {
			return err
		}
		if err := Until(ctx, "the solicited-node groups of "+n.name, func() (bool, error) {
			joined, err := n.groups()
			return err == nil && !slices.ContainsFunc(want, func(group string) bool { return !joined[group] }), err
		}); err != nil {
			return err
		}
	}
	return nil
}

// solicited are the solicited-node groups that the kernel joins for the namespace's
// addresses, as groups has them: on interfaces that have neighbours.
func (n *Namespace) solicited() (groups []string, err error) {
	links, err := n.link.LinkList()
	for _, link := range links {
		if link.Attrs().RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 {
			continue
		}
		addrs, lerr := n.link.AddrList(link, netlink.FAMILY_V6)
		err = errors.Join(err, lerr)
		for _, a := range addrs {
			if a.Scope == unix.RT_SCOPE_UNIVERSE {
				groups = append(groups, fmt.Sprintf("%d ff0200000000000000000001ff%x", a.LinkIndex, []byte(a.IP[13:])))
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list addresses: %w", n.name, err)
	}
	return groups, nil
}

// groups are the IPv6 multicast groups that are joined, each as an interface's index
// and the address in hexadecimal digits.
func (n *Namespace) groups() (map[string]bool, error) {
	var list []byte
	err := n.Do(func() (err error) {
		list, err = os.ReadFile("/proc/thread-self/net/igmp6")
		return err
	})
	joined := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 2 {
			joined[f[0]+" "+f[2]] = true
		}
	}
	return joined, err
}

// site builds one site and wires its gateways to the WAN.
func (l *Lab) site(p plan, wan *Namespace, wanIf string) (*Site, error) {
	s := &Site{
		Name:     p.name,
		Subnets:  []netip.Prefix{netip.MustParsePrefix(p.lan4), netip.MustParsePrefix(p.lan6)},
		Routers:  []netip.Addr{nth(p.lan4, 254).Addr(), nth(p.lan6, 254).Addr()},
		underlay: []netip.Prefix{netip.MustParsePrefix(p.wan4), netip.MustParsePrefix(p.wan6)},
		uplinks:  []netip.Addr{nth(p.wan4, 1).Addr(), nth(p.wan6, 1).Addr()},
	}
	var lan []port
	up := []port{{wan, wanIf, []netip.Prefix{nth(p.wan4, 1), nth(p.wan6, 1)}}}
	for i, name := range hostNames(p.name, "gw", p.gateways) {
		ns, err := l.namespace(name)
		if err != nil {
			return nil, err
		}
		own := []netip.Prefix{nth(p.lan4, 251+i), nth(p.lan6, 251+i)}
		outer := []netip.Prefix{nth(p.wan4, p.firstWAN+i), nth(p.wan6, p.firstWAN+i)}
		h := &Host{
			Namespace: ns,
			LAN4:      own[0].Addr(), LAN6: own[1].Addr(),
			WAN4: outer[0].Addr(), WAN6: outer[1].Addr(),
			Node4: nth(p.lan4, 1+i).Addr(), Node6: nth(p.lan6, 1+i).Addr(),
		}
		if i == 0 && !p.floatingRouter {
			own = append(own, nth(p.lan4, 254), nth(p.lan6, 254))
		}
		s.Gateways = append(s.Gateways, h)
		lan = append(lan, port{ns, "lan0", own})
		up = append(up, port{ns, "wan0", outer})
	}
	for i, name := range hostNames(p.name, "db", p.dbs) {
		ns, err := l.namespace(name)
		if err != nil {
			return nil, err
		}
		own := []netip.Prefix{nth(p.lan4, 10+i), nth(p.lan6, 0x10+i)}
		s.Databases = append(s.Databases, &Host{Namespace: ns, LAN4: own[0].Addr(), LAN6: own[1].Addr()})
		lan = append(lan, port{ns, "lan0", own})
	}
	if err := l.segment(p.name+"-lan", lan...); err != nil {
		return nil, err
	}
	if err := l.segment(p.name+"-wan", up...); err != nil {
		return nil, err
	}
	for _, h := range s.Gateways {
		if err := h.forwardFromLAN(); err != nil {
			return nil, err
		}
		for i, all := range []string{"0.0.0.0/0", "::/0"} {
			if err := h.Route(netip.MustParsePrefix(all), s.uplinks[i], "wan0"); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// forwardFromLAN lets a gateway's host forward as the guide does: what enters by the LAN,
// but nothing that enters by the WAN. IPv6 forwarding is the whole host's, so a filter
// has to drop the rest.
func (n *Namespace) forwardFromLAN() error {
	if err := errors.Join(n.Sysctl("ipv4/conf/lan0/forwarding", "1"), n.Sysctl("ipv6/conf/all/forwarding", "1")); err != nil {
		return err
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(n.handle)))
	if err != nil {
		return fmt.Errorf("%s: nftables: %w", n.name, err)
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv6, Name: "gwlab-past"})
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(cameBy("wan0"), &expr.Verdict{Kind: expr.VerdictDrop})})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("%s: load the filter of forwarded packets: %w", n.name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
