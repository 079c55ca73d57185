package hostnet

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire"
)

// vnetHdrLen is the size in bytes of a virtio-net header without its num_buffers field (Virtual I/O
// Device 1.2, section 5.1.6), the one a TUN has by default:
//
//	0 flags  1 gso_type  2 hdr_len  4 gso_size  6 csum_start  8 csum_offset
//
// All fields are in the machine's byte order, since a TUN is a legacy device.
const vnetHdrLen = 10

// Where TCP keeps its data offset and its flags (RFC 9293, section 3.1).
const (
	tcpDataOffset = 12
	tcpFlags      = 13
	tcpMinHeader  = 20
	tcpCWR        = 0x80
)

type vnetHdr [vnetHdrLen]byte

// decode returns what the header leaves unfinished in the packet behind it. It does not use the
// kernel's hdr_len, which is the length of the buffer's linear part: HdrLen is computed from the
// TCP header. A packet to be cut whose TCP header is not where csum_start says is given as a
// finished one, which its checksum will betray.
func (h *vnetHdr) decode(pkt []byte) wire.Offload {
	flags, gsoType := h[0], h[1]
	var o wire.Offload
	o.CsumValid = flags&unix.VIRTIO_NET_HDR_F_DATA_VALID != 0
	if flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM == 0 {
		return o
	}
	o.NeedsCsum = true
	o.CsumStart = binary.NativeEndian.Uint16(h[6:])
	o.CsumOffset = binary.NativeEndian.Uint16(h[8:])
	switch gsoType &^ unix.VIRTIO_NET_HDR_GSO_ECN {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6:
	default:
		return o
	}
	tcp := int(o.CsumStart)
	if tcp+tcpMinHeader > len(pkt) {
		return wire.Offload{}
	}
	o.HdrLen = o.CsumStart + uint16(pkt[tcp+tcpDataOffset]>>4)*4
	if int(o.HdrLen) > len(pkt) {
		return wire.Offload{}
	}
	o.GSOSize = binary.NativeEndian.Uint16(h[4:])
	return o
}

// encode writes the header for the packet that begins with head. head must reach to the end of the
// TCP header if the packet will be cut.
func (h *vnetHdr) encode(head []byte, o wire.Offload) {
	*h = vnetHdr{}
	if o.CsumValid {
		h[0] = unix.VIRTIO_NET_HDR_F_DATA_VALID
	}
	if o.NeedsCsum {
		h[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.NativeEndian.PutUint16(h[6:], o.CsumStart)
		binary.NativeEndian.PutUint16(h[8:], o.CsumOffset)
	}
	if o.GSOSize == 0 {
		return
	}
	h[1] = unix.VIRTIO_NET_HDR_GSO_TCPV4
	if head[0]>>4 == 6 {
		h[1] = unix.VIRTIO_NET_HDR_GSO_TCPV6
	}
	// CWR belongs on the first of the segments only (RFC 3168, section 6.1.2): the kernel must know
	// that there is one.
	if head[int(o.CsumStart)+tcpFlags]&tcpCWR != 0 {
		h[1] |= unix.VIRTIO_NET_HDR_GSO_ECN
	}
	binary.NativeEndian.PutUint16(h[2:], o.HdrLen)
	binary.NativeEndian.PutUint16(h[4:], o.GSOSize)
}
