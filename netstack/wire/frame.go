package wire

import (
	"encoding/binary"
	"errors"
)

// A Frame carries the progress of one direction of a relayed connection from one
// gateway to the other. Frames follow each other on a trunk, which carries one connection,
// so that none has to name it. All positions are in wire space: they are the
// sequence numbers that the databases chose for themselves.
type Frame struct {
	Kind FrameKind
	// Fin reports that the sending side's database has sent FIN after the payload.
	Fin bool
	// Seq is the sequence number of the payload's first byte, or of the next
	// byte if there is none.
	Seq uint32
	// Ack is the latest acknowledgement of the sending side's database, and Edge the
	// right window edge that it has opened: the first byte that it does not accept.
	// Both are in the sequence space of the other direction.
	Ack, Edge uint32
	// Payload has at most MaxFramePayload bytes. Its meaning, apart from data, is
	// up to sender and receiver.
	Payload []byte
	// Further is the rest of the payload of data that has been received, in pieces as it
	// arrived. Senders leave it empty.
	Further [][]byte
}

// Size is how many bytes of payload there are.
func (f *Frame) Size() int {
	n := len(f.Payload)
	for _, b := range f.Further {
		n += len(b)
	}
	return n
}

// FrameKind is the purpose of a frame.
type FrameKind uint8

// The kinds are numbers of the wire: they only ever get additions, and an addition
// is a new version.
const (
	FrameOpen   FrameKind = 1 + iota // asks the other gateway to take part; the first on a trunk
	FrameAccept                      // it does
	FrameRefuse                      // it does not; the last on a trunk
	FrameData                        // carries payload and progress
	FrameClose                       // ends this direction
)

var frameKindNames = [...]string{
	FrameOpen: "open", FrameAccept: "accept", FrameRefuse: "refuse", FrameData: "data", FrameClose: "close",
}

// String returns the name that logs and people use.
func (k FrameKind) String() string {
	if k.known() {
		return frameKindNames[k]
	}
	return "unknown"
}

func (k FrameKind) known() bool { return k >= FrameOpen && k <= FrameClose }

// FrameHeaderSize is what precedes a frame's payload: version, kind, flags, a zero,
// and four numbers of 32 bits, big endian: length of the payload, Seq, Ack, Edge.
const FrameHeaderSize = 20

// MaxFramePayload bounds what the reader of a trunk has to make room for.
const MaxFramePayload = 256 << 10

const (
	frameVersion = 1
	frameFin     = 1 << 0 // the only flag
)

// Why a frame is refused. After any of them the stream can't be read on.
var (
	// ErrFrameVersion reports that the other gateway uses another version.
	ErrFrameVersion = errors.New("frame of an unknown version")
	// ErrFrame reports a truncated or invalid header.
	ErrFrame = errors.New("malformed frame")
)

// AppendFrameHeader appends the header of f to b, for so many bytes of payload as the
// caller sends after it; f.Payload is not looked at. They may be no more than
// MaxFramePayload.
func AppendFrameHeader(b []byte, f *Frame, payload int) []byte {
	var flags byte
	if f.Fin {
		flags |= frameFin
	}
	b = append(b, frameVersion, byte(f.Kind), flags, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(payload))
	b = binary.BigEndian.AppendUint32(b, f.Seq)
	b = binary.BigEndian.AppendUint32(b, f.Ack)
	return binary.BigEndian.AppendUint32(b, f.Edge)
}

// ParseFrameHeader reads the header at the beginning of b into f and returns how
// many bytes of payload follow it; f.Payload is nil then. What it refuses, by one
// of the errors above, leaves f as it was.
func ParseFrameHeader(b []byte, f *Frame) (payload int, err error) {
	if len(b) < FrameHeaderSize {
		return 0, ErrFrame
	}
	if b[0] != frameVersion {
		return 0, ErrFrameVersion
	}
	kind, length := FrameKind(b[1]), binary.BigEndian.Uint32(b[4:])
	if !kind.known() || b[2]&^frameFin != 0 || b[3] != 0 || length > MaxFramePayload {
		return 0, ErrFrame
	}
	*f = Frame{
		Kind: kind, Fin: b[2]&frameFin != 0,
		Seq:  binary.BigEndian.Uint32(b[8:]),
		Ack:  binary.BigEndian.Uint32(b[12:]),
		Edge: binary.BigEndian.Uint32(b[16:]),
	}
	return int(length), nil
}
