package hostnet

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire"
)

func header(flags, gso byte, hdrLen, size, start, offset uint16) (h vnetHdr) {
	h[0], h[1] = flags, gso
	for i, v := range []uint16{hdrLen, size, start, offset} {
		binary.NativeEndian.PutUint16(h[2+2*i:], v)
	}
	return h
}

func TestVnetHdr(t *testing.T) {
	v4 := make([]byte, 3000)
	v4[0], v4[20+tcpDataOffset] = 0x45, 8<<4
	v6 := make([]byte, 3000)
	v6[0], v6[40+tcpDataOffset], v6[40+tcpFlags] = 0x60, 5<<4, tcpCWR
	for _, c := range []struct {
		name string
		pkt  []byte
		h    vnetHdr
		o    wire.Offload
	}{
		{"finished", v4, vnetHdr{}, wire.Offload{}},
		{"checked", v4, header(unix.VIRTIO_NET_HDR_F_DATA_VALID, 0, 0, 0, 0, 0), wire.Offload{CsumValid: true}},
		{"sum left", v4, header(1, 0, 0, 0, 20, 6), wire.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 6}},
		{"v4 segment", v4, header(1, unix.VIRTIO_NET_HDR_GSO_TCPV4, 52, 1380, 20, 16),
			wire.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16, GSOSize: 1380, HdrLen: 52}},
		{"v6 segment with CWR", v6, header(1, unix.VIRTIO_NET_HDR_GSO_TCPV6|unix.VIRTIO_NET_HDR_GSO_ECN, 60, 1000, 40, 16),
			wire.Offload{NeedsCsum: true, CsumStart: 40, CsumOffset: 16, GSOSize: 1000, HdrLen: 60}},
	} {
		if got := c.h.decode(c.pkt); got != c.o {
			t.Errorf("%s: decoded %+v", c.name, got)
		}
		var h vnetHdr
		if h.encode(c.pkt, c.o); h != c.h {
			t.Errorf("%s: encoded %v, not %v", c.name, h, c.h)
		}
	}
	// The kernel's hdr_len is whatever its buffers look like.
	h := header(1, unix.VIRTIO_NET_HDR_GSO_TCPV4, 1500, 1380, 20, 16)
	if o := h.decode(v4); o.HdrLen != 52 {
		t.Errorf("header length %d", o.HdrLen)
	}
	for _, n := range []int{0, 20, 39, 51} {
		if o := h.decode(v4[:n]); o != (wire.Offload{}) {
			t.Errorf("%d bytes: %+v", n, o)
		}
	}
}
