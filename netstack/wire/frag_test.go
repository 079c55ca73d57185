package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// fragUDP4 makes an IPv4 UDP packet with n bytes of payload behind the UDP
// header and the given options.
func fragUDP4(n int, id uint16, opts ...byte) []byte {
	ihl := 20 + len(opts)
	p := make([]byte, ihl+8+n)
	p[0] = 4<<4 | byte(ihl/4)
	binary.BigEndian.PutUint16(p[4:], id)
	p[8], p[9] = 64, 17
	copy(p[12:], []byte{10, 77, 1, 10, 10, 77, 2, 10})
	copy(p[20:], opts)
	fragSetIPv4(p[:ihl], len(p), 0)
	fragFill(p[ihl:])
	return p
}

// fragUDP6 does the same for IPv6, ext being extension headers that begin with
// one of protocol first.
func fragUDP6(n int, first uint8, ext ...byte) []byte {
	p := make([]byte, 40+len(ext)+8+n)
	p[0] = 6 << 4
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	p[6], p[7] = first, 64
	a, b := netip.MustParseAddr("fd77:1::a").As16(), netip.MustParseAddr("fd77:2::a").As16()
	copy(p[8:], a[:])
	copy(p[24:], b[:])
	copy(p[40:], ext)
	fragFill(p[40+len(ext):])
	return p
}

func fragFill(b []byte) {
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
}

