package rule

import (
	"bytes"
	"slices"
	"sync"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// maxHeard bounds the bytes that a Checker remembers. It is more than a leg
	// takes in and a frame carries: what is older has been acknowledged, or can't be
	// judged.
	maxHeard = 16 << 20
	// keptBehind is how much it keeps of what the near database has acknowledged:
	// segments cross on their way.
	keptBehind = 64 << 10
)

// A chunk holds some of the bytes that were heard. All checkers take theirs from one
// pool and give them back when they are acknowledged: a burst makes little new memory,
// and what it made goes with the next garbage collections.
type chunk [32 << 10]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// Checker verifies the rule that a gateway only repeats: it judges each segment that
// goes to the near database of a relayed connection by what was heard of the far
// one. It knows nothing of the Gate, does no I/O and keeps no lock.
//
// It remembers the far database's bytes from shortly before what the near one has
// acknowledged: 64 KB and what is not acknowledged, at most 16 MB for a near database
// that takes nothing. Bytes that it remembers no more it lets pass.
type Checker struct {
	scale uint8 // of the far database's windows
	sack  bool

	ack, edge uint32 // the most that the far database has said
	nearAck   uint32

	begun    bool
	from, to uint32 // the bytes remembered; to is all that has been heard
	chunks   []*chunk
	first    uint32 // the number of the first byte of the first chunk
	fin      bool
	finAt    uint32
	reset    bool
}

// NewChecker makes a Checker of a connection. Until Begin no payload is heard.
func NewChecker(c *wire.Connection) Checker {
	return Checker{
		scale: c.FarSaid.Scale, sack: c.SACK,
		ack: c.FarSaid.Ack, edge: c.FarSaid.Edge, nearAck: c.NearSaid.Ack,
		to: c.FarSaid.End, from: c.FarSaid.End, first: c.FarSaid.End,
	}
}

// Begin says from which number on the far database's bytes are heard.
func (k *Checker) Begin(mark uint32) { k.begun, k.from, k.to, k.first = true, mark, mark, mark }

// HeardFar takes an acknowledgement and a right edge of the far database.
func (k *Checker) HeardFar(ack, edge uint32) {
	k.ack, k.edge = wire.SeqMax(k.ack, ack), wire.SeqMax(k.edge, edge)
}

// HeardFin takes the number of the far database's FIN.
func (k *Checker) HeardFin(at uint32) { k.fin, k.finAt = true, at }

// HeardReset says that the near database has said RST: nothing may be said to it any
// more.
func (k *Checker) HeardReset() { k.reset = true }

// HeardNear takes an acknowledgement of the near database.
func (k *Checker) HeardNear(ack uint32) {
	k.nearAck = wire.SeqMax(k.nearAck, ack)
	if before := k.nearAck - keptBehind; wire.SeqLess(k.from, before) {
		if wire.SeqLess(k.to, before) { // it had them before the checker began
			before = k.to
		}
		k.forget(before)
	}
}

// Heard takes the far database's next bytes.
func (k *Checker) Heard(payload []byte) {
	for len(payload) > 0 {
		if k.to == k.first+uint32(len(k.chunks)*len(chunk{})) {
			k.chunks = append(k.chunks, chunks.Get().(*chunk))
		}
		n := copy(k.at(k.to), payload)
		payload = payload[n:]
		k.to += uint32(n)
	}
	if k.to-k.from > maxHeard {
		k.forget(k.to - maxHeard)
	}
}

// at is what there is of memory from number seq on, at least a byte.
func (k *Checker) at(seq uint32) []byte {
	n := int(seq - k.first)
	return k.chunks[n/len(chunk{})][n%len(chunk{}):]
}

// forget gives the memory of the bytes before from back, which are at most all.
func (k *Checker) forget(from uint32) {
	k.from = from
	n := int(from-k.first) / len(chunk{})
	for _, c := range k.chunks[:n] {
		chunks.Put(c)
	}
	k.chunks = slices.Delete(k.chunks, 0, n)
	k.first += uint32(n * len(chunk{}))
}

