package arp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
	ipA  = netip.MustParseAddr("10.0.0.1")
	ipB  = netip.MustParseAddr("10.0.0.2")
)

// TestAppend compares with a frame as tcpdump -XX shows one of Linux.
func TestAppend(t *testing.T) {
	want := []byte{
		2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 6, // Ethernet
		0, 1, 8, 0, 6, 4, 0, 2, // Ethernet for IPv4, reply
		2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1,
		2, 0, 0, 0, 0, 0xb, 10, 0, 0, 2,
	}
	if got := Append(nil, macB, Reply, macA, ipA, macB, ipB); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestParse(t *testing.T) {
	request := func() []byte { return Append(nil, Broadcast, Request, macA, ipA, make(net.HardwareAddr, 6), ipB) }
	put := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], v); return b }
	}
	for _, tt := range []struct {
		name string
		do   func([]byte) []byte
		ok   bool
	}{
		{"a request", func(b []byte) []byte { return b }, true},
		{"padded to Ethernet's least", func(b []byte) []byte { return append(b, make([]byte, 18)...) }, true},
		{"a reply", put(20, Reply), true},
		{"another operation", put(20, 3), false},
		{"not ARP", put(12, 0x0800), false},
		{"not for Ethernet", put(14, 6), false},
		{"not for IPv4", put(16, 0x86dd), false},
		{"other sizes of addresses", put(18, 0x0804), false},
		{"cut off", func(b []byte) []byte { return b[:41] }, false},
		{"empty", func([]byte) []byte { return nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, ok := Parse(tt.do(request()))
			if ok != tt.ok {
				t.Fatalf("parsed %v, want %v", ok, tt.ok)
			}
			if ok && (q.HW.String() != macA.String() || q.Sender != ipA || q.Target != ipB) {
				t.Errorf("parsed as %+v", q)
			}
		})
	}
}

// FuzzParse: what is parsed is what was read.
func FuzzParse(f *testing.F) {
	f.Add(Append(nil, Broadcast, Request, macA, ipA, make(net.HardwareAddr, 6), ipB))
	f.Add(Append(nil, macB, Reply, macA, ipA, macB, ipB))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, ok := Parse(b)
		if !ok {
			return
		}
		again := Append(nil, b[0:6], q.Op, q.HW, q.Sender, b[32:38], q.Target)
		copy(again[6:12], b[6:12]) // the frame's sender need not be the message's
		if !bytes.Equal(again, b[:FrameSize]) {
			t.Errorf("read %+v from\n%x, which would be\n%x", q, b, again)
		}
	})
}