func fragCut(t testing.TB, pkt []byte, mtu int, id uint32) [][]byte {
	t.Helper()
	var out [][]byte
	err := Fragment(pkt, mtu, id, func(f []byte) {
		if len(f) > mtu {
			t.Fatalf("fragment of %d bytes for mtu %d", len(f), mtu)
		}
		out = append(out, bytes.Clone(f))
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Copied option: router alert. Not copied: record route.
var (
	fragRouterAlert = []byte{0x94, 4, 0, 0}
	fragRecordRoute = []byte{7, 7, 4, 0, 0, 0, 0, 1}
)

// Hop-by-hop options with padding, destination options, a routing header of
// type 253 (for experiments).
func fragExt(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
func fragRouting(next uint8) []byte {
	return []byte{next, 0, 253, 0, 0, 0, 0, 0}
}

func fragPackets() map[string][]byte {
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	return map[string][]byte{
		"v4":              fragUDP4(3000, 77),
		"v4 options":      fragUDP4(3000, 77, cat(fragRouterAlert, fragRecordRoute)...),
		"v4 longest":      fragUDP4(65535-28, 1),
		"v6":              fragUDP6(3000, 17),
		"v6 longest":      fragUDP6(65535-8, 17),
		"v6 hop-by-hop":   fragUDP6(3000, 0, fragExt(17)...),
		"v6 destination":  fragUDP6(3000, 60, fragExt(17)...),
		"v6 all before":   fragUDP6(3000, 0, cat(fragExt(60), fragExt(43), fragRouting(17))...),
		"v6 some behind":  fragUDP6(3000, 0, cat(fragExt(43), fragRouting(60), fragExt(17))...),
		"v6 last tiny":    fragUDP6(1480-8+1-48, 17),
		"v4 exact":        fragUDP4(2*1480-8, 5),
		"v4 one too many": fragUDP4(2*1480-8+1, 5),
	}
}

func TestFragmentAndReassembleInAnyOrder(t *testing.T) {
	for name, pkt := range fragPackets() {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			for _, mtu := range []int{1280, 1420, 1500, 9000} {
				frags := fragCut(t, pkt, mtu, 0xdeadbeef)
				if len(frags) == 1 {
					if !bytes.Equal(frags[0], pkt) {
						t.Fatal("a packet that fits was changed")
					}
					continue
				}
				rng.Shuffle(len(frags), func(i, j int) { frags[i], frags[j] = frags[j], frags[i] })
				r := NewReassembler(ReassemblerConfig{})
				largest := 0
				for i, f := range frags {
					if !IsFragment(f) {
						t.Fatalf("%d is no fragment", i)
					}
					largest = max(largest, len(f))
					got, res := r.Add(0, append(f, 0, 0, 0)) // padding behind the packet is cut off
					if i < len(frags)-1 {
						if res != FragHeld {
							t.Fatalf("fragment %d of %d: %v", i, len(frags), res)
						}
						if _, res := r.Add(0, f); res != FragDuplicate {
							t.Fatalf("copy of fragment %d: %v", i, res)
						}
						continue
					}
					if res != FragWhole || !bytes.Equal(got.Packet, pkt) {
						t.Fatalf("mtu %d: %v, %d bytes of %d", mtu, res, len(got.Packet), len(pkt))
					}
					wantID := uint32(0xdeadbeef)
					if pkt[0]>>4 == 4 {
						wantID = uint32(binary.BigEndian.Uint16(pkt[4:]))
					}
					if got.MaxFragment != largest || got.ID != wantID {
						t.Errorf("largest fragment %d, id %#x; want %d, %#x", got.MaxFragment, got.ID, largest, wantID)
					}
				}
				if s := r.Stats(); s.Bytes != 0 || s.Datagrams != 0 || len(r.sources) != 0 || s.Whole != 1 {
					t.Errorf("something is left behind: %+v", s)
				}
			}
		})
	}
}

func TestFragmentCopiesMarkedOptionsOnly(t *testing.T) {
	frags := fragCut(t, fragUDP4(3000, 9, append(bytes.Clone(fragRecordRoute), fragRouterAlert...)...), 1500, 0)
	if got := frags[0][20:32]; !bytes.Equal(got, append(bytes.Clone(fragRecordRoute), fragRouterAlert...)) {
		t.Errorf("options of the first: %x", got)
	}
	for i, f := range frags[1:] {
		if f[0] != 0x46 || !bytes.Equal(f[20:24], fragRouterAlert) {
			t.Errorf("fragment %d: header %x", i+1, f[:24])
		}
		if fragSum(f[:24]) != 0xffff {
			t.Errorf("fragment %d: bad checksum", i+1)
		}
	}
}

func TestFragmentRefuses(t *testing.T) {
	df := fragUDP4(3000, 9)
	fragSetIPv4(df[:20], len(df), fragIPv4DF)
	atomic := fragUDP6(3000, 44, 17, 0, 0, 0, 0, 0, 0, 1)
	for name, c := range map[string]struct {
		pkt  []byte
		mtu  int
		want error
	}{
		"don't fragment":  {df, 1500, ErrDontFragment},
		"mtu too small":   {fragUDP4(3000, 9), 27, ErrFragmentMTU},
		"v6 too small":    {fragUDP6(3000, 17), 55, ErrFragmentMTU},
		"a fragment":      {fragCut(t, fragUDP4(3000, 9), 1500, 0)[0], 1000, ErrNotWhole},
		"v6 with header":  {atomic, 1280, ErrNotWhole},
		"wrong length":    {fragUDP4(3000, 9)[:2000], 1500, ErrNotWhole},
		"v6 wrong length": {fragUDP6(3000, 17)[:2000], 1500, ErrNotWhole},
		"v6 header only":  {fragUDP6(3000, 17)[:40], 1500, ErrNotWhole},
		"nothing":         {nil, 1500, ErrNotWhole},
		"version 5":       {append([]byte{0x55}, make([]byte, 99)...), 1500, ErrNotWhole},
	} {
		err := Fragment(c.pkt, c.mtu, 0, func([]byte) { t.Errorf("%s: a fragment came", name) })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// fragAt makes an IPv4 fragment of protocol proto.
func fragAt(id uint16, proto uint8, offset, n int, more bool) []byte {
	p := fragUDP4(n, id)
	p = p[:20+n]
	p[9] = proto
	bits := uint16(offset / 8)
	if more {
		bits |= fragIPv4MF
	}
	fragSetIPv4(p[:20], len(p), bits)
	fragFill(p[20:])
	return p
}

func TestReassemblerRefuses(t *testing.T) {
	bad := func(f func(p []byte)) []byte {
		p := fragAt(1, 17, 0, 800, true)
		f(p)
		return p
	}
	ecn := func(p []byte, v byte) []byte {
		p[1] = v
		fragSetIPv4(p[:20], len(p), binary.BigEndian.Uint16(p[6:]))
		return p
	}
	changed := fragAt(1, 17, 0, 800, true)
	changed[700]++
	nested := fragCut(t, fragUDP6(3000, 17), 1280, 1)[0]
	nested[40] = fragProtoFragment
	cutChain := fragUDP6(8, 44, 60, 0, 0, 1, 0, 0, 0, 1) // a first fragment whose destination options run over its end
	cutChain[49] = 3

	for name, c := range map[string]struct {
		pkts [][]byte
		want FragResult // of the last one
	}{
		"no fragment":            {[][]byte{fragUDP4(100, 1)}, FragNone},
		"no packet":              {[][]byte{{0x45}}, FragNone},
		"v6 no fragment":         {[][]byte{fragUDP6(100, 17)}, FragNone},
		"bad checksum":           {[][]byte{bad(func(p []byte) { p[8]-- })}, FragMalformed},
		"longer than the packet": {[][]byte{bad(func(p []byte) { p[2]++ })}, FragMalformed},
		"header too short":       {[][]byte{bad(func(p []byte) { p[0] = 0x44 })}, FragMalformed},
		"not a multiple of 8":    {[][]byte{fragAt(1, 17, 0, 801, true)}, FragMalformed},
		"empty":                  {[][]byte{fragAt(1, 17, 80, 0, false)}, FragMalformed},
		"v6 truncated header":    {[][]byte{fragUDP6(0, 44)[:44]}, FragMalformed},
		"too long":               {[][]byte{fragAt(1, 17, 65528, 8, false)}, FragTooLong},
		"tcp header cut":         {[][]byte{fragAt(1, 6, 0, 16, true)}, FragTiny},
		"sctp header cut":        {[][]byte{fragAt(1, 132, 0, 8, true)}, FragTiny},
		"v6 nested":              {[][]byte{nested}, FragTiny},
		"v6 chain cut":           {[][]byte{cutChain}, FragTiny},
		"udp header suffices":    {[][]byte{fragAt(1, 17, 0, 8, true)}, FragHeld},
		"duplicate":              {[][]byte{fragAt(1, 17, 0, 800, true), fragAt(1, 17, 0, 800, true)}, FragDuplicate},
		"duplicate last":         {[][]byte{fragAt(1, 17, 80, 33, false), fragAt(1, 17, 80, 33, false)}, FragDuplicate},
		"other content":          {[][]byte{fragAt(1, 17, 0, 800, true), changed}, FragOverlap},
		"overlap behind":         {[][]byte{fragAt(1, 17, 0, 800, true), fragAt(1, 17, 792, 800, true)}, FragOverlap},
		"overlap before":         {[][]byte{fragAt(1, 17, 800, 800, true), fragAt(1, 17, 0, 808, true)}, FragOverlap},
		"covers":                 {[][]byte{fragAt(1, 17, 80, 8, true), fragAt(1, 17, 0, 800, true)}, FragOverlap},
		"second end":             {[][]byte{fragAt(1, 17, 800, 8, false), fragAt(1, 17, 1600, 8, false)}, FragOverlap},
		"end before the end":     {[][]byte{fragAt(1, 17, 800, 8, true), fragAt(1, 17, 400, 8, false)}, FragOverlap},
		"behind the end":         {[][]byte{fragAt(1, 17, 400, 8, false), fragAt(1, 17, 800, 8, true)}, FragOverlap},
		"same as end, and more":  {[][]byte{fragAt(1, 17, 400, 8, false), fragAt(1, 17, 400, 8, true)}, FragOverlap},
		"spoilt for ever": {[][]byte{fragAt(1, 17, 0, 800, true), changed,
			fragAt(1, 17, 0, 800, true), fragAt(1, 17, 800, 8, false)}, FragOverlap},
		"another protocol": {[][]byte{fragAt(1, 17, 0, 800, true), fragAt(1, 1, 0, 800, true)}, FragHeld},
		"congestion, not understood": {[][]byte{ecn(fragAt(1, 17, 0, 800, true), 3),
			ecn(fragAt(1, 17, 800, 8, false), 0)}, FragECN},
	} {
		r := NewReassembler(ReassemblerConfig{})
		var got FragResult
		for _, p := range c.pkts {
			_, got = r.Add(0, p)
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestReassemblerKeepsCongestionMark(t *testing.T) {
	mark := func(pkts [][]byte, v6 bool) {
		for _, p := range pkts {
			if v6 {
				p[1] |= 2 << 4
			} else {
				p[1] |= 2
				fragSetIPv4(p[:20], len(p), binary.BigEndian.Uint16(p[6:]))
			}
		}
		if v6 {
			pkts[1][1] |= 3 << 4
		} else {
			pkts[1][1] |= 3
			fragSetIPv4(pkts[1][:20], len(pkts[1]), binary.BigEndian.Uint16(pkts[1][6:]))
		}
	}
	for _, v6 := range []bool{false, true} {
		pkt := fragUDP4(3000, 4)
		if v6 {
			pkt = fragUDP6(3000, 17)
		}
		frags := fragCut(t, pkt, 1280, 4)
		mark(frags, v6)
		r := NewReassembler(ReassemblerConfig{})
		for i, f := range frags {
			got, res := r.Add(0, f)
			if i < len(frags)-1 {
				continue
			}
			if res != FragWhole {
				t.Fatal(res)
			}
			if ecn := got.Packet[1]; !v6 && ecn&3 != 3 || v6 && ecn>>4&3 != 3 {
				t.Errorf("v6 %v: second byte %#x", v6, ecn)
			}
			if !v6 && fragSum(got.Packet[:20]) != 0xffff {
				t.Error("bad checksum")
			}
		}
	}
}

func TestReassemblerAtomic(t *testing.T) {
	atomic := fragUDP6(100, 44, 17, 0, 0, 0, 0, 0, 0, 1)
	r := NewReassembler(ReassemblerConfig{})
	r.Add(0, fragCut(t, fragUDP6(3000, 17), 1280, 1)[0]) // the same addresses and identification
	got, res := r.Add(0, atomic)
	if res != FragAtomic || &got.Packet[0] != &atomic[0] || got.MaxFragment != len(atomic) {
		t.Errorf("%v, %d bytes", res, len(got.Packet))
	}
	if s := r.Stats(); s.Datagrams != 1 {
		t.Errorf("%+v", s)
	}
}

func TestReassemblerTimeout(t *testing.T) {
	r := NewReassembler(ReassemblerConfig{})
	r.Add(0, fragAt(1, 17, 0, 800, true))
	r.Add(20*time.Second, fragAt(2, 17, 0, 800, true))
	r.Add(29*time.Second, fragAt(1, 17, 800, 800, true)) // doesn't buy more time
	if n := r.Expire(30*time.Second - 1); n != 0 {
		t.Errorf("%d expired too early", n)
	}
	if _, res := r.Add(30*time.Second, fragAt(1, 17, 1600, 8, false)); res != FragHeld {
		t.Error(res)
	}
	if s := r.Stats(); s.Expired != 1 || s.Datagrams != 2 {
		t.Errorf("%+v", s)
	}
	r.Expire(time.Hour)
	if s := r.Stats(); s.Expired != 3 || s.Datagrams != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestReassemblerBounds(t *testing.T) {
	t.Run("fragments", func(t *testing.T) {
		r := NewReassembler(ReassemblerConfig{MaxFragments: 4})
		for i := range 4 {
			if _, res := r.Add(0, fragAt(1, 17, i*8, 8, true)); res != FragHeld {
				t.Fatal(res)
			}
		}
		if _, res := r.Add(0, fragAt(1, 17, 32, 8, true)); res != FragTooMany {
			t.Error(res)
		}
		if s := r.Stats(); s.Bytes != fragDatagramCost {
			t.Errorf("a spoilt datagram keeps %d bytes", s.Bytes)
		}
	})
	t.Run("source", func(t *testing.T) {
		r := NewReassembler(ReassemblerConfig{MaxSourceBytes: 10_000})
		other := fragAt(1, 17, 0, 800, true)
		other[15]++ // another source
		fragSetIPv4(other[:20], len(other), fragIPv4MF)
		r.Add(0, other)
		for id := range uint16(100) {
			if _, res := r.Add(0, fragAt(id, 17, 0, 800, true)); res != FragHeld {
				t.Fatal(res)
			}
			if s := r.Stats(); s.Bytes > 12_000 {
				t.Fatalf("%+v", s)
			}
		}
		other = fragAt(1, 17, 800, 8, false)
		other[15]++
		fragSetIPv4(other[:20], len(other), 100)
		if _, res := r.Add(0, other); res != FragWhole {
			t.Errorf("the other source suffered: %v", res)
		}
		// The newest of the flooding source is still there.
		if _, res := r.Add(0, fragAt(99, 17, 800, 8, false)); res != FragWhole {
			t.Error(res)
		}
	})
	t.Run("no space", func(t *testing.T) {
		r := NewReassembler(ReassemblerConfig{MaxSourceBytes: 2000})
		r.Add(0, fragAt(1, 17, 0, 800, true))
		if _, res := r.Add(0, fragAt(1, 17, 800, 800, true)); res != FragNoSpace {
			t.Error(res)
		}
	})
	t.Run("memory", func(t *testing.T) {
		if testing.CoverMode() != "" {
			return // counters of coverage are allocations too
		}
		r := NewReassembler(ReassemblerConfig{MaxFragments: 8192})
		before := fragHeap()
		pkt := fragAt(1, 17, 0, 8, true)
		for i := range 200_000 {
			binary.BigEndian.PutUint32(pkt[12:], uint32(i/4))
			fragSetIPv4(pkt[:20], len(pkt), fragIPv4MF|uint16(i%4*2))
			if _, res := r.Add(0, pkt); res != FragHeld {
				t.Fatal(res)
			}
		}
		if held := int(fragHeap() - before); held > 4<<20 {
			t.Errorf("%d bytes of heap for a bound of %d, counted as %d", held, 4<<20, r.Stats().Bytes)
		} else {
			t.Logf("%d bytes of heap, counted as %d, %d datagrams", held, r.Stats().Bytes, r.Stats().Datagrams)
		}
		runtime.KeepAlive(r)
	})
}

func fragHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
