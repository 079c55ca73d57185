package legs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/onewaylink/gw/netstack/wire"
)

// The payload of an open frame says which connection it is about, and what both
// gateways have to agree on: version 1, 42 bytes, big endian, as the one that asks
// sees it:
//
//	version 1 | flags 1 | scale near 1, far 1 | near: address 16, port 2 | far: the same
const (
	openVersion = 1
	openSize    = 40
	openV6      = 1 << 0
	openSACK    = 1 << 1
)

// ErrOpen is wrapped by every error about an open frame that can't be read.
var ErrOpen = errors.New("bad open frame")

// Opening is what an open frame says, as this node sees it: Near is the database
// on its own side.
type Opening struct {
	Near, Far           netip.AddrPort
	NearScale, FarScale uint8
	SACK                bool
}

// appendOpening makes the payload of an open frame for the other gateway.
func appendOpening(b []byte, c *wire.Connection) []byte {
	flags := byte(0)
	if c.Near.Addr().Is6() {
		flags |= openV6
	}
	if c.SACK {
		flags |= openSACK
	}
	b = append(b, openVersion, flags, c.NearSaid.Scale, c.FarSaid.Scale)
	for _, a := range []netip.AddrPort{c.Near, c.Far} {
		var x [16]byte
		copy(x[:], a.Addr().AsSlice())
		b = append(b, x[:]...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	return b
}

// ParseOpening reads the first frame of a trunk. Near and far change places.
func ParseOpening(f *wire.Frame) (o Opening, err error) {
	b := f.Payload
	switch {
	case f.Kind != wire.FrameOpen:
		return o, fmt.Errorf("%w: the trunk begins with another, %s", ErrOpen, f.Kind)
	case len(b) != openSize || b[0] != openVersion || b[1]&^(openV6|openSACK) != 0:
		return o, fmt.Errorf("%w: %d bytes of an unknown version", ErrOpen, len(b))
	case b[2] > 14 || b[3] > 14:
		return o, fmt.Errorf("%w: window scales %d and %d", ErrOpen, b[2], b[3])
	}
	at := func(b []byte) netip.AddrPort {
		a := netip.AddrFrom16([16]byte(b))
		if f.Payload[1]&openV6 == 0 {
			a = netip.AddrFrom4([4]byte(b))
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[16:]))
	}
	return Opening{
		Far: at(b[4:]), Near: at(b[22:]),
		FarScale: b[2], NearScale: b[3], SACK: b[1]&openSACK != 0,
	}, nil
}

// fits reports why a connection as this node knows it is not the one that the
// other gateway means; "" when it is.
func (o *Opening) fits(c *wire.Connection) string {
	switch {
	case o.NearScale != c.NearSaid.Scale || o.FarScale != c.FarSaid.Scale:
		return "the gateways know other window scales"
	case o.SACK != c.SACK:
		return "the gateways don't agree on sack"
	}
	return ""
}
