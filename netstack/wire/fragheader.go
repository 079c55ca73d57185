package wire

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of the IANA registry "Assigned Internet Protocol Numbers" that decide
// where a fragment's headers end.
const (
	fragProtoHopByHop = 0
	fragProtoTCP      = 6
	fragProtoRouting  = 43
	fragProtoFragment = 44
	fragProtoAH       = 51
	fragProtoDestOpts = 60
	fragProtoSCTP     = 132
)

const (
	fragIPv4HeaderLen = 20
	fragIPv6HeaderLen = 40
	fragHeaderLen     = 8 // RFC 8200, section 4.5
	fragMaxDatagram   = 65535

	fragIPv4DF   = 0x4000 // RFC 791, section 3.1
	fragIPv4MF   = 0x2000
	fragIPv4Mask = 0x1fff
	fragIPv6M    = 0x0001
	fragIPv6Mask = 0xfff8

	fragECNNotECT = 0 // RFC 3168, section 5
	fragECNCE     = 3
)

// fragKey names a datagram. RFC 791, section 3.2 counts the protocol in for
// IPv4; RFC 8200, section 4.5 leaves it out for IPv6, where proto is zero.
type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

// fragment is one fragment, taken apart. Its slices alias the packet.
type fragment struct {
	key     fragKey
	head    []byte // IPv4: the header; IPv6: everything before the fragment header
	nextAt  int    // IPv6: where in head the protocol of what follows it stands
	next    uint8  // protocol of the payload
	payload []byte
	offset  int  // of payload in the datagram, in bytes
	more    bool // another fragment follows
	ecn     uint8
	size    int // of the packet, in bytes
}

// end is the offset of the first byte behind the fragment.
func (f *fragment) end() int { return f.offset + len(f.payload) }

// IsFragment reports whether pkt is an IPv4 fragment or an IPv6 packet with a
// fragment header, and so belongs to a Reassembler before anything else looks
// at its transport header. A packet that can't be understood is none.
func IsFragment(pkt []byte) bool {
	if len(pkt) < fragIPv4HeaderLen {
		return false
	}
	switch pkt[0] >> 4 {
	case 4:
		return binary.BigEndian.Uint16(pkt[6:])&(fragIPv4MF|fragIPv4Mask) != 0
	case 6:
		if len(pkt) < fragIPv6HeaderLen {
			return false
		}
		next, _, _, ok := fragWalk(pkt)
		return ok && next == fragProtoFragment
	}
	return false
}

// fragParse parses a fragment. It returns FragHeld when the fragment is
// good, and FragAtomic, FragNone or the fault otherwise.
func fragParse(pkt []byte) (fragment, FragResult) {
	if !IsFragment(pkt) {
		return fragment{}, FragNone
	}
	f, r := fragment{}, FragNone
	if pkt[0]>>4 == 4 {
		f, r = fragParse4(pkt)
	} else {
		f, r = fragParse6(pkt)
	}
	if r != FragHeld {
		return fragment{}, r
	}
	switch {
	case len(f.payload) == 0, f.more && len(f.payload)%8 != 0:
		return fragment{}, FragMalformed
	case f.end()+len(f.head) > fragMaxDatagram && f.key.src.Is4(),
		f.end()+len(f.head)-fragIPv6HeaderLen > fragMaxDatagram && f.key.src.Is6():
		return fragment{}, FragTooLong
	case f.offset == 0 && !fragHeadersWhole(f.next, f.payload, f.key.src.Is6()):
		return fragment{}, FragTiny
	}
	return f, FragHeld
}

func fragParse4(pkt []byte) (fragment, FragResult) {
	ihl := int(pkt[0]&0xf) * 4
	total := int(binary.BigEndian.Uint16(pkt[2:]))
	// The whole gets a fresh checksum, so a header damaged on the way has to be
	// found out here, or it would be made to look good.
	if ihl < fragIPv4HeaderLen || total < ihl || total > len(pkt) || fragSum(pkt[:ihl]) != 0xffff {
		return fragment{}, FragMalformed
	}
	bits := binary.BigEndian.Uint16(pkt[6:])
	return fragment{
		key: fragKey{
			src:   netip.AddrFrom4([4]byte(pkt[12:16])),
			dst:   netip.AddrFrom4([4]byte(pkt[16:20])),
			id:    uint32(binary.BigEndian.Uint16(pkt[4:])),
			proto: pkt[9],
		},
		head:    pkt[:ihl],
		next:    pkt[9],
		payload: pkt[ihl:total],
		offset:  int(bits&fragIPv4Mask) * 8,
		more:    bits&fragIPv4MF != 0,
		ecn:     pkt[1] & 3,
		size:    total,
	}, FragHeld
}

