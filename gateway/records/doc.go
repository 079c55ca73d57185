// Package records keeps the records of a gateway's flows: in a file, from which a
// restarted gateway resumes them, and by fetching them from the gateway of another site,
// which knows the same flows.
//
// A record is an opaque key and an opaque value, about 100 bytes together. Their meaning,
// and whether a record that was read is still valid, are the caller's business.
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

// Snapshot yields every record that its owner holds. Yield copies its arguments and never
// blocks, so the owner may hold a lock during the iteration.
type Snapshot = iter.Seq2[[]byte, []byte]

// fits reports whether a record is within the limits.
func fits(key, value []byte) bool {
	return len(key) > 0 && len(key) <= MaxKey && len(value) <= MaxValue
}