// Violation is how a segment breaks the rule.
type Violation uint8

// The ways to break the rule. Their names are part of what `gw status` prints and of
// the metrics, so they only ever get additions.
const (
	NoViolation      Violation = iota
	ViolationFlags             // a flag that no gateway may say
	ViolationOptions           // an option other than SACK, or that where it is not permitted
	ViolationAck               // acknowledges what the far database has not
	ViolationEdge              // opens what the far database has not
	ViolationSeq               // a number that the far database has not come to
	ViolationUnheard           // payload where the far database has said none yet
	ViolationPayload           // other bytes than the far database's
	ViolationFin               // a wire.FIN that the far database has not said
	ViolationReset             // anything after the near database's wire.RST

	NumViolations
)

var violationNames = [NumViolations]string{
	NoViolation: "none", ViolationFlags: "flags", ViolationOptions: "options", ViolationAck: "ack", ViolationEdge: "edge",
	ViolationSeq: "seq", ViolationUnheard: "unheard", ViolationPayload: "payload", ViolationFin: "fin", ViolationReset: "reset",
}

// String returns the name that metrics and people use.
func (v Violation) String() string {
	if v < NumViolations {
		return violationNames[v]
	}
	return "unknown"
}

// Segment judges a segment to the near database, of which payload are the parts.
func (k *Checker) Segment(s *wire.Segment, payload [][]byte) Violation {
	n := 0
	for _, b := range payload {
		n += len(b)
	}
	end := s.Seq + uint32(n)
	switch {
	case k.reset:
		return ViolationReset
	case s.Flags&wire.ACK == 0 || s.Flags&^(wire.ACK|wire.PSH|wire.FIN) != 0:
		return ViolationFlags
	case !k.optionsOK(s.Options):
		return ViolationOptions
	case wire.SeqLess(k.ack, s.Ack):
		return ViolationAck
	case s.Window > 0 && wire.SeqLess(k.edge, s.Ack+uint32(s.Window)<<k.scale):
		return ViolationEdge
	case s.Flags&wire.FIN != 0 && !(k.fin && end == k.finAt):
		return ViolationFin
	case n == 0 && wire.SeqLess(k.last(), s.Seq):
		return ViolationSeq
	case n > 0 && (!k.begun || wire.SeqLess(k.to, end)):
		return ViolationUnheard
	}
	return k.bytes(s.Seq, payload)
}

// last is the highest number that a segment without payload may have: the near
// database itself may know more than has come by the trunk.
func (k *Checker) last() uint32 {
	last := k.to
	if k.fin {
		last = wire.SeqMax(last, k.finAt+1)
	}
	return wire.SeqMax(last, k.nearAck)
}

// bytes compares payload with what was heard.
func (k *Checker) bytes(seq uint32, payload [][]byte) Violation {
	for _, b := range payload {
		if wire.SeqLess(seq, k.from) {
			n := min(len(b), int(k.from-seq))
			seq, b = seq+uint32(n), b[n:]
		}
		for len(b) > 0 {
			part := k.at(seq)
			n := min(len(part), len(b))
			if !bytes.Equal(part[:n], b[:n]) {
				return ViolationPayload
			}
			seq, b = seq+uint32(n), b[n:]
		}
	}
	return NoViolation
}

// optionsOK reports whether options are nothing but SACK, where it is permitted.
func (k *Checker) optionsOK(b []byte) bool {
	for len(b) > 0 {
		switch {
		case b[0] == wire.OptNOP:
			b = b[1:]
		case b[0] == wire.OptSACK && k.sack && len(b) >= 2 && b[1] >= 10 && b[1]%8 == 2 && int(b[1]) <= len(b):
			b = b[b[1]:]
		default:
			return false
		}
	}
	return true
}
