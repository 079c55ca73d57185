package wire

import (
	"bytes"
	"slices"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// syn is a segment with options in either family.
func syn(t testing.TB, v6 bool, flags uint8, opts []byte) *Packet {
	s := wiretest.TCP{Src: red4, Dst: gray4, Seq: 0xfffe1234, Ack: 77, Flags: flags, Window: 500, Options: opts, Payload: wiretest.Pattern(7)}
	if v6 {
		s.Src, s.Dst = red6, gray6
	}
	return parse(t, s.Packet())
}

// What is read of options, and that a malformed list ends what is read.
func TestOptionsRead(t *testing.T) {
	const none = 255
	for _, c := range []struct {
		name       string
		opts       []byte
		mss        uint16 // 0: the default
		scale      uint8
		sack, sign bool
		stamps     bool
	}{
		{name: "none", scale: none},
		{name: "linux", opts: []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}, mss: 1460, scale: 7, sack: true, stamps: true},
		{name: "scale above 14", opts: []byte{3, 3, 200, 0}, scale: 14},
		{name: "at odd offsets", opts: []byte{1, 2, 4, 1, 2, 3, 3, 9}, mss: 0x102, scale: 9},
		{name: "md5", opts: append([]byte{19, 18}, make([]byte, 18)...), scale: none, sign: true},
		{name: "ao", opts: []byte{1, 29, 6, 1, 2, 3, 4, 0}, scale: none, sign: true},
		{name: "unknown ones before", opts: []byte{77, 3, 9, 88, 2, 2, 4, 4, 0, 0, 0, 0}, mss: 1024, scale: none},
		{name: "behind the end of the list", opts: []byte{0, 2, 4, 5, 0xb4, 4, 2, 0}, scale: none},
		{name: "length 0", opts: []byte{77, 0, 4, 2}, scale: none},
		{name: "length 1", opts: []byte{77, 1, 4, 2}, scale: none},
		{name: "too long", opts: []byte{2, 5, 5, 0xb4}, scale: none},
		{name: "no room for the length", opts: []byte{1, 1, 1, 2}, scale: none},
		{name: "mss of a wrong length", opts: []byte{2, 3, 5, 3, 3, 4, 4, 2}, scale: 4, sack: true},
		{name: "the first of two", opts: []byte{2, 4, 1, 0, 2, 4, 2, 0}, mss: 256, scale: none},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				p := syn(t, v6, SYN, c.opts)
				mss := c.mss
				if mss == 0 {
					mss = 536
					if v6 {
						mss = 1220
					}
				}
				scale, ok := p.WindowScale()
				if !ok {
					scale = none
				}
				if p.MSS() != mss || scale != c.scale || p.SACKPermitted() != c.sack || p.Signed() != c.sign || stamped(p) != c.stamps {
					t.Errorf("mss %d, scale %d, sack %t, signed %t, timestamps %t",
						p.MSS(), scale, p.SACKPermitted(), p.Signed(), stamped(p))
				}
			})
		}
	}
}

func TestSACK(t *testing.T) {
	four := []byte{5, 34}
	for i := range 32 {
		four = append(four, byte(i))
	}
	for _, c := range []struct {
		name string
		opts []byte
		want []Block
	}{
		{"none", nil, nil},
		{"other options", []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, nil},
		{"one", []byte{1, 1, 5, 10, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 5}, []Block{{0xfffffff0, 5}}},
		{"two behind timestamps", []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 18, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0},
			[]Block{{0x100, 0x200}, {0x300, 0x400}}},
		{"four", four, []Block{{0x10203, 0x4050607}, {0x8090a0b, 0xc0d0e0f}, {0x10111213, 0x14151617}, {0x18191a1b, 0x1c1d1e1f}}},
		{"empty", []byte{5, 2}, nil},
		{"cut off in a block", []byte{5, 14, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3}, []Block{{1, 2}}},
		{"longer than the header", []byte{5, 18, 0, 0, 0, 1, 0, 0, 0, 2}, nil},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				var got [MaxBlocks]Block
				n := syn(t, v6, ACK, c.opts).SACK(&got)
				if !slices.Equal(got[:n], c.want) {
					t.Errorf("%v, want %v", got[:n], c.want)
				}
			})
		}
	}
}

func TestAppendSACK(t *testing.T) {
	for n := range MaxBlocks + 1 {
		var blocks, got [MaxBlocks]Block
		for i := range blocks {
			blocks[i] = Block{uint32(i) * 0x01010101, 0xffffffff - uint32(i)}
		}
		opts := AppendSACK(nil, blocks[:n])
		if n == 0 && len(opts) > 0 || len(opts)%4 != 0 {
			t.Fatalf("%d blocks: %x", n, opts)
		}
		if m := syn(t, false, ACK, opts).SACK(&got); !slices.Equal(got[:m], blocks[:n]) {
			t.Errorf("%v, want %v", got[:m], blocks[:n])
		}
	}
}