func fragParse6(pkt []byte) (fragment, FragResult) {
	total := fragIPv6HeaderLen + int(binary.BigEndian.Uint16(pkt[4:]))
	if total > len(pkt) {
		return fragment{}, FragMalformed
	}
	_, at, nextAt, _ := fragWalk(pkt)
	if at+fragHeaderLen > total {
		return fragment{}, FragMalformed
	}
	bits := binary.BigEndian.Uint16(pkt[at+2:])
	f := fragment{
		key: fragKey{
			src: netip.AddrFrom16([16]byte(pkt[8:24])),
			dst: netip.AddrFrom16([16]byte(pkt[24:40])),
			id:  binary.BigEndian.Uint32(pkt[at+4:]),
		},
		head:    pkt[:at],
		nextAt:  nextAt,
		next:    pkt[at],
		payload: pkt[at+fragHeaderLen : total],
		offset:  int(bits & fragIPv6Mask),
		more:    bits&fragIPv6M != 0,
		ecn:     pkt[1] >> 4 & 3,
		size:    total,
	}
	if f.offset == 0 && !f.more {
		return f, FragAtomic
	}
	return f, FragHeld
}

// fragWalk follows the extension headers that may precede a fragment header
// (RFC 8200, section 4.5). It returns the protocol of the first header that is
// none of these, where that one begins, and where its protocol is written. It
// fails when a header runs over the end of pkt.
func fragWalk(pkt []byte) (next uint8, at, nextAt int, ok bool) {
	next, at, nextAt = pkt[6], fragIPv6HeaderLen, 6
	for next == fragProtoHopByHop || next == fragProtoRouting || next == fragProtoDestOpts {
		if len(pkt) < at+2 {
			return 0, 0, 0, false
		}
		next, nextAt, at = pkt[at], at, at+(int(pkt[at+1])+1)*8
		if at > len(pkt) {
			return 0, 0, 0, false
		}
	}
	return next, at, nextAt, true
}

// fragHeadersWhole reports whether payload, which begins with a header of protocol
// next, holds everything up to the end of the transport header.
func fragHeadersWhole(next uint8, payload []byte, v6 bool) bool {
	for v6 {
		var size int
		switch {
		case next == fragProtoFragment:
			return false // a fragment of a fragment hides what it carries
		case next != fragProtoHopByHop && next != fragProtoRouting &&
			next != fragProtoDestOpts && next != fragProtoAH:
			v6 = false
			continue
		case len(payload) < 2:
			return false
		case next == fragProtoAH:
			size = (int(payload[1]) + 2) * 4 // RFC 4302, section 2.2
		default:
			size = (int(payload[1]) + 1) * 8
		}
		if size > len(payload) {
			return false
		}
		next, payload = payload[0], payload[size:]
	}
	switch next {
	case fragProtoTCP:
		return len(payload) >= 20 && len(payload) >= int(payload[12]>>4)*4
	case fragProtoSCTP:
		return len(payload) >= 12
	default: // UDP and both ICMPs have 8; of the rest nothing is known
		return len(payload) >= 8
	}
}

// fragSum is the ones' complement sum of RFC 1071 over b.
func fragSum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// fragSetIPv4 writes what makes an IPv4 header that of a fragment, or of a whole
// datagram, and its checksum with it.
func fragSetIPv4(head []byte, total int, bits uint16) {
	binary.BigEndian.PutUint16(head[2:], uint16(total))
	binary.BigEndian.PutUint16(head[6:], bits)
	binary.BigEndian.PutUint16(head[10:], 0)
	binary.BigEndian.PutUint16(head[10:], ^fragSum(head))
}
