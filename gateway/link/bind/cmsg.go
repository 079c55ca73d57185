package bind

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control messages (cmsg(3), ip(7), ipv6(7), udp(7)). They are in the byte
// order of the machine.

// Space that control messages take: what a datagram sent or received may have
// is the source address and the size of the segments it is made of.
const (
	sourceControlSpace  = 40 // CMSG_SPACE(sizeof(struct in6_pktinfo)), the larger
	sendControlSpace    = sourceControlSpace + 24
	receiveControlSpace = 128
)

// appendControl appends one control message, padded as the kernel wants it.
func appendControl(b []byte, level, kind int32, data []byte) []byte {
	start := len(b)
	b = b[:start+unix.CmsgSpace(len(data))]
	clear(b[start:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[start]))
	h.Level = level
	h.Type = kind
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[start+unix.CmsgLen(0):], data)
	return b
}

// appendSegmentSize appends UDP_SEGMENT: the datagram is to be cut into
// datagrams of that size.
func appendSegmentSize(b []byte, size int) []byte {
	var data [2]byte
	binary.NativeEndian.PutUint16(data[:], uint16(size))
	return appendControl(b, unix.IPPROTO_UDP, unix.UDP_SEGMENT, data[:])
}

// appendSource appends the control message that has a datagram leave from a
// local address. The interface is left to the routing table: the way back need
// not be the way in.
func appendSource(b []byte, src netip.Addr) []byte {
	if src.Is4() {
		var info [unix.SizeofInet4Pktinfo]byte
		a := src.As4()
		copy(info[4:], a[:]) // ipi_spec_dst
		return appendControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:])
	}
	var info [unix.SizeofInet6Pktinfo]byte
	a := src.As16()
	copy(info[:], a[:]) // ipi6_addr
	return appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
}

// received is what the control messages of a datagram say.
type received struct {
	segment int      // bytes in each datagram that was coalesced; 0: just one
	local   [16]byte // the address it was sent to, 4 or 16 bytes of it
}

func parseControl(b []byte) (r received) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(b) {
			return r
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			r.segment = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			copy(r.local[:4], data[4:8]) // ipi_spec_dst
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			copy(r.local[:], data[:16]) // ipi6_addr
		}
		next := unix.CmsgSpace(len(data))
		if next >= len(b) {
			return r
		}
		b = b[next:]
	}
	return r
}
