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

// WindowField returns the value of a segment's window field that opens a right edge, rounded
// down (RFC 7323 section 2.3); 0 for an edge behind the acknowledgement.
func WindowField(ack, edge uint32, scale uint8) uint16 {
	return uint16(min(uint32(max(int32(edge-ack), 0))>>scale, 0xffff))
}
