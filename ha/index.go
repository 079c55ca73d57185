package ha

import (
	"encoding/binary"
	"math/bits"
)

const buckets = 256

// index is what a Replicator remembers of the records: on the active node, what it has
// put into the stream; on the standby, what it has applied from it.
type index struct {
	bucket [buckets]map[string]entry
	sums   [buckets]uint64 // of the hashes of the bucket's records
	len    int
	round  uint32 // marks entries, see entry.round
}

type entry struct {
	hash    uint64
	id      uint32 // its short name in a stream; 0 none
	session uint32 // the stream in which id holds
	round   uint32 // when it was touched last: since the bucket's repair, or since this node leads
}

// FNV-1a, 64 bits: draft-eastlake-fnv section 5. It needs no key: records
// made to have equal hashes only hide that they differ on the two nodes.
func fnv(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// mix spreads h over all bits, so that sums of hashes distinguish sets.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

const fnvBasis = 14695981039346656037

func bucketOf(key string) int { return int(mix(fnv(fnvBasis, []byte(key))) >> 56) }

func hashOf(key string, value []byte) uint64 {
	var n [2]byte
	binary.BigEndian.PutUint16(n[:], uint16(len(key)))
	return mix(fnv(fnv(fnv(fnvBasis, n[:]), []byte(key)), value))
}

func (x *index) get(b int, key string) (entry, bool) {
	e, ok := x.bucket[b][key]
	return e, ok
}

func (x *index) put(b int, key string, e entry) {
	if x.bucket[b] == nil {
		x.bucket[b] = map[string]entry{}
	}
	old, had := x.bucket[b][key]
	if !had {
		x.len++
	}
	x.sums[b] += e.hash - old.hash
	x.bucket[b][key] = e
}

func (x *index) drop(b int, key string) {
	if old, had := x.bucket[b][key]; had {
		x.sums[b] -= old.hash
		x.len--
		delete(x.bucket[b], key)
	}
}

// digest is one number for all records.
func (x *index) digest() uint64 {
	var d uint64
	for i, s := range x.sums {
		d = bits.RotateLeft64(d, 9) + mix(s+uint64(i))
	}
	return d
}

// short are the buckets' sums as they cross the wire.
func (x *index) short() (s [buckets]uint32) {
	for i, v := range x.sums {
		s[i] = uint32(v>>32) ^ uint32(v)
	}
	return s
}
