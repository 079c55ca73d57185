package wire

// SeqLess reports whether a comes before b in sequence space (RFC 9293
// section 3.4: comparisons modulo 2^32).
func SeqLess(a, b uint32) bool { return int32(a-b) < 0 }

// SeqMax returns the later of two sequence numbers.
func SeqMax(a, b uint32) uint32 {
	if SeqLess(a, b) {
		return b
	}
	return a
}