func TestAppendSYNOptions(t *testing.T) {
	for _, mss := range []uint16{1, 536, 1460, 65535} {
		for _, sack := range []bool{false, true} {
			for scale := -1; scale <= 14; scale++ {
				opts := AppendSYNOptions(nil, mss, sack, scale)
				p := syn(t, true, SYN, opts)
				got, ok := p.WindowScale()
				if len(opts)%4 != 0 || p.MSS() != mss || p.SACKPermitted() != sack || ok != (scale >= 0) || ok && int(got) != scale {
					t.Errorf("mss %d, sack %t, scale %d: %x", mss, sack, scale, opts)
				}
			}
		}
	}
}

// Plain takes out what a relay can't keep up, at any offset, and leaves the rest
// and a checksum that holds.
func TestPlain(t *testing.T) {
	nops := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	mss, sack, scale := []byte{2, 4, 5, 0xb4}, []byte{4, 2}, []byte{3, 3, 7}
	stamps := []byte{8, 10, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 9}
	cookie := []byte{34, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	mptcp := []byte{30, 12, 1, 1, 9, 8, 7, 6, 5, 4, 3, 2}
	for _, c := range []struct {
		name       string
		opts, want []byte
	}{
		{"nothing to do", cat(mss, sack, nops(2)), cat(mss, sack, nops(2))},
		{"linux", cat(mss, sack, stamps, nops(1), scale), cat(mss, sack, nops(10), nops(1), scale)},
		{"timestamps at an odd offset", cat(scale, stamps, scale), cat(scale, nops(10), scale)},
		{"fast open", cat(mss, cookie, nops(2)), cat(mss, nops(12))},
		{"fast open asked for", []byte{1, 1, 34, 2}, nops(4)},
		{"fast open asked for at an odd offset", []byte{1, 34, 2, 1}, nops(4)},
		{"the older fast open", []byte{254, 4, 0xf9, 0x89}, nops(4)},
		{"mptcp", cat(scale, mptcp, []byte{1}), cat(scale, nops(13))},
		{"all", cat(stamps, cookie, mptcp), nops(32)},
		{"behind the end of the list", cat([]byte{0}, stamps, []byte{0}), cat([]byte{0}, stamps, []byte{0})},
		{"behind a broken one", cat([]byte{3, 1}, stamps), cat([]byte{3, 1}, stamps)},
		{"cut off", []byte{1, 1, 8, 10}, []byte{1, 1, 8, 10}},
	} {
		for _, flags := range []uint8{SYN, SYN | ACK, SYN | ECE | CWR, SYN | ACK | ECE} {
			for _, v6 := range []bool{false, true} {
				for _, partial := range []bool{false, true} {
					t.Run(c.name, func(t *testing.T) {
						p, want := syn(t, v6, flags, c.opts), syn(t, v6, flags&^(ECE|CWR), c.want)
						if partial {
							p.SetPartial()
							want.SetPartial()
						}
						p.Plain(partial)
						if !bytes.Equal(p.B, want.B) {
							t.Errorf("packet\n%x, want\n%x", p.B, want.B)
						}
						if p.Flags != want.Flags {
							t.Errorf("flags %#x, want %#x", p.Flags, want.Flags)
						}
						if !partial && !p.ChecksumOK() {
							t.Error("the checksum does not hold")
						}
					})
				}
			}
		}
	}
}

// FuzzOptions: whatever the options are, nothing is read beyond them, and taking
// some out leaves a packet of the same length whose checksum holds and in which
// there is nothing more to take out.
func FuzzOptions(f *testing.F) {
	f.Add([]byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}, true)
	f.Add([]byte{1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 34}, false)
	f.Fuzz(func(t *testing.T, opts []byte, v6 bool) {
		p := syn(t, v6, SYN|ECE|CWR, opts[:min(len(opts), 40)])
		size, mss := len(p.B), p.MSS()
		scale, scales := p.WindowScale()
		sack := p.SACKPermitted()
		var blocks [MaxBlocks]Block
		p.SACK(&blocks)
		p.Plain(false)
		if !p.ChecksumOK() || len(p.B) != size || p.Flags != SYN {
			t.Errorf("packet %x", p.B)
		}
		if s, ok := p.WindowScale(); p.MSS() != mss || s != scale || ok != scales || p.SACKPermitted() != sack || stamped(p) {
			t.Errorf("what was to stay has changed, or what was to go is there: %x", p.B)
		}
		again := bytes.Clone(p.B)
		if p.Plain(false); !bytes.Equal(again, p.B) {
			t.Errorf("packet %x\nbecomes %x", again, p.B)
		}
	})
}

// stamped reports whether the segment has them (RFC 7323 section 3).
func stamped(p *Packet) bool {
	for o := p.options(); o.next(); {
		if o.kind == optTimestamps {
			return true
		}
	}
	return false
}
