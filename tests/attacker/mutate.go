package attacker

import (
	"encoding/binary"
	"math/rand/v2"
)

// edges are the values at which arithmetic of a reader goes wrong.
var edges = []uint64{
	0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32,
	1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 1<<32,
}

// steps are how far a number is moved that should stay near its value: sequence numbers,
// milliseconds, bytes.
var steps = []uint64{1, 2, 100, 1 << 10, 1 << 15, 1 << 16, 1 << 20, 1 << 24, 1 << 31, 43_200_000, 86_400_000}

// maxMutant bounds a mutated payload, in bytes.
const maxMutant = 1380

// mutate returns a changed copy of payload, at most maxMutant bytes long. from gives other
// payloads of the same protocol, of which parts are taken; it may return nil.
func mutate(r *rand.Rand, payload []byte, from func() []byte) []byte {
	b := append(make([]byte, 0, maxMutant), payload[:min(len(payload), maxMutant)]...)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			b = append(b, byte(r.Uint32()))
		}
		switch at := r.IntN(len(b)); r.IntN(8) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.Uint32())
		case 2, 3:
			putNumber(r, b, at, func(uint64) uint64 { return edges[r.IntN(len(edges))] })
		case 4:
			putNumber(r, b, at, func(v uint64) uint64 {
				if d := steps[r.IntN(len(steps))]; r.IntN(2) == 0 {
					return v + d
				} else {
					return v - d
				}
			})
		case 5:
			b = b[:at]
		case 6: // repeat a part
			n := min(1+r.IntN(64), len(b)-at, maxMutant-len(b))
			b = append(b, b[at:at+n]...)
		case 7: // insert a part of another one
			if o := from(); len(o) > 0 {
				copy(b[at:], o[min(at, len(o)-1):])
			}
		}
	}
	return b
}

// putNumber replaces a big-endian number of 1, 2, 4 or 8 bytes at or before at.
func putNumber(r *rand.Rand, b []byte, at int, value func(uint64) uint64) {
	size := 1 << r.IntN(4)
	if size > len(b) {
		size = 1
	}
	at = min(at, len(b)-size)
	var v [8]byte
	copy(v[8-size:], b[at:])
	binary.BigEndian.PutUint64(v[:], value(binary.BigEndian.Uint64(v[:])))
	copy(b[at:at+size], v[8-size:])
}
