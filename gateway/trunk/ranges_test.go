package trunk

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// bitset is the set of numbers from 0 to 63, slow and simple.
type bitset uint64

func bitsOf(s span) (b bitset) {
	for n := s.from; n < s.to; n++ {
		b |= 1 << n
	}
	return b
}

// set is a bitset as ranges, beginning with base.
func (b bitset) set(base uint64) (r ranges) {
	for n := uint64(0); n < 64; n++ {
		if b>>n&1 == 0 {
			continue
		}
		to := n + uint64(bits.TrailingZeros64(^uint64(b>>n)))
		r = append(r, span{base + n, base + to})
		n = to
	}
	return r
}

func TestRanges(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(1, seed))
		base := []uint64{0, 1, 1 << 40, ^uint64(0) - 64}[seed%4]
		var set ranges
		var want bitset
		for step := range 200 {
			a, b := r.Uint64N(65), r.Uint64N(65)
			if r.IntN(2) == 0 {
				b = min(64, a+r.Uint64N(4))
			}
			s, moved := span{a, b}, span{base + a, base + b}
			switch r.IntN(8) {
			case 0, 1, 2:
				set.add(moved)
				want |= bitsOf(s)
			case 3, 4, 5:
				set.remove(moved)
				want &^= bitsOf(s)
			case 6:
				if a < b && set.has(moved) != (want&bitsOf(s) == bitsOf(s)) {
					t.Fatalf("seed %d, step %d: has %v is %v of %v", seed, step, moved, set.has(moved), set)
				}
			case 7:
				end := a / 4
				from := base + end
				for end < 64 && want>>end&1 == 1 {
					end++
				}
				want &^= bitsOf(span{0, end})
				if got := set.pop(from); got != base+end {
					t.Fatalf("seed %d, step %d: pop %d is %d, want %d", seed, step, from, got, base+end)
				}
			}
			checkRanges(t, "set", set)
			if !slices.Equal(set, want.set(base)) {
				t.Fatalf("seed %d, step %d: %v, want %v", seed, step, set, want.set(base))
			}
		}
	}
}
