package vip

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// ARP over Ethernet for IPv4 (RFC 826).
const (
	etherTypeARP = 0x0806
	etherTypeIP4 = 0x0800
	arpSize      = 28
	frameHeader  = 14
	opRequest    = 1
	opReply      = 2
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// appendARP appends an Ethernet frame with an ARP message.
func appendARP(b []byte, to net.HardwareAddr, op uint16, senderHW net.HardwareAddr, sender netip.Addr, targetHW net.HardwareAddr, target netip.Addr) []byte {
	b = append(b, to...)
	b = append(b, senderHW...)
	b = binary.BigEndian.AppendUint16(b, etherTypeARP)
	b = binary.BigEndian.AppendUint16(b, 1) // Ethernet
	b = binary.BigEndian.AppendUint16(b, etherTypeIP4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, senderHW...)
	b = append(b, sender.AsSlice()...)
	b = append(b, targetHW...)
	return append(b, target.AsSlice()...)
}

// arp is an ARP request or reply.
type arp struct {
	op     uint16
	hw     net.HardwareAddr
	sender netip.Addr
	target netip.Addr
}

// parseARP reads an Ethernet frame that holds an ARP request or reply for IPv4. The
// result refers to the frame.
func parseARP(b []byte) (m arp, ok bool) {
	if len(b) < frameHeader+arpSize || binary.BigEndian.Uint16(b[12:]) != etherTypeARP {
		return m, false
	}
	a := b[frameHeader:]
	m.op = binary.BigEndian.Uint16(a[6:])
	if binary.BigEndian.Uint16(a) != 1 || binary.BigEndian.Uint16(a[2:]) != etherTypeIP4 || a[4] != 6 || a[5] != 4 ||
		m.op != opRequest && m.op != opReply {
		return m, false
	}
	m.hw = net.HardwareAddr(a[8:14])
	m.sender = netip.AddrFrom4([4]byte(a[14:18]))
	m.target = netip.AddrFrom4([4]byte(a[24:28]))
	return m, true
}
