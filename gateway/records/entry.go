package records

import (
	"encoding/binary"
	"hash/crc32"
)

// An entry of the file, integers in big endian:
//
//	0  2  marker
//	2  1  op
//	3  1  length of the key
//	4  2  length of the value
//	6  4  CRC-32C of bytes 2 to 5, key and value
//	10    key, value
//
// The marker is there to find the next entry behind damage.
const (
	entryMarker = 0xa75e
	entryHeader = 10

	opPut    = 1
	opDelete = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendEntry appends an entry, whose key and value must fit.
func appendEntry(dst []byte, op byte, key, value []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, entryMarker)
	dst = append(dst, op, byte(len(key)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(append(dst, key...), value...)
	binary.BigEndian.PutUint32(dst[at+6:], entrySum(dst[at:]))
	return dst
}

func entrySum(entry []byte) uint32 {
	return crc32.Update(crc32.Checksum(entry[2:6], castagnoli), castagnoli, entry[entryHeader:])
}

// entry is a decoded entry; key and value alias what it was decoded from.
type entry struct {
	op         byte
	key, value []byte
	size       int // in the file
}

// parseEntry decodes the entry at the start of b.
func parseEntry(b []byte) (entry, bool) {
	if len(b) < entryHeader || binary.BigEndian.Uint16(b) != entryMarker {
		return entry{}, false
	}
	op, k, v := b[2], int(b[3]), int(binary.BigEndian.Uint16(b[4:]))
	size := entryHeader + k + v
	if op != opPut && op != opDelete || op == opDelete && v != 0 || k == 0 || v > MaxValue || size > len(b) ||
		binary.BigEndian.Uint32(b[6:]) != entrySum(b[:size]) {
		return entry{}, false
	}
	return entry{op: op, key: b[entryHeader : entryHeader+k : entryHeader+k], value: b[entryHeader+k : size : size], size: size}, true
}

// scan calls each for every readable entry of b, in order. After damage it continues with
// the next readable entry. It returns the number of damaged places and of skipped bytes.
func scan(b []byte, each func(entry)) (places, bytes int) {
	damaged := false
	for len(b) > 0 {
		e, ok := parseEntry(b)
		if ok {
			damaged = false
			each(e)
			b = b[e.size:]
			continue
		}
		if !damaged {
			damaged = true
			places++
		}
		bytes++
		b = b[1:]
	}
	return places, bytes
}
