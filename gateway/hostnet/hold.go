package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrRunning reports that a gateway has the device open: Down leaves its routes alone.
var ErrRunning = errors.New("a gateway is running here")

// Hold puts a hold in place for each of the prefixes: a blackhole route that counts only while no
// gateway's route does. It removes nothing, and a hold that is there already is no error. Hold
// needs neither a device nor an address, and tries every prefix whatever becomes of the others.
//
// Hold changes the namespace of the calling thread.
func Hold(prefixes []netip.Prefix) error {
	have, err := ownRoutes()
	if err != nil {
		return err
	}
	held := map[netip.Prefix]bool{}
	for i := range have {
		if isHold(&have[i]) {
			held[prefixOf(have[i].Dst)] = true
		}
	}
	var errs []error
	for _, p := range prefixes {
		if p = p.Masked(); held[p] {
			continue
		}
		held[p] = true
		r := holdFor(p)
		errs = append(errs, setRoute(&r, false, hclog.NewNullLogger()))
	}
	return errors.Join(errs...)
}

// holdFor is the hold of a prefix.
func holdFor(p netip.Prefix) netlink.Route {
	return netlink.Route{
		Dst: netOf(p.Masked()), Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN,
		Type: unix.RTN_BLACKHOLE, Priority: metricHold,
	}
}

// isHold reports whether one of our routes is a hold.
func isHold(r *netlink.Route) bool { return r.Type == unix.RTN_BLACKHOLE }

// Left is what gateways have left on a host.
type Left struct {
	Prefixes []netip.Prefix // whose holds were removed
	Devices  []string       // persistent ones, removed with their addresses and routes
}

// Down removes all that ended gateways have left in the namespace of the calling thread: holds,
// routes, and the devices that these lead through. From then on packets for the prefixes follow the
// host's other routes. What belongs to a running gateway stays, and Down then returns an error that
// is ErrRunning, along with what it removed.
func Down() (left Left, err error) {
	have, err := ownRoutes()
	if err != nil {
		return left, err
	}
	running := map[netip.Prefix]bool{}
	seen := map[int]bool{}
	var errs []error
	for i := range have {
		r := &have[i]
		if isHold(r) {
			continue
		}
		l, lerr := netlink.LinkByIndex(r.LinkIndex)
		if errors.As(lerr, new(netlink.LinkNotFoundError)) {
			continue // it has gone since, and its routes with it
		}
		if lerr != nil {
			return left, fmt.Errorf("find the device of the route to %v: %w; see ip route show proto %d", prefixOf(r.Dst), lerr, RouteProtocol)
		}
		name := l.Attrs().Name
		switch {
		case inUse(l):
			running[prefixOf(r.Dst)] = true
			if !seen[r.LinkIndex] {
				errs = append(errs, runningError(name))
			}
		case !seen[r.LinkIndex]:
			if err := netlink.LinkDel(l); err != nil {
				errs = append(errs, fmt.Errorf("delete the device: %w; try ip link del dev %s", err, name))
				break
			}
			left.Devices = append(left.Devices, name)
		}
		seen[r.LinkIndex] = true
	}
	for i := range have {
		r := &have[i]
		p := prefixOf(r.Dst)
		if !isHold(r) || running[p] {
			continue
		}
		if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("delete the hold: %w; try ip route del blackhole %v metric %d", err, p, metricHold))
			continue
		}
		left.Prefixes = append(left.Prefixes, p)
	}
	slices.SortFunc(left.Prefixes, netip.Prefix.Compare)
	return left, errors.Join(errs...)
}

// inUse reports whether a process has a TUN open. The kernel removes its carrier when the last one
// closes it.
func inUse(l netlink.Link) bool { return l.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }

func runningError(device string) error {
	if who := holder(device); who != "" {
		return fmt.Errorf("%w: %s has %s open", ErrRunning, who, device)
	}
	return fmt.Errorf("%w: a process has %s open", ErrRunning, device)
}

// Networks lists the host's own unicast addresses with the lengths of their networks. It leaves out
// the loopback's and link-local ones.
func Networks() (out []netip.Prefix, err error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		if p := prefixOf(a.IPNet); !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	return out, nil
}
