package lab

import "encoding/binary"

// tcpOptions are the options that a checker of the rule understands.
type tcpOptions struct {
	mss      int // 0 is none
	scale    int // -1 is none (RFC 7323 section 2)
	sackOK   bool
	stamped  bool
	stamp    uint32      // TSval (RFC 7323 section 3)
	selected [][2]uint32 // SACK blocks (RFC 2018 section 3)
}

// parseOptions reads a header's options. What is broken ends them.
func parseOptions(b []byte) tcpOptions {
	o := tcpOptions{scale: -1}
	for len(b) > 0 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		v := b[2:b[1]]
		switch {
		case b[0] == 2 && len(v) == 2:
			o.mss = int(binary.BigEndian.Uint16(v))
		case b[0] == 3 && len(v) == 1:
			o.scale = min(int(v[0]), 14) // RFC 7323 section 2.3
		case b[0] == 4:
			o.sackOK = true
		case b[0] == 5:
			for ; len(v) >= 8; v = v[8:] {
				o.selected = append(o.selected, [2]uint32{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])})
			}
		case b[0] == 8 && len(v) == 8:
			o.stamped, o.stamp = true, binary.BigEndian.Uint32(v)
		}
		b = b[b[1]:]
	}
	return o
}
