package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// fragOracle does what a Reassembler does for one datagram, byte by byte.
type fragOracle struct {
	seen   map[string]bool
	owned  map[int]byte
	total  int
	beyond int
	spoilt bool
}

func (o *fragOracle) add(offset int, payload []byte, more bool) FragResult {
	name := fmt.Sprint(offset, more, payload)
	switch {
	case o.spoilt:
		return FragOverlap
	case o.seen[name]:
		return FragDuplicate
	}
	o.seen[name] = true
	for i := range payload {
		if _, ok := o.owned[offset+i]; ok {
			o.spoilt = true
		}
	}
	for i, b := range payload {
		o.owned[offset+i] = b
	}
	end := offset + len(payload)
	o.beyond = max(o.beyond, end)
	if !more && o.total >= 0 {
		o.spoilt = true
	}
	if !more {
		o.total = end
	}
	if o.total >= 0 && o.beyond > o.total {
		o.spoilt = true
	}
	if o.spoilt {
		return FragOverlap
	}
	if len(o.owned) == o.total {
		return FragWhole
	}
	return FragHeld
}

func TestReassemblerAgainstOracle(t *testing.T) {
	results := map[FragResult]int{}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		r := NewReassembler(ReassemblerConfig{})
		o := &fragOracle{seen: map[string]bool{}, owned: map[int]byte{}, total: -1}
		units := 2 + rng.IntN(6)
		for range 40 {
			at := rng.IntN(units)
			n := 8 * (1 + rng.IntN(2))
			more := at*8+n < units*8
			if rng.IntN(20) == 0 {
				more = !more
			}
			if at == 0 && !more {
				continue // not a fragment
			}
			pkt := fragAt(1, 17, at*8, n, more)
			fill := byte(0)
			if rng.IntN(20) == 0 {
				fill = 1
			}
			for i := range pkt[20:] {
				pkt[20+i] = byte(at*8+i) + fill
			}
			got, res := r.Add(0, pkt)
			want := o.add(at*8, pkt[20:], more)
			results[res]++
			if res != want {
				t.Fatalf("seed %d: offset %d, %d bytes, more %v: %v, oracle says %v", seed, at*8, n, more, res, want)
			}
			if res == FragWhole {
				for i, b := range got.Packet[20:] {
					if o.owned[i] != b {
						t.Fatalf("seed %d: byte %d differs", seed, i)
					}
				}
				if len(got.Packet) != 20+o.total {
					t.Fatalf("seed %d: %d bytes, want %d", seed, len(got.Packet), 20+o.total)
				}
				break
			}
		}
	}
	for _, res := range []FragResult{FragHeld, FragDuplicate, FragOverlap, FragWhole} {
		if results[res] < 100 {
			t.Errorf("%v came only %d times", res, results[res])
		}
	}
}

func FuzzFragment(f *testing.F) {
	for _, p := range fragPackets() {
		if len(p) < 8000 {
			f.Add(p, uint16(1280), uint64(1))
		}
	}
	f.Add(fragUDP4(600, 3, 7, 0, 0, 0), uint16(99), uint64(2))
	f.Fuzz(func(t *testing.T, pkt []byte, mtu uint16, seed uint64) {
		in := bytes.Clone(pkt)
		if len(in) >= 20 && in[0]>>4 == 4 { // let more packets through to the interesting part
			ihl := min(int(in[0]&0xf)*4, len(in))
			if ihl >= 20 && len(in) <= 65535 {
				fragSetIPv4(in[:ihl], len(in), 0)
			}
		}
		var frags [][]byte
		err := Fragment(in, int(mtu), 42, func(f []byte) {
			if len(f) > int(mtu) {
				t.Fatalf("%d bytes for mtu %d", len(f), mtu)
			}
			frags = append(frags, bytes.Clone(f))
		})
		if err != nil || len(frags) == 1 {
			if err != nil && len(frags) > 0 || len(frags) == 1 && !bytes.Equal(frags[0], in) {
				t.Fatal("half done, or changed")
			}
			return
		}
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(frags), func(i, j int) { frags[i], frags[j] = frags[j], frags[i] })
		r := NewReassembler(ReassemblerConfig{MaxFragments: 10_000, MaxSourceBytes: 4 << 20})
		for i, f := range frags {
			got, res := r.Add(0, f)
			switch {
			case res == FragTiny, res == FragECN: // the packet's headers were cut in two
				return
			case i < len(frags)-1:
				if res != FragHeld {
					t.Fatalf("fragment %d of %d: %v", i, len(frags), res)
				}
			case res != FragWhole || !bytes.Equal(got.Packet, in):
				t.Fatalf("%v\n got %x\nwant %x", res, got.Packet, in)
			}
		}
	})
}

func FuzzReassembler(f *testing.F) {
	for _, p := range fragPackets() {
		if len(p) > 8000 {
			continue
		}
		var in []byte
		for _, frag := range fragCut(f, p, 1280, 1) {
			in = binary.BigEndian.AppendUint16(in, uint16(len(frag)))
			in = append(in, frag...)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		cfg := ReassemblerConfig{MaxBytes: 20_000, MaxSourceBytes: 8_000, MaxFragments: 8}
		r := NewReassembler(cfg)
		for now := time.Duration(0); len(in) >= 2; now += time.Second {
			n := min(int(binary.BigEndian.Uint16(in)), len(in)-2)
			pkt := in[2 : 2+n]
			in = in[2+n:]
			before := bytes.Clone(pkt)
			got, res := r.Add(now, pkt)
			if !bytes.Equal(before, pkt) {
				t.Fatal("the packet was changed")
			}
			if (got.Packet != nil) != (res == FragWhole || res == FragAtomic) {
				t.Fatalf("%v with %d bytes", res, len(got.Packet))
			}
			if res == FragWhole {
				if IsFragment(got.Packet) {
					t.Fatal("the whole is a fragment again")
				}
				if got.Packet[0]>>4 == 4 && fragSum(got.Packet[:int(got.Packet[0]&0xf)*4]) != 0xffff {
					t.Fatal("bad checksum")
				}
				if err := Fragment(got.Packet, len(got.Packet), 0, func([]byte) {}); err != nil {
					t.Fatal(err)
				}
			}
			s, sum := r.Stats(), 0
			for _, src := range r.sources {
				if sum += src.bytes; src.bytes > cfg.MaxSourceBytes || src.byAge.Len() == 0 {
					t.Fatalf("a source holds %d bytes, %d datagrams", src.bytes, src.byAge.Len())
				}
			}
			if s.Bytes > cfg.MaxBytes || s.Bytes != sum || s.Datagrams != len(r.datagrams) {
				t.Fatalf("%+v, sources hold %d", s, sum)
			}
		}
		if r.Expire(time.Duration(1 << 62)); r.Stats().Bytes != 0 || len(r.sources) != 0 {
			t.Fatalf("left behind: %+v", r.Stats())
		}
	})
}

func BenchmarkReassemble(b *testing.B) {
	var frags [][]byte
	if err := Fragment(fragUDP4(8192, 1), 1420, 0, func(f []byte) { frags = append(frags, bytes.Clone(f)) }); err != nil {
		b.Fatal(err)
	}
	r := NewReassembler(ReassemblerConfig{})
	b.SetBytes(8192)
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range frags {
			r.Add(0, f)
		}
	}
}
