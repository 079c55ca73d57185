package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Lease puts an address on a device for a time, or for that time again. An owner
// that dies or is frozen ceases to renew it, and the kernel takes it away. The
// kernel counts whole seconds; d is rounded up.
func Lease(device string, a netip.Addr, d time.Duration) error {
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

// EndLease takes a leased address away. One that is gone is no error.
func EndLease(device string, a netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %q: %w", device, err)
	}
	err = netlink.AddrDel(l, &netlink.Addr{IPNet: netOf(netip.PrefixFrom(a, a.BitLen()))})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("take %v from %q: %w", a, device, err)
	}
	return nil
}

// LinkUp reports whether an interface is up and has a carrier.
func LinkUp(name string) bool {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	a := l.Attrs()
	return a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
}
