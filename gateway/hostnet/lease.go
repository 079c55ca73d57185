package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lease puts an address on a device for a time, or renews it. The kernel removes an address that
// its owner does not renew. It counts whole seconds: d is rounded up.
func lease(device string, a netip.Addr, d time.Duration) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find interface %q: %w", device, err)
	}
	sec := int((d + time.Second - 1) / time.Second)
	addr := &netlink.Addr{IPNet: netOf(netip.PrefixFrom(a, a.BitLen())), ValidLft: sec, PreferedLft: sec}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrReplace(l, addr); err != nil {
		return fmt.Errorf("lease %v on %q: %w", a, device, err)
	}
	return nil
}

// endLease removes a leased address. One that is gone is no error.
func endLease(device string, a netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %q: %w", device, err)
	}
	err = netlink.AddrDel(l, &netlink.Addr{IPNet: netOf(netip.PrefixFrom(a, a.BitLen()))})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %v from %q: %w", a, device, err)
	}
	return nil
}

// linkUp reports whether an interface is up and has a carrier.
func linkUp(name string) bool {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	a := l.Attrs()
	return a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
}
