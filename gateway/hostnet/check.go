package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Level is the severity of a Finding.
type Level int

const (
	// Warning is for what stops some traffic, or may stop it.
	Warning Level = iota
	// Fatal is for what stops the gateway.
	Fatal
)

// A Finding is one thing that the host lacks or forbids.
type Finding struct {
	Level Level
	// What is wrong and what it causes, in one line.
	What string
	// Mend is a shell command that mends it until the next boot.
	Mend string
}

// CheckConfig configures Check.
type CheckConfig struct {
	// Device is the TUN's name and MTU its MTU in bytes. The device need not exist yet.
	Device string
	MTU    int
	// LAN is the interface toward the site's hosts, empty if there is none.
	LAN string
	// Site holds the subnets of the node's own site, Remote those of the others.
	Site, Remote []netip.Prefix
	// Endpoints are the outer addresses that this node sends WireGuard's packets to.
	Endpoints []netip.Addr
	// ListenPort is the UDP port at which other nodes dial this one, by the IP versions Listen4 and
	// Listen6; 0 for a node that only dials, whose input firewall Check does not read.
	ListenPort       uint16
	Listen4, Listen6 bool
}

// Check looks for what stops a gateway on this host, and returns the fatal findings first. It
// changes nothing, needs no privilege to be called, and may be called before Open or while the
// gateway runs; some findings show only then (another routing table that comes first, for one). It
// looks at the namespace of the calling thread.
func Check(c CheckConfig) []Finding {
	var all []Finding
	for _, s := range Survey(c) {
		all = append(all, s.Findings...)
	}
	return all
}

// A Subject is one thing that Check looks at, and what it found there.
type Subject struct {
	Name     string
	Findings []Finding
}

// Survey is Check for a caller that also reports what is in order.
func Survey(c CheckConfig) []Subject {
	all := []Subject{
		{"tun device", checkTUN(tunPath)},
		{"privilege", checkPrivilege(c)},
		{"endpoints", checkEndpoints(c)},
		{"lan interface", checkLAN(c)},
		{"forwarding", checkForwarding(c)},
		{"paths past gw", checkPast(c)},
		{"reverse path filter", checkReversePath(c)},
		{"routes", checkRoutes(c)},
		{"firewall", unique(append(checkFirewall(c), checkInput(c)...))},
		{"mtu", checkMTU(c)},
	}
	return all
}

// unique drops repeated findings, such as those about what cannot be read.
func unique(found []Finding) (out []Finding) {
	for _, f := range found {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// notChecked is what a check finds when it can't look.
func notChecked(what string, err error) []Finding {
	return []Finding{{Warning, fmt.Sprintf("%s could not be checked: %v", what, err), "run gw as root"}}
}

func checkTUN(path string) []Finding {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return []Finding{{Fatal, path + ": this user may not open it", "chmod 0666 " + path}}
	}
	return []Finding{{Fatal, fmt.Sprintf("%s is missing (%v): gw cannot make a tun device", path, err), "modprobe tun"}}
}

// checkPrivilege looks at the calling thread, which is as privileged as any.
func checkPrivilege(CheckConfig) []Finding {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 has two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return notChecked("CAP_NET_ADMIN", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0 {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		exe = "gw"
	}
	return []Finding{{Fatal, "CAP_NET_ADMIN is missing: gw cannot make a device, address or route", "setcap cap_net_admin=ep " + exe}}
}

func checkLAN(c CheckConfig) []Finding {
	if c.LAN == "" {
		return nil
	}
	l, err := netlink.LinkByName(c.LAN)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return []Finding{{Warning, fmt.Sprintf("the lan interface %q does not exist", c.LAN), "ip -brief link"}}
	case err != nil:
		return notChecked("the lan interface", err)
	case l.Attrs().Flags&net.FlagUp == 0:
		return []Finding{{Warning, fmt.Sprintf("the lan interface %q is down", c.LAN), "ip link set dev " + c.LAN + " up"}}
	}
	return nil
}

// has4 and has6 report whether ps has a prefix of that IP version.
func has4(ps []netip.Prefix) bool {
	for _, p := range ps {
		if p.Addr().Is4() {
			return true
		}
	}
	return false
}

func has6(ps []netip.Prefix) bool {
	for _, p := range ps {
		if p.Addr().Is6() {
			return true
		}
	}
	return false
}

// sysctlKey is the name that sysctl(8) knows a setting by; path is below /proc/sys. A dot within an
// interface's name becomes a slash there.
func sysctlKey(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

// sysctlCommand sets one or more settings.
func sysctlCommand(value string, paths ...string) string {
	cmd := "sysctl -w"
	for _, p := range paths {
		cmd += " " + sysctlKey(p) + "=" + value
	}
	return cmd
}
