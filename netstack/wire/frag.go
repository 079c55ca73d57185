package wire

import "fmt"

// FragResult is the outcome of a packet that was passed to a Reassembler.
type FragResult uint8

const (
	// FragNone: the packet is no fragment; it was not looked at any further.
	FragNone FragResult = iota
	// FragHeld: the fragment is kept until the rest of its datagram arrives.
	FragHeld
	// FragWhole: the fragment completed its datagram.
	FragWhole
	// FragAtomic: an IPv6 packet with a fragment header that is first and last
	// fragment in one. It stands for itself, whatever else is held under the
	// same identification (RFC 6946, section 4).
	FragAtomic
	// FragDuplicate: the very same fragment is held already.
	FragDuplicate
	// FragMalformed: a header that contradicts itself or the packet's length, or
	// a length that is not a multiple of 8 in a fragment that is not the last.
	FragMalformed
	// FragTiny: a first fragment without the whole chain of headers up to and
	// including the transport header (RFC 7112, section 5; RFC 1858, section 3).
	FragTiny
	// FragOverlap: the fragment covers bytes that another one covers, or
	// disagrees about where the datagram ends. The datagram is lost with all its
	// fragments, those to come too (RFC 5722, section 4).
	FragOverlap
	// FragTooLong: the datagram would be longer than 65,535 bytes.
	FragTooLong
	// FragTooMany: the datagram arrived in more fragments than the limit allows.
	FragTooMany
	// FragNoSpace: the fragment alone is more than its source may occupy.
	FragNoSpace
	// FragECN: some fragments are marked with congestion experienced and others
	// that their sender does not understand that (RFC 3168, section 5.3).
	FragECN

	numFragResults
)

var fragResultNames = [numFragResults]string{
	FragNone:      "not-a-fragment",
	FragHeld:      "fragment-held",
	FragWhole:     "fragments-whole",
	FragAtomic:    "fragment-atomic",
	FragDuplicate: "fragment-duplicate",
	FragMalformed: "fragment-malformed",
	FragTiny:      "fragment-tiny",
	FragOverlap:   "fragment-overlap",
	FragTooLong:   "fragment-too-long",
	FragTooMany:   "fragment-too-many",
	FragNoSpace:   "fragment-no-space",
	FragECN:       "fragment-ecn",
}

// String returns the name under which counters count the result.
func (r FragResult) String() string {
	if r < numFragResults {
		return fragResultNames[r]
	}
	return fmt.Sprintf("fragment-result-%d", uint8(r))
}

// Refused reports whether the fragment was dropped for a fault of its own or of its
// datagram. A duplicate is not refused: nothing is lost with it.
func (r FragResult) Refused() bool { return r >= FragMalformed }
