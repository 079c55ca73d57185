// Package capturetest reads captures in tests. It is written from the draft of the
// format and with none of package capture's code, so that it can serve as an oracle
// for that.
package capturetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Packet is a packet of a file.
type Packet struct {
	Interface string // its name
	Inbound   bool
	At        time.Time
	Comment   string
	// Data is what was kept of the IP packet, and Length how long it was.
	Data   []byte
	Length int
}

// File is what a file holds.
type File struct {
	Interfaces []string
	Packets    []Packet
	// Lost is how many packets were not kept.
	Lost uint64
}

// sll is the length of a Linux cooked header, which is before each packet.
const sll = 16

// Read reads a whole file in this machine's byte order.
func Read(b []byte) (f File, err error) {
	defer func() {
		if recover() != nil { // an index or a length that is not there
			err = errors.New("a block is cut off")
		}
	}()
	for len(b) > 0 {
		n := int(u32(b[4:]))
		if n < 12 || n%4 != 0 || n > len(b) || int(u32(b[n-4:])) != n {
			return f, fmt.Errorf("a block of %d bytes where %d are left", n, len(b))
		}
		if err := f.block(u32(b), b[8:n-4]); err != nil {
			return f, err
		}
		b = b[n:]
	}
	return f, nil
}

func (f *File) block(kind uint32, b []byte) error {
	switch kind {
	case 0x0a0d0d0a: // Section Header
		if u32(b) != 0x1a2b3c4d || u16(b[4:]) != 1 {
			return errors.New("another byte order or version")
		}
		_, err := options(b[16:])
		return err
	case 1: // Interface Description
		o, err := options(b[8:])
		if err != nil {
			return err
		}
		if u16(b) != 113 || o[9] != "\x09" {
			return fmt.Errorf("link type %d, resolution %q", u16(b), o[9])
		}
		f.Interfaces = append(f.Interfaces, o[2])
	case 6: // Enhanced Packet
		n := int(u32(b[12:]))
		o, err := options(b[20+(n+3)&^3:])
		if err != nil {
			return err
		}
		if flags := u32([]byte(o[2])); flags != 1 && flags != 2 || (flags == 1) != (b[21] == 0) {
			return fmt.Errorf("direction %d, and %d before the packet", flags, b[21])
		}
		f.Packets = append(f.Packets, Packet{
			Interface: f.Interfaces[u32(b)], Inbound: o[2][0] == 1,
			At:      time.Unix(0, int64(u32(b[4:]))<<32|int64(u32(b[8:]))),
			Comment: o[1], Data: b[20+sll : 20+n], Length: int(u32(b[16:])) - sll,
		})
	case 5: // Interface Statistics
		o, err := options(b[12:])
		if err != nil {
			return err
		}
		f.Lost = binary.NativeEndian.Uint64([]byte(o[5]))
	default:
		return fmt.Errorf("block %#x", kind)
	}
	return nil
}

// options are by code.
func options(b []byte) (map[uint16]string, error) {
	m := map[uint16]string{}
	for u16(b) != 0 {
		n := int(u16(b[2:]))
		m[u16(b)] = string(b[4 : 4+n])
		b = b[4+(n+3)&^3:]
	}
	if len(b) != 4 {
		return nil, fmt.Errorf("%d bytes behind the end of the options", len(b))
	}
	return m, nil
}

func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
