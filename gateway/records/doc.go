// Package records keeps what a gateway must remember of its flows: in a file, so
// that a gateway that was killed goes on with them when it is started again, and
// by asking the gateway of another site, which knows the same flows.
//
// A record is an opaque key and an opaque value, about 100 bytes together. What
// they mean, and whether a record that comes back is still to be believed, is
// the caller's matter.
//
// The file is a log: a versioned header, then entries, each with a checksum of
// its own. It is written by one task in batches and never waits for the disk,
// since what has to survive is the death of the process, not of the machine; it
// is synced when it is rewritten, so that a rewrite can't lose what was there.
package records

import "iter"

// Limits of one record, in bytes. A key has at least one byte.
const (
	MaxKey   = 255
	MaxValue = 4096
)

// Record is a key with its value.
type Record struct {
	Key, Value []byte
}

// Snapshot yields every record that its owner holds at the moment. Yield copies
// what it is given and never blocks, so an owner may hold a lock meanwhile.
type Snapshot = iter.Seq2[[]byte, []byte]

// fits says whether a record is within the limits.
func fits(key, value []byte) bool {
	return len(key) > 0 && len(key) <= MaxKey && len(value) <= MaxValue
}
