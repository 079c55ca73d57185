package trunk

import (
	"encoding/binary"
	"errors"
	"time"
)

// A packet between nodes is the payload of an IP packet of protocol wire.ProtoTrunk inside
// the tunnel, between their own addresses. WireGuard vouches for every bit of it. All
// numbers are big endian. It begins with
//
//	count 4, long 1, kind 3, tag 24, and if it is long: from 32, to 32
//
// where from and to are the sessions of the sender and the receiver, to is 0 while the
// sender knows of none, and tag is the low bits of one xor the other: that of a former
// session of either node is another one. A sender writes long ones until it has heard that
// the receiver knows its session. After that, data has the low bits of its number and count
// chunks,
//
//	number 32, and count times: stream 32, offset 32, flags 4, length 12, and length bytes
//
// where offset is the low bits of that in the stream. An acknowledgement has the time
// since the newest packet has come, in microseconds, and ranges of numbers, newest first,
// each with its first number and the one after its last:
//
//	waited 32, and to the end: first 64, end 64
const (
	kindData  = 1
	kindAck   = 2
	kindReset = 3 // the sender does not know the session that it was spoken to in

	kindMask, longBit, countShift = 1<<3 - 1, 1 << 3, 4

	headSize  = 4
	longSize  = headSize + 8
	tagMask   = 1<<24 - 1
	numSize   = 4
	chunkSize = 10
	maxChunk  = 1<<12 - 1 // bytes of a chunk
	spanSize  = 16
)

// The flags of a chunk.
const (
	flagOpen   = 1 << iota // the stream is new, as far as is known
	flagFin                // nothing follows
	flagReset              // the stream has been given up, in both directions
	flagWindow             // the offset is how far the other end may send
)

// errPacket is that of a packet that makes no sense.
var errPacket = errors.New("malformed packet between nodes")

// head is the beginning of a packet.
type head struct {
	kind     uint8
	count    int
	long     bool
	from, to uint32 // of a long one
	tag      uint32
}

// size is that of a head in a packet.
func (h *head) size() int {
	if h.long {
		return longSize
	}
	return headSize
}

// parseHead reads the head of b, and returns what follows it.
func parseHead(b []byte) (h head, rest []byte, err error) {
	if len(b) < headSize {
		return h, nil, errPacket
	}
	first := binary.BigEndian.Uint32(b)
	h = head{kind: b[0] & kindMask, long: b[0]&longBit != 0, count: int(b[0] >> countShift), tag: first & tagMask}
	if !h.long {
		return h, b[headSize:], nil
	}
	if len(b) < longSize {
		return h, nil, errPacket
	}
	h.from, h.to = binary.BigEndian.Uint32(b[headSize:]), binary.BigEndian.Uint32(b[headSize+4:])
	if h.from == 0 || tagOf(h.from, h.to) != h.tag {
		return h, nil, errPacket
	}
	return h, b[longSize:], nil
}

// tagOf is the tag of what goes between two sessions.
func tagOf(from, to uint32) uint32 { return (from ^ to) & tagMask }

// putHead writes a head into b; its tag is that of from and to.
func putHead(b []byte, h *head) {
	binary.BigEndian.PutUint32(b, tagOf(h.from, h.to))
	b[0] = h.kind | byte(h.count)<<countShift
	if h.long {
		b[0] |= longBit
		binary.BigEndian.PutUint32(b[headSize:], h.from)
		binary.BigEndian.PutUint32(b[headSize+4:], h.to)
	}
}

// expand is the number with the given low bits that is nearest to another one.
func expand(low uint32, near uint64) uint64 {
	n := near + uint64(int64(int32(low-uint32(near))))
	if int64(n) < 0 {
		return uint64(low) // there is none before the first
	}
	return n
}

// piece is a chunk as it is sent.
type piece struct {
	stream uint32
	flags  uint8
	offset uint32 // its low bits
	data   []byte
}

func putPiece(b []byte, p *piece) {
	binary.BigEndian.PutUint32(b, p.stream)
	binary.BigEndian.PutUint32(b[4:], p.offset)
	binary.BigEndian.PutUint16(b[8:], uint16(p.flags)<<12|uint16(len(p.data)))
}

// parsePiece reads the first of b, and returns what follows it.
func parsePiece(b []byte) (p piece, rest []byte, err error) {
	if len(b) < chunkSize {
		return p, nil, errPacket
	}
	p = piece{stream: binary.BigEndian.Uint32(b), offset: binary.BigEndian.Uint32(b[4:]), flags: b[8] >> 4}
	n := int(binary.BigEndian.Uint16(b[8:]) & maxChunk)
	if len(b)-chunkSize < n {
		return p, nil, errPacket
	}
	p.data = b[chunkSize : chunkSize+n]
	return p, b[chunkSize+n:], nil
}

// putAck writes what an acknowledgement tells of the newest ranges into b, as many as
// there is room for, and returns its size.
func putAck(b []byte, waited time.Duration, got ranges) int {
	binary.BigEndian.PutUint32(b, uint32(min(max(waited.Microseconds(), 0), 1<<31)))
	at := numSize
	for i := len(got) - 1; i >= max(0, len(got)-maxSpans) && len(b)-at >= spanSize; i-- {
		binary.BigEndian.PutUint64(b[at:], got[i].from)
		binary.BigEndian.PutUint64(b[at+8:], got[i].to)
		at += spanSize
	}
	return at
}

// parseAck reads what an acknowledgement tells, and appends its ranges to spans.
func parseAck(b []byte, spans []span) (waited time.Duration, _ []span, err error) {
	if len(b) < numSize || (len(b)-numSize)%spanSize != 0 || (len(b)-numSize)/spanSize > maxSpans {
		return 0, nil, errPacket
	}
	waited = time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
	for b = b[numSize:]; len(b) > 0; b = b[spanSize:] {
		s := span{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
		if s.from >= s.to || len(spans) > 0 && s.to >= spans[len(spans)-1].from {
			return 0, nil, errPacket
		}
		spans = append(spans, s)
	}
	return waited, spans, nil
}
