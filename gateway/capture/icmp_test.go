package capture

import "testing"

func TestICMPText(t *testing.T) {
	v4 := func(kind, code byte, mtu ...byte) []byte {
		b := append(make([]byte, 20), kind, code, 0, 0, 0, 0, 0, 0)
		b[0], b[3], b[8], b[9] = 0x45, byte(len(b)), 64, 1
		copy(b[26:], mtu)
		sum := uint32(0) // RFC 791, section 3.1
		for i := 0; i < 20; i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
		sum = ^(sum>>16 + sum&0xffff)
		b[10], b[11] = byte(sum>>8), byte(sum)
		return b
	}
	v6 := func(kind, code byte, mtu ...byte) []byte {
		b := append(make([]byte, 40), kind, code, 0, 0, 0, 0, 0, 0)
		b[0], b[5], b[6], b[7] = 0x60, 8, 58, 64
		copy(b[46:], mtu)
		return b
	}
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{v4(3, 13), "administratively prohibited"},
		{v6(1, 1), "administratively prohibited"},
		{v4(3, 4, 5, 0x78), "fragmentation needed, mtu 1400"},
		{v6(2, 0, 5, 0x78), "packet too big, mtu 1400"},
		{v4(3, 1), "host unreachable"},
		{v6(1, 0), "host unreachable"},
		{v4(11, 1), "icmp type 11 code 1"},
		{nil, ""},
		{v4(3, 13)[:22], ""},
	} {
		if got := ICMPText(c.b); got != c.want {
			t.Errorf("% x: %q, want %q", c.b, got, c.want)
		}
	}
}
