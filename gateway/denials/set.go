package denials

import "math/bits"

// set is a set of 16-bit numbers. It takes 8 KB from its second member on.
type set struct {
	n     int
	first uint16
	bits  *[1 << 16 / 64]uint64
}

func (s *set) add(m uint16) {
	switch {
	case s.n == 0 && s.bits == nil:
		s.first, s.n = m, 1
		return
	case s.bits == nil && m == s.first:
		return
	case s.bits == nil:
		s.bits = new([1 << 16 / 64]uint64)
		s.bits[s.first/64] |= 1 << (s.first % 64)
	}
	if bit := uint64(1) << (m % 64); s.bits[m/64]&bit == 0 {
		s.bits[m/64] |= bit
		s.n++
	}
}

func (s *set) len() int { return s.n }

// list returns the lowest members but 0, at most so many, and how many members but 0 there are.
func (s *set) list(most int) (out []uint16, n int) {
	switch {
	case s.n == 0:
		return nil, 0
	case s.bits == nil && s.first == 0:
		return nil, 0
	case s.bits == nil:
		return []uint16{s.first}, 1
	}
	n = s.n
	if s.bits[0]&1 != 0 {
		n--
	}
	for i, word := range s.bits {
		for ; word != 0 && len(out) < most; word &= word - 1 {
			if m := i*64 + bits.TrailingZeros64(word); m != 0 {
				out = append(out, uint16(m))
			}
		}
	}
	return out, n
}

// clear empties the set and keeps its memory.
func (s *set) clear() {
	s.n = 0
	if s.bits != nil {
		clear(s.bits[:])
	}
}
