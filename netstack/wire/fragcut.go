package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Reasons for which Fragment cuts nothing.
var (
	// ErrDontFragment: an IPv4 packet has the don't-fragment flag set.
	ErrDontFragment = errors.New("packet must not be fragmented")
	// ErrFragmentMTU: no fragment with at least 8 bytes of payload fits.
	ErrFragmentMTU = errors.New("mtu too small for a fragment")
	// ErrNotWhole: the packet is a fragment already, or its length fields don't
	// describe it.
	ErrNotWhole = errors.New("not a whole packet")
)

// Fragment cuts an IPv4 or IPv6 packet into fragments of at most mtu bytes and
// hands them to emit, first one first. A fragment is valid until emit returns.
// A packet that fits is handed over as it is.
//
// An IPv4 packet keeps the identification that stands in its header; options
// that aren't marked for copying go into the first fragment only (RFC 791,
// section 3.1). An IPv6 packet's fragments get the identification id (RFC 8200,
// section 4.5). Routers don't cut IPv6 packets: it is for those that a
// Reassembler put together, with the Reassembled's ID and an mtu of no less than
// its MaxFragment.
func Fragment(pkt []byte, mtu int, id uint32, emit func(fragment []byte)) error {
	if len(pkt) >= fragIPv4HeaderLen && pkt[0]>>4 == 4 {
		return fragment4(pkt, mtu, emit)
	}
	if len(pkt) >= fragIPv6HeaderLen && pkt[0]>>4 == 6 {
		return fragment6(pkt, mtu, id, emit)
	}
	return fmt.Errorf("fragment %d bytes: %w", len(pkt), ErrNotWhole)
}

func fragment4(pkt []byte, mtu int, emit func([]byte)) error {
	ihl := int(pkt[0]&0xf) * 4
	bits := binary.BigEndian.Uint16(pkt[6:])
	switch {
	case ihl < fragIPv4HeaderLen, ihl > len(pkt), int(binary.BigEndian.Uint16(pkt[2:])) != len(pkt),
		bits&(fragIPv4MF|fragIPv4Mask) != 0:
		return fmt.Errorf("fragment an ipv4 packet of %d bytes: %w", len(pkt), ErrNotWhole)
	case len(pkt) <= mtu:
		emit(pkt)
		return nil
	case bits&fragIPv4DF != 0:
		return fmt.Errorf("fragment an ipv4 packet of %d bytes for mtu %d: %w", len(pkt), mtu, ErrDontFragment)
	case mtu < ihl+8:
		return fmt.Errorf("fragment an ipv4 packet of %d bytes for mtu %d: %w", len(pkt), mtu, ErrFragmentMTU)
	}
	buf := make([]byte, 0, mtu)
	head, payload := pkt[:ihl], pkt[ihl:]
	var later [60]byte
	for offset := 0; offset < len(payload); {
		n, more := len(payload)-offset, uint16(0)
		if len(head)+n > mtu {
			n, more = (mtu-len(head))&^7, fragIPv4MF
		}
		frag := append(append(buf, head...), payload[offset:offset+n]...)
		fragSetIPv4(frag[:len(head)], len(frag), more|uint16(offset/8))
		emit(frag)
		if offset == 0 {
			head = fragLaterHeader(later[:0], head)
		}
		offset += n
	}
	return nil
}

// fragLaterHeader appends to dst the IPv4 header of all fragments but the first:
// with those options only whose copied flag is set (RFC 791, section 3.1).
func fragLaterHeader(dst, first []byte) []byte {
	dst = append(dst, first[:fragIPv4HeaderLen]...)
	for opts := first[fragIPv4HeaderLen:]; len(opts) > 0 && opts[0] != 0; {
		n := 1
		if opts[0] != 1 { // all but end and no-operation have a length
			if len(opts) < 2 || int(opts[1]) < 2 || int(opts[1]) > len(opts) {
				break // garbage from here on: no receiver may rely on it
			}
			n = int(opts[1])
		}
		if opts[0]&0x80 != 0 {
			dst = append(dst, opts[:n]...)
		}
		opts = opts[n:]
	}
	for len(dst)%4 != 0 {
		dst = append(dst, 0)
	}
	dst[0] = 4<<4 | byte(len(dst)/4)
	return dst
}

func fragment6(pkt []byte, mtu int, id uint32, emit func([]byte)) error {
	if fragIPv6HeaderLen+int(binary.BigEndian.Uint16(pkt[4:])) != len(pkt) {
		return fmt.Errorf("fragment an ipv6 packet of %d bytes: %w", len(pkt), ErrNotWhole)
	}
	if len(pkt) <= mtu {
		emit(pkt)
		return nil
	}
	at, nextAt, ok := fragUnfragmentable(pkt)
	switch {
	case !ok:
		return fmt.Errorf("fragment an ipv6 packet of %d bytes: %w", len(pkt), ErrNotWhole)
	case mtu < at+fragHeaderLen+8:
		return fmt.Errorf("fragment an ipv6 packet of %d bytes for mtu %d: %w", len(pkt), mtu, ErrFragmentMTU)
	}
	buf := make([]byte, 0, mtu)
	payload := pkt[at:]
	for offset := 0; offset < len(payload); {
		n, more := len(payload)-offset, uint16(0)
		if at+fragHeaderLen+n > mtu {
			n, more = (mtu-at-fragHeaderLen)&^7, fragIPv6M
		}
		frag := append(buf, pkt[:at]...)
		frag[nextAt] = fragProtoFragment
		frag = append(frag, pkt[nextAt], 0)
		frag = binary.BigEndian.AppendUint16(frag, uint16(offset)|more)
		frag = binary.BigEndian.AppendUint32(frag, id)
		frag = append(frag, payload[offset:offset+n]...)
		binary.BigEndian.PutUint16(frag[4:], uint16(len(frag)-fragIPv6HeaderLen))
		emit(frag)
		offset += n
	}
	return nil
}

// fragUnfragmentable returns the length of the headers that every fragment has
// to carry: up to the routing header, else up to the hop-by-hop options, else
// the IPv6 header alone (RFC 8200, section 4.5), and where the protocol of what
// follows is written. It fails when pkt has a fragment header already.
func fragUnfragmentable(pkt []byte) (at, nextAt int, ok bool) {
	at, nextAt = fragIPv6HeaderLen, 6
	next, pos, where := pkt[6], fragIPv6HeaderLen, 6
	for next == fragProtoHopByHop || next == fragProtoRouting || next == fragProtoDestOpts {
		if len(pkt) < pos+2 {
			return 0, 0, false
		}
		this := next
		next, where, pos = pkt[pos], pos, pos+(int(pkt[pos+1])+1)*8
		if pos > len(pkt) {
			return 0, 0, false
		}
		if this != fragProtoDestOpts {
			at, nextAt = pos, where
		}
	}
	return at, nextAt, next != fragProtoFragment && at < len(pkt)
}
