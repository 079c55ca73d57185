package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

func TestClampMSS(t *testing.T) {
	mss := func(v uint16) []byte { return []byte{2, 4, byte(v >> 8), byte(v)} }
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	tests := []struct {
		name  string
		flags uint8
		opts  []byte
		at    int // of the value in the options; 0: unchanged
	}{
		{"first", SYN, cat(mss(1460), []byte{1, 3, 3, 7}), 2},
		{"syn-ack", SYN | ACK, cat(mss(1460), []byte{1, 3, 3, 7}), 2},
		{"at an odd offset", SYN, cat([]byte{1}, mss(1460), []byte{3, 3, 7}), 3},
		{"at offset 2 of a word", SYN, cat([]byte{1, 1}, mss(1460), []byte{1, 1}), 4},
		{"last, odd", SYN, cat([]byte{3, 3, 7}, mss(0xffff), []byte{1}), 5},
		{"very last", SYN, cat([]byte{1, 1, 1, 1}, mss(1381)), 6},
		{"small enough", SYN, mss(1380), 0},
		{"no syn", ACK, mss(1460), 0},
		{"no option", SYN, nil, 0},
		{"behind the end of the list", SYN, cat([]byte{0}, mss(1460), []byte{0, 0, 0}), 0},
		{"of a wrong length", SYN, []byte{2, 3, 5, 0}, 0},
		{"behind a broken option", SYN, cat([]byte{3, 0}, mss(1460), []byte{0, 0}), 0},
		{"cut off", SYN, []byte{1, 1, 1, 2}, 0},
		{"too long", SYN, []byte{1, 2, 4, 5}, 0},
	}
	for _, tt := range tests {
		for _, v6 := range []bool{false, true} {
			for _, partial := range []bool{false, true} {
				t.Run(tt.name, func(t *testing.T) {
					s := wiretest.TCP{Src: red4, Dst: gray4, Flags: tt.flags, Options: tt.opts, Payload: wiretest.Pattern(3)}
					if v6 {
						s.Src, s.Dst = red6, gray6
					}
					p := parse(t, s.Packet())
					if partial {
						p.SetPartial()
					}
					want := bytes.Clone(p.B)
					if tt.at > 0 {
						binary.BigEndian.PutUint16(want[p.L4+TCPHeader+tt.at:], 1380)
						if !partial {
							wiretest.Finish(want)
						}
					}
					if got := p.ClampMSS(1380, partial); got != (tt.at > 0) {
						t.Errorf("changed %t", got)
					}
					if !bytes.Equal(p.B, want) {
						t.Errorf("packet\n%x, want\n%x", p.B, want)
					}
				})
			}
		}
	}
}

func TestWindowScale(t *testing.T) {
	for _, tt := range []struct {
		opts  []byte
		shift uint8
		ok    bool
	}{
		{nil, 0, false},
		{[]byte{3, 3, 7, 0}, 7, true},
		{[]byte{1, 3, 3, 0}, 0, true},
		{[]byte{2, 4, 5, 0xb4, 4, 2, 3, 3, 14, 0, 0, 0}, 14, true},
		{[]byte{3, 3, 15, 0}, 14, true}, // RFC 7323 section 2.3
		{[]byte{3, 4, 7, 0}, 0, false},
		{[]byte{0, 3, 3, 7}, 0, false},
		{[]byte{4, 0, 3, 3, 7, 0, 0, 0}, 0, false},
		{[]byte{1, 1, 1, 3}, 0, false},
		{[]byte{1, 1, 3, 3}, 0, false},
	} {
		p := parse(t, wiretest.TCP{Src: red4, Dst: gray4, Flags: SYN, Options: tt.opts}.Packet())
		if shift, ok := p.WindowScale(); shift != tt.shift || ok != tt.ok {
			t.Errorf("%x: %d, %t", tt.opts, shift, ok)
		}
	}
}
