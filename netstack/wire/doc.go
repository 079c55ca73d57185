// Package wire holds packets as values: it parses, verifies, edits, cuts and
// joins IP packets, and builds the few that a gateway sends in its own name. It
// also holds the frames in which a relayed connection crosses between gateways.
//
// It does no I/O, keeps no clock and starts no goroutine. Functions that work
// on a packet work in place on the bytes that they are given and allocate
// nothing, unless their comment states otherwise. Nothing in here is safe for
// concurrent use on the same packet.
//
// The package is a leaf: it imports nothing of this module.
package wire
