// Package arp reads and writes Ethernet frames that hold ARP messages for IPv4 (RFC 826).
package arp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
)

const (
	// EtherType is that of ARP.
	EtherType = 0x0806
	// FrameSize is the size of a frame with a message, in bytes.
	FrameSize = headerSize + messageSize

	headerSize   = 14
	messageSize  = 28
	etherTypeIP4 = 0x0800
)

// The operations of a message.
const (
	Request = 1
	Reply   = 2
)

// Broadcast is the link address of all hosts.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Append appends an Ethernet frame with a message to b. The addresses sender and target are IPv4.
func Append(b []byte, to net.HardwareAddr, op uint16, senderHW net.HardwareAddr, sender netip.Addr, targetHW net.HardwareAddr, target netip.Addr) []byte {
	b = append(b, to...)
	b = append(b, senderHW...)
	b = binary.BigEndian.AppendUint16(b, EtherType)
	b = binary.BigEndian.AppendUint16(b, 1) // Ethernet
	b = binary.BigEndian.AppendUint16(b, etherTypeIP4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, senderHW...)
	b = append(b, sender.AsSlice()...)
	b = append(b, targetHW...)
	return append(b, target.AsSlice()...)
}

// Message is a request or a reply.
type Message struct {
	Op     uint16
	HW     net.HardwareAddr // the sender's
	Sender netip.Addr
	Target netip.Addr
}

// Parse reads an Ethernet frame that holds a request or a reply for IPv4. The result refers to the
// frame.
func Parse(b []byte) (m Message, ok bool) {
	if len(b) < FrameSize || binary.BigEndian.Uint16(b[12:]) != EtherType {
		return m, false
	}
	a := b[headerSize:]
	m.Op = binary.BigEndian.Uint16(a[6:])
	if binary.BigEndian.Uint16(a) != 1 || binary.BigEndian.Uint16(a[2:]) != etherTypeIP4 || a[4] != 6 || a[5] != 4 ||
		m.Op != Request && m.Op != Reply {
		return m, false
	}
	m.HW = net.HardwareAddr(a[8:14])
	m.Sender = netip.AddrFrom4([4]byte(a[14:18]))
	m.Target = netip.AddrFrom4([4]byte(a[24:28]))
	return m, true
}

// Filter accepts requests and replies on a packet socket for EtherType, and drops all else.
func Filter() []bpf.RawInstruction {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: headerSize + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: Request, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: Reply, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: FrameSize},
	})
	if err != nil {
		panic("arp: " + err.Error())
	}
	return raw
}
