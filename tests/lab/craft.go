package lab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// TCPPacket is an IP packet with a TCP segment and right checksums, for
// [Namespace.SendIP]. Of s it takes all but Len and Payload.
func TCPPacket(s Segment, payload []byte) []byte {
	h := make([]byte, 20, 20+len(s.Options)+len(payload))
	binary.BigEndian.PutUint16(h, s.Src.Port())
	binary.BigEndian.PutUint16(h[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(h[4:], s.Seq)
	binary.BigEndian.PutUint32(h[8:], s.Ack)
	h[12] = byte((20 + len(s.Options)) / 4 << 4)
	h[13] = s.Flags
	binary.BigEndian.PutUint16(h[14:], s.Window)
	h = append(append(h, s.Options...), payload...)
	return ipPacket(s.Src.Addr(), s.Dst.Addr(), unix.IPPROTO_TCP, h, 16)
}

// UDPPacket is an IP packet with a UDP datagram and right checksums.
func UDPPacket(src, dst netip.AddrPort, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return ipPacket(src.Addr(), dst.Addr(), unix.IPPROTO_UDP, append(h, payload...), 6)
}

// ipPacket puts an IP header before a transport's message, whose checksum it
// stores at an offset. IPv4's own checksum is left to the kernel.
func ipPacket(src, dst netip.Addr, proto byte, message []byte, at int) []byte {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = append(pseudo, 0, 0, 0, proto)
	sum := ^fold(add(pseudo) + add(message))
	if sum == 0 {
		sum = 0xffff // the same number; zero means none in UDP (RFC 768)
	}
	binary.BigEndian.PutUint16(message[at:], sum)

	const hops = 64
	if src.Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, hops, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(message)))
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		return append(h, message...)
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, proto, hops
	binary.BigEndian.PutUint16(h[4:], uint16(len(message)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(h, message...)
}

// add and fold make the Internet checksum (RFC 1071).
func add(b []byte) (sum uint64) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint64(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint64(b[len(b)-1]) << 8
	}
	return sum
}

func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
