package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/onewaylink/gw/netstack/wire"
)

// ICMPText describes an ICMP error such as a gateway sends. b may end after the headers. It returns
// "" for what is no ICMP packet.
func ICMPText(b []byte) string {
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK && r != wire.Short || len(b) == 0 {
		return ""
	}
	at := wire.IPv4Header
	if b[0]>>4 == 6 {
		at = wire.IPv6Header
	} else if len(b) >= wire.IPv4Header {
		at = int(b[0]&15) * 4
	}
	if len(b) < at+wire.ICMPHeader {
		return ""
	}
	mtu := binary.BigEndian.Uint32(b[at+4:])
	switch kind := [2]byte{b[at], b[at+1]}; {
	case at == wire.IPv6Header && kind == [2]byte{1, 1}, at != wire.IPv6Header && kind == [2]byte{3, 13}:
		return "administratively prohibited"
	case at == wire.IPv6Header && kind[0] == 2:
		return fmt.Sprintf("packet too big, mtu %d", mtu)
	case at != wire.IPv6Header && kind == [2]byte{3, 4}:
		return fmt.Sprintf("fragmentation needed, mtu %d", mtu)
	case at == wire.IPv6Header && kind == [2]byte{1, 0}, at != wire.IPv6Header && kind == [2]byte{3, 1}:
		return "host unreachable"
	}
	return fmt.Sprintf("icmp type %d code %d", b[at], b[at+1])
}
