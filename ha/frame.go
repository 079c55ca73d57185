package ha

import (
	"encoding/binary"
	"fmt"
)

// The wire format of replication, integers in big endian:
//
//	"gwr" | version 1 | kind 1 | boot of the sender 8 | session: epoch 8, number 4
//
//	open   nothing
//	sums   position 8 | 256 sums of buckets, 4 each
//	data   position 8 | operations
//	ack    position 8 | flags 1
//
// A position counts data messages from 1; an ack's is the next one expected.
// Operations, with u for a varint:
//
//	name    1 | id u | key length 1 | value length u | key | value
//	put     2 | id u | value length u | value
//	delete  3 | id u
//	drop    4 | key length 1 | key
//	begin   5 | bucket 1
//	end     6 | bucket 1
//	digest  7 | digest 8
//	all     8
const (
	// ReplicaMagic is how every payload of a Replicator begins.
	ReplicaMagic = "gwr"
	// ReplicaVersion of the wire format of replication.
	ReplicaVersion = 1

	frameHeader = 25
	maxID       = 1 << 22
)

type frameKind uint8

const (
	frameOpen frameKind = iota + 1
	frameSums
	frameData
	frameAck
)

const (
	opName   = iota + 1 // a record with its key, and an id for it
	opPut               // another value for the record id
	opDelete            // of the record id
	opDrop              // of a record without an id
	opBegin             // of a bucket's repair
	opEnd               // of it: what it did not contain is removed
	opDigest
	opAll // the standby has everything

	flagEqual   = 1 // ack: the last digest was equal
	flagDiffers = 2 // ack: it was not
)

// session names a stream.
type session struct {
	epoch  uint64
	number uint32
}

func (s session) after(o session) bool {
	return s.epoch > o.epoch || s.epoch == o.epoch && s.number > o.number
}

type frame struct {
	kind    frameKind
	boot    uint64
	session session
	pos     uint64
	flags   uint8
	sums    [buckets]uint32
	ops     []byte
}

func (f *frame) append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, ReplicaMagic...)
	b = append(b, ReplicaVersion, byte(f.kind))
	b = be.AppendUint64(b, f.boot)
	b = be.AppendUint64(b, f.session.epoch)
	b = be.AppendUint32(b, f.session.number)
	if f.kind == frameOpen {
		return b
	}
	b = be.AppendUint64(b, f.pos)
	switch f.kind {
	case frameSums:
		for _, s := range f.sums {
			b = be.AppendUint32(b, s)
		}
	case frameAck:
		b = append(b, f.flags)
	case frameData:
		b = append(b, f.ops...)
	}
	return b
}

// decode reads b; ops alias it.
func (f *frame) decode(b []byte) error {
	if len(b) < frameHeader || string(b[:3]) != ReplicaMagic {
		return fmt.Errorf("%w: no header", ErrMalformed)
	}
	if b[3] != ReplicaVersion {
		return fmt.Errorf("%w: theirs is %d, ours %d: update the older node", ErrVersion, b[3], ReplicaVersion)
	}
	be := binary.BigEndian
	f.kind, f.boot = frameKind(b[4]), be.Uint64(b[5:])
	f.session = session{epoch: be.Uint64(b[13:]), number: be.Uint32(b[21:])}
	v := b[frameHeader:]
	if f.kind != frameOpen {
		if len(v) < 8 {
			return fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
		}
		f.pos, v = be.Uint64(v), v[8:]
	}
	ok := len(b) <= MaxReplica
	switch f.kind {
	case frameOpen:
		ok = ok && len(v) == 0
	case frameSums:
		ok = ok && len(v) == 4*buckets
		for i := 0; ok && i < buckets; i++ {
			f.sums[i] = be.Uint32(v[4*i:])
		}
	case frameAck:
		ok = ok && len(v) == 1 && v[0] <= flagDiffers
		if ok {
			f.flags = v[0]
		}
	case frameData:
		f.ops = v
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%w: kind %d of %d bytes", ErrMalformed, f.kind, len(b))
	}
	return nil
}

// op is one operation; key and value alias the frame.
type op struct {
	kind       byte
	id         uint32
	bucket     int
	digest     uint64
	key, value []byte
}

// nextOp reads the operation at the front of b and returns the rest.
func nextOp(b []byte) (o op, rest []byte, err error) {
	bad := func() (op, []byte, error) {
		return op{}, nil, fmt.Errorf("%w: operation %d", ErrMalformed, o.kind)
	}
	uvarint := func(limit uint64) (uint64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	take := func(n int) (v []byte, ok bool) {
		if n > len(b) {
			return nil, false
		}
		v, b = b[:n:n], b[n:]
		return v, true
	}
	o.kind, b = b[0], b[1:]
	if o.kind >= opName && o.kind <= opDelete {
		id, ok := uvarint(maxID)
		if o.id = uint32(id); !ok || id == 0 {
			return bad()
		}
	}
	keyLen, valueLen, ok := 0, uint64(0), true
	if o.kind == opName || o.kind == opDrop {
		if len(b) < 1 || b[0] == 0 {
			return bad()
		}
		keyLen, b = int(b[0]), b[1:]
	}
	if o.kind == opName || o.kind == opPut {
		if valueLen, ok = uvarint(MaxValue); !ok {
			return bad()
		}
	}
	switch o.kind {
	case opName, opPut, opDrop:
		if o.key, ok = take(keyLen); ok {
			o.value, ok = take(int(valueLen))
		}
	case opDelete, opAll:
	case opBegin, opEnd:
		var v []byte
		if v, ok = take(1); ok {
			o.bucket = int(v[0])
		}
	case opDigest:
		var v []byte
		if v, ok = take(8); ok {
			o.digest = binary.BigEndian.Uint64(v)
		}
	default:
		ok = false
	}
	if !ok {
		return bad()
	}
	return o, b, nil
}
