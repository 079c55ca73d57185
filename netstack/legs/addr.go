package legs

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// addrPort is an address of gVisor's as one of netip's.
func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	if a.Len() == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4(a.As4()), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a.As16()), port)
}
